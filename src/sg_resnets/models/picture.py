"""A picture of a network: its stages from left to right, and below them the block that keeps the shape and the one that
changes it, drawn from the modules that really run; and blocks of several networks side by side."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sg_resnets.models.blocks import ResidualBlock, named_blocks
from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.resnet import ResNet
from sg_resnets.models.summary import summarise
from sg_resnets.utils.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"conv": "#A6CEE3", "bn": "#D9D9D9", "act": "#FDD9A0", "shortcut": "#B2DF8A", "other": "#E2C7EA"}
_JOINED = {
    "ScaledAddition": "0.5 F + 0.5 x",
    "ExclusiveGate": "g F + (1 - g) x",
    "ShortcutGate": "F + (1 - g) x",
    "DropoutShortcut": "F + dropout(x)",
}
_WORDS = {
    "BatchNorm2d": "batch-norm",
    "SqueezeExcitation": "squeeze-excitation",
    "EfficientChannelAttention": "channel attention",
    "ConvolutionalBlockAttention": "channel + spatial attention",
    "SelectiveKernel": "3x3 | 5x5, selected",
    "SplitAttention": "3x3, split attention",
    "StochasticDepth": "drop (training)",
    "BlurPool": "blur, /2",
    "ZeroPad": "every 2nd pixel,\nzero channels",
    "Scale": "learned scale",
}


def draw_network(config: ResNetConfig, name: str, size: int) -> "Figure":
    """Return a figure of the network `name` for images of `size` pixels square; needs no display."""
    with torch.device("meta"):
        network = ResNet(config)
    layers = {layer.name: layer for layer in summarise(config, size)}
    keeps, changes = _two_blocks(network)
    height = 2.6 + 0.34 * max(len(_branch(block)) + 5 for _, block in (keeps, changes))
    figure = new_figure(9.5, height)
    subfigures: Any = figure.subfigures(2, 1, height_ratios=(2.0, height - 2.0))
    top, below = subfigures
    total = sum(layer.parameters for layer in layers.values())
    macs = sum(layer.macs for layer in layers.values())
    figure.suptitle(f"{name}: {total:,} parameters, {macs / 1e6:,.1f} million MACs at {size}x{size}")
    _draw_stages(top.subplots(), network, layers, size)
    for axes, (where, block), what in zip(
        below.subplots(1, 2), (keeps, changes), ("keeps the shape", "changes the shape"), strict=True
    ):
        _draw_block(axes, block, f"{where}: a block that {what}" + ("" if block.steps else " (its parts)"))
    return figure


def draw_blocks(configs: Mapping[str, ResNetConfig], columns: int = 3, changing: bool = False) -> "Figure":
    """Return a figure of one block of each of these networks, its name above: the block that keeps the shape, or the
    one that is `changing` it."""
    rows = -(-len(configs) // columns)
    figure = new_figure(3.1 * columns, 3.7 * rows)
    all_axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (name, config) in zip(all_axes, configs.items(), strict=False):
        with torch.device("meta"):
            _, block = _two_blocks(ResNet(config))[changing]
        _draw_block(axes, block, name)
    for axes in all_axes[len(configs) :]:
        axes.axis("off")
    return figure


def _two_blocks(network: ResNet) -> tuple[tuple[str, ResidualBlock], tuple[str, ResidualBlock]]:
    blocks = list(named_blocks(network).items())
    changing = [block for block in blocks if block[0].endswith(".0") and not block[0].startswith("layer1.")]
    keeping = [block for block in blocks if not block[0].endswith(".0")] or blocks[:1]
    return keeping[0], (changing or blocks[:1])[0]


def _draw_stages(axes: Any, network: ResNet, layers: dict, size: int) -> None:
    """One box for the image, the stem, each stage, the classifier; the taller, the more pixels."""
    stem = [layer for key, layer in layers.items() if "." not in key and not key.endswith("_end")]
    stem = stem[: next(i for i, layer in enumerate(stem) if layer.name == "avgpool")]
    boxes = [("image", (network.config.in_channels, size, size), "other"), ("stem", stem[-1].shape, "conv")]
    for i, depth in enumerate(network.config.depths, 1):
        boxes.append((f"layer{i}\n{depth} x {network.config.block}", layers[f"layer{i}.0"].shape, "shortcut"))
    boxes.append(("avgpool, fc", (network.config.num_classes,), "act"))
    for x, (label, shape, colour) in enumerate(boxes):
        side = shape[1] / size if len(shape) == 3 else 0.02
        height = 0.25 + 0.75 * side**0.5
        _box(axes, x, 0.5, 0.62, height, label, _COLOURS[colour])
        axes.text(x, 0.5 - height / 2 - 0.1, " x ".join(map(str, shape)), ha="center", va="top", fontsize=7)
        if x:
            axes.annotate("", (x - 0.31, 0.5), (x - 0.69, 0.5), arrowprops={"arrowstyle": "->"})
    axes.set(xlim=(-0.5, len(boxes) - 0.5), ylim=(-0.3, 1.05))
    axes.axis("off")


def _branch(block: ResidualBlock) -> list[nn.Module]:
    """What the residual branch is made of, attention and scaling included."""
    parts = (*block.branch_parts(), block.se, block.scale, block.drop_path)
    return [part for part in parts if not isinstance(part, nn.Identity)]


def _label(module: nn.Module) -> tuple[str, str]:
    """(words, colour) of a module."""
    if isinstance(module, nn.Conv2d):
        words = f"{module.kernel_size[0]}x{module.kernel_size[0]} conv, {module.out_channels}"
        words += f", {module.groups} groups" if module.groups > 1 else ""
        return words + (f", /{module.stride[0]}" if module.stride[0] > 1 else ""), "conv"
    if isinstance(module, nn.Sequential):
        return "\n".join(_label(layer)[0] for layer in module if not isinstance(layer, nn.Identity)), "shortcut"
    if isinstance(module, nn.AvgPool2d | nn.MaxPool2d):
        return f"{'max' if isinstance(module, nn.MaxPool2d) else 'average'} pool, /{module.stride}", "other"
    if isinstance(module, nn.ReLU | nn.SiLU | nn.GELU):
        return type(module).__name__.lower(), "act"
    if isinstance(module, nn.ModuleList):
        return f"{len(module)} x {_label(module[0])[0]}", _label(module[0])[1]
    kind = type(module).__name__
    return _WORDS.get(kind, kind), "bn" if isinstance(module, nn.BatchNorm2d) else "other"


def _draw_block(axes: Any, block: ResidualBlock, title: str) -> None:
    axes.set_title(title, fontsize=9)
    split = [getattr(block, name) for name in getattr(block, "before_split", ())]
    after = [part for part in (block.bn_after, block.relu_after) if not isinstance(part, nn.Identity)]
    left, right = 0.36, 0.82
    axes.text(left, 0.0, "x", ha="center", va="center", fontsize=9, style="italic")

    def arrow(y: float, above: float = 0.66) -> None:
        axes.annotate("", (left, y + 0.34), (left, y + above), arrowprops={"arrowstyle": "->", "lw": 0.8})

    def column(modules: list[nn.Module], y: float) -> float:
        for module in modules:
            words, colour = _label(module)
            y -= 1
            arrow(y, 0.75 if y == -1 else 0.66)
            _box(axes, left, y, 0.5, 0.68, words, _COLOURS[colour])
        return y

    y = column(split, 0.0)
    if split:  # room for the shortcut to leave
        axes.plot([left, left], [y - 0.34, y - 0.8], color="black", lw=0.8)
    start = y - 0.5 if split else 0.0
    y = column(_branch(block), y - 0.45 if split else y)
    if block.downsample is not None:
        y -= 1
        middle = (start + y) / 2
        path = [left if split else left + 0.03, right, right], [start, start, y]
        axes.plot(*path, color="black", lw=0.8, zorder=0)
        joined = _JOINED.get(type(block.addition).__name__)
        edge = left + (0.2 if joined else 0.035)
        axes.annotate("", (edge, y), (right, y), arrowprops={"arrowstyle": "->", "lw": 0.8})
        if not isinstance(block.downsample, nn.Identity):
            words, _ = _label(block.downsample)
            _box(axes, right, middle, 0.34, 0.5 + 0.42 * (words.count("\n") + 1), words, _COLOURS["shortcut"])
        else:
            axes.text(right + 0.02, middle, "identity", fontsize=8, rotation=90, va="center")
        arrow(y)
        if joined:
            _box(axes, left, y, 0.4, 0.6, joined, _COLOURS["shortcut"])
        else:
            axes.plot([left], [y], marker="o", markersize=13, color="white", markeredgecolor="black")
            axes.text(left, y - 0.02, "+", ha="center", va="center", fontsize=11)
    y = column(after, y)
    arrow(y - 1)
    axes.text(left, y - 1, "y", ha="center", va="center", fontsize=9, style="italic")
    axes.set(xlim=(0, 1.05), ylim=(y - 1.3, 0.4))
    axes.axis("off")


def _box(axes: Any, x: float, y: float, width: float, height: float, words: str, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.03"
    corner = (x - width / 2, y - height / 2)
    axes.add_patch(FancyBboxPatch(corner, width, height, style, facecolor=colour, edgecolor="#555555", lw=0.7))
    axes.text(x, y, words, ha="center", va="center", fontsize=7.5)
