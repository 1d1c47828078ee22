"""Training on a GPU through the recipe, against loops that one writes by hand, in turn.

Run: python benchmarks/gpu_step.py resnet20|resnet50|accuracy [ROUNDS]. `eager` is float32 in PyTorch's default layout;
`best` has the recipe's number format and layout, is compiled with CUDA graphs, and its optimiser is fused. `timm` is
made of timm's parts as its training script puts them together at its fastest (--amp --channels-last --torchcompile).
"""

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import DEVICE, SGD, apart, mark, median_step, now, place, ratio, train_recipe
from super_gradients import Trainer, init_trainer
from super_gradients.common.environment.cfg_utils import load_recipe
from super_gradients.common.registry.registry import ALL_DATASETS
from super_gradients.training import models
from torch import nn
from torch.utils.data import DataLoader

from sg_resnets.data import in_memory, whole_batch
from sg_resnets.host.datasets import HostInMemoryImages
from sg_resnets.runs.curves import read_curves
from sg_resnets.training.precision import mixed_dtype

COMPILED = "training_hyperparams.torch_compile=True"
GRAPHS = "training_hyperparams.torch_compile_options={mode: reduce-overhead}"
SMALL = DEVICE == "cpu"  # to see that it runs
STEPS = 8 if SMALL else 90
LARGE_STEPS, LARGE_BATCH, LARGE_SIDE = (7, 4, 32) if SMALL else (40, 256, 224)


def noise(**params):
    """Uint8 noise, 1,000 classes, on the device."""
    params.pop("train", None), params.pop("root", None), params.pop("data_on", None)
    count = LARGE_BATCH * LARGE_STEPS if SMALL else LARGE_BATCH * 8
    images = torch.randint(256, (count, 3, LARGE_SIDE, LARGE_SIDE), dtype=torch.uint8)
    names = [str(i) for i in range(1000)]
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    data = HostInMemoryImages(images, torch.arange(count) % 1000, names, mean=mean, std=std, horizontal_flip=True)
    return data.to(DEVICE)


def recipe(*overrides: str) -> float:
    """Seconds a step of ResNet-20."""
    steps = f"training_hyperparams.max_train_batches={STEPS}"
    return median_step(train_recipe("fashion_mnist_mini_resnet20", SGD, "batch_size=128", steps, *overrides))


def large_recipe(*overrides: str) -> float:
    """Seconds a step of ResNet-50; epochs of 8 batches, all but the first counted."""
    ALL_DATASETS["noise"] = noise
    given = [
        "architecture=resnet50_v1b", "arch_params.in_channels=3", "arch_params.num_classes=1000",
        "dataset_params.train_dataloader_params.dataset=noise", "dataset_params.val_dataloader_params.dataset=noise",
        f"batch_size={LARGE_BATCH}", f"dataset_params.val_dataloader_params.batch_size={LARGE_BATCH}", "lr=0.01",
        f"epochs={1 if SMALL else LARGE_STEPS // 8}", "training_hyperparams.lr_warmup_epochs=0",
    ]  # fmt: skip
    return median_step(train_recipe("fashion_mnist_mini_resnet20", SGD, *given, *overrides))


def plain(kind: str, large: bool = False) -> float:
    """Seconds a step of a loop by hand."""
    arch = {} if large else {"in_channels": 1}
    name, classes = ("resnet50_v1b", 1000) if large else ("resnet20_cifar", 10)
    network = models.get(name, arch_params=arch, num_classes=classes).to(DEVICE).train()
    fast = kind != "eager"
    dtype = mixed_dtype(DEVICE) if fast else None
    rates = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
    if kind == "timm":
        from timm.optim import create_optimizer_v2

        optimiser = create_optimizer_v2(network, opt="sgd", lr=0.01, momentum=0.9, weight_decay=5e-4)
    else:
        optimiser = torch.optim.SGD(network.parameters(), **rates, **({"fused": True} if fast else {}))
    run = network
    if fast:
        network.to(memory_format=torch.channels_last)
        options = {"backend": "aot_eager"} if SMALL else {"mode": "reduce-overhead"} if kind == "best" else {}
        run = torch.compile(network, **options)
    data = noise() if large else in_memory("fashion_mnist_mini", horizontal_flip=True).to(DEVICE)
    batch, steps = (LARGE_BATCH, LARGE_STEPS) if large else (128, STEPS)
    loader = DataLoader(data, batch, shuffle=True, drop_last=True, collate_fn=whole_batch)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    starts: list[Any] = []
    while len(starts) < steps:
        for images, labels in loader:
            starts.append(mark())
            if fast:
                images = images.to(memory_format=torch.channels_last)
            with torch.autocast(DEVICE, dtype=dtype, enabled=dtype is not None):
                value = loss(run(images), labels)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            if len(starts) == steps:
                break
    return median_step(starts)


def compare(kinds: dict, rounds: int, images: int) -> None:
    """Run them in turn, each in its own process; times, images a second, and ratios to the first."""
    runs = {name: (apart(function), values) for name, (function, *values) in kinds.items()}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, (run, values) in runs.items():
            times[name].append(run(*values))
    print(place())
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"{name:<17} {1000 * middle:8.2f} ms a step, {images / middle:9,.0f} images a second")
    first, *others = times
    for name in others:
        print(ratio(f"{name}'s step over the {first}'s", times[name], times[first]))


def resnet20(rounds: int) -> None:
    options = [COMPILED, "training_hyperparams.torch_compile_options={backend: aot_eager}" if SMALL else GRAPHS]
    kinds = {"recipe, compiled": (recipe, *options), "recipe": (recipe,), "eager": (plain, "eager")}
    compare({**kinds, "best": (plain, "best")}, rounds, 128)


def resnet50(rounds: int) -> None:
    options = [COMPILED, *(["training_hyperparams.torch_compile_options={backend: aot_eager}"] if SMALL else [])]
    kinds = {"recipe, compiled": (large_recipe, *options), "recipe": (large_recipe,), "timm": (plain, "timm", True)}
    compare(kinds, rounds, LARGE_BATCH)


def accuracy(rounds: int) -> None:
    """Seconds of fashion_mnist_resnet20's epochs until the test accuracy is 0.94 for the first time."""
    init_trainer()
    print(place())
    for seed in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            given = [f"ckpt_root_dir={folder}", f"training_hyperparams.seed={seed}"]
            given += ["training_hyperparams.silent_mode=True", *(["+debug=smoke", "epochs=2"] if SMALL else [])]
            began = now()
            Trainer.train_from_config(load_recipe("fashion_mnist_resnet20", overrides=given))
            seconds = now() - began
            (curves,) = Path(folder).glob("*/RUN_*/curves.csv")
            rows = read_curves(curves)
        first = next((row.epoch for row in rows if (row.test_accuracy or 0) >= 0.94), None)
        share = f"0.94 after {seconds * (first / len(rows)):.0f} s" if first else "0.94 not reached"
        print(f"seed {seed}: {rows[-1].test_accuracy:.4f} at the end, {seconds:.0f} s in all, {share}")


if __name__ == "__main__":
    {"resnet20": resnet20, "resnet50": resnet50, "accuracy": accuracy}[sys.argv[1]](int([*sys.argv, "3"][2]))
