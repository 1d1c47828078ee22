"""`sg-resnets find-lr`: a learning rate for a recipe."""

import csv
import math
import re

import pytest

from sg_resnets.training.lr_range import growing_rates
from sg_resnets.utils.errors import SgResnetsError
from support import KD_RECIPE, QAT_RECIPE, SMALL_RUN

SGD = "training_hyperparams=cosine_few_epochs"


@pytest.fixture
def sweep(compose, tmp_path):
    """sweep(overrides..., steps=30) -> the sweep of a small recipe, whose runs would be in `tmp_path/runs`."""
    from sg_resnets.host.lr_finder import RateSweep, sweep_recipe

    def run(*overrides, steps=30, **kwargs):
        made = RateSweep(growing_rates(1e-5, 10, steps))
        sweep_recipe(compose(f"ckpt_root_dir={tmp_path}/runs", *overrides, **kwargs), made)
        return made

    return run


def test_the_suggested_rate_trains_and_thirty_times_as_much_does_not(sg_resnets_command, train, tmp_path):
    """ReZero has no batch-norm, with which a network bears nearly any rate."""
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir(), temporary.mkdir()
    rezero = (SGD, "architecture=rezero_resnet56_cifar")
    command = ("find-lr", "fashion_mnist_mini_resnet20", *rezero, *SMALL_RUN, "--output", "lr.svg")
    done = sg_resnets_command(*command, cwd=here, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    loss, picture, before, override = done.stdout.splitlines()
    assert loss.startswith("loss: ") and picture == "picture: lr.svg" and "the recipe has lr=0.1" in before
    assert {path.name for path in here.iterdir()} == {"lr.svg"} and not list(temporary.iterdir())
    drawn = (here / "lr.svg").read_text()
    for words in ("learning rate", "training loss", f"suggested, {override[3:]}", "the recipe's rate, 0.1"):
        assert words in drawn
    _, run = train(*rezero, override, "epochs=10")
    with open(run / "curves.csv", newline="") as file:
        losses = [float(row["train_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.75 * math.log(10) < losses[0]
    rate = float(re.fullmatch(r"lr=([\d.]+)", override)[1])
    with pytest.raises(SgResnetsError, match=r"the loss is (nan|inf)"):
        train(*rezero, f"lr={30 * rate}", "epochs=10")


def test_the_same_command_sees_the_same_losses(sweep):
    first, second, other = sweep(), sweep(), sweep("training_hyperparams.seed=1")
    assert first.losses == second.losses != other.losses


def test_what_a_recipe_says_of_its_run_is_left_out_and_nothing_is_left_behind(sweep, tmp_path):
    """Of 256 images in four batches 30 steps are eight epochs, each of which would be evaluated and saved."""
    of_the_run = (
        "ema=True",
        "epochs=3",
        "resume=auto",
        "training_hyperparams.average_best_models=True",
        "training_hyperparams.save_every=1steps",
        "training_hyperparams.keep_last=2",
        "training_hyperparams.on_divergence=rollback",
        "training_hyperparams.phase_callbacks=[TrainingCurves,GradientFlow]",
        "+logger=tensorboard",
    )
    assert sweep(*of_the_run).losses == sweep().losses
    assert not list(tmp_path.iterdir())


def test_groups_of_layers_are_those_of_the_recipe(sweep):
    rates = sweep(SGD, "lr={default: 0.01, fc: 0.1}")
    assert sorted(rates.initial) == [0.01, 0.1] and rates.override(1.0) == "lr={default:0.1,fc:1.0}"
    head_alone = sweep(SGD, "training_hyperparams.finetune=True")
    assert head_alone.initial == [0.1] and head_alone.override(1.0) == "lr=1.0"


def test_a_distillation_and_a_folder_of_pictures(sweep, picture_folder, teacher):
    distilled = sweep(
        "teacher_architecture=resnet20_cifar",
        "+teacher_arch_params.depth=8",
        "+student_arch_params.depth=8",
        "teacher_checkpoint_params.pretrained_weights=null",
        f"teacher_checkpoint_params.checkpoint_path={teacher}",
        "+dataset_params.train_dataset_params.max_samples=256",
        "+dataset_params.val_dataset_params.max_samples=100",
        "batch_size=64",
        recipe=KD_RECIPE,
        tiny=False,
    )
    folder = sweep(
        f"dataset_params.train_dataset_params.root={picture_folder}",
        "dataset_params.train_dataset_params.size=32",
        "dataset_params.val_dataset_params.size=32",
        "architecture=resnet20_cifar",
        "+arch_params.depth=8",
        "batch_size=2",
        recipe="image_folder_resnet18",
        tiny=False,
    )
    for found in (distilled, folder):
        assert len(found.losses) >= 20 and all(map(math.isfinite, found.losses))
    assert {path.name for path in picture_folder.iterdir()} == {"train", "val"}  # no runs beside them


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["resume=True"], "find-lr begins with a recipe's first weights: leave out resume=True"),
        (["training_hyperparams.resume_path=x.pth"], "leave out resume_path=x.pth"),
        (["multi_gpu=DDP", "num_gpus=2"], "find-lr trains in one process: add multi_gpu=Off"),
        (["lr=0"], "initial_lr=0: there is no rate to grow"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_a_line(sweep, tmp_path, overrides, words):
    with pytest.raises(SgResnetsError, match=words) as refused:
        sweep(*overrides)
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


def test_a_quantisation_is_refused(sg_resnets_command, tmp_path):
    done = sg_resnets_command("find-lr", QAT_RECIPE, cwd=tmp_path)
    assert done.returncode == 1 and "this recipe quantises a network" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_recipe_of_the_users_own_whose_loss_diverges_at_once(sg_resnets_command, tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [fashion_mnist_mini_resnet20, _self_]\nlr: 0.5\n")
    done = sg_resnets_command("find-lr", "mine.yaml", *SMALL_RUN, "--start", "1e3", "--end", "1e9", cwd=tmp_path)
    assert done.returncode == 1 and "give a lower --start" in done.stderr.splitlines()[-1] and not done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    "args, words",
    [
        (["fashion_mnist_resnet"], "unknown recipe 'fashion_mnist_resnet'"),
        (["none.yaml"], "there is no file none.yaml"),
        (["fashion_mnist_mini_resnet20", "--output", "lr.jpg"], "give a file that ends in .png, .svg or .pdf"),
        (["fashion_mnist_mini_resnet20", "--steps", "9"], "--steps=9: must be an integer >= 20"),
    ],
)
def test_a_wrong_argument_is_one_line(command, args, words):
    code, _, error = command("find-lr", *args)
    assert code == 1 and words in error and "\n" not in error
