"""Sweeps on real launchers: submitit's local executor, also with a job that is preempted and queued again; a Ray."""

import pytest

from sg_resnets.runs.checkpoints import read
from support import RECIPE, SMALL_RUN

COMMAND = ["-m", "super_gradients.train_from_recipe", "-m", RECIPE, *SMALL_RUN]
SLOW = """
import os, pathlib, time
from super_gradients.common.registry.registry import register_callback
from super_gradients.training.utils.callbacks import Callback
@register_callback("Slow")
class Slow(Callback):
    def on_train_batch_end(self, context):
        with pathlib.Path("steps").open("a") as file:
            print(os.getpid(), context.epoch, context.batch_idx, file=file)
        time.sleep(2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [["submitit_local"], ["ray", "+hydra.launcher.ray.init.num_cpus=2"]])
def test_a_sweep_runs_on_a_real_launcher(launcher, run_python, tmp_path):
    name, *options = launcher
    given = ["epochs=1", "lr=0.1,0.01", f"hydra/launcher={name}", *options, f"ckpt_root_dir={tmp_path}"]
    done = run_python(*COMMAND, *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    rates = {
        read(best)["recipe"]["training_hyperparams"]["initial_lr"] for best in tmp_path.glob("*/RUN_*/ckpt_best.pth")
    }
    assert rates == {0.1, 0.01}


@pytest.mark.slow
def test_a_job_that_is_preempted_is_queued_again_and_goes_on(run_python, tmp_path):
    """submitit sends its signal half a minute before the limit of a minute."""
    (tmp_path / "slow.py").write_text(SLOW)
    callbacks = ["plugins=[slow]", "training_hyperparams.phase_callbacks=[TrainingCurves,Slow]"]
    given = ["epochs=4", "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=1", f"ckpt_root_dir={tmp_path}"]
    done = run_python(*COMMAND, *given, *callbacks, cwd=tmp_path, SG_RESNETS_RESUME="auto", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = tmp_path.glob("*/RUN_*")  # one, not two
    assert read(run / "ckpt_latest.pth")["epoch"] == 4
    steps = [line.split() for line in (tmp_path / "steps").read_text().splitlines()]
    assert [step[1:] for step in steps] == [[str(epoch), str(batch)] for epoch in range(4) for batch in range(4)]
    assert len({process for process, *_ in steps}) > 1
