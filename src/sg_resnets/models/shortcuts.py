"""Shortcuts (He et al. 2015, section 3.3), and how they are joined with the branch (He et al. 2016, table 1).

A shortcut is made by `make(in_channels, out_channels, stride, config) -> nn.Module | None`; None means that nothing is
added. Add one with `@register_shortcut("name")`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.layers import conv, norm
from sg_resnets.models.registry import Registry

SHORTCUTS = Registry("shortcut")
register_shortcut = SHORTCUTS.register
ADDITIONS = Registry("addition")


class ZeroPad(nn.Module):
    """Option A: every `stride`-th pixel, and zeros for the channels that are new. No parameters.

    Maps (N, C, H, W) to (N, C + `new_channels`, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.is_contiguous(memory_format=torch.channels_last):
            # The gradient of a slice is made in the order of the sliced dimensions: here N, H, W, C, as all others are.
            x = x.permute(0, 2, 3, 1)[:, :: self.stride, :: self.stride].permute(0, 3, 1, 2)
        else:
            x = x[:, :, :: self.stride, :: self.stride]
        before = self.new_channels // 2
        return F.pad(x, (0, 0, 0, 0, before, self.new_channels - before))


def projection(in_channels: int, out_channels: int, stride: int, config: ResNetConfig) -> nn.Sequential:
    """W_s of equation 2: a 1x1 convolution, with its batch-norm, which pre-activation units do without."""
    layers: list[nn.Module] = [conv(config, in_channels, out_channels, 1, stride)]
    if config.norm == "batch" and config.order != "full_preact":
        layers.append(norm(config, out_channels))
    return nn.Sequential(*layers)


@register_shortcut("A")
def zero_padded(in_channels: int, out_channels: int, stride: int, config: ResNetConfig) -> nn.Module:
    """Identity; zero-padded where the shape changes. A block that narrows gets a projection: zeros cannot help it."""
    if out_channels < in_channels:
        return projection(in_channels, out_channels, stride, config)
    same = stride == 1 and in_channels == out_channels
    return nn.Identity() if same else ZeroPad(out_channels - in_channels, stride)


@register_shortcut("B")
def projection_where_needed(in_channels: int, out_channels: int, stride: int, config: ResNetConfig) -> nn.Module:
    """Identity; a projection where the shape changes."""
    same = stride == 1 and in_channels == out_channels
    return nn.Identity() if same else projection(in_channels, out_channels, stride, config)


@register_shortcut("C")
def projection_everywhere(in_channels: int, out_channels: int, stride: int, config: ResNetConfig) -> nn.Module:
    """A projection in every block: the '1x1 conv shortcut' of He et al. 2016, figure 2e."""
    return projection(in_channels, out_channels, stride, config)


@register_shortcut("D")
def pooled_projection(in_channels: int, out_channels: int, stride: int, config: ResNetConfig) -> nn.Module:
    """B, with 2x2 average-pooling in the place of the stride, so that no pixel is passed over: He et al., 'Bag of
    Tricks for Image Classification' (2018), figure 2c."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, *projection(in_channels, out_channels, 1, config))


@register_shortcut("none")
def plain(in_channels: int, out_channels: int, stride: int, config: ResNetConfig) -> None:
    """Nothing is added: the plain net that the paper compares with."""
    return None


@ADDITIONS.register("plain")
class Addition(nn.Module):
    """y = F(x) + shortcut(x). Each addition is called with the branch, the shortcut, and x."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()

    def forward(self, branch: Tensor, shortcut: Tensor, x: Tensor) -> Tensor:
        return branch + shortcut


@ADDITIONS.register("scaled")
class ScaledAddition(Addition):
    """Constant scaling (figure 2b): both by 0.5."""

    def forward(self, branch: Tensor, shortcut: Tensor, x: Tensor) -> Tensor:
        return 0.5 * branch + 0.5 * shortcut


@ADDITIONS.register("shortcut_gate")
class ShortcutGate(Addition):
    """Shortcut-only gating (figure 2d): F(x) + (1 - g(x)) shortcut(x), g(x) = sigmoid(W_g x + b_g)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__(in_channels, out_channels, stride, config)
        self.gate = nn.Conv2d(in_channels, out_channels, 1, stride)
        nn.init.constant_(self.gate.bias, config.gate_bias)  # type: ignore[arg-type]

    def forward(self, branch: Tensor, shortcut: Tensor, x: Tensor) -> Tensor:
        return branch + (1 - self.gate(x).sigmoid()) * shortcut


@ADDITIONS.register("exclusive_gate")
class ExclusiveGate(ShortcutGate):
    """Exclusive gating (figure 2c): g(x) F(x) + (1 - g(x)) shortcut(x)."""

    def forward(self, branch: Tensor, shortcut: Tensor, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        return gate * branch + (1 - gate) * shortcut


@ADDITIONS.register("dropout")
class DropoutShortcut(Addition):
    """Dropout shortcut (figure 2f): F(x) + dropout(shortcut(x)), ratio 0.5."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__(in_channels, out_channels, stride, config)
        self.dropout = nn.Dropout(0.5)

    def forward(self, branch: Tensor, shortcut: Tensor, x: Tensor) -> Tensor:
        return branch + self.dropout(shortcut)
