"""`sg-resnets summary` and `draw`: figures, receptive fields and the picture of a network."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from sg_resnets.models.picture import draw_blocks
from sg_resnets.models.zoo import ZOO
from sg_resnets.utils.errors import SgResnetsError
from support import SMALL


def test_summary_prints_shapes_figures_and_receptive_fields(command):
    code, out, _ = command("summary", "resnet50_v1")
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert code == 0 and lines["layer4.2"][1:] == ["Bottleneck", "2048x7x7", "4,462,592", "218,365,952", "483"]
    assert lines["in"][2] == "25,557,032" and "Pretrained weights: none" in out
    assert int(lines["in"][3].replace(",", "")) == pytest.approx(ZOO["resnet50_v1"].macs, rel=1e-3)
    _, out, _ = command("summary", "custom_resnet", "depth=11", "block=bottleneck", "attention=cbam", "--size", "64")
    assert "64x64 image" in out and "256x16x16" in out


@pytest.mark.parametrize("block, depth", [("basic", 8), ("bottleneck", 11), ("res2net", 11), ("sk_bottleneck", 11)])
def test_the_receptive_field_is_what_a_pixel_of_the_last_map_really_sees(block, depth):
    """Against the gradient of one pixel, with positive weights so that nothing cancels."""
    from sg_resnets.models import ResNet
    from sg_resnets.models.summary import summarise

    splits = {"splits": 4} if block == "res2net" else {}
    config = ZOO["resnet20_cifar"].config.override(block=block, depth=depth, widths=[8, 16, 32], **splits)
    network, side = ResNet(config).eval(), 96
    for parameter in network.parameters():
        parameter.data.abs_()
    images = torch.rand(1, 3, side, side, requires_grad=True)
    body = network.layer3(network.layer2(network.layer1(network.relu(network.bn1(network.conv1(images))))))
    middle = body.shape[-1] // 2
    body[0, :, middle, middle].sum().backward()
    rows = images.grad[0].abs().sum((0, 2)).nonzero().flatten()
    seen = (rows.max() - rows.min() + 1).item()
    stated = summarise(config, side)[-3].receptive_field
    for attention in ("se", "cbam"):
        assert summarise(config.override(attention=attention), side)[-3].receptive_field == stated
    if block == "sk_bottleneck":  # its weights see the whole map; what its kernels see is left
        assert seen == side and stated == 3 + 4 + 4 + 8
    else:
        assert seen == stated


def test_the_receptive_field_grows_by_pooling_and_by_the_convolutions_before_the_split():
    from sg_resnets.models import ResNet
    from sg_resnets.models.summary import summarise

    config = SMALL.override(stem="pooled", block="pooled", depths=[1, 1], widths=[8, 8])
    network = ResNet(config).eval()
    for parameter in network.parameters():
        parameter.data.abs_()
    images = torch.rand(1, 3, 60, 60, requires_grad=True)
    body = network.layer2(network.layer1(network.relu(network.bn1(network.maxpool(network.conv1(images))))))
    seen = 0
    for row in (6, 7, 8):  # max-pooling hands on one pixel in four: which one, differs
        images.grad = None
        body[0, :, row, 7].sum().backward(retain_graph=True)
        rows = images.grad[0].abs().sum((0, 2)).nonzero().flatten()
        seen = max(seen, (rows.max() - rows.min() + 1).item())
    stated = summarise(config, 60)[-3].receptive_field
    # 2x2, 3x3 and pooling; 3x3 of stride 2; 3x3 and pooling; 3x3 of stride 4
    assert stated == 2 + 2 + 1 + 4 + 4 + 2 + 8 and seen <= stated


@pytest.mark.parametrize(
    "args",
    [
        ["resnet50_v1d"],
        ["plain20_cifar"],
        ["preact_resnet20_cifar"],
        ["res2net50_26w_4s"],
        ["skresnet18"],
        ["custom_resnet", "stem=pooled", "block=pooled", "depths=[1,1,1]"],
        ["custom_resnet", "addition=exclusive_gate", "depth=8", "scaling=layerscale", "order=bn_after_addition"],
    ],
    ids=lambda args: "-".join(args[:2]),
)
def test_draw_makes_a_picture_of_the_network_and_its_blocks(command, tmp_path, args):
    for suffix in (".png", ".svg"):
        path = tmp_path / f"net{suffix}"
        assert command("draw", *args, "--output", path)[:2] == (0, f"{path}\n")
    words = path.read_text()
    assert all(f"<!-- {word} -->" in words for word in ("image", "stem", "avgpool, fc", "x", "y")), words[:500]
    assert ("<!-- identity -->" in words) is ("plain" not in args[0])
    assert ("<!-- + -->" in words) is (args[0] != "plain20_cifar" and "addition=exclusive_gate" not in args)
    with Image.open(tmp_path / "net.png") as picture:
        assert min(picture.size) > 500


def test_blocks_of_several_networks_are_drawn_side_by_side(tmp_path):
    configs = {"kept": SMALL, "gated": replace(SMALL, addition="exclusive_gate"), "A": replace(SMALL, shortcut="A")}
    for changing, words in ((False, "g F + (1 - g) x"), (True, "zero channels")):
        draw_blocks(configs, columns=2, changing=changing).savefig(tmp_path / "blocks.svg")
        drawn = (tmp_path / "blocks.svg").read_text()
        assert all(f"<!-- {word} -->" in drawn for word in ("kept", "gated", "A")) and words in drawn
        assert ("1x1 conv, 8, /2" in drawn) is changing


def test_an_image_is_too_small_only_where_a_larger_one_works(monkeypatch):
    from sg_resnets.models import BLOCKS, ResidualBlock
    from sg_resnets.models.summary import summarise

    class Wrong(ResidualBlock):
        def __init__(self, in_channels, channels, stride, config):
            super().__init__()
            self.conv = torch.nn.Conv2d(in_channels, channels + 1, 3, stride, 1)

        def residual(self, x):
            return self.conv(x)

    monkeypatch.setitem(BLOCKS, "wrong", Wrong)
    small = ZOO["resnet20_cifar"].config
    with pytest.raises(SgResnetsError, match="size=1: too small an image"):
        summarise(small.override(subsample="blur"), 1)
    with pytest.raises(RuntimeError, match=r"broadcast.*16, 32, 32"):
        summarise(small.override(block="wrong"), 32)
