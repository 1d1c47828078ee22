"""Hooks on modules whose output is no tensor."""

import pytest
import torch
from torch import nn

from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hooks import outputs_of


def test_a_tap_on_a_module_that_gives_several_tensors_is_one_line():
    network = nn.Sequential(nn.LSTM(2, 2))
    with pytest.raises(SgResnetsError, match="'0' gives a tuple: name a module"), outputs_of(network, ["0"]):
        network(torch.ones(1, 2))
    assert not network[0]._forward_hooks
