"""A recipe is trained: what its folder holds, what is said, and what ends it."""

import csv
import warnings

import pytest
import torch
from matplotlib.image import imread

from sg_resnets.utils.errors import SgResnetsError
from support import GREY_8, RECIPE, SMALL_RUN


def test_the_hosts_entry_point_trains_our_recipe_and_says_no_false_word(run_python, tmp_path):
    command = [
        "-m",
        "super_gradients.train_from_recipe",
        RECIPE,
        *SMALL_RUN,
        "epochs=2",
        "architecture=plain20_cifar",
        "lr=0.05",
    ]
    done = run_python(*command, cwd=tmp_path, HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "checkpoints" / "fashion_mnist_mini_plain20_cifar").glob("RUN_*")
    for file in ("ckpt_best.pth", "ckpt_latest.pth", "curves.csv", "curves.png", ".hydra/config.yaml"):
        assert (run / file).is_file(), file
    assert (run / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "SUMMARY OF EPOCH 1" in done.stdout and "console stream" not in done.stdout
    warnings = [line for line in done.stderr.splitlines() if "WARN" in line.upper()]
    assert all("CUDA device is not available" in line for line in warnings), warnings
    assert not (tmp_path / "home" / "sg_logs").exists()


def test_a_loss_that_is_no_number_ends_training_with_step_layer_and_the_last_good_checkpoint(train, tmp_path):
    """A rate of 1e12 breaks the second step; then weights that break in layer2.0 alone, in the second epoch."""
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) at step \d of epoch 1, first in .*nothing was saved"):
        train("lr=1e12", "training_hyperparams.lr_warmup_epochs=0")

    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Break(Callback):
        def on_train_batch_start(self, context):
            if context.epoch == 1 and context.batch_idx == 2:
                context.net.layer2[0].conv1.weight.data.fill_(float("inf"))

    CALLBACKS["Break"] = Break
    with pytest.raises(ValueError, match=r"at step 3 of epoch 2, first in layer2\.0\.conv1.*ckpt_latest") as caught:
        train("epochs=3", "training_hyperparams.phase_callbacks=[Break]")
    assert "\n" not in str(caught.value)
    (latest,) = tmp_path.glob("*/RUN_*/ckpt_latest.pth")
    state = torch.load(latest)
    assert state["epoch"] == 1 and all(value.isfinite().all() for value in state["net"].values())


def test_a_step_fetches_nothing(train, monkeypatch, capfd):
    """A GPU would have to be waited for; the last figures of the epoch are shown all the same."""
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback
    from torch.utils._python_dispatch import TorchDispatchMode

    from sg_resnets.host.repairs import waiting

    class Fetches(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.name() in ("aten::_local_scalar_dense", "aten::is_nonzero"):
                fetched.append(function.name())
            return function(*args, **(kwargs or {}))

    class Watch(Callback):
        def on_train_batch_start(self, context):
            if context.batch_idx == 1:
                watch.__enter__()
            elif context.batch_idx == 2:
                watch.__exit__(None, None, None)

        def on_train_loader_end(self, context):
            figures.update(context.metrics_dict)

    fetched, figures, watch = [], {}, Fetches()
    CALLBACKS["Watch"] = Watch
    monkeypatch.setattr(waiting, "SECONDS", 3600)
    few = ("epochs=1", "training_hyperparams.phase_callbacks=[Watch]", "training_hyperparams.mixed_precision=False")
    train(*few, "training_hyperparams.max_train_batches=3", "training_hyperparams.silent_mode=False")
    assert len(fetched) == 1  # on a CPU alone: whether a label is below 0
    last = capfd.readouterr().err.rpartition("Train epoch 0: 100%")[2].splitlines()[0]
    for name, value in figures.items():
        assert f"{name}={float(value):.3g}" in last


def test_an_error_of_a_users_own_code_in_training_keeps_its_traceback(train, host):
    """Hydra would show the bare message of a mistake in the recipe; this is none."""
    from hydra.errors import CompactHydraException
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Fails(Callback):
        def on_train_batch_end(self, context):
            raise ValueError("boom")

    CALLBACKS["Fails"] = Fails
    with pytest.raises(ValueError, match=r"^boom$") as caught:
        train("training_hyperparams.phase_callbacks=[Fails]")
    assert not isinstance(caught.value, CompactHydraException)


def test_recipe_of_a_run(train, host, tmp_path):
    # A group override, after which the host cannot compose the run's recipe again.
    _, run = train("training_hyperparams=he2015_cifar", "epochs=2", "lr=0.01")
    state = torch.load(run / "ckpt_best.pth", weights_only=True)
    assert state["recipe"]["architecture"] == "resnet20_cifar" and state["recipe"]["arch_params"]["widths"] == [
        4,
        8,
        16,
    ]
    state["net"]["fc.weight"].zero_()
    state["net"]["fc.bias"].copy_(torch.arange(10.0))  # always the last class
    torch.save(state, run / "ckpt_constant.pth")
    experiment = {"experiment_name": run.parent.name, "ckpt_root_dir": str(tmp_path)}
    _, constant = host.Trainer.evaluate_checkpoint(ckpt_name="ckpt_constant.pth", **experiment)
    assert float(constant["Accuracy"]) == pytest.approx(0.1)
    _, best = host.Trainer.evaluate_checkpoint(ckpt_name="ckpt_best.pth", **experiment)
    assert float(best["Accuracy"]) == pytest.approx(state["acc"])
    host.Trainer.resume_experiment(**experiment)
    assert torch.load(run / "ckpt_latest.pth")["epoch"] == 2


def test_seed_before_model(train):
    first, other, again = (
        train(f"training_hyperparams.seed={seed}", "lr=0.0", "training_hyperparams.max_train_batches=1")[0].conv1.weight
        for seed in (1, 2, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_false_warnings(train, caplog):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train()
    said = [str(warning.message) for warning in caught] + [record.getMessage() for record in caplog.records]
    assert not [line for line in said if "torch.cuda.amp" in line or "Passing num_classes" in line]


def test_callbacks_write_tables_and_pictures_from_any_recipe(train):
    _, run = train(
        "training_hyperparams.phase_callbacks=[TrainingCurves,GradientFlow,ActivationStatistics]", "epochs=2"
    )
    with open(run / "gradient_flow.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["block"] for row in rows] == ["layer1.0", "layer2.0", "layer3.0"] * 2
    assert {row["epoch"] for row in rows} == {"epoch 1", "epoch 2"} and all(float(row["norm"]) > 0 for row in rows)
    with open(run / "activations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and all(0 < float(row["zeros"]) < 1 and float(row["deviation"]) > 0 for row in rows)
    for name in ("gradient_flow", "activations"):
        assert imread(run / f"{name}.png")[..., :3].std() > 0.05  # something is drawn


def test_a_logger_without_its_packages_is_a_line_where_no_recipe_is_checked(host, tmp_path):
    """`Trainer.train` from Python, as in SuperGradients' own examples."""
    from super_gradients.training import dataloaders, models

    loading = {"dataset": "fashion_mnist_mini", "batch_size": 50, "collate_fn": "whole_batch"}
    loader = dataloaders.get(dataset_params={"max_samples": 100}, dataloader_params=loading)
    network = models.get("resnet20_cifar", arch_params={**GREY_8, "widths": [4, 8, 16]})
    params = {
        "max_epochs": 1,
        "initial_lr": 0.1,
        "lr_mode": "CosineLRScheduler",
        "loss": "CrossEntropyLoss",
        "valid_metrics_list": ["Accuracy"],
        "metric_to_watch": "Accuracy",
        "sg_logger": "dagshub_sg_logger",
    }
    with pytest.raises(SgResnetsError, match="sg_logger=dagshub_sg_logger needs dagshub and mlflow: pip install"):
        host.Trainer("none", ckpt_root_dir=str(tmp_path)).train(network, params, loader, loader)
