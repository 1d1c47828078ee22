"""Delete or swap blocks of a trained network and watch its accuracy; how long the paths are that carry the gradient.

Veit et al., 'Residual Networks Behave Like Ensembles of Relatively Shallow Networks' (2016): section 4.1 (deleting),
4.2 (swapping), 4.3 (paths).
"""

import contextlib
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.models import ResidualBlock, ResNet, named_blocks
from sg_resnets.models.blocks import block_class
from sg_resnets.models.shortcuts import ZeroPad
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hooks import evaluating, watched
from sg_resnets.utils.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, batch: int = 500) -> float:
    """Share of images (N, C, H, W) whose label (N,) is predicted, in evaluation mode.

    Raises:
        SgResnetsError: there are no images, or not one label for each.
    """
    if not len(images) or labels.shape != images.shape[:1]:
        raise SgResnetsError(
            f"labels of shape {tuple(labels.shape)} for {len(images)} images: give one label for each, and an image at "
            "least"
        )
    pairs = zip(images.split(batch), labels.split(batch), strict=True)
    with evaluating(network):
        return sum((network(x).argmax(1) == y).sum().item() for x, y in pairs) / len(labels)


def _skip(block: ResidualBlock, x: Tensor, output: Tensor) -> Tensor:
    """What is left of a block without its branch: its shortcut; of a plain one its input, brought into shape."""
    x = block.pre_activation(x)
    if block.downsample is not None:
        shortcut = block.downsample(x)
        shortcut = x.clone() if shortcut is x else shortcut  # what follows the addition may work in place
    elif x.shape == output.shape:
        shortcut = x.clone()
    else:
        shortcut = ZeroPad(output.shape[1] - x.shape[1], math.ceil(x.shape[-1] / output.shape[-1]))(x)
    return block.relu_after(block.bn_after(shortcut))


def _blocks(network: ResNet, names: Sequence[str]) -> list[ResidualBlock]:
    blocks = named_blocks(network)
    for name in names:
        if name not in blocks:
            raise SgResnetsError(f"the network has no block '{name}': it has {', '.join(blocks)}")
    return [blocks[name] for name in names]


def without(network: ResNet, *names: str) -> Any:
    """A context in which the blocks called `names` (such as "layer1.0") are deleted.

    Raises:
        SgResnetsError: there is no such block.
    """
    _blocks(network, names)
    return watched(network, names, lambda name, block, inputs, output: _skip(block, inputs[0], output))  # type: ignore[arg-type]


def lesion(network: ResNet, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy without each block, by its name; without any deleted under "none"."""
    accuracies = {"none": accuracy(network, images, labels)}
    for name in named_blocks(network):
        with without(network, name):
            accuracies[name] = accuracy(network, images, labels)
    return accuracies


def mean_loss(accuracies: Mapping[str, float]) -> float:
    """Accuracy lost with one block, the mean over the blocks, of what `lesion` gives."""
    return accuracies["none"] - statistics.fmean(value for block, value in accuracies.items() if block != "none")


@contextlib.contextmanager
def swapped(network: ResNet, first: str, second: str) -> Iterator[None]:
    """A context in which two blocks of the same stage have changed places.

    Raises:
        SgResnetsError: there is no such block, the blocks are of different stages, or one of them changes the shape.
    """
    here, there = _blocks(network, (first, second))
    of_one_stage = first.rpartition(".")[0] == second.rpartition(".")[0]
    if not of_one_stage or not all(_keeps_shape(network, name) for name in (first, second)):
        raise SgResnetsError(f"{first} and {second} cannot be swapped: both must be of one stage and keep the shape")
    network.set_submodule(first, there)
    network.set_submodule(second, here)
    try:
        yield
    finally:
        network.set_submodule(first, here)
        network.set_submodule(second, there)


def _keeps_shape(network: ResNet, name: str) -> bool:
    """All but the first of a stage do; that of the first stage, if the stem gives what it gives."""
    config = network.config
    widened = config.stem_channels != config.widths[0] * block_class(config).expansion
    return not name.endswith(".0") or (name == "layer1.0" and not widened)


def path_gradients(
    network: ResNet, images: Tensor, labels: Tensor, repeats: int = 20, seed: int = 0
) -> list[tuple[int, float]]:
    """(length, norm of the gradient at the image) of paths through k = 1, 2, ... branches, which ones at random, the
    mean of `repeats` for each k. On such a path a chosen block is its branch alone, any other its shortcut alone.

    Raises:
        SgResnetsError: a plain net, which has one path only.
    """
    if network.config.shortcut == "none":
        raise SgResnetsError("a plain net has one path only")
    blocks = list(named_blocks(network))
    generator = torch.Generator().manual_seed(seed)
    images = images.clone().requires_grad_()

    def one_way(name: str, block: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if name not in active:
            return _skip(block, inputs[0], output)
        branch = block.residual(block.pre_activation(inputs[0]))
        return block.relu_after(block.bn_after(block.scale(block.se(branch))))

    gradients = []
    with evaluating(network), watched(network, blocks, one_way):
        for length in range(1, len(blocks) + 1):
            norms = []
            for _ in range(repeats):
                active = {blocks[i] for i in torch.randperm(len(blocks), generator=generator)[:length].tolist()}
                (gradient,) = torch.autograd.grad(F.cross_entropy(network(images), labels), images)
                norms.append(gradient.norm())
            gradients.append((length, torch.stack(norms).mean().item()))
    return gradients


def draw_lesion(results: dict[str, dict[str, float]], title: str) -> "Figure":
    """Return a figure: accuracy without each block, a line for each network of three equal stages, dashed with
    all of its blocks."""
    figure = new_figure(6.5, 3.8)
    axes = figure.subplots()
    for (label, accuracies), colour in zip(results.items(), COLOURS * len(results), strict=False):
        deleted = [100 * value for name, value in accuracies.items() if name != "none"]
        position = [i / max(len(deleted) - 1, 1) for i in range(len(deleted))]
        axes.plot(position, deleted, color=colour, marker="o", markersize=4, label=label)
        axes.axhline(100 * accuracies["none"], color=colour, linestyle="--", linewidth=0.9)
    for boundary in (1 / 3, 2 / 3):
        axes.axvline(boundary, color="black", linewidth=0.6, alpha=0.4)
    axes.set_xlabel("place of the deleted block (0 first, 1 last; lines: a new stage)")
    axes.set(ylabel="accuracy without it (%)", ylim=(0, 100))
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def draw_paths(gradients: Sequence[tuple[int, float]]) -> "Figure":
    """Return a figure like Veit et al.'s figure 6: how many paths there are of each length, the gradient of one,
    and the product, which is what each length contributes."""
    lengths = [length for length, _ in gradients]
    count = len(lengths)
    paths = [math.comb(count, length) for length in lengths]
    share = [number * norm for number, (_, norm) in zip(paths, gradients, strict=True)]
    total = sum(share) or 1.0
    frequent = " or ".join(str(length) for length, number in zip(lengths, paths, strict=True) if number == max(paths))
    carrying = lengths[share.index(max(share))]
    title = (
        f"Of {count} branches most paths take {frequent}; most of the gradient comes through paths of about {carrying}"
    )
    figure = new_figure(9, 3.2, title)
    for axes, values, label, scale in zip(
        figure.subplots(1, 3),
        ([number / 2**count for number in paths], [norm for _, norm in gradients], [value / total for value in share]),
        ("share of all paths", "gradient norm of one path", "share of the gradient"),
        ("linear", "log", "linear"),
        strict=True,
    ):
        axes.plot(lengths, values, color=COLOURS[0], marker=".")
        axes.set(xlabel="branches on the path", ylabel=label, yscale=scale)
        axes.grid(alpha=0.3)
    return figure
