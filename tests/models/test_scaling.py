"""How weights and branches start: He et al. 2015, zero-init, ReZero, SkipInit, Fixup, LayerScale."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sg_resnets.models import ResNet
from sg_resnets.models.zoo import ZOO
from support import SMALL


def test_weights_start_as_he_et_al_2015():
    convolution = ResNet(ZOO["resnet56_cifar"].config).layer3[4].conv1
    assert convolution.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert convolution.weight.mean().item() == pytest.approx(0, abs=1e-3)


def test_zero_init_makes_each_block_start_as_its_shortcut():
    block = ResNet(replace(SMALL, depths=(2, 1, 1), zero_init_residual=True)).layer1[1].eval()
    x = torch.rand(2, 4, 8, 8)
    assert torch.equal(block(x), x)


def test_rezero_skipinit_and_fixup_start_each_block_as_its_shortcut_and_learn():
    for arch in ({"scaling": "rezero"}, {"scaling": "skipinit", "norm": "none"}, {"scaling": "fixup", "norm": "none"}):
        network = ResNet(replace(SMALL, depths=(2, 2, 2), **arch))
        block, x = network.layer2[1], torch.rand(2, 8, 6, 6)
        assert torch.equal(block(x), x)
        batch_norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        assert bool(batch_norms) is ("norm" not in arch)
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(3):  # fixup's classifier starts at zero too: its first step moves nothing else
            loss = nn.functional.cross_entropy(network(torch.rand(8, 3, 12, 12)), torch.arange(8))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert not torch.equal(block(x), x)


def test_fixup_scales_all_but_the_last_layer_of_a_branch_and_has_its_scalars():
    """Zhang et al. 2019, section 3: L^(-1 / (2m - 2)); a multiplier for each branch, a bias before each layer."""
    wide = replace(SMALL, widths=(64, 64, 64), scaling="fixup", norm="none", shortcut="A", depths=(9, 9, 9))
    for block_name, layers in (("basic", 2), ("bottleneck", 3)):
        network = ResNet(replace(wide, block=block_name))
        *others, last = network.layer2[4].branch_layers(nn.Conv2d)
        for conv in others:
            he = (2 / (conv.out_channels * conv.kernel_size[0] ** 2)) ** 0.5
            assert conv.weight.std().item() == pytest.approx(he * 27 ** (-1 / (2 * layers - 2)), rel=0.05)
        assert not last.weight.any() and not network.fc.weight.any()
        assert [conv.multiplier is None for conv in (*others, last)] == [True] * (layers - 1) + [False]
    scalars = [p for p in ResNet(wide).parameters() if p.numel() == 1]
    assert len(scalars) == 27 * 5 + 2 + 1  # five for each block (figure 1), two around conv1, one before fc


def test_layerscale_starts_smaller_the_more_blocks():
    """Touvron et al. 2021, section 2: 0.1 up to 18 blocks, 1e-5 up to 24, then 1e-6."""
    for blocks, start in ((6, 0.1), (7, 1e-5), (9, 1e-6)):
        factor = ResNet(replace(SMALL, depths=(blocks,) * 3, scaling="layerscale")).layer3[0].scale.factor
        assert factor.shape == (16, 1, 1) and (factor == start).all()
