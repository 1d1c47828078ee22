"""Arguments of the form key=value."""

import pytest

from sg_resnets.utils.dotlist import parse_dotlist
from sg_resnets.utils.errors import SgResnetsError


@pytest.mark.parametrize("written", ["lr={layer1:0.1,default:0.2}", "lr={layer1: 0.1, default: 0.2}"])
def test_mappings_are_written_as_for_a_recipe(written):
    assert parse_dotlist([written], "override", "epochs=20") == {"lr": {"layer1": 0.1, "default": 0.2}}


def test_a_mapping_that_does_not_end_is_one_line():
    with pytest.raises(SgResnetsError, match=r"'lr=\{layer1:0.1' cannot be read: "):
        parse_dotlist(["lr={layer1:0.1"], "override", "epochs=20")
