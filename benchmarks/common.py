"""What the benchmarks share: where they ran, ratios with their spread, and the host's step and epoch times."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from super_gradients import Trainer, init_trainer
from super_gradients.common.environment.cfg_utils import load_recipe
from super_gradients.common.registry.registry import CALLBACKS
from super_gradients.training.utils.callbacks import Callback

from sg_resnets.training.precision import mixed_dtype
from sg_resnets.utils.hardware import cpu_name

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WARM_UP = 5  # steps that are not counted
SGD = "training_hyperparams=cosine_few_epochs"


def place() -> str:
    """The machine, its threads and the number format of mixed precision."""
    gpu = f"{torch.cuda.get_device_name()}, " if DEVICE == "cuda" else ""
    number = str(mixed_dtype(DEVICE) or torch.float32).removeprefix("torch.")
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return f"{gpu}{cpu_name()}, {cores}, {number}, PyTorch {torch.__version__}"


def ratio(name: str, numerators: list[float], denominators: list[float]) -> str:
    """A line: the median ratio of the rounds, and the middle half of them."""
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{name}: {middle:.2f} ({low:.2f} to {high:.2f}, middle half of {len(ratios)} rounds)"


def now() -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def mark() -> Any:
    """A moment; on a GPU the one at which it gets there, for which nothing waits."""
    if DEVICE == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def between(start: Any, end: Any) -> float:
    """Seconds between two marked moments."""
    if DEVICE == "cpu":
        return end - start
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def median_step(starts: list[Any]) -> float:
    """Seconds between the marked starts of two steps."""
    return statistics.median(map(between, starts[WARM_UP:-1], starts[WARM_UP + 1 :]))


def apart(function: Callable[..., float]) -> Callable[..., float]:
    """The function in a process of its own, kept for all its calls: what a training sets there, such as how memory is
    freed, does nothing for the others."""
    process = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    return lambda *values: process.submit(function, *values).result()


class Clock(Callback):
    """The time of each start of a batch, of the last training."""

    starts: list[Any] = []  # noqa: RUF012

    def on_train_batch_start(self, context) -> None:
        self.starts.append(mark())


def train_recipe(recipe: str, *overrides: str) -> list[Any]:
    """Run a recipe through the host for an epoch; the marked start of each step."""
    init_trainer()
    CALLBACKS["Clock"] = Clock
    Clock.starts = []
    always = ["epochs=1", "training_hyperparams.max_valid_batches=1", "training_hyperparams.phase_callbacks=[Clock]"]
    always += ["training_hyperparams.silent_mode=True", "training_hyperparams.save_model=False"]
    with tempfile.TemporaryDirectory() as folder:
        Trainer.train_from_config(load_recipe(recipe, overrides=[*always, *overrides, f"ckpt_root_dir={folder}"]))
    return Clock.starts
