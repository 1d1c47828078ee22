"""Every row of the zoo: its figures against those that were published, and its plain twin."""

import csv
import timeit
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sg_resnets.models import ResNet
from sg_resnets.models.zoo import ZOO
from support import LARGE, ROOT, on_meta, parameters

REFERENCE = ROOT / "tests" / "reference"


def rows(file):
    with open(REFERENCE / file, newline="") as opened:
        return list(csv.DictReader(line for line in opened if not line.startswith("#")))


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


@pytest.mark.slow
def test_building_a_model_takes_under_a_second():
    """Of the largest ones, the better of three: other work on the machine only ever adds to it."""
    largest = sorted(ZOO, key=lambda name: ZOO[name].parameters)[-8:]
    seconds = {name: min(timeit.repeat(lambda n=name: ResNet(ZOO[n].config), number=1, repeat=3)) for name in largest}
    assert max(seconds.values()) < 1, seconds
