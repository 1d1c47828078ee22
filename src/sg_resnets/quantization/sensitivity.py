"""What each layer or addition costs when it is quantised alone; and how many of the costliest must stay in float32 for
the accuracy to be kept."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sg_resnets.quantization.graph import (
    QuantizedNetwork,
    enable_quantizers,
    quantizers_of_additions,
    quantizers_of_layers,
)
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hooks import evaluating

logger = logging.getLogger(__name__)
LEAST_IMAGES = 256  # that layers are ranked by, where max_drop is asked for


@dataclass(frozen=True)
class Sensitivity:
    """What it costs to quantise one layer, its weights and its input (for all that read it), or what an addition takes,
    and nothing else.

    Attributes:
        changed: share of the images, in 0..1, that get another class.
        noise: power of the logits' error over the logits' power, in dB.
    """

    layer: str
    changed: float
    noise: float


@torch.no_grad()
def sensitivity(network: QuantizedNetwork, images: Tensor, additions: bool = False) -> list[Sensitivity]:
    """Return each layer's, with `additions` theirs too, the costliest first; `network` is calibrated, and is left with
    all quantisers on."""
    images = images.to(next(network.parameters()).device)
    parts = quantizers_of_layers(network) | (quantizers_of_additions(network) if additions else {})
    measured = []
    try:
        with evaluating(network):
            enable_quantizers(network, lambda name, quantizer: False)
            reference = network(images)
            for layer, mine in parts.items():
                enable_quantizers(network, lambda name, quantizer, mine=mine: name in mine)  # type: ignore[misc]
                logits = network(images)
                power, noise = reference.square().mean().item(), (logits - reference).square().mean().item()
                changed = (logits.argmax(1) != reference.argmax(1)).float().mean().item()
                measured.append(Sensitivity(layer, changed, 10 * math.log10(max(noise, 1e-30) / max(power, 1e-30))))
    finally:
        enable_quantizers(network, lambda name, quantizer: True)
    return sorted(measured, key=lambda one: (one.changed, one.noise), reverse=True)


def first_images(loader: Iterable[Any], count: int) -> Tensor:
    """Return the first `count` images of a loader, (count, C, H, W)."""
    batches: list[Tensor] = []
    for batch in loader:
        batches.append(batch[0])
        if sum(map(len, batches)) >= count:
            break
    return torch.cat(batches)[:count]


@torch.no_grad()
def accuracy(network: nn.Module, loader: Iterable[Any]) -> float:
    """Return the percentage of a loader's images that a network, in eval mode, names right."""
    device = next(network.parameters()).device
    right = torch.cat([network(images.to(device)).argmax(1) == labels.to(device) for images, labels in loader])
    return 100 * int(right.sum()) / len(right)


def _points(difference: float) -> float:
    """A difference of percentages without the last digits, which are not exact: a loss of as much as is allowed is
    allowed."""
    return round(difference, 9)


@dataclass(frozen=True)
class WithinDrop:
    """A quantised network that loses no more accuracy than is allowed.

    Attributes:
        network: it.
        layers: what stays in float32 for that.
        lost: by it, in points.
        everything: the network with all layers in INT8; the same one where that loses little enough.
        lost_by_everything: in points.
    """

    network: QuantizedNetwork
    layers: tuple[str, ...]
    lost: float
    everything: QuantizedNetwork
    lost_by_everything: float

    def __str__(self) -> str:
        if not self.layers:
            return f"calibration loses {self.lost:.2f} points with all layers in INT8"
        return (
            f"calibration loses {self.lost:.2f} points with {', '.join(self.layers)} in float32, "
            f"{self.lost_by_everything:.2f} with all layers in INT8"
        )


def within_drop(
    quantised: Callable[[QuantizationParams], QuantizedNetwork],
    params: QuantizationParams,
    network: nn.Module,
    loader: Iterable[Any],
    layers: tuple[str, ...] | None = None,
) -> WithinDrop:
    """Keep the costliest layers and additions in float32, as few as `params.max_drop` takes: with one fewer it would be
    missed.

    Args:
        quantised: makes the calibrated network.
        network: the float one, in eval mode.
        loader: of the images that accuracy is measured on, and the first of which layers are ranked by.
        layers: what is kept, where that is known.

    Raises:
        SgResnetsError: it is missed with all layers but one in float32.
    """
    allowed = 0.0 if params.max_drop is None else params.max_drop
    reference, everything = accuracy(network, loader), quantised(params)
    lost_by_everything = _points(reference - accuracy(everything, loader))

    def attempt(kept: Sequence[str]) -> WithinDrop:
        if not kept:
            return WithinDrop(everything, (), lost_by_everything, everything, lost_by_everything)
        partly = quantised(replace(params, skip_modules=(*params.skip_modules, *kept)))
        lost = _points(reference - accuracy(partly, loader))
        logger.info(f"in float32: {len(kept)} layers and additions; points lost: {lost:.2f}")
        return WithinDrop(partly, tuple(kept), lost, everything, lost_by_everything)

    if layers is not None or lost_by_everything <= allowed:
        return attempt(layers or ())
    images = first_images(loader, max(params.sensitivity_images, LEAST_IMAGES))
    ranked = [one.layer for one in sensitivity(everything, images, additions=True)]
    missed, most = 0, max(ranked.index(layer) for layer in quantizers_of_layers(everything))  # so that one is left
    met = attempt(ranked[: min(1, most)])
    while met.lost > allowed:
        missed = len(met.layers)
        if missed >= most:
            raise SgResnetsError(
                f"quantization_params: max_drop={allowed} is missed with {missed} of {len(ranked)} layers and "
                f"additions in float32 too: {met.lost:.2f} points lost; allow more, or another percentile"
            )
        met = attempt(ranked[: min(2 * missed, most)])
    while len(met.layers) - missed > 1:
        tried = attempt(ranked[: (missed + len(met.layers)) // 2])
        if tried.lost <= allowed:
            met = tried
        else:
            missed = len(tried.layers)
    return met
