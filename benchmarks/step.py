"""A training step of our recipe through the host's Trainer, against plain PyTorch loops on the same batches.

Run: python benchmarks/step.py [ROUNDS]. ResNet-20, batches of 128 of the embedded Fashion-MNIST subset, SGD. `eager` is
float32 in PyTorch's default layout, `best` has the recipe's number format and layout. The three run in turn, each in
its own process; a round gives the median step of each.
"""

import statistics
import sys

import torch
from common import DEVICE, SGD, apart, mark, median_step, place, ratio, train_recipe
from super_gradients.training import models
from torch import nn
from torch.utils.data import DataLoader

from sg_resnets.data import in_memory, whole_batch
from sg_resnets.training.precision import mixed_dtype

STEPS, BATCH = 30, 128


def recipe() -> float:
    """Seconds a step, the loader and all that the host does in it included."""
    steps = f"training_hyperparams.max_train_batches={STEPS}"
    return median_step(train_recipe("fashion_mnist_mini_resnet20", SGD, f"batch_size={BATCH}", steps))


def plain(best: bool) -> float:
    """Seconds a step of the loop that one writes by hand."""
    network = models.get("resnet20_cifar", arch_params={"in_channels": 1}, num_classes=10).to(DEVICE).train()
    if best:
        network.to(memory_format=torch.channels_last)
    dtype = mixed_dtype(DEVICE) if best else None
    data = in_memory("fashion_mnist_mini", horizontal_flip=True).to(DEVICE)
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, collate_fn=whole_batch)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    starts = []
    for images, labels in loader:
        starts.append(mark())
        if len(starts) == STEPS:
            break
        with torch.autocast(DEVICE, dtype=dtype, enabled=dtype is not None):
            value = loss(network(images), labels)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    return median_step(starts)


def main(rounds: int) -> None:
    kinds = {"recipe": (apart(recipe),), "eager": (apart(plain), False), "best": (apart(plain), True)}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, (run, *values) in kinds.items():
            times[kind].append(run(*values))
    print(place())
    for kind, seconds in times.items():
        print(f"{kind:<7} {1000 * statistics.median(seconds):7.1f} ms a step")
    for kind in ("eager", "best"):
        print(ratio(f"{kind} loop's step over the recipe's", times[kind], times["recipe"]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
