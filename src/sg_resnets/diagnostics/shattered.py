"""Shattered gradients: how alike the gradients at neighbouring inputs are.

Balduzzi et al., 'The Shattered Gradients Problem' (2017), section 2.1 and figure 1: along a line of inputs the gradient
of a deep plain net is like white noise, that of a shallow net like brown noise, that of a residual net in between.
"""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sg_resnets.models import ResNet
from sg_resnets.utils.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def calibrated(network: ResNet, images: Tensor) -> ResNet:
    """A copy in evaluation mode whose batch-norm statistics are those of `images`; a fresh net has none yet."""
    network = copy.deepcopy(network).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(images)
    return network.eval()


def gradient_autocorrelation(network: ResNet, start: Tensor, end: Tensor, points: int = 256) -> Tensor:
    """Autocorrelation of the gradient of the summed logits with respect to the image, on the straight line from image
    `start` to image `end`, each (C, H, W). Call it with a network in evaluation mode.

    Returns:
        (points // 2,), by distance in steps; 1 at distance 0.
    """
    t = torch.linspace(0, 1, points).view(-1, 1, 1, 1)
    line = (start + t * (end - start)).requires_grad_()
    (gradients,) = torch.autograd.grad(network(line).sum(), line)
    series = gradients.flatten(1)
    series = series - series.mean(0)
    lags = range(points // 2)
    products = torch.stack([(series[: points - lag] * series[lag:]).sum() / (points - lag) for lag in lags])
    return products / products[0]


def draw_autocorrelation(curves: Mapping[str, Tensor], title: str) -> "Figure":
    """Return a figure: autocorrelation by distance; each curve is (lags,), or (repeats, lags) with its spread."""
    figure = new_figure(6.5, 3.8)
    axes = figure.subplots()
    for (label, values), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        rows = values.reshape(-1, values.shape[-1])
        mean, lags = rows.mean(0), torch.arange(values.shape[-1])
        axes.plot(lags, mean, color=colour, label=label)
        if len(rows) > 1:
            spread = rows.std(0)
            axes.fill_between(lags, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(
        xlabel="distance between the inputs (steps on the line)", ylabel="autocorrelation of the gradient", title=title
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
