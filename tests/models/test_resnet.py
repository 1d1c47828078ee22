"""The whole network: its head, its input channels, its frozen statistics."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from sg_resnets.models import ResNet
from sg_resnets.utils.errors import SgResnetsError
from support import SMALL


def test_head_dropout_changes_no_name_of_a_weight():
    fixup = replace(SMALL, scaling="fixup", norm="none")
    assert list(ResNet(replace(fixup, head_dropout=0.3)).state_dict()) == list(ResNet(fixup).state_dict())


def test_head_dropout_falls_on_what_the_classifier_reads():
    network, same = ResNet(replace(SMALL, head_dropout=0.3)).eval(), ResNet(SMALL).eval()
    same.load_state_dict(network.state_dict())
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(network(images), same(images))
    read = network.avgpool.train()(torch.ones(100, 16, 2, 2))
    assert set(read.unique().tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    assert 0.2 < (read == 0).float().mean() < 0.4


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


def test_the_configuration_says_what_the_network_has_become():
    network = ResNet(SMALL).requires_grad_(False)
    network.replace_input_channels(1)
    assert not network.conv1.weight.requires_grad  # a frozen stem stays frozen
    network.replace_head(7)
    assert (network.config.in_channels, network.config.num_classes) == (1, 7)
    network.replace_head(new_head=nn.Linear(16, 5))
    assert network.config == replace(SMALL, in_channels=1, num_classes=5)
    ResNet(network.config).load_state_dict(network.state_dict())
    for change in (network.replace_head, network.replace_input_channels):
        with pytest.raises(SgResnetsError, match="=0: must be an integer >= 1"):
            change(0)


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
