"""`resume=auto`: the same command goes on with what it had begun."""

import os
import signal
import subprocess
import sys

import pytest

from sg_resnets.runs.checkpoints import read
from support import ENVIRONMENT, RECIPE, TINY


@pytest.fixture
def interrupted(host):
    """The override with which Ctrl-C comes in the second epoch."""
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Press(Callback):
        on = True

        def on_train_batch_end(self, context):
            if Press.on and context.epoch == 1:
                signal.raise_signal(signal.SIGINT)

    CALLBACKS["Press"] = Press
    yield Press
    del CALLBACKS["Press"]


def test_the_same_command_goes_on_and_says_when_nothing_is_left(train, interrupted, tmp_path, capfd):
    command = ["epochs=3", "resume=auto", "training_hyperparams.phase_callbacks=[TrainingCurves,Press]"]
    with pytest.raises(SystemExit, match="130"):
        train(*command)
    (run,) = tmp_path.glob("*/RUN_*")
    interrupted.on = False
    assert train("lr=0.05", *command)[1] != run  # another command
    network, _ = train(*command)
    assert network is not None and read(run / "ckpt_latest.pth")["epoch"] == 3
    capfd.readouterr()
    with pytest.raises(TypeError):  # nothing is returned: nothing was trained
        train(*command)
    assert f"{run} is finished, nothing is left to train: resume=False begins a new run" in capfd.readouterr().out
    assert len(list(tmp_path.glob("*/RUN_*"))) == 2
    assert read(run / "ckpt_latest.pth")["recipe"]["training_hyperparams"]["resume"] is False


def test_two_starts_of_one_command_train_once(run_warm, tmp_path):
    command = ["-m", "super_gradients.train_from_recipe", RECIPE, *TINY, "resume=auto", "ckpt_root_dir=."]
    slow = "+training_hyperparams.phase_callbacks=[Slow]"
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "from super_gradients.common.registry.registry import register_callback\n"
        "from super_gradients.training.utils.callbacks import Callback\n"
        "@register_callback('Slow')\n"
        "class Slow(Callback):\n"
        "    def on_training_start(self, context):\n"
        "        pathlib.Path('begun').touch()\n"
        "        while not pathlib.Path('seen').exists(): time.sleep(0.1)\n"
    )
    command += ["plugins=[slow]", slow.removeprefix("+")]
    first = subprocess.Popen(
        [sys.executable, *command], cwd=tmp_path, env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (tmp_path / "begun").exists():
        assert first.poll() is None
    second = run_warm(*command, cwd=tmp_path)
    (tmp_path / "seen").touch()
    assert second.returncode == 1 and "this recipe is being trained in" in second.stderr
    assert first.wait(100) == 0 and len(list(tmp_path.glob("*/RUN_*"))) == 1
    third = run_warm(*command, cwd=tmp_path)
    assert third.returncode == 0 and "is finished, nothing is left to train" in third.stdout
    assert len(list(tmp_path.glob("*/RUN_*"))) == 1


def test_a_killed_process_holds_nothing_though_its_children_live_on(tmp_path):
    """A loader's workers see that they are alone some seconds later."""
    from sg_resnets.host.auto_resume import one_at_a_time

    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from sg_resnets.host.auto_resume import one_at_a_time\n"
        "with one_at_a_time(Path('.'), 'x'):\n"
        "    if os.fork():\n"
        "        os.kill(os.getpid(), 9)\n"
        "    time.sleep(20)\n"
    )
    holder = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    assert holder.returncode == -9
    with one_at_a_time(tmp_path, "x"):
        pass


def test_what_is_no_choice_is_one_line(train):
    with pytest.raises(ValueError, match="resume='always': must be True, False or auto"):
        train("resume=always")
