"""SIGKILL and SIGTERM at random moments: the same command goes on, loses no more than `save_every`, and what it ends
with is bit-identical to the end of a run that nobody stopped."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

import warm
from sg_resnets.data.image_folder import noise_folder
from sg_resnets.runs.checkpoints import read
from support import ENVIRONMENT, KD_RECIPE, MIXUP, QAT_RECIPE, RECIPE, SMALL_RUN, TINY, differences, results

SAVE_EVERY = 2  # steps
# Each step, once it is done, is a byte in a file.
PLUGIN = """
import os
from super_gradients.common.registry.registry import register_callback
from super_gradients.training.utils.callbacks import Callback
@register_callback("Counted")
class Counted(Callback):
    def on_train_batch_end(self, context):
        if not context.ddp_silent_mode:
            with open(f"steps.{context.epoch}", "ab" if context.batch_idx else "wb") as file:
                file.write(b".")
"""
COMMON = [
    "epochs=3", "resume=auto", "ckpt_root_dir=.", "plugins=[counted]", "lr=0.02",
    "training_hyperparams.mixed_precision=False", "training_hyperparams.phase_callbacks=[TrainingCurves,Counted]",
    f"training_hyperparams.save_every={SAVE_EVERY}steps",
]  # fmt: skip


@pytest.fixture(scope="module")
def commands(host, teacher, float_run):
    """What is started, by kind: module, recipe, overrides."""
    train = "super_gradients.train_from_recipe"
    folder = [
        f"dataset_params.train_dataset_params.root={noise_folder(2)}", "arch_params.num_classes=2", "batch_size=2",
        "architecture=resnet20_cifar", "+arch_params.depth=8", "+arch_params.widths=[4,4,4]", "num_workers=2",
        "dataset_params.train_dataset_params.size=32", "+dataset_params.train_dataset_params.max_samples=8",
        MIXUP,
    ]  # fmt: skip
    distilled = [
        "teacher_architecture=resnet20_cifar", "+teacher_arch_params.depth=8", "+student_arch_params.depth=8",
        "student_arch_params.widths=[4,8,16]", "teacher_checkpoint_params.pretrained_weights=null",
        f"teacher_checkpoint_params.checkpoint_path={teacher}", "batch_size=64",
        "+dataset_params.train_dataset_params.max_samples=256", "+dataset_params.val_dataset_params.max_samples=100",
    ]  # fmt: skip
    quantised = [f"checkpoint_params.checkpoint_path={float_run}", "quantization_params.sensitivity_images=8"]
    return {
        "training": [train, RECIPE, "ema=True", *SMALL_RUN],
        "distillation": [train, f"--config-name={KD_RECIPE}", *distilled],
        "quantisation": ["super_gradients.qat_from_recipe", f"--config-name={QAT_RECIPE}", *quantised, *TINY],
        "folder": [train, "--config-name=image_folder_resnet18", *folder],
        "two processes": [train, RECIPE, *SMALL_RUN, "batch_size=32"],
    }


class Run:
    """One run of a command in a folder, which may be started several times."""

    def __init__(self, kind, command, folder):
        self.kind, self.folder = kind, folder
        self.args = ["-m", *command, *COMMON]
        folder.mkdir()
        (folder / "counted.py").write_text(PLUGIN)

    def start(self):
        """The process, whose `join(seconds)`, `pid` and `exitcode` are multiprocessing's."""
        env = {**os.environ, **ENVIRONMENT}
        self.began = time.monotonic()
        if self.kind != "two processes":
            process, self.out, self.err = warm.start(self.args, self.folder, env)
            return process
        return Launched(self.args, self.folder, env)

    def finish(self):
        """Start it, and wait until it ends by itself. Its seconds to the first step, and from there to its end."""
        process = self.start()
        self.wait_for_a_step(process)
        stepped = time.monotonic()
        process.join(300)
        assert process.exitcode == 0, self.said()
        return stepped - self.began, time.monotonic() - stepped

    def wait_for_a_step(self, process):
        while process.exitcode is None and not [*self.folder.glob("steps.*")]:
            process.join(0.05)

    def said(self):
        return "\n".join(path.read_text() for path in self.folder.glob(".*.std*"))

    def kill(self, number, share, before, after):
        """Start it, and send it a signal when `share` of the time `after` its first step has gone by, or, where that is
        negative, as much short of the first step: its exit code."""
        process = self.start()
        if share < 0:
            process.join((1 + share) * before)
        else:
            self.wait_for_a_step(process)
            process.join(share * after)
        if process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
            sent = time.monotonic()
            process.join(60)
            self.seconds = time.monotonic() - sent
            assert self.seconds < 10 or number == signal.SIGKILL
        if process.exitcode not in (0, -number, 128 + number):
            raise AssertionError(f"exit code {process.exitcode} after {signal.Signals(number).name}:\n{self.said()}")
        self.check_loss(exact=process.exitcode == 128 + number)
        return process.exitcode

    def check_loss(self, exact):
        """All checkpoints are whole; the latest is no further behind what was trained than `save_every`."""
        for path in self.folder.glob("*/RUN_*/*.pth"):
            read(path)
        done = {int(path.suffix[1:]): path.stat().st_size for path in self.folder.glob("steps.*")}
        latest = [*self.folder.glob("*/RUN_*/ckpt_latest.pth")]
        assert len(latest) <= 1
        if not done:
            return
        epoch = max(done)
        place = read(latest[0])["progress"] if latest else {"epoch": 0, "batch": 0}
        batches = 4  # of an epoch
        lost = (epoch - place["epoch"]) * batches + done[epoch] - place["batch"]
        assert lost <= (0 if exact else SAVE_EVERY + 1), (done, place["epoch"], place["batch"])


class Launched:
    """torchrun and its two processes."""

    def __init__(self, args, folder, env):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
        self.log = folder / ".launched.stderr"
        with open(self.log, "w") as err:
            self.process = subprocess.Popen([*launcher, *args[1:]], cwd=folder, env=env, stdout=err, stderr=err)

    @property
    def pid(self):
        """The first process, which writes the checkpoints, once it runs; torchrun's before."""
        import psutil

        with contextlib.suppress(psutil.Error):  # one that ends at this moment
            children = psutil.Process(self.process.pid).children()
            ranks = [child for child in children if child.environ().get("LOCAL_RANK") == "0"]
            return ranks[0].pid if ranks else self.process.pid
        return self.process.pid

    def join(self, seconds):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    @property
    def exitcode(self):
        """That of the first process, of which torchrun makes a 1 of its own and a report; or what torchrun's own would
        be, which stops its processes, of the signal that it got."""
        code = self.process.poll()
        log = self.log.read_text() if code == 1 else ""
        said = re.search(r"rank +: 0 .*\n +exitcode +: (-?\d+)", log)
        got = re.search(r"SignalException: Process \d+ got signal: (\d+)", log)
        return int(said[1]) if said else 128 + int(got[1]) if got else code


KINDS = ["training", "distillation", "quantisation", "folder", "two processes"]


@pytest.mark.parametrize(
    "kind", [pytest.param(each, marks=pytest.mark.slow if "two" in each else ()) for each in KINDS]
)
def test_a_run_that_is_killed_goes_on_and_ends_as_it_would_have(kind, commands, tries, tmp_path):
    # The first one also waits until the process that the others are forked from has imported what they need.
    _, (before, after) = (Run(kind, commands[kind], tmp_path / name).finish() for name in ("first", "whole"))
    wanted, files = results(tmp_path / "whole"), names(tmp_path / "whole")
    rng = random.Random(kind)
    ends, to_exit = [], []
    while len(ends) - ends.count("finished before") < tries(40, 1):
        run = Run(kind, commands[kind], tmp_path / str(len(ends)))
        ended = run.kill(rng.choice([signal.SIGKILL, signal.SIGTERM]), rng.uniform(-0.2, 1), before, after)
        if ended == 0:
            ends.append("finished before")
        else:
            ends.append("killed" if ended == -signal.SIGKILL else "stopped")
            to_exit += [run.seconds] * (ended > 0)
            run.finish()
        assert differences(results(run.folder), wanted) == [] and names(run.folder) == files
    counted = ", ".join(f"{ends.count(end)} {end}" for end in sorted(set(ends)))
    times = f"{before:.1f} s to the first step, {after:.1f} s from there"
    print(f"{kind}, {times}: {counted}; signal to exit {max(to_exit, default=0):.1f} s at most")


def names(folder):
    """The files of a run, but for the logs, of which each start writes one."""
    (run,) = (latest.parent for latest in folder.glob("*/RUN_*/ckpt_latest.pth"))
    return sorted(path.name for path in run.iterdir() if path.suffix != ".txt" and not path.name.startswith("events."))
