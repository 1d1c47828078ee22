"""The order of batch-norm, activation and addition: He et al. 2016, figure 4, and what stands between the layers."""

from dataclasses import replace

import pytest
import torch

from sg_resnets.models import ResNet
from support import SMALL, kept_shape, randomised

# He et al. 2016, figure 4 (a) to (e), written out.
FIGURE_4 = {
    "original": lambda x, m: torch.relu(m["bn2"](m["conv2"](torch.relu(m["bn1"](m["conv1"](x))))) + x),
    "bn_after_addition": lambda x, m: torch.relu(m["bn_after"](m["conv2"](torch.relu(m["bn1"](m["conv1"](x)))) + x)),
    "relu_before_addition": lambda x, m: torch.relu(m["bn2"](m["conv2"](torch.relu(m["bn1"](m["conv1"](x)))))) + x,
    "relu_only_preact": lambda x, m: m["bn2"](m["conv2"](torch.relu(m["bn1"](m["conv1"](torch.relu(x)))))) + x,
    "full_preact": lambda x, m: m["conv2"](torch.relu(m["bn2"](m["conv1"](torch.relu(m["bn1"](x)))))) + x,
}


@pytest.mark.parametrize("order", FIGURE_4)
def test_the_five_orders_are_those_of_figure_4_and_leave_their_input_alone(order):
    x = torch.randn(2, 8, 6, 6)
    _, block, layers = kept_shape(x, order=order)
    before = x.clone()
    torch.testing.assert_close(block(x), FIGURE_4[order](x, layers))
    assert torch.equal(x, before)


@pytest.mark.parametrize("order", FIGURE_4)
def test_every_order_has_a_bottleneck_and_trains(order):
    for arch in ({"block": "bottleneck"}, {"norm": "none"} if order != "bn_after_addition" else {}):
        network = ResNet(replace(SMALL, order=order, **arch))
        network(torch.randn(4, 3, 16, 16)).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_full_preactivation_activates_before_the_split_in_the_first_unit_and_where_the_shape_changes():
    """He et al. 2016, appendix; and an extra activation after the last addition."""
    network = randomised(ResNet(replace(SMALL, depths=(2, 2, 2), order="full_preact", shortcut="A")))
    shared = [bool(block.before_split) for block in network.blocks()]
    assert shared == [True, False, True, False, True, False]
    assert [name for name, _ in network.named_children()][:2] == ["conv1", "layer1"]  # no batch-norm in the stem
    first, x = network.layer1[0], torch.randn(2, 4, 6, 6)
    activated = torch.relu(first.bn1(x))
    torch.testing.assert_close(first(x), first.conv2(torch.relu(first.bn2(first.conv1(activated)))) + activated)
    images = torch.randn(2, 3, 12, 12)
    body = network.layer3(network.layer2(network.layer1(network.conv1(images))))
    expected = network.fc(torch.relu(network.bn_end(body)).mean((2, 3)))
    torch.testing.assert_close(network(images), expected)


def test_dropout_stands_between_the_weight_layers():
    block = ResNet(replace(SMALL, order="full_preact", dropout=0.3)).layer2[0]
    assert list(block.before_split) + list(block.steps) == ["bn1", "relu", "conv1", "bn2", "relu", "dropout", "conv2"]
