"""Shortcuts, what is added to them, and how they subsample."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from sg_resnets.models import ResNet
from support import SMALL, kept_shape


def test_shortcut_a_takes_every_second_pixel_and_pads_channels_with_zeros():
    shortcut = ResNet(replace(SMALL, shortcut="A")).layer2[0].downsample
    x = torch.randn(2, 4, 7, 7)
    y = shortcut(x)
    assert y.shape == (2, 8, 4, 4) and not list(shortcut.parameters())
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2]) and not y[:, [0, 1, 6, 7]].any()


def test_shortcut_a_keeps_gradients_in_the_layout_of_its_input():
    """In another layout, adding them to the branch's would cost several times as much."""
    shortcut = ResNet(replace(SMALL, shortcut="A")).layer2[0].downsample.train()
    x, weight = torch.randn(2, 4, 7, 7), torch.randn(2, 8, 4, 4)
    gradients = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = x.to(memory_format=layout).requires_grad_()
        y = shortcut(leaf)
        assert torch.equal(y, copy.deepcopy(shortcut).eval()(leaf))
        (gradients[layout],) = torch.autograd.grad((y * weight.to(memory_format=layout)).sum(), leaf)
        assert gradients[layout].is_contiguous(memory_format=layout)
    assert torch.equal(*gradients.values())


def test_shortcut_c_projects_in_every_block_and_a_plain_net_adds_nothing():
    projections = [block.downsample for block in ResNet(replace(SMALL, shortcut="C")).blocks()]
    assert all(isinstance(shortcut[0], nn.Conv2d) for shortcut in projections)
    plain = ResNet(replace(SMALL, shortcut="none"))
    block, x = plain.layer1[0].eval(), torch.randn(1, 4, 8, 8)
    assert torch.equal(block(x), torch.relu(block.residual(x)))


# He et al. 2016, figure 2 (b), (c), (d) and (f).
FIGURE_2 = {
    "scaled": lambda x, f, g: 0.5 * x + 0.5 * f,
    "exclusive_gate": lambda x, f, g: (1 - g) * x + g * f,
    "shortcut_gate": lambda x, f, g: (1 - g) * x + f,
    "dropout": lambda x, f, g: x + f,  # in evaluation
}


@pytest.mark.parametrize("addition", FIGURE_2)
def test_the_shortcut_menu_is_that_of_figure_2(addition):
    x = torch.randn(2, 8, 6, 6)
    gated = {"gate_bias": -2.0} if "gate" in addition else {}
    _, block, _ = kept_shape(x, addition=addition, **gated)
    gate = getattr(block.addition, "gate", None)
    if gate is not None:
        assert (gate.bias == -2).all() and gate.kernel_size == (1, 1)
        nn.init.normal_(gate.weight)
    g = gate(x).sigmoid() if gate is not None else None
    torch.testing.assert_close(block(x), torch.relu(FIGURE_2[addition](x, block.residual(x), g)))
    if addition == "dropout":
        block.train()
        dropped = (block.addition(torch.zeros(64, 8, 6, 6), torch.ones(64, 8, 6, 6), x) == 0).float().mean().item()
        assert dropped == pytest.approx(0.5, abs=0.02)


def test_shortcut_d_averages_before_it_projects():
    shortcut = ResNet(replace(SMALL, shortcut="D")).layer2[0].downsample.eval()
    x = torch.randn(2, 4, 7, 7)  # an odd side: the last window is cut short, not padded
    pooled = nn.functional.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(shortcut(x), shortcut[2](shortcut[1](pooled)))
    assert pooled.shape[-1] == 4 and shortcut[1].stride == (1, 1)


def test_blur_filters_before_it_subsamples():
    """Zhang 2019, section 3.2: the alternating image, which a stride turns into a constant, becomes its mean."""
    blur = ResNet(replace(SMALL, subsample="blur")).layer2[0].halve
    stripes = torch.tensor([0.0, 1.0]).repeat(8).expand(1, 8, 16, 16)
    assert stripes[:, :, ::2, ::2].eq(0).all()
    torch.testing.assert_close(blur(stripes), torch.full((1, 8, 8, 8), 0.5))
    assert blur(torch.rand(1, 8, 7, 7)).shape == (1, 8, 4, 4)
