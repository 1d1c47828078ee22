"""Ctrl-C while a recipe is trained."""

import functools
import signal
import subprocess
import sys

import pytest
import torch

from sg_resnets.runs.checkpoints import read


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_interrupt_saves(tmp_path, train, run_python):
    """Ctrl-C in the first epoch, as a user presses it, and then resume."""
    command = [sys.executable, "-m", "super_gradients.train_from_recipe", "--config-name=fashion_mnist_mini_resnet20"]
    small = ["+arch_params.depth=8", "+arch_params.widths=[4,8,16]", "batch_size=8", "epochs=1", "ckpt_root_dir=."]
    # A shell that runs the suite in its background has children ignore SIGINT; a user's terminal does not.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([*command, *small], cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    seen = ""
    while "Accuracy=" not in seen:  # the progress bar of a running epoch
        seen += process.stderr.read(1)
        assert process.poll() is None, seen
    process.send_signal(signal.SIGINT)
    process.stderr.read()
    assert process.wait(60) == 130
    (latest,) = tmp_path.glob("*/RUN_*/ckpt_latest.pth")
    state = read(latest)
    assert state["epoch"] == 0 and state["net"]["bn1.num_batches_tracked"] == state["progress"]["batch"] > 0
    _, run = train("training_hyperparams.resume=True", "+training_hyperparams.extra=null")
    assert run == latest.parent and read(latest)["epoch"] == 1


def _pressed(where, after):
    """A callback in whose event `where` Ctrl-C is pressed, once, at the batch of number `after`."""
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class CtrlC(Callback):
        count = 0

        def pressed(self, context):
            CtrlC.count += 1
            if CtrlC.count == after:
                signal.raise_signal(signal.SIGINT)

    setattr(CtrlC, where, CtrlC.pressed)
    CALLBACKS["CtrlC"] = CtrlC
    return "training_hyperparams.phase_callbacks=[CtrlC]"


@pytest.mark.parametrize("ema", [False, True])
def test_interrupt_in_the_first_validation_loses_no_epoch(train, ema):
    _, run = train("epochs=2", f"ema={ema}")
    with pytest.raises(SystemExit, match="130"):
        train("epochs=2", f"ema={ema}", "experiment_name=cut", _pressed("on_validation_batch_end", 1))
    (cut,) = (run.parents[1] / "cut").glob("RUN_*")
    progress = read(cut / "ckpt_latest.pth")["progress"]
    assert (progress["epoch"], progress["batch"]) == (0, 4)
    _, again = train("epochs=2", f"ema={ema}", "experiment_name=cut", "resume=True")
    assert again == cut
    expected, found = (read(folder / "ckpt_latest.pth")["net"] for folder in (run, cut))
    assert all(torch.equal(expected[key], value) for key, value in found.items())


def test_interrupt_in_an_epoch_goes_on_with_its_schedule(train, tmp_path):
    one_cycle = "training_hyperparams.lr_mode={OneCycleLR: {max_lr: 0.1, total_steps: 8, phase: TRAIN_BATCH_STEP}}"
    settings = ("epochs=2", "training_hyperparams.lr_warmup_epochs=0", one_cycle)  # 4 batches an epoch
    with pytest.raises(SystemExit, match="130"):
        train(*settings, _pressed("on_train_batch_end", 3))
    (run,) = tmp_path.glob("*/RUN_*")
    latest = read(run / "ckpt_latest.pth")
    assert latest["epoch"] == 0 and latest["progress"]["batch"] == 3
    assert latest["torch_scheduler_state_dict"]["last_epoch"] == 3
    train(*settings, "resume=True")
    assert read(run / "ckpt_latest.pth")["epoch"] == 2
