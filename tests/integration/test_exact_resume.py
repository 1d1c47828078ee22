"""A run that is stopped at any batch and resumed ends as one that was not: whole checkpoints, and curves, compared."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import ClassVar

import pytest

from sg_resnets.runs.checkpoints import read
from support import MIXUP, differences, results

EARLY_STOP = (
    "training_hyperparams.phase_callbacks=[TrainingCurves,Stop,{EarlyStop: {phase: VALIDATION_EPOCH_END, "
    "monitor: Accuracy, mode: max, patience: 1, min_delta: 1.0}}]"
)
EPOCHS = ["epochs=3", "training_hyperparams.lr_warmup_epochs=1"]


@pytest.fixture
def stop(host):
    """stop(n): the overrides with which SIGTERM comes at the n-th batch, of training or of a validation."""
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Stop(Callback):
        at = seen = 0

        def on_train_batch_end(self, context):
            Stop.seen += 1
            if Stop.seen == Stop.at:
                signal.raise_signal(signal.SIGTERM)

        on_validation_batch_end = on_train_batch_end

    def at(number):
        Stop.at, Stop.seen = number, 0
        return "training_hyperparams.phase_callbacks=[TrainingCurves,Stop]"

    CALLBACKS["Stop"] = Stop
    yield at
    del CALLBACKS["Stop"]


@pytest.fixture
def ends_the_same(stop, tmp_path):
    """ends_the_same(train, batch): trains once, and once with SIGTERM at a batch and a resume, and compares."""

    def check(train, batch):
        train(stop(0), f"ckpt_root_dir={tmp_path / 'whole'}")
        with pytest.raises(SystemExit) as ended:
            train(stop(batch), f"ckpt_root_dir={tmp_path / 'parts'}")
        assert ended.value.code == 143
        (latest,) = Path(tmp_path / "parts").rglob("ckpt_latest.pth")
        assert read(latest)["epoch"] < 3
        train(stop(0), "resume=True", f"ckpt_root_dir={tmp_path / 'parts'}")
        whole, parts = (results(tmp_path / name) for name in ("whole", "parts"))
        assert whole.keys() == parts.keys() and {"ckpt_best.pth", "ckpt_latest.pth"} < whole.keys()
        assert differences(whole, parts) == []

    return check


# Of 4 batches an epoch, and one in its validation.
@pytest.mark.parametrize(
    "settings, batch",
    [
        ([], 2),
        ([], 4),  # the last of the epoch
        ([], 10),  # in a validation
        (["ema=True", "training_hyperparams.batch_accumulate=3"], 7),
        (["training_hyperparams.average_best_models=True", "training_hyperparams.optimizer=AdamW",
          "~training_hyperparams.optimizer_params.momentum", "~training_hyperparams.optimizer_params.nesterov"], 8),
        (["num_workers=1", "+dataset_params.train_dataloader_params.persistent_workers=True"], 7),
        (["+arch_params.drop_path=0.2", "+arch_params.head_dropout=0.3", "training_hyperparams.mixed_precision=True"],
         7),
        (["training_hyperparams.lr_mode={OneCycleLR: {max_lr: 0.1, total_steps: 12, phase: TRAIN_BATCH_STEP}}",
          "training_hyperparams.lr_warmup_epochs=0"], 7),
        (["+dataset_params.train_dataloader_params.sampler.RepeatAugSampler.num_repeats=2",
          "dataset_params.train_dataloader_params.shuffle=False"], 7),
        ([EARLY_STOP], 7),
    ],
)  # fmt: skip
def test_it_ends_as_one_that_was_not(settings, batch, train, ends_the_same):
    ends_the_same(lambda *more: train(*EPOCHS, *more, *settings), batch)


def test_a_distillation_ends_as_one_that_was_not(distil, ends_the_same):
    ends_the_same(lambda *more: distil("epochs=3", *more), 7)


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_of_a_folder_are_augmented_and_mixed_as_they_would_have_been(workers, train, ends_the_same):
    from sg_resnets.data.image_folder import noise_folder

    small = [
        f"dataset_params.train_dataset_params.root={noise_folder(2)}", "arch_params.num_classes=2", "batch_size=2",
        "architecture=resnet20_cifar", "+arch_params.depth=8", "+arch_params.widths=[4,4,4]", f"num_workers={workers}",
        "dataset_params.train_dataset_params.size=32", "+dataset_params.train_dataset_params.max_samples=8",
        MIXUP, "epochs=3",
    ]  # fmt: skip
    ends_the_same(lambda *more: train(*small, *more, recipe="image_folder_resnet18", tiny=False), 7)


def test_a_run_that_is_resumed_with_another_batch_size_begins_its_epoch_anew(train, stop, tmp_path, capfd):
    with pytest.raises(SystemExit):
        train(*EPOCHS, stop(6))
    train(*EPOCHS, stop(0), "resume=True", "batch_size=32")
    assert (
        "epoch 2 begins anew: it was left at batch 1 of 4 in 1 processes, and now has 8 in 1" in capfd.readouterr().err
    )
    (latest,) = tmp_path.rglob("ckpt_latest.pth")
    assert read(latest)["epoch"] == 3


def test_the_rest_of_an_epoch_is_trained_with_the_rate_that_a_resume_asks_for(train, stop):
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Rates(Callback):
        seen: ClassVar[list[float]] = []

        def on_train_batch_gradient_step_start(self, context):
            Rates.seen.append(context.optimizer.param_groups[0]["lr"])

    CALLBACKS["Rates"] = Rates
    settings = ["epochs=2", "training_hyperparams.lr_warmup_epochs=0"]
    with pytest.raises(SystemExit):
        train(*settings, "lr=0.1", stop(2))
    train(*settings, "lr=0.01", "resume=True", "training_hyperparams.phase_callbacks=[Rates]")
    del CALLBACKS["Rates"]
    assert len(Rates.seen) == 6 and 0.005 < Rates.seen[0] <= 0.01


def test_a_checkpoint_is_written_within_an_epoch(train, stop, monkeypatch, tmp_path):
    from sg_resnets.runs import checkpoints

    written = []
    monkeypatch.setattr(checkpoints, "write", lambda state, path: written.append(state.get("progress", {})))
    train("epochs=1", stop(0), "training_hyperparams.save_every=2steps")
    assert [(each["epoch"], each["batch"]) for each in written if each] == [(0, 2), (0, 4)]


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(train, stop, tmp_path, capfd):
    _, run = train("epochs=2", stop(0))
    latest = run / "ckpt_latest.pth"
    contents = bytearray(latest.read_bytes())
    contents[len(contents) // 2] ^= 4
    latest.write_bytes(contents)
    assert read(latest)["epoch"] == 1
    said = capfd.readouterr().err
    assert "ckpt_latest.pth is damaged" in said and "ckpt_previous.pth, the one before, is read in its place" in said


@pytest.mark.parametrize(
    "number, cause", [(signal.SIGKILL, "too little memory"), (signal.SIGBUS, r"shared memory is full \(/dev/shm; .*\)")]
)
def test_a_worker_that_dies_is_one_line(number, cause, train, host):
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Killer(Callback):
        def on_train_batch_end(self, context):
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, number)

    CALLBACKS["Killer"] = Killer
    killer = "training_hyperparams.phase_callbacks=[Killer]"
    with pytest.raises(
        ValueError, match=rf"^a worker of the loader was ended by the system, .*{cause}.*: try a smaller"
    ):
        train(killer, "num_workers=1", "batch_size=8")
    del CALLBACKS["Killer"]
