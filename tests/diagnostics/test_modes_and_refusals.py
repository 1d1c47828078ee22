"""What is looked at stays as it was, its modes too; what cannot be measured is refused in a line."""

import contextlib
from dataclasses import replace

import pytest
import torch
from torch import nn

from sg_resnets.diagnostics.gradient_flow import gradient_flow
from sg_resnets.diagnostics.identity import branch_responses, deepen
from sg_resnets.diagnostics.landscape import nonconvex_share
from sg_resnets.diagnostics.lesion import accuracy, draw_lesion, lesion, path_gradients, swapped
from sg_resnets.diagnostics.soft_targets import soft_targets
from sg_resnets.models import ResNet, named_blocks
from sg_resnets.utils.errors import SgResnetsError
from support import SMALL, randomised

IMAGES, LABELS = torch.linspace(-1, 1, 4 * 3 * 64).view(4, 3, 8, 8), torch.arange(4)


def small(depths=(1, 1, 1), **arch):
    return ResNet(replace(SMALL, depths=depths, **arch))


@pytest.mark.parametrize(
    "look",
    [
        lambda network: accuracy(network, IMAGES, LABELS),
        lambda network: accuracy(network, IMAGES[:, :2], LABELS),  # fails half-way
        lambda network: branch_responses(network, IMAGES),
        lambda network: path_gradients(network, IMAGES, LABELS, repeats=1),
        lambda network: soft_targets(network, IMAGES, 4.0),
        lambda network: gradient_flow(network, IMAGES, LABELS),
    ],
)
def test_each_module_keeps_its_mode_and_the_random_state_stays(look):
    network = small(drop_path=0.5).train()
    network.bn1.eval()  # as for frozen statistics
    modes, state = [module.training for module in network.modules()], torch.get_rng_state()
    with contextlib.suppress(RuntimeError):
        look(network)
    assert modes == [module.training for module in network.modules()] and modes[0]
    assert torch.equal(state, torch.get_rng_state()) and not any(m._forward_hooks for m in network.modules())


def test_gradient_flow_sees_frozen_weights_and_a_block_that_runs_twice():
    network = small((1, 3, 1)).eval()
    expected = gradient_flow(network, IMAGES, LABELS)
    network.layer1.requires_grad_(False)
    network.layer1[0].bn1.requires_grad_(True)
    network.layer1[0].bn2.requires_grad_(True)
    with torch.no_grad():
        assert gradient_flow(network, IMAGES, LABELS) == expected
    network.layer2[2] = network.layer2[1]
    names = ["layer1.0", "layer2.0", "layer2.1", "layer3.0"]
    flow = gradient_flow(network, IMAGES, LABELS)
    assert [block.name for block in flow] == names and all(block.weights > 0 for block in flow)
    assert list(lesion(network, IMAGES, LABELS)) == ["none", *names]


@pytest.mark.parametrize(
    "arch",
    [
        {"activation": "silu"},
        {"activation": "gelu"},
        {"addition": "scaled"},
        {"addition": "shortcut_gate", "gate_bias": 0.0},
        {"addition": "exclusive_gate", "gate_bias": 0.0},
        {"shortcut": "C"},
    ],
)
def test_a_block_that_cannot_be_the_identity_is_not_added(arch):
    with pytest.raises(SgResnetsError, match="does not copy its input: take relu or a pre-activation, shortcut A"):
        deepen(small(**arch), (2, 2, 2))


@pytest.mark.parametrize(
    "arch",
    [
        {"scaling": "rezero"},
        {"scaling": "layerscale"},
        {"scaling": "skipinit", "norm": "none"},
        {"scaling": "fixup", "norm": "none"},
        {"order": "relu_only_preact", "activation": "silu"},
        {"block": "bottleneck", "attention": "cbam"},
    ],
)
def test_new_blocks_compute_nothing_and_learn_whatever_the_scaling(arch):
    network = randomised(small(**arch)).double()
    nn.init.normal_(network.fc.weight)  # Fixup's is zero
    deeper, images = deepen(network, (2, 2, 2)), IMAGES.double()
    torch.testing.assert_close(deeper(images), network(images), rtol=0, atol=0)
    nn.functional.cross_entropy(deeper.train()(images), LABELS).backward()
    for name, block in named_blocks(deeper).items():
        assert any(p.grad is not None and p.grad.any() for p in block.parameters()), name


def test_a_network_with_another_head_and_stem_is_deepened():
    network = small()
    network.replace_head(7)
    network.replace_input_channels(1)
    assert deepen(network, (2, 2, 2))(IMAGES[:, :1]).shape == (4, 7)


@pytest.mark.parametrize(
    "pair, words",
    [
        (("layer1", "layer2"), "has no block 'layer1': it has layer1.0, layer1.1"),
        (("layer1.1", "layer1.9"), "has no block 'layer1.9'"),
        (("layer9.1", "layer1.1"), "has no block 'layer9.1'"),
        (("layer2.0", "layer2.1"), "must be of one stage and keep the shape"),
    ],
)
def test_what_cannot_be_swapped_is_named(pair, words):
    with pytest.raises(SgResnetsError, match=words), swapped(small((2, 3, 2)), *pair):
        pass


@pytest.mark.parametrize("shortcut", ["B", "C", "none"])
def test_blocks_that_keep_the_shape_are_swapped_whatever_their_shortcut(shortcut):
    network = small((2, 2, 3), shortcut=shortcut).eval()
    before = network(IMAGES)
    for pair in (("layer1.0", "layer1.1"), ("layer3.1", "layer3.2")):
        with swapped(network, *pair):
            assert not torch.equal(network(IMAGES), before)
        assert torch.equal(network(IMAGES), before)


@pytest.mark.parametrize(
    "measure, words",
    [
        (lambda: accuracy(small(), IMAGES, LABELS[:, None]), r"labels of shape \(4, 1\) for 4 images: give one"),
        (lambda: accuracy(small(), IMAGES[:0], LABELS[:0]), r"labels of shape \(0,\) for 0 images"),
        (lambda: soft_targets(small(), IMAGES, 0.0), "temperature=0.0: must be a number > 0"),
        (lambda: nonconvex_share(torch.full((5, 5), 20.0)), "no inner point of the surface has a loss below 10.0"),
        (lambda: nonconvex_share(torch.full((5, 5), float("nan"))), "no inner point"),
    ],
)
def test_a_figure_that_would_mean_nothing_is_refused(measure, words):
    with pytest.raises(SgResnetsError, match=words):
        measure()


def test_a_picture_shows_all_networks():
    results = {str(i): {"none": 0.9, "layer1.0": 0.5} for i in range(8)}
    assert len(draw_lesion(results, "").axes[0].get_legend().get_texts()) == 8
