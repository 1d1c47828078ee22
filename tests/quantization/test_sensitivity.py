"""`max_drop` keeps the costliest layers and additions in float32, and no more of them than it takes."""

import copy

import pytest
import torch

from sg_resnets.quantization import sensitivity
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.graph import insert_quantizers, quantizers_of_additions, quantizers_of_layers
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.utils.errors import SgResnetsError


@pytest.fixture
def poisoned(trained, train_batches, images_and_labels):
    """The shipped ResNet-20, with an eleventh class that is never named, and whose weights leave the others of that
    layer no step of 8 bits; the range of the whole tensor is taken."""
    network = copy.deepcopy(trained)
    fc = torch.nn.Linear(64, 11)
    with torch.no_grad():
        fc.weight[:10], fc.weight[10] = network.fc.weight, -300.0
        fc.bias[:10], fc.bias[10] = network.fc.bias, -1e4
    network.fc = fc
    images, labels = (each[:200] for each in images_and_labels)

    def search(batches=train_batches[:1], **given):
        params = QuantizationParams(per_channel=False, **given)
        tried = []

        def quantised(params):
            tried.append(params.skip_modules)
            made = insert_quantizers(network, params)
            if batches:
                calibrate(made, batches, params)
            return made

        return sensitivity.within_drop(quantised, params, network.eval(), [(images, labels)]), tried

    return search


def test_the_layer_that_costs_stays_in_float32_and_no_other(poisoned):
    found, tried = poisoned(max_drop=1.0)
    assert found.layers == ("fc",) and tried == [(), ("fc",)]
    assert found.lost_by_everything > 50 and found.lost <= 1.0
    assert isinstance(found.everything.fc, torch.nn.Linear) and type(found.network.fc) is torch.nn.Linear
    assert type(found.everything.fc) is not torch.nn.Linear


def test_what_loses_little_enough_is_all_int8(poisoned):
    found, tried = poisoned(max_drop=99)
    assert found.layers == () and found.network is found.everything and tried == [()]


def test_an_addition_that_costs_stays_in_float32(trained, train_batches, images_and_labels):
    images, labels = (each[:200] for each in images_and_labels)
    costly = "layer3.0.addition"

    def quantised(params):
        made = insert_quantizers(trained, params)
        calibrate(made, train_batches[:1], params)
        with torch.no_grad():
            for name in quantizers_of_additions(made).get(costly, ()):
                made.get_submodule(name).amax.mul_(1000)
        return made

    params = QuantizationParams(max_drop=1.0)
    found = sensitivity.within_drop(quantised, params, trained.eval(), [(images, labels)])
    assert found.lost_by_everything > 5 and found.lost <= 1.0 and costly in found.layers
    assert f"{costly}: add" in found.network.in_float and f"{costly}: add" not in found.everything.in_float


@pytest.fixture
def ranked(monkeypatch):
    """A ranking that takes no time."""

    def ranking(network, images, additions):
        assert additions
        layers = [*quantizers_of_layers(network), *quantizers_of_additions(network)]
        return [sensitivity.Sensitivity(layer, 0.0, 0.0) for layer in layers]

    monkeypatch.setattr(sensitivity, "sensitivity", ranking)


@pytest.mark.parametrize("needed", [1, 2, 3, 7, 10, 18, 19])
def test_it_is_the_fewest(needed, poisoned, ranked, monkeypatch):
    def accuracy(network, loader):
        layers = sum(type(module) in (torch.nn.Conv2d, torch.nn.Linear) for module in network.modules())
        return 90.0 if layers >= needed else 80.0

    monkeypatch.setattr(sensitivity, "accuracy", accuracy)
    found, tried = poisoned(None, max_drop=0.5)
    assert len(found.layers) == needed and found.lost == 0 and found.lost_by_everything == 10
    assert len(tried) <= 10 and len(set(tried)) == len(tried)


def test_a_drop_that_is_missed_is_one_line(poisoned, ranked, monkeypatch):
    of_float = iter([90.0])
    monkeypatch.setattr(sensitivity, "accuracy", lambda network, loader: next(of_float, 80.0))
    with pytest.raises(SgResnetsError, match=r"missed with 19 of 29 layers and additions in float32 too: 10.00 p"):
        poisoned(None, max_drop=0.5)


@pytest.mark.parametrize("value", [-1, 1000, "1", True, float("nan")])
def test_it_is_a_number_of_points(value):
    with pytest.raises(SgResnetsError, match=r"max_drop=.*: must be a number of 0 to 100, in points"):
        QuantizationParams(max_drop=value)
