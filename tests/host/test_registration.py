"""What SuperGradients' registries have of ours, by name."""

import pickle

import pytest
import torch
from super_gradients.common.registry.registry import OPTIMIZERS

from sg_resnets.models.zoo import ZOO
from sg_resnets.training.muon import Muon
from support import ROOT


def test_there_are_at_least_a_hundred_names_and_the_host_has_them_all(host):
    from super_gradients.common.registry.registry import ARCHITECTURES

    assert len(ZOO) >= 100
    assert all(ARCHITECTURES[name].row == row.config for name, row in ZOO.items())
    readme = (ROOT / "README.md").read_text()
    assert f"{len(ZOO)} models from the papers" in readme
    assert f"lists {len(ZOO)} networks" in (ROOT / "docs" / "models.md").read_text()


def test_a_network_of_the_factory_can_be_pickled(host):
    from super_gradients.training import models

    network = models.get("resnet20_cifar", num_classes=10).eval()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(pickle.loads(pickle.dumps(network))(images), network(images))


def test_a_name_may_be_written_as_the_host_lets_one_write_names(host):
    from super_gradients.training import models

    assert models.get("ResNet20-CIFAR", num_classes=10).config == ZOO["resnet20_cifar"].config
    taught = models.get("ResNet20-CIFAR", num_classes=10, pretrained_weights="fashion_mnist")
    assert taught.config.in_channels == 1


def test_the_host_finds_it_by_name():
    assert OPTIMIZERS["Muon"] is Muon


def test_the_hosts_own_custom_resnet_is_still_there(host):
    from super_gradients.training import models
    from super_gradients.training.models.classification_models.resnet import CustomizedResnet

    network = models.get("custom_resnet", num_classes=5, arch_params={"structure": [1, 1, 1, 1], "width_mult": 0.25})
    assert isinstance(network, CustomizedResnet)


def test_focal_loss(host):
    from super_gradients.common.factories.losses_factory import LossesFactory

    loss = LossesFactory().get({"FocalLoss": {"loss_fcn": torch.nn.BCEWithLogitsLoss(), "gamma": 2.0}})
    logit, target = torch.tensor([2.0]), torch.tensor([1.0])
    p = torch.sigmoid(logit)
    assert loss(logit, target).item() == pytest.approx((-0.25 * (1 - p) ** 2 * p.log()).item(), rel=1e-5)


def test_focal_loss_weighs_classes(host):
    from super_gradients.common.factories.losses_factory import LossesFactory

    torch.manual_seed(0)
    logits, labels, weight = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([1.0, 2.0, 5.0])
    even, weighed = (LossesFactory().get({"FocalLoss": each}) for each in ({}, {"weight": weight.tolist()}))
    losses = torch.stack([even(logits[i : i + 1], labels[i : i + 1]) for i in range(6)])
    expected = (losses * weight[labels]).sum() / weight[labels].sum()
    torch.testing.assert_close(weighed(logits, labels), expected)
    with pytest.raises(ValueError, match="weight is for a mean, not for reduction=sum"):
        LossesFactory().get({"FocalLoss": {"loss_fcn": torch.nn.BCEWithLogitsLoss(reduction="sum"), "weight": [1.0]}})
