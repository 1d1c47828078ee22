"""The parts of a network against the papers' equations and figures."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from sg_resnets.diagnostics.gradient_flow import block_weights
from sg_resnets.models import (
    ResidualBlock,
    ResNet,
    register_attention,
    register_block,
    register_shortcut,
    register_stem,
)
from sg_resnets.models.blocks import BLOCKS
from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.zoo import ZOO
from sg_resnets.utils.errors import SgResnetsError

SMALL = ResNetConfig((1, 1, 1), (4, 8, 16))


def test_the_papers_bottleneck_strides_in_its_1x1():
    for where, strides in {"1x1": (2, 1), "3x3": (1, 2)}.items():
        block = ResNet(replace(ZOO["resnet50_v1b"].config, stride_in=where)).layer2[0]
        assert (block.conv1.stride[0], block.conv2.stride[0]) == strides


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


def test_weights_start_as_he_et_al_2015():
    convolution = ResNet(ZOO["resnet56_cifar"].config).layer3[4].conv1
    assert convolution.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert convolution.weight.mean().item() == pytest.approx(0, abs=1e-3)


def test_zero_init_makes_each_block_start_as_its_shortcut():
    block = ResNet(replace(SMALL, depths=(2, 1, 1), zero_init_residual=True)).layer1[1].eval()
    x = torch.rand(2, 4, 8, 8)
    assert torch.equal(block(x), x)


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


def randomised(network):
    """Statistics, scales and biases that differ from 0 and 1, so that each layer's place counts."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


def kept_shape(x, **arch):
    """Of a net with `arch`: the second block of its second stage, which keeps the shape, and its layers by name."""
    network = randomised(ResNet(replace(SMALL, depths=(2, 2, 2), **arch)))
    block = network.layer2[1]
    return network, block, {name: module for name, module in block.named_children()}


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
    _, block, _ = kept_shape(x, addition=addition, gate_bias=-2.0)
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


@pytest.mark.parametrize("block", ["basic", "bottleneck", "sk_basic", "sk_bottleneck", "res2net", "resnest"])
def test_the_activation_is_that_of_all_blocks(block):
    config = replace(SMALL, widths=(64, 64, 64), block=block, activation="gelu", splits=2 if "res" in block else 1)
    kinds = {type(module) for module in ResNet(config).modules()}
    assert nn.GELU in kinds and nn.ReLU not in kinds


def test_layerscale_starts_smaller_the_more_blocks():
    """Touvron et al. 2021, section 2: 0.1 up to 18 blocks, 1e-5 up to 24, then 1e-6."""
    for blocks, start in ((6, 0.1), (7, 1e-5), (9, 1e-6)):
        factor = ResNet(replace(SMALL, depths=(blocks,) * 3, scaling="layerscale")).layer3[0].scale.factor
        assert factor.shape == (16, 1, 1) and (factor == start).all()


def test_blur_filters_before_it_subsamples():
    """Zhang 2019, section 3.2: the alternating image, which a stride turns into a constant, becomes its mean."""
    blur = ResNet(replace(SMALL, subsample="blur")).layer2[0].halve
    stripes = torch.tensor([0.0, 1.0]).repeat(8).expand(1, 8, 16, 16)
    assert stripes[:, :, ::2, ::2].eq(0).all()
    torch.testing.assert_close(blur(stripes), torch.full((1, 8, 8, 8), 0.5))
    assert blur(torch.rand(1, 8, 7, 7)).shape == (1, 8, 4, 4)


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


def test_dropout_stands_between_the_weight_layers():
    block = ResNet(replace(SMALL, order="full_preact", dropout=0.3)).layer2[0]
    assert list(block.before_split) + list(block.steps) == ["bn1", "relu", "conv1", "bn2", "relu", "dropout", "conv2"]


def test_head_dropout_changes_no_name_of_a_weight():
    fixup = replace(SMALL, scaling="fixup", norm="none")
    assert list(ResNet(replace(fixup, head_dropout=0.3)).state_dict()) == list(ResNet(fixup).state_dict())


def test_head_dropout_falls_on_what_the_classifier_reads():
    network, same = ResNet(replace(SMALL, head_dropout=0.3)).eval(), ResNet(SMALL).eval()
    same.load_state_dict(network.state_dict())
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(network(images), same(images))
    read = network.avgpool.train()(torch.ones(100, 16, 2, 2))
    assert set(read.unique().tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    assert 0.2 < (read == 0).float().mean() < 0.4


def test_replace_head_and_input_channels():
    network = ResNet(SMALL).eval()
    grey = torch.randn(2, 1, 16, 16)
    before = network(grey.expand(-1, 3, -1, -1))
    for channels in (5, 3, 1):  # an image of equal channels sees the same network, whatever their number
        network.replace_input_channels(channels)
        assert network.get_input_channels() == channels
        torch.testing.assert_close(network(grey.expand(-1, channels, -1, -1)), before, rtol=1e-4, atol=1e-5)
    network.replace_head(new_num_classes=7)
    assert network(grey).shape == (2, 7)
    network.replace_head(new_head=nn.Identity())
    assert network(grey).shape == (2, 16)
    with pytest.raises(SgResnetsError, match="new_num_classes"):
        network.replace_head()


def test_frozen_batch_norm_keeps_its_statistics():
    network = ResNet(SMALL)
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith("fc")
    before = copy.deepcopy(network.state_dict())
    network.train()(torch.randn(8, 3, 16, 16)).sum().backward()
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    for parameter in network.parameters():
        parameter.requires_grad = True
    network.train()(torch.randn(8, 3, 16, 16))
    assert not torch.equal(network.bn1.running_mean, before["bn1.running_mean"])


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


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"block": "botleneck"}, "unknown block 'botleneck': did you mean bottleneck"),
        ({"shortcut": "E"}, "unknown shortcut 'E': valid: A, B, C, D, none"),
        ({"stem": "mnist"}, "unknown stem 'mnist': valid: cifar, imagenet"),
        ({"depth": 21}, "depth 21: a CIFAR net of basic blocks has 6n . 2 layers; nearest: 20 and 26"),
        ({"depth": 21, "block": "bottleneck"}, "nearest: 20 and 29"),
        ({"shorcut": "A"}, "arch_params has no 'shorcut': did you mean shortcut"),
        ({"drop_path": 1.0}, "drop_path=1.0: must be a number >= 0 and < 1"),
        ({"drop_path": 0.1, "shortcut": "none"}, "drop_path needs a shortcut"),
        ({"depths": [1, 2]}, "must have one entry for each stage"),
        ({"widths": [0, 1, 2]}, r"widths\[0\]=0: must be an integer >= 1"),
        ({"widths": 16}, "widths=16: must be a list with an integer for each stage"),
        ({"depths": []}, r"depths=\[\]: must be a list"),
        ({"stem_width": 0}, "stem_width=0: must be an integer >= 1"),
        ({"groups": True}, "groups=True: must be an integer >= 1"),
        ({"gate_bias": "x"}, "gate_bias='x': must be a number"),
        ({"num_classes": 0}, "num_classes=0: must be an integer >= 1"),
        ({"depth": "deep"}, "depth='deep': must be an integer >= 1"),
        ({"stride_in": "5x5"}, "unknown stride_in '5x5': valid: 1x1, 3x3"),
        ({"order": "preact"}, "unknown order 'preact': did you mean full_preact"),
        ({"attention": "cbma"}, "unknown attention 'cbma': did you mean cbam"),
        ({"scaling": "fixup"}, "'fixup' takes the place of batch-norm: set norm: none"),
        ({"scaling": "skipinit"}, "'skipinit' takes the place of batch-norm"),
        ({"scaling": "fixup", "norm": "none", "order": "full_preact"}, "fixup is defined for the original order only"),
        ({"scaling": "rezero", "zero_init_residual": True}, "two zeros in a row never learn"),
        ({"scaling": "rezero", "shortcut": "none"}, "scaling 'rezero' needs a shortcut"),
        ({"zero_init_residual": True, "shortcut": "none"}, "would start, and stay, at zero"),
        ({"addition": "scaled", "shortcut": "none"}, "addition 'scaled' needs a shortcut"),
        ({"order": "bn_after_addition", "norm": "none"}, "needs norm: batch"),
        ({"block": "resnest", "order": "full_preact"}, "block 'resnest' is defined in the original order only"),
        ({"block": "sk_basic", "norm": "none"}, "block 'sk_basic' holds batch-norms"),
        ({"groups": 4}, "block 'basic' has no groups"),
        ({"stride_in": "1x1"}, "needs block: bottleneck"),
        ({"splits": 4}, "needs block: res2net"),
        ({"block": "res2net", "dropout": 0.1}, "no dropout and no blur"),
        ({"attention": "cbam", "norm": "none"}, "attention 'cbam' holds batch-norms"),
        ({"block": "bottleneck", "width_per_group": 1}, "width_per_group=1 leaves no channel of widths=\\(4,"),
        ({"stem": "deep", "stem_width": 1}, "stem 'deep' of 1 channels"),
        ({"block": "sk_basic", "stem_width": 15}, "stem_width=15 must be even"),
        ({"zero_init_residual": "false"}, "zero_init_residual='false': must be True or False"),
        ({"stem": "mine", "depth": 20}, "depth=20: for stem 'mine' give depths"),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_choices(wrong, words):
    with pytest.raises(SgResnetsError, match=words) as error:
        ResNet(SMALL.override(**wrong))
    assert "\n" not in str(error.value)


def test_an_imagenet_depth_that_does_not_exist_names_those_that_do():
    with pytest.raises(SgResnetsError, match="these depths: 14, 26, 50, 101, 152, 200"):
        ZOO["resnet50_v1b"].config.override(depth=56)
