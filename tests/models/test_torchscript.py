"""`torch.jit.script` takes a network of ours, and leaves it as it was."""

import pytest
import torch

from sg_resnets.models import ResNet
from sg_resnets.models.zoo import ZOO

NETWORKS = {
    "resnet20_cifar": {},
    "preact_resnet20_cifar": {"drop_path": 0.2, "shortcut": "A"},
    "resnet18_v1b": {"subsample": "blur", "attention": "se"},
    "fixup_resnet56_cifar": {"depth": 8},
    "resnext50_32x4d_v1d": {"depth": 14, "head_dropout": 0.1},
    "skresnet18": {"depths": [1, 1, 1, 1]},
    "res2net50_26w_4s": {"depth": 14},
    "resnest14": {},
    "plain20_cifar": {},
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_scripted_network_computes_the_same_with_the_same_keys(name):
    network = ResNet(ZOO[name].config.override(**NETWORKS[name]))
    before = [id(module) for module in network.modules()]
    images = torch.randn(2, network.config.in_channels, 64, 64)
    scripted = torch.jit.script(network.eval())
    assert network.state_dict().keys() <= scripted.state_dict().keys()  # TorchScript stores all buffers
    with torch.no_grad():
        torch.testing.assert_close(scripted(images), network(images))
    torch.jit.script(network.train())(images).sum().backward()  # stochastic depth and dropout are left to training
    assert [id(module) for module in network.modules()] == before
