"""Bottlenecks whose 3x3 convolution has several paths: selective kernels, Res2Net's hierarchy, split attention."""

import torch
from torch import Tensor, nn

from sg_resnets.models.blocks import OrderedBlock, OrderedBottleneck, ResidualBlock, register_block
from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.layers import activation, conv, norm, squeezed


class SelectiveKernel(nn.Module):
    """A 3x3 and a 5x5 path (a 3x3 of dilation 2), weighted for each channel by a softmax over the paths.

    Li et al., 'Selective Kernel Networks' (2019), section 3.1. With groups each path sees all channels, as in the
    paper; without, the first sees one half and the second the other, as in timm, so that it costs no more than one
    convolution. Maps (N, in, H, W) to (N, out, H / stride, W / stride), batch-norm and relu included.
    """

    def __init__(
        self,
        config: ResNetConfig,
        in_channels: int,
        out_channels: int,
        stride: int,
        groups: int,
        reduction: int,
        minimum: int,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.halves = groups == 1
        seen = in_channels // 2 if self.halves else in_channels
        self.paths = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(seen, out_channels, 3, stride, dilation, dilation, groups, bias=False),
                nn.BatchNorm2d(out_channels),
                activation(config),
            )
            for dilation in (1, 2)
        )
        inner = squeezed(out_channels, reduction, minimum)
        self.fuse = nn.Sequential(
            nn.Conv2d(out_channels, inner, 1, bias=False), nn.BatchNorm2d(inner), activation(config)
        )
        self.select = nn.Conv2d(inner, 2 * out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inputs = x.chunk(2, dim=1) if self.halves else (x, x)
        u = torch.stack([path(inputs[i]) for i, path in enumerate(self.paths)], dim=1)
        z = self.fuse(u.sum(1).mean((2, 3), keepdim=True))
        weights = self.select(z).unflatten(1, (2, self.out_channels)).softmax(dim=1)
        return (weights * u).sum(1)


@register_block("sk_basic")
class SelectiveKernelBasicBlock(OrderedBlock):
    """The basic block with selective kernels in its first convolution (timm's skresnet18)."""

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        kernels = SelectiveKernel(
            config, in_channels, channels, 1 if config.pools else stride, 1, reduction=8, minimum=16
        )
        self.weight_layers(config, kernels, conv(config, channels, channels, 3), strided=1 if stride > 1 else 0)
        self.bn1 = nn.Identity()


@register_block("sk_bottleneck")
class SelectiveKernelBottleneck(OrderedBottleneck):
    """The bottleneck with selective kernels in the place of its 3x3 (Li et al. 2019, table 1)."""

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__(in_channels, channels, stride, config)
        width, minimum = config.inner_width(channels), 8 if config.groups == 1 else 32
        self.conv2 = SelectiveKernel(config, width, width, 1 if config.pools else stride, config.groups, 16, minimum)
        self.bn2 = nn.Identity()


class SplitAttention(nn.Module):
    """`config.splits` grouped 3x3 paths (the paper's radix), weighted for each channel by a softmax over the paths.

    Zhang et al., 'ResNeSt: Split-Attention Networks' (2020), section 3.1, with cardinality 1 or more.
    Maps (N, width, H, W) to (N, width, H / stride, W / stride), batch-norm and relu included.
    """

    def __init__(self, config: ResNetConfig, width: int, stride: int) -> None:
        super().__init__()
        groups, radix = config.groups, config.splits
        self.width, self.groups, self.radix = width, groups, radix
        inner = squeezed(width * radix, 4, minimum=32)
        self.conv = nn.Conv2d(width, width * radix, 3, stride, 1, groups=groups * radix, bias=False)
        self.bn0 = nn.BatchNorm2d(width * radix)
        self.relu = activation(config)
        self.fc1 = nn.Conv2d(width, inner, 1, groups=groups)
        self.bn1 = nn.BatchNorm2d(inner)
        self.fc2 = nn.Conv2d(inner, width * radix, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        u = self.relu(self.bn0(self.conv(x))).unflatten(1, (self.radix, self.width))
        z = self.fc2(self.relu(self.bn1(self.fc1(u.sum(1).mean((2, 3), keepdim=True)))))
        if self.radix == 1:
            weights = z.sigmoid().unsqueeze(1)
        else:
            weights = z.unflatten(1, (self.groups, self.radix, -1)).softmax(dim=2).transpose(1, 2).flatten(2, 3)
        return (weights * u).sum(1)


@register_block("resnest")
class ResNeStBlock(OrderedBottleneck):
    """The bottleneck with split attention over `config.splits` paths in the place of its 3x3."""

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__(in_channels, channels, stride, config)
        self.conv2 = SplitAttention(config, config.inner_width(channels), 1 if config.pools else stride)
        self.bn2 = nn.Identity()


@register_block("res2net")
class Res2NetBlock(ResidualBlock):
    """The 3x3 is split into s groups of channels; each but the first to pass through adds its predecessor's output.

    Gao et al., 'Res2Net: A New Multi-Scale Backbone Architecture' (2019), equation 1. In a block that changes the
    shape the groups do not add, and the last one is average-pooled, as in the authors' code.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        self.width, self.splits = config.inner_width(channels), config.splits
        self.conv1 = conv(config, in_channels, self.width * self.splits, 1)
        self.bn1 = norm(config, self.width * self.splits)
        convolved = range(max(self.splits - 1, 1))
        self.convs = nn.ModuleList(conv(config, self.width, self.width, 3, stride, config.groups) for _ in convolved)
        self.bns = nn.ModuleList(norm(config, self.width) for _ in convolved)
        self.adds = stride == 1 and in_channels == channels * self.expansion
        self.pool = nn.Identity() if self.adds else nn.AvgPool2d(3, stride, padding=1)
        self.conv3 = conv(config, self.width * self.splits, channels * self.expansion, 1)
        self.bn3 = norm(config, channels * self.expansion)

    def residual(self, x: Tensor) -> Tensor:
        parts = self.relu(self.bn1(self.conv1(x))).split(self.width, dim=1)
        outputs: list[Tensor] = []
        for i, (convolution, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            part = parts[i] + outputs[-1] if outputs and self.adds else parts[i]
            outputs.append(self.relu(bn(convolution(part))))
        if self.splits > 1:
            outputs.append(self.pool(parts[-1]))
        return self.bn3(self.conv3(torch.cat(outputs, dim=1)))
