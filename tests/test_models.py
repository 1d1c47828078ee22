"""The parts of a network against the papers' equations and figures."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from sg_resnets.config import ResNetConfig
from sg_resnets.errors import SgResnetsError
from sg_resnets.nn import ResidualBlock, ResNet, register_block
from sg_resnets.zoo import ZOO

SMALL = ResNetConfig((1, 1, 1), (4, 8, 16))


def test_the_papers_bottleneck_strides_in_its_1x1():
    for where, strides in {"1x1": (2, 1), "3x3": (1, 2)}.items():
        block = ResNet(replace(ZOO["resnet50_v1b"].config, stride_in=where)).layer2[0]
        assert (block.conv1.stride[0], block.conv2.stride[0]) == strides


def test_shortcut_a_takes_every_second_pixel_and_pads_channels_with_zeros():
    shortcut = ResNet(replace(SMALL, shortcut="A")).layer2[0].downsample
    x = torch.randn(2, 4, 7, 7)
    y = shortcut(x)
    assert y.shape == (2, 8, 4, 4) and not list(shortcut.parameters())
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2]) and not y[:, [0, 1, 6, 7]].any()


def test_shortcut_c_projects_in_every_block_and_a_plain_net_adds_nothing():
    projections = [block.downsample for block in ResNet(replace(SMALL, shortcut="C")).blocks()]
    assert all(isinstance(shortcut[0], nn.Conv2d) for shortcut in projections)
    plain = ResNet(replace(SMALL, shortcut="none"))
    block, x = plain.layer1[0].eval(), torch.randn(1, 4, 8, 8)
    assert torch.equal(block(x), torch.relu(block.residual(x)))


def test_weights_start_as_he_et_al_2015():
    convolution = ResNet(ZOO["resnet56_cifar"].config).layer3[4].conv1
    assert convolution.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert convolution.weight.mean().item() == pytest.approx(0, abs=1e-3)


def test_zero_init_makes_each_block_start_as_its_shortcut():
    block = ResNet(replace(SMALL, depths=(2, 1, 1), zero_init_residual=True)).layer1[1].eval()
    x = torch.rand(2, 4, 8, 8)
    assert torch.equal(block(x), x)


def test_stochastic_depth_decays_linearly_and_is_off_in_evaluation():
    network = ResNet(replace(SMALL, depths=(2, 2, 2), drop_path=0.6))
    rates = [block.drop_path.p for block in network.blocks()]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    images = torch.randn(64, 3, 8, 8)
    network.train()
    block, x = network.layer3[1], torch.randn(400, 16, 4, 4)
    dropped = (block.train().drop_path(torch.ones_like(x)).flatten(1) == 0).all(1).float().mean().item()
    assert dropped == pytest.approx(0.6, abs=0.1)
    network.eval()
    assert torch.equal(network(images), network(images))


def test_replace_head_and_input_channels():
    network = ResNet(SMALL).eval()
    grey = torch.randn(2, 1, 16, 16)
    before = network(grey.expand(-1, 3, -1, -1))
    for channels in (5, 3, 1):  # an image of equal channels sees the same network, whatever their number
        network.replace_input_channels(channels)
        assert network.get_input_channels() == channels
        torch.testing.assert_close(network(grey.expand(-1, channels, -1, -1)), before, rtol=1e-4, atol=1e-5)
    network.replace_head(new_num_classes=7)
    assert network(grey).shape == (2, 7)
    network.replace_head(new_head=nn.Identity())
    assert network(grey).shape == (2, 16)
    with pytest.raises(SgResnetsError, match="new_num_classes"):
        network.replace_head()


def test_frozen_batch_norm_keeps_its_statistics():
    network = ResNet(SMALL)
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith("fc")
    before = copy.deepcopy(network.state_dict())
    network.train()(torch.randn(8, 3, 16, 16)).sum().backward()
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    for parameter in network.parameters():
        parameter.requires_grad = True
    network.train()(torch.randn(8, 3, 16, 16))
    assert not torch.equal(network.bn1.running_mean, before["bn1.running_mean"])


def test_a_users_block_is_a_few_lines():
    @register_block("one_convolution")
    class OneConvolution(ResidualBlock):
        def __init__(self, in_channels, channels, stride, config):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, channels, 3, stride, padding=1)

        def residual(self, x):
            return self.conv(x)

    network = ResNet(replace(SMALL, block="one_convolution"))
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 10)
    with pytest.raises(SgResnetsError, match="block 'one_convolution' exists already"):
        register_block("one_convolution")(nn.Conv2d)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"block": "botleneck"}, "unknown block 'botleneck': did you mean bottleneck"),
        ({"shortcut": "D"}, "unknown shortcut 'D': valid: A, B, C, none"),
        ({"stem": "mnist"}, "unknown stem 'mnist': valid: cifar, imagenet"),
        ({"depth": 21}, "depth 21: a CIFAR net of basic blocks has 6n . 2 layers; nearest: 20 and 26"),
        ({"depth": 21, "block": "bottleneck"}, "nearest: 20 and 29"),
        ({"shorcut": "A"}, "arch_params has no 'shorcut': did you mean shortcut"),
        ({"drop_path": 1.0}, "drop_path=1.0: must be a number of at least 0 and below 1"),
        ({"drop_path": 0.1, "shortcut": "none"}, "drop_path needs a shortcut"),
        ({"depths": [1, 2]}, "must have one entry for each stage"),
        ({"widths": [0, 1, 2]}, "whole numbers above 0"),
        ({"num_classes": 0}, "num_classes=0: must be a whole number from 1 on"),
        ({"depth": "deep"}, "depth='deep': must be a whole number of layers"),
        ({"stride_in": "5x5"}, "valid are '1x1'"),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_choices(wrong, words):
    with pytest.raises(SgResnetsError, match=words) as error:
        ResNet(SMALL.override(**wrong))
    assert "\n" not in str(error.value)


def test_an_imagenet_depth_that_does_not_exist_names_those_that_do():
    with pytest.raises(SgResnetsError, match="these depths: 50, 101, 152"):
        ZOO["resnet50_v1b"].config.override(depth=56)
