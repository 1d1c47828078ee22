"""What multiplies the residual branch: y = x + scale * F(x). Made by `make(channels, config) -> nn.Module`."""

import torch
from torch import Tensor, nn

from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.registry import Registry

SCALINGS = Registry("scaling")


class Scale(nn.Module):
    """x * a, with a learned `a` of the shape given."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.factor = nn.Parameter(start)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@SCALINGS.register("none")
@SCALINGS.register("fixup")  # its multiplier stands inside the last convolution, before the last bias
def unscaled(channels: int, config: ResNetConfig) -> nn.Module:
    return nn.Identity()


@SCALINGS.register("rezero")
@SCALINGS.register("skipinit")
def from_zero(channels: int, config: ResNetConfig) -> nn.Module:
    """One number that starts at 0. With batch-norm: Bachlechner et al., 'ReZero is All You Need' (2020), equation 1.
    Without: De & Smith, 'Batch Normalization Biases Residual Blocks Towards the Identity' (2020), section 4."""
    return Scale(torch.zeros(1))


@SCALINGS.register("layerscale")
def layer_scale(channels: int, config: ResNetConfig) -> nn.Module:
    """One number for each channel, small at the start, the smaller the more blocks: Touvron et al., 'Going Deeper with
    Image Transformers' (2021), section 2."""
    blocks = sum(config.depths)
    start = 0.1 if blocks <= 18 else 1e-5 if blocks <= 24 else 1e-6
    return Scale(torch.full((channels, 1, 1), start))
