"""What blocks, shortcuts and stems are built from, as configured: convolution, norm, activation, pooling."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.models.config import ResNetConfig

_ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


def conv(
    config: ResNetConfig, in_channels: int, out_channels: int, size: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution of `size` x `size` that keeps the resolution, or divides it by `stride`; biased without a norm."""
    if config.scaling == "fixup":
        return FixupConv2d(in_channels, out_channels, size, stride, size // 2, groups=groups, bias=False)
    biased = config.norm == "none"
    made = _Uninitialised(in_channels, out_channels, size, stride, size // 2, groups=groups, bias=biased)
    made.__class__ = nn.Conv2d  # type: ignore[assignment]
    return made


def norm(config: ResNetConfig, channels: int) -> nn.Module:
    """Batch-norm, or nothing."""
    return nn.BatchNorm2d(channels) if config.norm == "batch" else nn.Identity()


def activation(config: ResNetConfig, inplace: bool = True) -> nn.Module:
    """The activation; `inplace` (ReLU only) where the layer before it makes a tensor of its own."""
    make = _ACTIVATIONS[config.activation]
    return make(inplace=inplace) if make is nn.ReLU else make()


def squeezed(channels: int, reduction: int, minimum: int = 8) -> int:
    """Channels of an attention's inner layer: C / r (Hu et al. 2018, section 3.2), and as timm does, 8 at least."""
    return max(channels // reduction, minimum)


class _Uninitialised(nn.Conv2d):
    """The network draws all weights itself: drawing them twice takes half of the time that building one takes."""

    def reset_parameters(self) -> None:
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class FixupConv2d(_Uninitialised):
    """conv(x + a) * m + b with scalars a, b, and in the last layer of a branch m, the multiplier.

    Zhang et al., 'Fixup Initialization: Residual Learning Without Normalization' (2019), section 3, rule 3.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bias_in = nn.Parameter(torch.zeros(1))
        self.bias_out = nn.Parameter(torch.zeros(1))
        self.multiplier: nn.Parameter | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x + self.bias_in)
        return (y if self.multiplier is None else y * self.multiplier) + self.bias_out


class ScalarBias(nn.Module):
    """x + b: Fixup's bias before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class BlurPool(nn.Module):
    """Low-pass filter [1 2 1] x [1 2 1] / 16, then every second pixel: (N, C, H, W) to (N, C, ceil(H/2), ceil(W/2)).

    Zhang, 'Making Convolutional Networks Shift-Invariant Again' (2019), section 3.2.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(row, row).expand(channels, 1, 3, 3).clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.kernel, stride=2, groups=len(self.kernel))


def halve(config: ResNetConfig, channels: int) -> nn.Module:
    """What halves the resolution after a convolution of stride 1."""
    return BlurPool(channels) if config.subsample == "blur" else nn.AvgPool2d(3, stride=2, padding=1)
