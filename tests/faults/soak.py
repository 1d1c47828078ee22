"""Trains for hours and watches the process: its memory, open files and threads stay what they were.

    python tests/faults/soak.py [MINUTES] [FOLDER]

A small net, a loader whose workers are started anew each epoch, checkpoints every 20 steps, moving averages, curves.
Each step is followed by a pause, so that other work goes on beside it. Exit code 1 if the memory of the last quarter is
over 2 % above that of the second, or files or threads are more.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

PLUGIN = """
import time
from super_gradients.common.registry.registry import register_callback
from super_gradients.training.utils.callbacks import Callback
@register_callback("Pause")
class Pause(Callback):
    def on_train_batch_end(self, context):
        time.sleep(0.15)
"""
COMMAND = [
    "-m", "super_gradients.train_from_recipe", "--config-name=fashion_mnist_mini_resnet20", "epochs=1000000",
    "ema=True", "batch_size=64", "num_workers=1", "+arch_params.depth=8", "+arch_params.widths=[4,8,16]",
    "plugins=[pause]",
    "+dataset_params.train_dataset_params.max_samples=2048", "+dataset_params.val_dataset_params.max_samples=500",
    "training_hyperparams.save_every=20steps", "training_hyperparams.keep_last=2", "training_hyperparams.keep_best=2",
    "training_hyperparams.phase_callbacks=[TrainingCurves,Pause]", "ckpt_root_dir=.",
]  # fmt: skip


def watch(process: subprocess.Popen, minutes: float, interval: float = 20.0) -> list[tuple[float, int, int]]:
    """Memory in MiB, open files and threads, every `interval` seconds."""
    watched, end, seen = psutil.Process(process.pid), time.monotonic() + 60 * minutes, []
    while time.monotonic() < end and process.poll() is None:
        time.sleep(interval)
        with watched.oneshot():
            seen.append((own_memory(process.pid), watched.num_fds(), watched.num_threads()))
    return seen


def own_memory(pid: int) -> float:
    """MiB that are not a file's, in memory or swapped out; what a forked worker shares, which is most, is counted."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return (int(fields["RssAnon"][0]) + int(fields["VmSwap"][0])) / 2**10


def main() -> int:
    """Print what was seen, by quarters."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 120.0
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    (folder / "pause.py").write_text(PLUGIN)
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(
            [sys.executable, *COMMAND], cwd=folder, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    seen = watch(process, minutes)
    ended = process.poll()
    process.terminate()
    process.wait(60)
    quarter = len(seen) // 4
    quarters = [seen[i * quarter : (i + 1) * quarter] for i in range(4)]
    medians = [[statistics.median(values) for values in zip(*each, strict=True)] for each in quarters]
    (latest,) = folder.glob("*/RUN_*/curves.csv")
    print(f"{minutes:.0f} minutes, {len(latest.read_text().splitlines()) - 1} epochs of 32 steps")
    for number, (memory, files, threads) in enumerate(medians, 1):
        print(f"quarter {number}: {memory:.1f} MiB, {files:.0f} files, {threads:.0f} threads")
    growth = medians[3][0] / medians[1][0] - 1
    print(f"memory, fourth quarter over second: {growth:+.2%}")
    is_flat = growth < 0.02 and medians[3][1] <= medians[1][1] and medians[3][2] <= medians[1][2]
    return 0 if ended is None and is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
