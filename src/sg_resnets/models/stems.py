"""Stems: the layers before the first stage, as (name, module) pairs, so that the keys are torchvision's.

A stem is made by `make(config) -> list[tuple[str, nn.Module]]`; its first convolution takes the image. Before
pre-activation blocks it has no batch-norm and activation at its end: the first block has them. Add one with
`@register_stem("name")`.
"""

from torch import nn

from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.layers import activation, conv, halve, norm
from sg_resnets.models.registry import Registry

STEMS = Registry("stem")
register_stem = STEMS.register
Stem = list[tuple[str, nn.Module]]


def _activated(config: ResNetConfig, convolution: nn.Module) -> Stem:
    if config.order == "full_preact":
        return [("conv1", convolution)]
    return [("conv1", convolution), ("bn1", norm(config, config.stem_channels)), ("relu", activation(config))]


def _max_pool(config: ResNetConfig) -> Stem:
    if config.subsample == "blur":
        return [("maxpool", nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), halve(config, config.stem_channels)))]
    return [("maxpool", nn.MaxPool2d(3, stride=2, padding=1))]


def _three_convolutions(config: ResNetConfig, first: int, second: int) -> nn.Sequential:
    return nn.Sequential(
        conv(config, config.in_channels, first, 3, stride=2),
        norm(config, first),
        activation(config),
        conv(config, first, second, 3),
        norm(config, second),
        activation(config),
        conv(config, second, config.stem_channels, 3),
    )


@register_stem("cifar")
def cifar(config: ResNetConfig) -> Stem:
    """One 3x3 convolution at full resolution (He et al. 2015, section 4.2)."""
    return _activated(config, conv(config, config.in_channels, config.stem_channels, 3))


@register_stem("imagenet")
def imagenet(config: ResNetConfig) -> Stem:
    """7x7 of stride 2, then 3x3 max-pooling of stride 2 (He et al. 2015, table 1)."""
    return _activated(config, conv(config, config.in_channels, config.stem_channels, 7, stride=2)) + _max_pool(config)


@register_stem("strided")
def strided(config: ResNetConfig) -> Stem:
    """One 3x3 convolution of stride 2 (EfficientNet's; Tan and Le 2019, table 1): for small images, a quarter of the
    work at the same widths."""
    return _activated(config, conv(config, config.in_channels, config.stem_channels, 3, stride=2))


@register_stem("deep")
def deep(config: ResNetConfig) -> Stem:
    """Three 3x3 convolutions in the place of the 7x7, the first two of half the width: ResNet-C (He et al., 'Bag of
    Tricks', 2018, figure 2b); with stem_width=128 ResNet-S (64, 64, 128)."""
    half = config.stem_channels // 2
    return _activated(config, _three_convolutions(config, half, half)) + _max_pool(config)


@register_stem("tiered")
def tiered(config: ResNetConfig) -> Stem:
    """The deep stem with 24, 32, 64 channels: timm's ResNet-T."""
    width = config.stem_channels
    return _activated(config, _three_convolutions(config, 3 * width // 8, width // 2)) + _max_pool(config)


@register_stem("rs")
def rs(config: ResNetConfig) -> Stem:
    """The deep stem, and a 3x3 convolution of stride 2 in the place of the max-pooling (Bello et al., 'Revisiting
    ResNets', 2021, section 4.2)."""
    half, width = config.stem_channels // 2, config.stem_channels
    pool = nn.Sequential(conv(config, width, width, 3, stride=2), norm(config, width), activation(config))
    return [*_activated(config, _three_convolutions(config, half, half)), ("maxpool", pool)]


@register_stem("pooled")
def pooled(config: ResNetConfig) -> Stem:
    """A 2x2 convolution to an eighth of the channels, a 3x3 one, then 2x2 max-pooling: Jordan, '94% on CIFAR-10 in
    3.29 Seconds on a Single GPU' (2024), section 3.1, but that all of it is learned."""
    first = max(config.stem_channels // 8, 1)
    patches = nn.Conv2d(config.in_channels, first, 2)
    convolutions = nn.Sequential(patches, activation(config), conv(config, first, config.stem_channels, 3))
    convolved, *activated = _activated(config, convolutions)
    return [convolved, ("maxpool", nn.MaxPool2d(2)), *activated]
