"""Every row of the zoo: exact figures, the same function as its twin in torchvision or timm, and all that is done with
a model: a training step, ONNX, another head, other channels, a copy, a file."""

import copy
import csv
import io
import pickle
import timeit
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sg_resnets.models import ResNet
from sg_resnets.models.pretrained import from_timm
from sg_resnets.models.zoo import ZOO

REFERENCE = Path(__file__).parent / "reference"
# What `make test` puts through everything: the smaller nets, and one large one of each kind; `make test-all`, all.
OF_EACH_KIND = (
    "resnet50_v1b",
    "resnet50_v2",
    "resnet_rs50",
    "resnext50_32x4d_v1b",
    "skresnet50",
    "res2net50_26w_4s",
    "resnest50",
)
LARGE = [
    name
    for name, row in ZOO.items()
    if sum(row.config.depths) > 27 or (row.parameters > 20e6 and name not in OF_EACH_KIND)
]
TWINS = {row.timm: name for name, row in ZOO.items() if row.timm}  # one name for each


def named(names):
    return [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in names]


def rows(file):
    with open(REFERENCE / file, newline="") as opened:
        return list(csv.DictReader(line for line in opened if not line.startswith("#")))


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def on_meta(config):
    with torch.device("meta"):
        return ResNet(config).eval()


def test_there_are_at_least_a_hundred_names_and_the_host_has_them_all(host):
    from super_gradients.common.registry.registry import ARCHITECTURES

    assert len(ZOO) >= 100
    assert all(ARCHITECTURES[name].row == row.config for name, row in ZOO.items())
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert readme.count(f"{len(ZOO)} residual networks") == 1 and f"lists {len(ZOO)} networks" in readme


def test_a_network_of_the_factory_can_be_pickled(host):
    from super_gradients.training import models

    network = models.get("resnet20_cifar", num_classes=10).eval()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(pickle.loads(pickle.dumps(network))(images), network(images))


def test_cbam_has_the_parameters_of_its_authors_networks():
    """As imgclsmob counts them, which converts the authors' weights."""
    counted = {18: 11_779_392, 34: 21_960_468, 50: 28_089_624, 101: 49_330_172}
    assert {depth: ZOO[f"cbam_resnet{depth}_v1b"].parameters for depth in counted} == counted


@pytest.mark.parametrize("name", ZOO)
def test_the_table_states_parameters_and_macs_exactly(name):
    row = ZOO[name]
    network = on_meta(row.config)
    assert parameters(network) == row.parameters
    size, channels = row.input_size, row.config.in_channels
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, channels, size, size, device="meta"))
    assert counter.get_total_flops() / 2 == pytest.approx(row.macs, rel=5e-3)


@pytest.mark.parametrize("row", rows("cifar_parameters.csv"), ids=lambda row: row["depth"])
def test_cifar_parameters_equal_the_reference(row):
    for shortcut in "AB":
        for classes in ("10", "100"):
            if expected := row[f"{shortcut}_{classes}"]:
                config = replace(ZOO[f"resnet{row['depth']}_cifar"].config, shortcut=shortcut, num_classes=int(classes))
                assert parameters(on_meta(config)) == int(expected), (shortcut, classes)
    if row["mmacs_A"]:
        assert ZOO[f"resnet{row['depth']}_cifar"].macs == pytest.approx(1e6 * float(row["mmacs_A"]), rel=1e-4)


@pytest.mark.parametrize("row", rows("wide_parameters.csv"), ids=lambda row: row["model"])
def test_wide_and_distillation_parameters_equal_the_reference(row):
    for classes in (10, 100):
        if expected := row[f"classes_{classes}"]:
            config = replace(ZOO[f"{row['model']}_cifar"].config, num_classes=classes)
            assert parameters(on_meta(config)) == int(expected), classes


@pytest.mark.parametrize("row", rows("imagenet_parameters.csv"), ids=lambda row: row["model"])
def test_imagenet_figures_equal_the_reference(row):
    ours = ZOO[row["model"]]
    assert ours.parameters == int(row["parameters"])
    if row["gmacs"]:
        assert ours.macs == pytest.approx(1e9 * float(row["gmacs"]), rel=5e-3)


def test_a_plain_net_has_the_parameters_of_its_residual_twin():
    for depth in (20, 32, 44, 56, 110):
        assert ZOO[f"plain{depth}_cifar"].parameters == ZOO[f"resnet{depth}_cifar"].parameters


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


@pytest.mark.parametrize("name", named(ZOO))
def test_a_model_trains_exports_adapts_copies_and_reloads(name, tmp_path):
    import onnxruntime

    row = ZOO[name]
    network = ResNet(row.config)
    images = torch.randn(4, 3, *(2 * [64 if row.input_size == 224 else 16]))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # a mean of 0, a variance of 1, and small branches: 600 blocks do not overflow
            nn.init.constant_(module.weight, 1 if row.config.shortcut == "none" else 0.3)

    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    loss = nn.functional.cross_entropy(network.train()(images), torch.arange(4))
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in network.parameters())
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)  # plain110 starts with a gradient of 4e7
    optimiser.step()
    with torch.no_grad():
        expected = network.eval()(images)
    assert expected.isfinite().all()

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter is deprecated; it is the fast one
        torch.onnx.export(network, (images,), file, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (exported,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    scale = max(1.0, expected.abs().max().item())
    assert np.abs(exported - expected.numpy()).max() < 1e-4 * scale

    ema = copy.deepcopy(network)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    fresh = ResNet(row.config)
    fresh.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True), strict=True)
    network.replace_head(new_num_classes=7)
    network.replace_input_channels(1)
    with torch.no_grad():
        assert torch.equal(ema(images), expected) and torch.equal(fresh.eval()(images), expected)
        assert network.eval()(images[:, :1]).shape == (4, 7)


@pytest.mark.slow
def test_building_a_model_takes_under_a_second():
    """Of the largest ones, the better of three: other work on the machine only ever adds to it."""
    largest = sorted(ZOO, key=lambda name: ZOO[name].parameters)[-8:]
    seconds = {name: min(timeit.repeat(lambda n=name: ResNet(ZOO[n].config), number=1, repeat=3)) for name in largest}
    assert max(seconds.values()) < 1, seconds


@pytest.mark.parametrize("name", [name for name in ZOO if name not in LARGE])
def test_every_residual_net_has_a_plain_twin_or_says_why_not(name):
    """`arch_params.shortcut: none`: the same layers, without what was added."""
    from sg_resnets.utils.errors import SgResnetsError

    config = ZOO[name].config
    if config.drop_path or config.scaling != "none":
        with pytest.raises(SgResnetsError, match="needs a shortcut"):
            config.override(shortcut="none")
        return
    residual, plain = on_meta(config), on_meta(config.override(shortcut="none"))
    shortcuts = sum(p.numel() for key, p in residual.named_parameters() if "downsample" in key)
    assert parameters(plain) == parameters(residual) - shortcuts
