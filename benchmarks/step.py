"""A training step of our recipe through the host's Trainer, against plain PyTorch loops on the same batches.

Run: python benchmarks/step.py [ROUNDS]. ResNet-20, batches of 128 of the embedded Fashion-MNIST subset, SGD. `eager` is
float32 in PyTorch's default layout, `best` has the recipe's number format and layout. The three run in turn in one
process; a round gives the median step of each.
"""

import os
import platform
import statistics
import sys
import tempfile
import time

import torch
from super_gradients import Trainer, init_trainer
from super_gradients.common.environment.cfg_utils import load_recipe
from super_gradients.common.registry.registry import CALLBACKS
from super_gradients.training import models
from super_gradients.training.utils.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

from sg_resnets.data import in_memory, whole_batch
from sg_resnets.precision import mixed_dtype

STEPS, WARM_UP, BATCH = 30, 5, 128
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Clock(Callback):
    """The time of each start of a batch."""

    starts: list[float] = []  # noqa: RUF012

    def on_train_batch_start(self, context) -> None:
        self.starts.append(now())


def now() -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def median_step(starts: list[float]) -> float:
    return statistics.median(b - a for a, b in zip(starts[WARM_UP:], starts[WARM_UP + 1 :], strict=False))


def recipe(architecture: str) -> float:
    """Seconds a step, the loader and all that the host does in it included."""
    Clock.starts = []
    overrides = [f"architecture={architecture}", "epochs=1", f"batch_size={BATCH}"]
    overrides += [f"training_hyperparams.max_train_batches={STEPS}", "training_hyperparams.max_valid_batches=1"]
    overrides += ["training_hyperparams.silent_mode=True", "training_hyperparams.phase_callbacks=[Clock]"]
    with tempfile.TemporaryDirectory() as folder:
        Trainer.train_from_config(
            load_recipe("fashion_mnist_mini_resnet20", overrides=[*overrides, f"ckpt_root_dir={folder}"])
        )
    return median_step(Clock.starts)


def plain(architecture: str, best: bool) -> float:
    """Seconds a step of the loop that one writes by hand."""
    network = models.get(architecture, arch_params={"in_channels": 1}, num_classes=10).to(DEVICE).train()
    if best:
        network.to(memory_format=torch.channels_last)
    dtype = mixed_dtype(DEVICE) if best else None
    data = in_memory("fashion_mnist_mini", horizontal_flip=True).to(DEVICE)
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, collate_fn=whole_batch)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    starts = []
    for images, labels in loader:
        starts.append(now())
        if len(starts) == STEPS:
            break
        with torch.autocast(DEVICE, dtype=dtype, enabled=dtype is not None):
            value = loss(network(images), labels)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    return median_step(starts)


def main(rounds: int) -> None:
    init_trainer()
    CALLBACKS["Clock"] = Clock
    kinds = {"recipe": recipe, "eager": lambda name: plain(name, False), "best": lambda name: plain(name, True)}
    times = [{kind: run("resnet20_cifar") for kind, run in kinds.items()} for _ in range(rounds)]
    place = torch.cuda.get_device_name() if DEVICE == "cuda" else platform.processor() or platform.machine()
    print(f"{place}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {mixed_dtype(DEVICE) or torch.float32}")
    for kind in kinds:
        print(f"{kind:<7} {1000 * statistics.median(row[kind] for row in times):7.1f} ms a step")
    for kind in ("eager", "best"):
        low, middle, high = statistics.quantiles([row[kind] / row["recipe"] for row in times], n=4)
        print(f"{kind} / recipe: {middle:.2f}, middle half of {rounds} rounds {low:.2f} to {high:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
