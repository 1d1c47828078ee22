"""Runs that are resumed, evaluated and compared through our own commands: nothing is lost, and nothing is said
wrongly."""

import os
import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from sg_resnets.utils.errors import SgResnetsError


@pytest.fixture
def resume(host):
    from sg_resnets.runs.resume import resume_run

    return lambda run, *overrides: resume_run(run, list(overrides))


@pytest.fixture
def evaluate(host):
    from sg_resnets.runs.evaluate import evaluate_checkpoint

    return lambda path, *plugins: dict(evaluate_checkpoint(path, plugins))


@pytest.fixture
def ctrl_c(host):
    """A callback that presses Ctrl-C in the first batch of a validation."""
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class CtrlC(Callback):
        def on_validation_batch_end(self, context):
            os.kill(os.getpid(), signal.SIGINT)

    CALLBACKS["CtrlC"] = CtrlC
    yield "training_hyperparams.phase_callbacks=[TrainingCurves,CtrlC]"
    del CALLBACKS["CtrlC"]


def epoch_of(run):
    return torch.load(run / "ckpt_latest.pth", weights_only=True)["epoch"]


def test_a_resume_that_fails_leaves_the_run_as_it_was(train, resume):
    _, run = train("epochs=1")
    before = (run / ".hydra" / "config.yaml").read_text()
    with pytest.raises(SgResnetsError):
        resume(run, "epochs=2", "training_hyperparams.valid_metrics_list=[Nope]")
    assert (run / ".hydra" / "config.yaml").read_text() == before
    resume(run, "epochs=2")
    assert epoch_of(run) == 2
    assert OmegaConf.load(run / ".hydra" / "config.yaml").training_hyperparams.max_epochs == 2


def test_resume_needs_its_own_checkpoints_alone(train, resume, tmp_path, monkeypatch):
    _, first = train("experiment_name=first")
    _, tuned = train("experiment_name=tuned", f"checkpoint_params.checkpoint_path={first}")
    first.rename(tmp_path / "moved")
    resume(tuned, "epochs=2")
    assert epoch_of(tuned) == 2


def test_a_teacher_named_by_a_relative_path_is_found_from_another_folder(train, host, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, first = train("experiment_name=first", "ckpt_root_dir=runs")
    _, tuned = train("experiment_name=tuned", f"checkpoint_params.checkpoint_path=runs/first/{first.name}")
    stored = OmegaConf.load(tuned / ".hydra" / "config.yaml").checkpoint_params.checkpoint_path
    assert Path(stored).is_absolute() and Path(stored) == tmp_path / "runs" / "first" / first.name


@pytest.mark.parametrize("spelling", ["Accuracy", "accuracy"])
def test_the_best_checkpoint_is_kept_however_the_metric_is_spelled(train, resume, spelling):
    _, run = train(f"training_hyperparams.metric_to_watch={spelling}")
    state = torch.load(run / "ckpt_best.pth", weights_only=True)
    torch.save({**state, "acc": 0.999}, run / "ckpt_best.pth")
    resume(run, "epochs=2")
    assert torch.load(run / "ckpt_best.pth", weights_only=True)["acc"] == 0.999


@pytest.mark.parametrize(
    "mode", ["CosineLRScheduler", "{MultiStepLR: {milestones: [99], gamma: 0.1, phase: TRAIN_BATCH_STEP}}"]
)
def test_a_run_keeps_its_schedule(train, resume, mode):
    _, run = train(f"training_hyperparams.lr_mode={mode}")
    other = "training_hyperparams.lr_mode={StepLR: {step_size: 1, gamma: 0.1, phase: TRAIN_EPOCH_END}}"
    with pytest.raises(SgResnetsError, match="leave out lr_mode"):
        resume(run, "epochs=2", other)


def test_a_run_of_one_epoch_interrupted_in_its_validation_is_evaluated_and_resumed(
    train, resume, evaluate, ctrl_c, tmp_path
):
    with pytest.raises(SystemExit) as stopped:
        train(ctrl_c, "experiment_name=stopped")
    assert stopped.value.code == 130
    (run,) = (tmp_path / "stopped").glob("RUN_*")
    assert not (run / "ckpt_best.pth").exists() and epoch_of(run) == 0
    assert float(evaluate(run)["test Accuracy"]) > 0
    resume(run, "training_hyperparams.phase_callbacks=[TrainingCurves]")
    assert epoch_of(run) == 1 and (run / "ckpt_best.pth").is_file()
    with pytest.raises(SgResnetsError, match=r"has trained for 1 of 1 epochs: resume it with epochs=2"):
        resume(run)


def test_evaluate_takes_a_run_that_was_fine_tuned_from_other_classes(train, evaluate, host, tmp_path):
    from sg_resnets.data.image_folder import noise_folder

    small = [
        "architecture=resnet20_cifar",
        "dataset_params.train_dataset_params.size=32",
        "batch_size=2",
        "num_workers=0",
        "+dataset_params.train_dataset_params.max_samples=8",
    ]

    def folder(classes, *more):
        root = f"dataset_params.train_dataset_params.root={noise_folder(classes)}"
        return train(
            root, f"arch_params.num_classes={classes}", *small, "epochs=1", "+arch_params.depth=8",
            "+arch_params.widths=[4,4,4]", *more, recipe="image_folder_resnet18", tiny=False,
        )[1]  # fmt: skip

    three = folder(3, "experiment_name=three")
    tuned = folder(
        2,
        "experiment_name=tuned",
        f"checkpoint_params.checkpoint_path={three}",
        "checkpoint_params.checkpoint_num_classes=3",
    )
    assert evaluate(tuned)["data"] == f"{noise_folder(2)}, val"
    host.Trainer.evaluate_checkpoint("tuned", "ckpt_best.pth", str(tmp_path))


def test_evaluate_calls_held_out_training_images_by_their_name(train, evaluate):
    _, run = train(
        "dataset_params.val_dataset_params.train=True", "+dataset_params.val_dataset_params.skip_samples=10000"
    )
    rows = evaluate(run)
    assert rows["data"] == "fashion_mnist_mini, training images that were held out"
    assert "held-out Accuracy" in rows and "test Accuracy" not in rows


def test_compare_puts_epochs_beside_epochs(train):
    from sg_resnets.runs import compare

    for seed in (1, 2):
        _, run = train(f"training_hyperparams.seed={seed}", "epochs=3")
    lines = (run / "curves.csv").read_text().splitlines()
    (run / "curves.csv").write_text("\n".join([lines[0], *lines[2:]]) + "\n")  # its first validation was interrupted
    rows = compare.compare([run.parent])
    line = compare.draw_comparison(rows).axes[0].lines[0]
    drawn = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    runs = [{record.epoch: 100 * record.train_accuracy for record in curve} for curve in rows[0].curves]
    for epoch in (1, 2, 3):
        values = [run[epoch] for run in runs if epoch in run]
        assert drawn[epoch] == pytest.approx(sum(values) / len(values))


def test_predict_takes_a_run_that_was_stopped_in_its_first_epoch(train, ctrl_c, host, tmp_path):
    from PIL import Image

    from sg_resnets.runs.export import export_checkpoint
    from sg_resnets.runs.predict import predict_images

    with pytest.raises(SystemExit):
        train(ctrl_c, "experiment_name=stopped")
    (latest,) = (tmp_path / "stopped").glob("RUN_*/ckpt_latest.pth")
    Image.new("L", (40, 30), 128).save(tmp_path / "grey.png")
    (prediction,) = predict_images(latest, [tmp_path / "grey.png"], [])
    ((label, probability),) = prediction.top
    assert label in torch.load(latest, weights_only=True)["processing_params"]["class_names"] and 0 < probability <= 1
    export_checkpoint(latest, tmp_path / "net.onnx", "onnx")
    import onnx

    shape = onnx.load(tmp_path / "net.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in shape][1:] == [1, 28, 28]
