"""Seconds from the command to the first training step, data on disk.

Run: python benchmarks/start_up.py [ROUNDS]. The first start is thrown away: it fills the system's file cache.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import place

CLOCK = """
import time
from super_gradients.common.registry.registry import register_callback
from super_gradients.training.utils.callbacks import Callback

@register_callback("FirstStep")
class FirstStep(Callback):
    def on_train_batch_start(self, context):
        print(f"first step at {time.time()}", flush=True)
        raise KeyboardInterrupt
"""


def start() -> float:
    """Start the command afresh, and stop it at its first step."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "first_step.py").write_text(CLOCK)
        command = [sys.executable, "-m", "super_gradients.train_from_recipe"]
        command += ["--config-name=fashion_mnist_mini_resnet20", "plugins=[first_step]", f"ckpt_root_dir={folder}"]
        began = time.time()
        done = subprocess.run(
            [*command, "training_hyperparams.phase_callbacks=[FirstStep]"],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": folder},
        )
    line = next(line for line in done.stdout.splitlines() if "first step at" in line)
    return float(line.rpartition(" ")[2]) - began


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    start()
    seconds = [start() for _ in range(rounds)]
    print(place())
    print(f"to the first step: {statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})")
