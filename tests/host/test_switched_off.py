"""Each repair is needed: its test fails where the repair is switched off."""

import subprocess
import sys
from pathlib import Path

import pytest

from sg_resnets.host.activation import HOST_VERSION

TESTS = Path(__file__).parents[1]
# The test that sees what each repair does.
WHAT_SEES = {
    "registries": "host/test_registration.py::test_focal_loss",
    "data_sets": "data/test_registered.py::test_every_data_set_has_a_name_in_the_host",
    "early_stop": "host/test_repairs.py::test_early_stop",
    "torchvision_processing": "host/test_repairs.py::test_torchvision_processing",
    "batch_accumulate": "host/test_repairs.py::test_batch_accumulate",
    "layer_groups": "integration/test_entry_points.py::test_what_a_recipe_cannot_mean_is_refused_in_a_line",
}


def test_every_repair_is_listed(host):
    from sg_resnets.host.installed import REPAIRS

    assert {repair.name for repair in REPAIRS} == set(WHAT_SEES) and HOST_VERSION == "3.7.1"


@pytest.mark.slow
@pytest.mark.parametrize("name", WHAT_SEES)
def test_its_test_fails_without_it(name):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", TESTS / WHAT_SEES[name]],
        env={**__import__("os").environ, "SG_RESNETS_WITHOUT": name},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout[-2000:]
