"""Stems: the layers before the first stage, as (name, module) pairs, so that the keys are torchvision's.

A stem is made by `make(in_channels, channels) -> list[tuple[str, nn.Module]]`; the first pair is the first convolution.
"""

from torch import nn

from sg_resnets.nn.registry import Registry

STEMS = Registry("stem")
register_stem = STEMS.register


@register_stem("cifar")
def cifar(in_channels: int, channels: int) -> list[tuple[str, nn.Module]]:
    """One 3x3 convolution at full resolution (He et al. 2015, section 4.2)."""
    conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    return [("conv1", conv), ("bn1", nn.BatchNorm2d(channels)), ("relu", nn.ReLU(inplace=True))]


@register_stem("imagenet")
def imagenet(in_channels: int, channels: int) -> list[tuple[str, nn.Module]]:
    """7x7 of stride 2, then 3x3 max-pooling of stride 2 (He et al. 2015, table 1)."""
    conv = nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return [("conv1", conv), ("bn1", nn.BatchNorm2d(channels)), ("relu", nn.ReLU(inplace=True)), ("maxpool", pool)]
