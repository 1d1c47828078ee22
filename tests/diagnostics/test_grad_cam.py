"""Grad-CAM against its equations."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sg_resnets.diagnostics.grad_cam import grad_cam, last_maps
from sg_resnets.models import ResNet
from sg_resnets.utils.errors import SgResnetsError
from support import SMALL, randomised


def test_a_map_is_that_of_equations_1_and_2():
    network = randomised(ResNet(replace(SMALL, num_classes=5))).eval().requires_grad_(False)
    images, classes = torch.randn(3, 3, 16, 16), torch.tensor([4, 0, 2])
    maps = grad_cam(network, images, classes)
    assert maps.shape == (3, 16, 16) and maps.min() >= 0 and maps.max() == pytest.approx(1)
    x = images
    for name in ("conv1", "bn1", "relu", "layer1", "layer2", "layer3"):
        x = getattr(network, name)(x)
    # behind the mean over the places the logit is linear: its gradient is the classifier's weight over their number
    weights = network.fc.weight[classes] / (x.shape[2] * x.shape[3])
    expected = (weights[:, :, None, None] * x).sum(1, keepdim=True).relu()
    expected = nn.functional.interpolate(expected, size=16, mode="bilinear", align_corners=False).squeeze(1)
    torch.testing.assert_close(maps, expected / expected.amax((1, 2), keepdim=True).clamp(min=1e-30))
    assert network.layer3._forward_hooks == {} and torch.equal(network(images), network(images))


def test_another_network_is_looked_at_before_its_last_convolution_and_one_without_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(2 * 16, 3))
    assert last_maps(network) is network[2]
    assert grad_cam(network, torch.randn(2, 3, 8, 8), torch.tensor([0, 1])).shape == (2, 8, 8)
    with pytest.raises(SgResnetsError, match="Grad-CAM needs feature maps"):
        last_maps(nn.Linear(3, 2))
