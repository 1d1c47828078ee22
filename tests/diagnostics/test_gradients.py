"""Gradients block by block, and how alike they are along a line."""

import math

import pytest
import torch
import torch.nn.functional as F

from sg_resnets.course.setups import untrained
from sg_resnets.diagnostics.gradient_flow import first_to_last, gradient_flow
from sg_resnets.diagnostics.shattered import calibrated, gradient_autocorrelation


def test_the_gradient_of_a_deep_plain_net_explodes_with_batch_norm_and_vanishes_without(batch):
    def ratio(of="output", **arch):
        return first_to_last(gradient_flow(untrained("resnet56_cifar", **arch), *batch), of)

    plain, residual = ratio(shortcut="none", of="weights"), ratio(of="weights")
    assert plain > 20 * residual and residual < 30
    assert ratio(shortcut="none") > 100 and ratio(shortcut="none", norm="none") < 0.1


def test_gradient_flow_is_autograds_and_changes_nothing(batch):
    network = untrained("resnet20_cifar")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    flow = gradient_flow(network, *batch)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    F.cross_entropy(network.train()(batch[0]), batch[1]).backward()
    block = network.layer2[1]
    expected = math.hypot(block.conv1.weight.grad.norm().item(), block.conv2.weight.grad.norm().item())
    assert flow[4].name == "layer2.1" and flow[4].weights == pytest.approx(expected, rel=1e-4)


def test_a_linear_map_does_not_shatter_and_a_deep_plain_net_does(batch):
    images, _ = batch

    class Cube(torch.nn.Module):  # its gradient, 3 x^2, changes smoothly along a line
        def forward(self, x):
            return x.flatten(1) ** 3

    smooth = gradient_autocorrelation(Cube(), images[0], images[1], points=64)
    assert smooth[0] == 1 and smooth[2] > 0.9
    deep = calibrated(untrained("plain56_cifar"), images)
    assert abs(gradient_autocorrelation(deep, images[0], images[1], points=64)[2]) < 0.3


def test_calibrated_batch_norm_has_the_statistics_of_the_images(batch):
    network = calibrated(untrained("resnet20_cifar"), batch[0])
    mean = network.conv1(batch[0]).mean((0, 2, 3))
    torch.testing.assert_close(network.bn1.running_mean, mean, rtol=1e-4, atol=1e-5)
    assert not network.training
