"""The table of the data sets that are held in memory: where each comes from, and its normalisation."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sg_resnets.data import fashion_mnist
from sg_resnets.data.image_tensors import InMemoryImages
from sg_resnets.utils.errors import SgResnetsError, choices


def load_cifar(name: str, train: bool = True, root: str = fashion_mnist.DEFAULT_ROOT) -> tuple[Tensor, list, list[str]]:
    """Images (N, 3, 32, 32), labels and class names of CIFAR10 or CIFAR100, downloaded into `root` if not there."""
    from torchvision import datasets

    folder = Path(root).expanduser()
    try:
        cifar = getattr(datasets, name)(str(folder), train=train, download=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise SgResnetsError(
            f"{name} is not in {folder}, and the download failed ({' '.join(str(error).split())}); connect to the "
            f"network, or put the archive from https://www.cs.toronto.edu/~kriz/cifar.html into {folder}"
        ) from error
    images = torch.from_numpy(cifar.data).permute(0, 3, 1, 2).contiguous()
    return images, cifar.targets, cifar.classes


@dataclass(frozen=True)
class Source:
    """`load(train, ...)` gives images, labels and class names; `mean` and `std` are the training set's, per channel;
    `size` is the images' side in pixels."""

    load: Callable
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    classes: int


IN_MEMORY = {
    "fashion_mnist_mini": Source(fashion_mnist.load_mini, fashion_mnist.MEAN, fashion_mnist.STD, 28, 10),
    "fashion_mnist": Source(fashion_mnist.load_full, fashion_mnist.MEAN, fashion_mnist.STD, 28, 10),
    # Over all pixels of the 50,000 training images. (The often seen 0.2023, 0.1994, 0.2010 for CIFAR-10 is something
    # else: the mean of each image's own standard deviation.)
    "cifar10": Source(partial(load_cifar, "CIFAR10"), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 32, 10),
    "cifar100": Source(partial(load_cifar, "CIFAR100"), (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), 32, 100),
}


def in_memory(
    name: str, cls: type[InMemoryImages] = InMemoryImages, synthetic: bool = False, **params: Any
) -> InMemoryImages:
    """The data set `name` of `IN_MEMORY`; `params` are its source's (`train`, `root`) and those of `InMemoryImages`.

    None stands for "not given". `synthetic` gives noise of its shape, ten images a class, to try a recipe without it.
    Raises SgResnetsError for an unknown name or keyword.
    """
    if name not in IN_MEMORY:
        raise SgResnetsError(f"unknown data set '{name}': {choices(name, list(IN_MEMORY))}")
    source = IN_MEMORY[name]
    of_source = list(inspect.signature(source.load).parameters)
    params = given_keywords(name, params, of_source + inspect.getfullargspec(InMemoryImages.__init__).kwonlyargs)
    where = {keyword: params.pop(keyword) for keyword in of_source if keyword in params}
    contents = _noise(source) if synthetic else source.load(**where)
    return cls(*contents, **{"mean": source.mean, "std": source.std, **params})


def _noise(source: Source) -> tuple[Tensor, Tensor, list[str]]:
    labels = torch.arange(10 * source.classes) % source.classes
    shape = (len(labels), len(source.mean), source.size, source.size)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return images, labels, [str(label) for label in range(source.classes)]


def given_keywords(name: str, params: dict, valid: Iterable[str]) -> dict:
    """`params` without those that are None; raises SgResnetsError for a keyword that is not among the valid ones."""
    params = {keyword: value for keyword, value in params.items() if value is not None}
    for unknown in params.keys() - set(valid):
        raise SgResnetsError(f"{name} has no keyword '{unknown}': {choices(unknown, list(valid), limit=20)}")
    return params
