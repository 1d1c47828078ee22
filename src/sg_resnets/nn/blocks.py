"""Residual blocks: y = relu(F(x) + shortcut(x)) (He et al. 2015, equations 1 and 2, figure 5).

To add one, subclass `ResidualBlock`, build the branch in `__init__`, return F(x) from `residual`, and decorate it with
`@register_block("name")`; a recipe then asks for it with `arch_params.block: name`.
"""

from torch import Tensor, nn

from sg_resnets.config import ResNetConfig
from sg_resnets.nn.registry import Registry

BLOCKS = Registry("block")
register_block = BLOCKS.register


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class ResidualBlock(nn.Module):
    """Maps (N, in_channels, H, W) to (N, channels * expansion, H / stride, W / stride).

    The network sets `downsample`, the shortcut (None in a plain net: nothing is added), and `drop_path`, which drops
    the branch of some samples while training. A subclass takes (in_channels, channels, stride, config).
    """

    expansion = 1
    downsample: nn.Module | None
    drop_path: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def residual(self, x: Tensor) -> Tensor:
        """F(x), the residual branch."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y = self.residual(x)
        if self.downsample is not None:
            y = self.drop_path(y) + self.downsample(x)
        return self.relu(y)

    def zero_init_last(self) -> None:
        """Start the branch at zero, so that the block starts as its shortcut: its last batch-norm's scale becomes 0."""
        norms = [
            m for name, m in self.named_modules() if isinstance(m, nn.BatchNorm2d) and not name.startswith("downsample")
        ]
        nn.init.zeros_(norms[-1].weight)


@register_block("basic")
class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (figure 5, left)."""

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def residual(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y))


@register_block("bottleneck")
class Bottleneck(ResidualBlock):
    """1x1 down, 3x3, 1x1 up to four times the channels (figure 5, right)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if config.stride_in == "1x1" else (1, stride)
        self.conv1 = conv1x1(in_channels, channels, stride_1x1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride_3x3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, channels * self.expansion)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)

    def residual(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.bn3(self.conv3(y))
