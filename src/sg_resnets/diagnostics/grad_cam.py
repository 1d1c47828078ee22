"""Which part of an image a class is seen in: Selvaraju et al., 'Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization' (2017), section 3."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.utils.errors import SgResnetsError


def last_maps(network: nn.Module) -> nn.Module:
    """Return the module whose output are the last feature maps: of our networks the last stage, of others the last
    convolution.

    Raises:
        SgResnetsError: there is none.
    """
    stages = [each for name, each in network.named_children() if name.startswith("layer") and _runs(each)]
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if not stages and not convolutions:
        raise SgResnetsError("Grad-CAM needs feature maps, and this network has no convolution")
    return stages[-1] if stages else convolutions[-1]


def _runs(stage: nn.Module) -> bool:
    """Whether it is one that is called: a traced network keeps containers whose layers it calls itself."""
    return isinstance(stage, nn.Sequential) and len(stage) > 0


def grad_cam(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return maps (N, H, W) from 0 to 1, for images (N, C, H, W): how much each place speaks for its class, (N,).

    A map is relu(sum over channels k of a_k A_k) (equation 2), A the last feature maps, a_k the mean over the places of
    the gradient of the class's logit with respect to A_k (equation 1), scaled to the map's largest value. The network
    is evaluated as it is: call `eval()` before.
    """
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())  # the gradient is needed from here on alone
        return kept[-1].clone()  # which the next layer may change

    handle = last_maps(network).register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = network(images)
            chosen = logits.gather(1, classes.view(-1, 1)).sum()
            (gradient,) = torch.autograd.grad(chosen, kept)
    finally:
        handle.remove()
    maps = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).relu().detach()
    maps = F.interpolate(maps, size=images.shape[2:], mode="bilinear", align_corners=False)
    return (maps / maps.amax((2, 3), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)).squeeze(1)
