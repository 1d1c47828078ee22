"""What a teacher says of an image beyond its class: the probabilities of the others, softened by a temperature.

Hinton, Vinyals & Dean, 'Distilling the Knowledge in a Neural Network', 2015, section 2.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sg_resnets.utils.checks import POSITIVE
from sg_resnets.utils.hooks import evaluating
from sg_resnets.utils.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@torch.no_grad()
def soft_targets(network: nn.Module, images: Tensor, temperature: float) -> Tensor:
    """softmax(z / T) of images (N, C, H, W): probabilities (N, K).

    Raises:
        SgResnetsError: a temperature that is not above 0.
    """
    POSITIVE("temperature", temperature)
    with evaluating(network):
        return torch.softmax(network(images) / temperature, dim=1)


def draw_soft_targets(
    network: nn.Module, images: Tensor, class_names: Sequence[str], temperatures: Sequence[float] = (1.0, 4.0)
) -> "Figure":
    """Return a figure: a row for each image, beside it the probabilities at each temperature."""
    figure = new_figure(2 + 3.2 * len(temperatures), 2.2 * len(images) + 0.4)
    widths = [1] + [1.6] * len(temperatures)
    grid = figure.subplots(len(images), 1 + len(temperatures), squeeze=False, width_ratios=widths)
    probabilities = [soft_targets(network, images, temperature) for temperature in temperatures]
    for i, (image, axes) in enumerate(zip(images, grid, strict=True)):
        axes[0].imshow(image.mean(0), cmap="gray_r")
        axes[0].set_axis_off()
        for column, temperature in enumerate(temperatures):
            bars = axes[column + 1]
            bars.barh(range(len(class_names)), 100 * probabilities[column][i], color=COLOURS[column % len(COLOURS)])
            bars.set_xlim(0, 100)
            bars.invert_yaxis()
            bars.set_yticks(
                range(len(class_names)), class_names if column == 0 else [""] * len(class_names), fontsize=7
            )
            if i == 0:
                bars.set_title(f"temperature {temperature:g}", fontsize=9)
            if i == len(images) - 1:
                bars.set_xlabel("probability (%)")
    return figure
