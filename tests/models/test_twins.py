"""The same function as the twin in torchvision or timm, on the same weights."""

import pytest
import torch
from torch import nn

from sg_resnets.models import ResNet
from sg_resnets.models.pretrained import from_timm
from sg_resnets.models.zoo import ZOO
from support import TWINS, named


def logits_and_first_gradient(network, images):
    logits = network.eval()(images)
    logits.square().mean().backward()
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    return logits.detach(), first.weight.grad


def assert_same_function(name, reference):
    """The same state dict, strictly: the same logits, and the same gradient of the first convolution."""
    for module in reference.modules():  # so that batch-norm counts, and no branch is zero, as timm starts them
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.2, 0.5)
            nn.init.normal_(module.bias, 0, 0.1)
    network = ResNet(ZOO[name].config)
    network.load_state_dict(from_timm(reference.state_dict(), ZOO[name].timm), strict=True)
    images = torch.randn(2, 3, 64, 64)
    (ours, our_gradient), (theirs, their_gradient) = (
        logits_and_first_gradient(net, images) for net in (network, reference)
    )
    assert theirs.abs().max() > 1e-2
    assert (ours - theirs).abs().max() < 1e-5
    assert (our_gradient - their_gradient).norm() < 1e-4 * their_gradient.norm()
    return network


TORCHVISION = [
    *(f"resnet{depth}_v1b" for depth in (18, 34, 50, 101, 152)),
    *("resnet18_v1", "resnet34_v1"),
    *("resnext50_32x4d_v1b", "resnext101_32x8d_v1b", "resnext101_64x4d_v1b"),
    *("wide_resnet50_2_v1b", "wide_resnet101_2_v1b"),
]


@pytest.mark.parametrize("name", named(TORCHVISION))
def test_equals_torchvision_on_the_same_weights(name):
    import torchvision

    reference = torchvision.models.get_model(ZOO[name].timm)
    network = assert_same_function(name, reference)
    assert list(network.state_dict()) == list(reference.state_dict())


@pytest.mark.parametrize("name", named(TWINS.values()))
def test_equals_timm_on_the_same_weights(name):
    import timm

    assert_same_function(name, timm.create_model(ZOO[name].timm))


def test_every_twin_of_torchvision_is_compared():
    import torchvision

    there = [name for name in torchvision.models.list_models() if name.startswith(("resne", "wide_resnet"))]
    assert {ZOO[name].timm for name in TORCHVISION} == set(there) and len(TORCHVISION) >= 12
