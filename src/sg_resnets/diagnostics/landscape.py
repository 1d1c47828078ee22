"""The loss around a trained network, along directions whose filters are as long as the network's own.

Li et al., 'Visualizing the Loss Landscape of Neural Nets' (2018), section 4: filter-wise normalisation; biases and
batch-norm stay where they are.
"""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def filter_normalised_direction(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """A random direction: each filter (each row of a matrix) as long as the weights' own; zero for vectors."""
    direction = {}
    for name, weight in network.named_parameters():
        if weight.ndim < 2:
            direction[name] = torch.zeros_like(weight)
            continue
        random = torch.randn(weight.shape, generator=generator)
        scale = weight.detach().flatten(1).norm(dim=1) / random.flatten(1).norm(dim=1)
        direction[name] = random * scale.view(-1, *[1] * (weight.ndim - 1))
    return direction


@torch.no_grad()
def loss_line(
    network: nn.Module, images: Tensor, labels: Tensor, steps: int = 41, span: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """(positions, losses in nats), each (steps,): from -span to span along one direction, in evaluation mode."""
    positions, surface = _losses(network, images, labels, steps, span, seed, dimensions=1)
    return positions, surface[0]


@torch.no_grad()
def loss_surface(
    network: nn.Module, images: Tensor, labels: Tensor, steps: int = 21, span: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """(positions (steps,), losses in nats (steps, steps)) on the plane of two directions, in evaluation mode."""
    return _losses(network, images, labels, steps, span, seed, dimensions=2)


def _losses(
    network: nn.Module, images: Tensor, labels: Tensor, steps: int, span: float, seed: int, dimensions: int
) -> tuple[Tensor, Tensor]:
    from tqdm import tqdm

    generator = torch.Generator().manual_seed(seed)
    directions = [filter_normalised_direction(network, generator) for _ in range(2)]
    positions = torch.linspace(-span, span, steps)
    rows = positions if dimensions == 2 else torch.zeros(1)
    moved = copy.deepcopy(network).eval()
    start = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    surface = torch.empty(len(rows), steps)
    with tqdm(total=surface.numel(), desc="loss landscape", leave=False, disable=None) as progress:
        for i, y in enumerate(rows.tolist()):
            for j, x in enumerate(positions.tolist()):
                for name, weight in moved.named_parameters():
                    weight.copy_(start[name] + x * directions[0][name] + y * directions[1][name])
                surface[i, j] = F.cross_entropy(moved(images), labels)
                progress.update()
    return positions, surface


def nonconvex_share(losses: Tensor, most: float = 10.0) -> float:
    """Share of the inner points of a surface (steps, steps), of those with a loss below `most` nats, where it bends
    downwards along an axis: 0 for a convex one (Li et al. 2018 ask the Hessian's eigenvalues).

    Raises:
        SgResnetsError: there is no such point.
    """
    inner = losses[1:-1, 1:-1]
    if not (inner < most).any():
        raise SgResnetsError(f"no inner point of the surface has a loss below {most} nats: take a smaller span")
    along = [losses[2:, 1:-1] + losses[:-2, 1:-1], losses[1:-1, 2:] + losses[1:-1, :-2]]
    bends = torch.stack([neighbours < 2 * inner for neighbours in along])
    return bends[:, inner < most].float().mean().item()


def draw_landscapes(surfaces: Mapping[str, tuple[Tensor, Tensor]], title: str, most: float = 10.0) -> "Figure":
    """Return a figure of contour plots side by side, on one scale of the loss (nats) up to `most`."""
    figure = new_figure(4.2 * len(surfaces), 3.9, title)
    levels = torch.logspace(-1.3, torch.tensor(most).log10().item(), 24).tolist()
    all_axes = figure.subplots(1, len(surfaces), squeeze=False)[0]
    for axes, (label, (positions, losses)) in zip(all_axes, surfaces.items(), strict=True):
        shown = losses.nan_to_num(most, posinf=most).clamp(levels[0], most)
        filled = axes.contourf(positions, positions, shown, levels=levels, cmap="viridis", norm="log")
        axes.contour(positions, positions, shown, levels=levels[::3], colors="white", linewidths=0.4)
        axes.plot([0], [0], marker="+", color="#D55E00", markersize=10)
        axes.set(title=label, xlabel="step along direction 1", aspect="equal")
    all_axes[0].set_ylabel("step along direction 2")
    ticks = [tick for tick in (0.1, 0.3, 1, 3, 10) if tick <= most]
    bar = figure.colorbar(filled, ax=list(all_axes), label="loss (nats)", ticks=ticks)
    bar.ax.set_yticklabels([f"{tick:g}" for tick in ticks])
    return figure
