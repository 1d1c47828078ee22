"""Fashion-MNIST on a CPU, all 60,000: the recipe fashion_mnist_fast beside a network by hand that is not residual.

Run: python benchmarks/time_to_accuracy.py [ROUNDS]. The peer is put together as the speed records on CIFAR-10 are
(Jordan, '94% on CIFAR-10 in 3.29 Seconds on a Single GPU', 2024, section 3): a first layer that whitens 2x2 patches,
blocks of two convolutions, convolutions that begin as the identity, a scaled head; its epochs, widths and rates were
chosen by us for these images. Both have Muon, bfloat16, the same batches and augmentation. The two run in turn, each in
its own process; seconds are of training, without the start of Python.
"""

import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import apart, place
from super_gradients import Trainer, init_trainer
from super_gradients.common.environment.cfg_utils import load_recipe
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sg_resnets.data import in_memory, whole_batch
from sg_resnets.runs.curves import read_curves
from sg_resnets.training.memory import keep_freed_memory
from sg_resnets.training.muon import Muon
from sg_resnets.training.precision import mixed_dtype

EPOCHS, WARM_UP, RATE, DECAY, BATCH = 6, 1, 0.02, 0.2, 256
WIDTHS = 64, 128, 128


class Whitening(nn.Conv2d):
    """2x2, of stride 1: the eigenvectors of the images' patches and their negatives, each scaled to variance 1."""

    def __init__(self, images: Tensor) -> None:
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).reshape(-1, 4)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        kernels = (vectors / (values + 1e-2).sqrt()).T.reshape(4, 1, 2, 2)
        super().__init__(1, 8, 2)
        self.weight = nn.Parameter(torch.cat([kernels, -kernels]), requires_grad=False)


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3; its first `inputs` channels begin as they come in."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:inputs])
    return layer


def norm(channels: int) -> nn.BatchNorm2d:
    """Its statistics follow fast, and it scales nothing."""
    layer = nn.BatchNorm2d(channels, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


class Scaled(nn.Linear):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features) / 9


def network(images: Tensor) -> nn.Sequential:
    """The peer, for images (N, 1, 28, 28)."""
    layers: list[nn.Module] = [Whitening(images), nn.GELU()]
    inputs = 8
    for width in WIDTHS:
        layers += [convolution(inputs, width), nn.MaxPool2d(2), norm(width), nn.GELU()]
        layers += [convolution(width, width), norm(width), nn.GELU()]
        inputs = width
    return nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), Scaled(inputs, 10, bias=False))


def peer(seed: int) -> tuple[float, float]:
    """Test accuracy and seconds."""
    torch.manual_seed(seed)
    keep_freed_memory()
    data, test = in_memory("fashion_mnist", crop_padding=2, seed=seed), in_memory("fashion_mnist", train=False)
    net = network(in_memory("fashion_mnist", max_samples=5000).__getitems__(range(5000))[0])
    net = net.train().to(memory_format=torch.channels_last)
    optimiser = Muon([weight for weight in net.parameters() if weight.requires_grad], RATE, weight_decay=DECAY)
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, collate_fn=whole_batch)
    loss, steps, step = nn.CrossEntropyLoss(label_smoothing=0.1), EPOCHS * len(loader), 0
    began = time.perf_counter()
    for _ in range(EPOCHS):
        for images, labels in loader:
            rate = RATE * min(step / (WARM_UP * len(loader)), 0.5 * (1 + math.cos(math.pi * step / steps)))
            optimiser.param_groups[0]["lr"] = rate
            with torch.autocast("cpu", dtype=mixed_dtype("cpu")):
                logits = net(images.to(memory_format=torch.channels_last))
            optimiser.zero_grad()
            loss(logits.float(), labels).backward()
            optimiser.step()
            step += 1
    seconds = time.perf_counter() - began
    net.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=mixed_dtype("cpu")):
        right = [(net(x).argmax(1) == y).float() for x, y in DataLoader(test, 500, collate_fn=whole_batch)]
    return torch.cat(right).mean().item(), seconds


def recipe(seed: int) -> tuple[float, float]:
    """Test accuracy and seconds of fashion_mnist_fast, its validations included."""
    init_trainer()
    with tempfile.TemporaryDirectory() as folder:
        given = [
            f"ckpt_root_dir={folder}",
            f"training_hyperparams.seed={seed}",
            "training_hyperparams.silent_mode=True",
        ]
        Trainer.train_from_config(load_recipe("fashion_mnist_fast", overrides=given))
        (curves,) = Path(folder).glob("*/RUN_*/curves.csv")
        last = read_curves(curves)[-1]
    return last.test_accuracy, last.seconds


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    runs = {name: [] for name in ("recipe", "peer")}
    for seed in range(rounds):
        for name, run in (("recipe", apart(recipe)), ("peer", apart(peer))):
            runs[name].append(run(seed))
    print(place())
    for name, results in runs.items():
        accuracies, seconds = zip(*results, strict=True)
        each = ", ".join(f"{accuracy:.4f} in {time:.0f} s" for accuracy, time in results)
        print(f"{name:<6}  {statistics.mean(accuracies):.4f} in {statistics.mean(seconds):.0f} s: {each}")
