"""An epoch of our recipe against one of a loop of timm's own parts, data loading included.

Run: python benchmarks/timm_epoch.py [ROUNDS]. The same ResNet-20, data (12,000 images of the embedded Fashion-MNIST
subset, flipped at random), batch of 128, optimiser, schedule, number format and layout; timm's loader, optimiser,
scheduler and scaler as its training script puts them together, with the fastest number of workers from 0 to the
cores. The two run in turn, each in its own process.
"""

import os
import statistics
import sys

import torch
from common import DEVICE, SGD, apart, between, mark, place, ratio, train_recipe
from PIL import Image
from super_gradients.training import models
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import NativeScaler
from torch import nn
from torch.utils.data import Dataset

from sg_resnets.data import in_memory
from sg_resnets.training.precision import mixed_dtype

BATCH = 128


class Pictures(Dataset):
    """PIL images and labels, and the transform that timm's loader puts in."""

    transform = None

    def __init__(self) -> None:
        data = in_memory("fashion_mnist_mini")
        self.images, self.labels = data.images.squeeze(1).numpy(), data.labels.tolist()
        self.mean, self.std = data.mean, data.std

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def ours() -> float:
    """Seconds of an epoch: from the first batch's start to the last's, times n / (n - 1)."""
    starts = train_recipe("fashion_mnist_mini_resnet20", SGD, f"batch_size={BATCH}")
    return between(starts[0], starts[-1]) * len(starts) / (len(starts) - 1)


def timms(workers: int) -> float:
    """Seconds of the same work with timm's parts."""
    data = Pictures()
    loader = create_loader(
        data,
        input_size=(1, 28, 28),
        batch_size=BATCH,
        is_training=True,
        scale=(1.0, 1.0),
        ratio=(1.0, 1.0),
        hflip=0.5,
        color_jitter=None,
        interpolation="bilinear",
        mean=data.mean,
        std=data.std,
        num_workers=workers,
        persistent_workers=False,
        use_prefetcher=DEVICE == "cuda",
        device=torch.device(DEVICE),
    )
    network = models.get("resnet20_cifar", arch_params={"in_channels": 1}, num_classes=10).to(DEVICE).train()
    network.to(memory_format=torch.channels_last)
    dtype = mixed_dtype(DEVICE)
    optimiser = create_optimizer_v2(network, opt="sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    scheduler = CosineLRScheduler(optimiser, t_initial=len(loader), t_in_epochs=False)
    scaler = NativeScaler(DEVICE) if dtype is torch.float16 else None
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    starts = []
    for step, (images, labels) in enumerate(loader):
        starts.append(mark())
        images = images.to(DEVICE, memory_format=torch.channels_last)
        with torch.autocast(DEVICE, dtype=dtype, enabled=dtype is not None):
            loss = loss_of(network(images), labels.to(DEVICE))
        optimiser.zero_grad()
        if scaler is None:
            loss.backward()
            optimiser.step()
        else:
            scaler(loss, optimiser)
        scheduler.step_update(step + 1)
    return between(starts[0], starts[-1]) * len(starts) / (len(starts) - 1)


def main(rounds: int) -> None:
    print(place())
    timms_epoch, our_epoch = apart(timms), apart(ours)
    tried = {workers: timms_epoch(workers) for workers in range((os.cpu_count() or 1) + 1)}
    workers = min(tried, key=lambda count: tried[count])
    print("timm's epoch by workers: " + ", ".join(f"{count}: {seconds:.1f} s" for count, seconds in tried.items()))
    times = [(timms_epoch(workers), our_epoch()) for _ in range(rounds)]
    for name, seconds in zip(("timm's parts", "recipe"), zip(*times, strict=True), strict=True):
        print(f"{name:<13} {statistics.median(seconds):6.1f} s an epoch")
    print(ratio("timm's epoch over the recipe's", [a for a, _ in times], [b for _, b in times]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
