"""Fake quantisation: tensors are rounded to 256 values and stay float32, so that training sees what INT8 will do.

x becomes s * (clip(round(x / s) + z, low, high) - z), with s = amax / levels (Jacob et al., 'Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference', 2018, section 3). The gradient passes through the
rounding unchanged where x is in range, and is 0 outside. With learnt ranges that of the scale is LSQ's (Esser et al.,
'Learned Step Size Quantization', 2020, section 2).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sg_resnets.quantization.calibrators import Calibrator
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.utils.errors import SgResnetsError

SMALLEST = 1e-8  # of a range: a tensor that was always 0 stays 0


class Quantizer(nn.Module):
    """Rounds a tensor of any shape; without a range yet, or switched off, it passes the tensor on.

    Args:
        low, high: the integers that there are.
        zero_point: the integer that stands for 0.
        channels: a range for each of so many slices along dimension 0; None is one range for all.
        learn: whether amax is learnt.
        least: below 0, what the tensor never goes below: then the range is least..amax, all steps are in it, and the
            integer for 0 follows from amax.
    """

    zero_points: Tensor
    amax: Tensor  # float32, () or (channels,): the magnitude that is the last step

    def __init__(
        self,
        low: int,
        high: int,
        zero_point: int,
        channels: int | None = None,
        learn: bool = False,
        least: float | None = None,
    ) -> None:
        super().__init__()
        self.least = least
        self.low, self.high, self.zero_point, self.channels = low, high, zero_point, channels
        start = torch.full(() if channels is None else (channels,), float("nan"))
        if learn:
            self.amax = nn.Parameter(start)
        else:
            self.register_buffer("amax", start)
        self.register_buffer("zero_points", torch.zeros_like(start, dtype=torch.int32) + zero_point, persistent=False)
        self.enabled = True
        self._has_range = False  # once seen, so that a GPU is asked once
        self.calibrator: Calibrator | None = None

    def zero(self) -> int | Tensor:
        """The integer that stands for 0; a tensor () where it follows from amax."""
        if self.least is None:
            return self.zero_point
        share = self.least / (self.least - self.amax.detach().clamp(min=SMALLEST))
        return self.low + ((self.high - self.low) * share).ceil().clamp(max=self.high - self.low - 1)

    def levels(self) -> int | Tensor:
        """Steps from 0 to amax."""
        return self.high - self.zero()

    def scale(self) -> Tensor:
        """What one step is, float32."""
        return self.amax.clamp(min=SMALLEST) / self.levels()

    def has_range(self) -> bool:
        """Whether it has been calibrated, or loaded."""
        self._has_range = self._has_range or not self.amax.isnan().any().item()
        return self._has_range

    def forward(self, x: Tensor) -> Tensor:
        if self.calibrator is not None:
            self.calibrator.collect(x)
        if not (self.enabled and self.has_range()):
            return x
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if self.amax.requires_grad:
                return self._learnable(x)
            if self.channels is None:
                zero = self.zero()
                zeros = zero.int() if isinstance(zero, Tensor) else self.zero_points
                return torch.fake_quantize_per_tensor_affine(x, self.scale(), zeros, self.low, self.high)
            return torch.fake_quantize_per_channel_affine(x, self.scale(), self.zero_points, 0, self.low, self.high)

    def _learnable(self, x: Tensor) -> Tensor:
        """LSQ divides the gradient of s by sqrt(N levels), N the elements of one image, or of the weights, that share s
        (section 2.2). For amax = levels s that makes it levels^2 / sqrt(N levels) times as large."""
        of_weights = self.low == -self.high
        count = x.numel() if of_weights and self.channels is None else x[0].numel()
        factor = self.levels() ** 1.5 / count**0.5
        amax = self.amax.detach() + factor * (self.amax - self.amax.detach())
        scale = amax.clamp(min=SMALLEST) / self.levels()
        scale = scale if self.channels is None else scale.view(-1, *[1] * (x.ndim - 1))
        steps = (x / scale).clamp(self.low - self.zero(), self.high - self.zero())
        return (steps + (steps.round() - steps).detach()) * scale

    def extra_repr(self) -> str:
        start = f"zero at {self.zero_point}" if self.least is None else f"from {self.least}"
        return f"{self.low}..{self.high}, {start}"


class QuantConv2d(nn.Conv2d):
    """A convolution whose weights are rounded."""

    weight_quantizer: Quantizer

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight_quantizer(self.weight), self.bias)


class QuantLinear(nn.Linear):
    """A linear layer whose weights are rounded."""

    weight_quantizer: Quantizer

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight_quantizer(self.weight), self.bias)


QUANTIZED = {nn.Conv2d: QuantConv2d, nn.Linear: QuantLinear}


def quantize_weights(layer: Any, params: QuantizationParams) -> None:
    """Turn a convolution or linear layer into its quantised kind, in place: its weights keep their names."""
    channels, largest = len(layer.weight) if params.per_channel else None, 63 if params.reduce_range else 127
    layer.__class__ = QUANTIZED[type(layer)]
    layer.weight_quantizer = Quantizer(-largest, largest, 0, channels, params.learn_amax)


def activation_quantizer(least: float, params: QuantizationParams) -> Quantizer:
    """For a tensor that is never below `least`, at most 0; -inf where that is not known."""
    target = params.runtime
    if not target.unsigned or (least == -math.inf and not target.zero_point):
        return Quantizer(-128, 127, 0, learn=params.learn_amax)
    if least in (0, -math.inf):
        return Quantizer(0, 255, 128 if least else 0, learn=params.learn_amax)
    return Quantizer(0, 255, 0, learn=params.learn_amax, least=least)


def check_float32(network: nn.Module) -> None:
    """Refuse weights of another type: what is rounded is float32.

    Raises:
        SgResnetsError: there are some.
    """
    for name, tensor in network.named_parameters():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise SgResnetsError(f"{name} is {kind}, not float32: call network.float() first")


def quantizers(network: nn.Module) -> dict[str, Quantizer]:
    """All quantisers by path."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Quantizer)}
