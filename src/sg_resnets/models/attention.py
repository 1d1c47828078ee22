"""Attention at the end of a residual branch: x * gate(x), (N, C, H, W) to the same shape.

Made by `make(channels, config) -> nn.Module`; add one with `@register_attention("name")`.
"""

import math

import torch
from torch import Tensor, nn

from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.layers import squeezed
from sg_resnets.models.registry import Registry

ATTENTIONS = Registry("attention")
register_attention = ATTENTIONS.register


@register_attention("none")
def no_attention(channels: int, config: ResNetConfig) -> nn.Module:
    return nn.Identity()


@register_attention("se")
class SqueezeExcitation(nn.Module):
    """Hu et al., 'Squeeze-and-Excitation Networks' (2018), equations 2 to 4: s = sigmoid(W2 relu(W1 mean(x)))."""

    def __init__(self, channels: int, config: ResNetConfig) -> None:
        super().__init__()
        inner = squeezed(channels, config.reduction)
        self.fc1 = nn.Conv2d(channels, inner, 1)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = x.mean((2, 3), keepdim=True)
        return x * self.fc2(self.relu(self.fc1(z))).sigmoid()


@register_attention("eca")
class EfficientChannelAttention(nn.Module):
    """Wang et al., 'ECA-Net' (2020), equations 9 and 12: a 1-D convolution over the channel means; its size grows with
    log2(C), and is odd."""

    def __init__(self, channels: int, config: ResNetConfig) -> None:
        super().__init__()
        t = int(abs(math.log2(channels) + 1) / 2)
        size = max(t if t % 2 else t + 1, 3)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z = x.mean((2, 3))[:, None, :]
        return x * self.conv(z).sigmoid().transpose(1, 2)[..., None]


@register_attention("cbam")
class ConvolutionalBlockAttention(nn.Module):
    """Woo et al., 'CBAM' (2018), section 3: which channel (mean and maximum, one MLP), then where (7x7 convolution).
    Biases and batch-norm as in the authors' code."""

    def __init__(self, channels: int, config: ResNetConfig) -> None:
        super().__init__()
        inner = squeezed(channels, config.reduction, minimum=1)
        self.mlp = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.ReLU(inplace=True), nn.Conv2d(inner, channels, 1))
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        mean, largest = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = x * (self.mlp(mean) + self.mlp(largest)).sigmoid()
        where = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * self.bn(self.conv(where)).sigmoid()
