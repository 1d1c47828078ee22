"""The blocks against the equations and figures of their papers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sg_resnets.diagnostics.gradient_flow import block_weights
from sg_resnets.models import (
    Bottleneck,
    ResidualBlock,
    ResNet,
    register_attention,
    register_block,
    register_shortcut,
    register_stem,
)
from sg_resnets.models.blocks import BLOCKS
from sg_resnets.models.layers import halve
from sg_resnets.models.zoo import ZOO
from sg_resnets.utils.errors import SgResnetsError
from support import SMALL, kept_shape, randomised


def test_the_papers_bottleneck_strides_in_its_1x1():
    for where, strides in {"1x1": (2, 1), "3x3": (1, 2)}.items():
        block = ResNet(replace(ZOO["resnet50_v1b"].config, stride_in=where)).layer2[0]
        assert (block.conv1.stride[0], block.conv2.stride[0]) == strides


def test_stochastic_depth_decays_linearly_and_is_off_in_evaluation():
    network = ResNet(replace(SMALL, depths=(2, 2, 2), drop_path=0.6))
    rates = [block.drop_path.p for block in network.blocks()]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    images = torch.randn(64, 3, 8, 8)
    network.train()
    block, x = network.layer3[1], torch.randn(400, 16, 4, 4)
    dropped = (block.train().drop_path(torch.ones_like(x)).flatten(1) == 0).all(1).float().mean().item()
    assert dropped == pytest.approx(0.6, abs=0.1)
    network.eval()
    assert torch.equal(network(images), network(images))


def test_attention_multiplies_the_branch_before_the_addition():
    x, squeeze = torch.randn(2, 8, 6, 6), (2, 3)
    for name in ("se", "eca", "cbam"):
        _, block, layers = kept_shape(x, attention=name)
        f = layers["bn2"](layers["conv2"](torch.relu(layers["bn1"](layers["conv1"](x)))))
        a = block.se
        if name == "se":
            expected = f * torch.sigmoid(a.fc2(torch.relu(a.fc1(f.mean(squeeze, keepdim=True)))))
        elif name == "eca":
            expected = f * torch.sigmoid(a.conv(f.mean(squeeze)[:, None]))[:, 0, :, None, None]
        else:
            channels = torch.sigmoid(a.mlp(f.mean(squeeze, keepdim=True)) + a.mlp(f.amax(squeeze, keepdim=True)))
            g = f * channels
            maps = torch.stack([g.mean(1), g.amax(1)], dim=1)
            expected = g * torch.sigmoid(a.bn(a.conv(maps)))
        torch.testing.assert_close(block(x), torch.relu(expected + x))


def test_the_kernel_of_efficient_channel_attention_grows_with_the_channels():
    """Wang et al. 2020, equation 12 with gamma 2 and b 1: 3 up to 128 channels... 5 from 256 on (section 3.2.3)."""
    network = ResNet(ZOO["ecaresnet50_v1d"].config)
    sizes = {block.conv3.out_channels: block.se.conv.kernel_size[0] for block in network.blocks()}
    assert sizes == {256: 5, 512: 5, 1024: 5, 2048: 7}


@pytest.mark.parametrize("block", ["basic", "bottleneck", "sk_basic", "sk_bottleneck", "res2net", "resnest"])
def test_the_activation_is_that_of_all_blocks(block):
    config = replace(SMALL, widths=(64, 64, 64), block=block, activation="gelu", splits=2 if "res" in block else 1)
    kinds = {type(module) for module in ResNet(config).modules()}
    assert nn.GELU in kinds and nn.ReLU not in kinds


def test_res2net_adds_each_groups_output_to_the_next():
    config = replace(SMALL, depths=(2, 1, 1), widths=(64, 64, 64), block="res2net", splits=4, width_per_group=16)
    block, x = randomised(ResNet(config)).layer1[1], torch.randn(2, 256, 6, 6)
    first, second, third, fourth = torch.relu(block.bn1(block.conv1(x))).chunk(4, dim=1)
    k = [lambda y, i=i: torch.relu(block.bns[i](block.convs[i](y))) for i in range(3)]
    a = k[0](first)
    b = k[1](second + a)
    c = k[2](third + b)
    expected = block.bn3(block.conv3(torch.cat([a, b, c, fourth], dim=1)))
    torch.testing.assert_close(block(x), torch.relu(expected + x))


def test_a_users_block_is_known_by_its_parts_whatever_their_names(monkeypatch):
    class Second(ResidualBlock):
        def __init__(self, in_channels, channels, stride, config):
            super().__init__()
            self.first = nn.Conv2d(in_channels, channels, 3, stride, 1)
            self.second = nn.Conv2d(channels, channels, 1)

        def residual(self, x):
            return self.second(self.relu(self.first(x)))

    monkeypatch.setitem(BLOCKS, "second", Second)
    config = replace(SMALL, block="second", norm="none", zero_init_residual=True, attention="se")
    network = ResNet(config)
    for block in network.blocks():
        assert not block.second.weight.any() and block.first.weight.any() and block.se.fc2.weight.any()
    assert [len(weights) for weights in block_weights(network).values()] == [2, 2, 2]
    with pytest.raises(SgResnetsError, match="'fixup' needs a block made with `weight_layers`: 'second' is not"):
        ResNet(replace(SMALL, block="second", norm="none", scaling="fixup"))


def test_a_block_whose_part_has_the_name_of_one_of_the_networks_is_refused(monkeypatch):
    class Gated(ResidualBlock):
        def __init__(self, in_channels, channels, stride, config):
            super().__init__()
            self.se = nn.Conv2d(in_channels, channels, 3, stride, 1)

    monkeypatch.setitem(BLOCKS, "gated", Gated)
    with pytest.raises(SgResnetsError, match="block 'gated' has its own se, but the network adds"):
        ResNet(replace(SMALL, block="gated"))


def test_a_users_block_is_a_few_lines():
    @register_block("one_convolution")
    class OneConvolution(ResidualBlock):
        def __init__(self, in_channels, channels, stride, config):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, channels, 3, stride, padding=1)

        def residual(self, x):
            return self.conv(x)

    network = ResNet(replace(SMALL, block="one_convolution"))
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 10)
    with pytest.raises(SgResnetsError, match="block 'one_convolution' exists already"):
        register_block("one_convolution")(nn.Conv2d)


class Doubled(Bottleneck):
    def residual(self, x):
        return 2 * super().residual(x)


class Reading(ResidualBlock):
    """Reads what it follows, the pooling only where there is one."""

    def __init__(self, in_channels, channels, stride, config):
        super().__init__()
        self.config = config
        self.drop, self.order = nn.Dropout(config.dropout), config.order
        self.conv = nn.Conv2d(in_channels, channels, 3, 1, 1, groups=config.groups if in_channels > 3 else 1)
        self.halve = halve(config, channels) if stride > 1 and config.pools else nn.MaxPool2d(stride)

    def residual(self, x):
        return self.halve(self.conv(self.drop(x)))


OF_THE_BRANCH = [{"dropout": 0.1}, {"order": "full_preact"}, {"subsample": "blur"}, {"groups": 2}]


@pytest.mark.parametrize("arch", [*OF_THE_BRANCH[:3], {"splits": 4}])
def test_a_users_block_stays_in_its_place_or_what_it_does_not_read_is_refused(monkeypatch, arch):
    monkeypatch.setitem(BLOCKS, "doubled", Doubled)
    assert type(ResNet(replace(SMALL, block="doubled", groups=2)).layer1[0]) is Doubled
    (name,) = arch
    with pytest.raises(SgResnetsError, match=f"block 'doubled' has no {name}=.*does not read config.{name}"):
        ResNet(replace(SMALL, block="doubled", **arch))


@pytest.mark.parametrize("arch", OF_THE_BRANCH)
def test_a_users_block_follows_what_it_reads(monkeypatch, arch):
    monkeypatch.setitem(BLOCKS, "reading", Reading)
    config = replace(SMALL, block="reading", **arch)
    network = ResNet(config)
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 10)
    kept = network.layer1[0].config
    assert kept == config and vars(kept) == vars(config)


def test_depth_counts_three_layers_in_a_users_bottleneck(monkeypatch):
    monkeypatch.setitem(BLOCKS, "doubled", Doubled)
    assert SMALL.override(block="doubled", depth=20).depths == (2, 2, 2)
    with pytest.raises(SgResnetsError, match="unknown block 'dubled': did you mean doubled"):
        SMALL.override(block="dubled", depth=20)


def test_a_block_that_cannot_be_one_is_refused_where_it_is_registered():
    with pytest.raises(SgResnetsError, match="a block needs a name: write @register_block"):
        register_block(Doubled)
    with pytest.raises(SgResnetsError, match="the block 'convolution' must be a subclass of ResidualBlock"):
        register_block("convolution")(nn.Conv2d)
    assert "convolution" not in BLOCKS


def test_a_user_adds_a_shortcut_an_attention_and_a_stem_and_redefines_them_in_a_notebook():
    for _ in range(2):  # a cell that is run twice

        @register_shortcut("halved")
        class Halved(nn.AvgPool2d):
            def __init__(self, in_channels, out_channels, stride, config):
                super().__init__(stride)

        @register_attention("doubled")
        class Doubled(nn.Module):
            def __init__(self, channels, config):
                super().__init__()

            def forward(self, x):
                return 2 * x

        @register_stem("wide")
        def wide(config):
            return [("conv1", nn.Conv2d(config.in_channels, config.widths[0], 9, padding=4))]

    config = replace(SMALL, widths=(4, 4, 4), shortcut="halved", attention="doubled", stem="wide")
    network = ResNet(config).eval()
    block, x = network.layer2[0], torch.rand(2, 4, 8, 8)
    expected = torch.relu(2 * block.residual(x) + nn.functional.avg_pool2d(x, 2))
    torch.testing.assert_close(block(x), expected)
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 10) and network.conv1.kernel_size == (9, 9)


def test_a_pooled_block_halves_before_branch_and_shortcut_part():
    network = randomised(ResNet(replace(SMALL, stem="pooled", block="pooled", depths=(1, 1), widths=(16, 24)))).eval()
    block, x = network.layer2[0], torch.randn(2, 16, 7, 6)
    halved = torch.relu(block.bn1(nn.functional.max_pool2d(block.conv1(x), 2)))
    assert halved.shape == (2, 24, 3, 3)
    torch.testing.assert_close(block(x), torch.relu(block.bn2(block.conv2(halved)) + halved))
    first, x = network.layer1[0], torch.randn(2, 16, 5, 5)
    torch.testing.assert_close(first(x), torch.relu(first.bn2(first.conv2(x)) + x))  # nothing changes the shape


def test_the_pooled_stem_sees_2x2_patches_first():
    network = randomised(ResNet(replace(SMALL, stem="pooled", block="pooled", depths=(1, 1), widths=(16, 24)))).eval()
    patches, _, wide = network.conv1
    x = torch.randn(2, 3, 28, 28)
    assert patches(x).shape == (2, 2, 27, 27) and wide(patches(x)).shape == (2, 16, 27, 27)
    expected = torch.relu(network.bn1(nn.functional.max_pool2d(wide(torch.relu(patches(x))), 2)))
    torch.testing.assert_close(network.relu(network.bn1(network.maxpool(network.conv1(x)))), expected)
    assert network(x).shape == (2, SMALL.num_classes)
