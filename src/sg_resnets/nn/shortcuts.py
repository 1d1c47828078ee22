"""Shortcut connections of He et al. 2015, section 3.3: what is added to the residual branch.

A shortcut is made by `make(in_channels, out_channels, stride) -> nn.Module | None`; None means that nothing is added.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.nn.registry import Registry

SHORTCUTS = Registry("shortcut")
register_shortcut = SHORTCUTS.register


class ZeroPad(nn.Module):
    """Option A: every `stride`-th pixel, and zeros for the channels that are new. No parameters.

    Maps (N, C, H, W) to (N, C + `new_channels`, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        before = self.new_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """W_s of equation 2: a 1x1 convolution, with its batch-norm."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


@register_shortcut("A")
def zero_padded(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Identity; zero-padded where the shape changes. A block that narrows gets a projection: zeros cannot help it."""
    if out_channels < in_channels:
        return projection(in_channels, out_channels, stride)
    same = stride == 1 and in_channels == out_channels
    return nn.Identity() if same else ZeroPad(out_channels - in_channels, stride)


@register_shortcut("B")
def projection_where_needed(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Identity; a projection where the shape changes."""
    same = stride == 1 and in_channels == out_channels
    return nn.Identity() if same else projection(in_channels, out_channels, stride)


@register_shortcut("C")
def projection_everywhere(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A projection in every block."""
    return projection(in_channels, out_channels, stride)


@register_shortcut("none")
def plain(in_channels: int, out_channels: int, stride: int) -> None:
    """Nothing is added: the plain net that the paper compares with."""
    return None
