"""What a residual network is made of, as data: no torch here, so that tables and commands that only list stay fast.

He et al., 'Deep Residual Learning for Image Recognition' (2015): table 1 for the ImageNet depths, section 4.2 for the
CIFAR networks of 6n + 2 layers. He et al., 'Identity Mappings in Deep Residual Networks' (2016), figure 4: the orders.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from sg_resnets.models.registry import BLOCKS
from sg_resnets.utils.checks import BELOW_ONE, BOOLEAN, FINITE, integer
from sg_resnets.utils.errors import SgResnetsError, choices

TWO_LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
THREE_LAYERS = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
# He et al. 2015, table 1: blocks in each of the four stages; 200 layers: He et al. 2016; 14 and 26: timm.
IMAGENET_DEPTHS = {
    "basic": TWO_LAYERS,
    "sk_basic": TWO_LAYERS,
    "bottleneck": THREE_LAYERS,
    "sk_bottleneck": THREE_LAYERS,
    "res2net": THREE_LAYERS,
    "resnest": THREE_LAYERS,
}
CIFAR_WIDTHS = (16, 32, 64)
IMAGENET_WIDTHS = (64, 128, 256, 512)


class Order(NamedTuple):
    """In which order a residual unit computes: each weight layer, the last one, after the addition, after all units."""

    layer: str
    last: str
    after_addition: str
    end: str


# He et al. 2016, figure 4 (a) to (e).
ORDERS = {
    "original": Order("conv bn relu", "conv bn", "relu", ""),
    "bn_after_addition": Order("conv bn relu", "conv", "bn relu", ""),
    "relu_before_addition": Order("conv bn relu", "conv bn relu", "", ""),
    "relu_only_preact": Order("relu conv bn", "relu conv bn", "", "relu"),
    "full_preact": Order("bn relu conv", "bn relu conv", "", "bn relu"),
}
_VALID = {
    "order": tuple(ORDERS),
    "addition": ("plain", "scaled", "exclusive_gate", "shortcut_gate", "dropout"),
    "scaling": ("none", "rezero", "skipinit", "fixup", "layerscale"),
    "norm": ("batch", "none"),
    "activation": ("relu", "silu", "gelu"),
    "subsample": ("stride", "blur", "average"),
    "stride_in": ("1x1", "3x3"),
}
_CHECKS = {
    **dict.fromkeys(("in_channels", "num_classes", "reduction", "groups", "width_per_group", "splits"), integer(1)),
    **dict.fromkeys(("drop_path", "dropout", "head_dropout"), BELOW_ONE),
    "gate_bias": FINITE,
    "zero_init_residual": BOOLEAN,
}
# What may differ between networks that share weights: head and stem are adapted, the others matter in training alone.
_ADAPTED = ("in_channels", "num_classes", "drop_path", "dropout", "head_dropout", "zero_init_residual")
_NO_BOTTLENECK = ("basic", "sk_basic")
STARTS_AT_ZERO = ("rezero", "skipinit", "fixup")  # scalings with which a block starts as its shortcut
_ONE_ORDER = ("sk_basic", "sk_bottleneck", "res2net", "resnest")


@dataclass(frozen=True)
class ResNetConfig:
    """One residual network, or with `shortcut="none"` its plain twin.

    Attributes:
        depths: residual blocks in each stage.
        widths: channels in each stage, before the block's expansion.
        stem: a name of `STEMS`: "cifar" (one 3x3 convolution), "strided" (the same, of stride 2), "imagenet" (7x7 of
            stride 2, then max-pooling), "deep" and "tiered" (three 3x3), "rs" (deep, a strided convolution in the
            place of the pooling), "pooled" (2x2, 3x3, then max-pooling).
        stem_width: channels out of the stem; None is `widths[0]`.
        block: a name of `BLOCKS`: "basic", "bottleneck", "sk_basic", "sk_bottleneck", "res2net", "resnest",
            "pooled" (one convolution beside the shortcut), or one added with `@register_block`.
        order: where batch-norm and activation stand: a name of `ORDERS` (He et al. 2016, figure 4).
        shortcut: a name of `SHORTCUTS`: "A" (identity, zero-padded where the shape changes), "B" (projection where
            the shape changes), "C" (projection everywhere), "D" (B, average-pooled before), "none" (a plain net).
        addition: how branch and shortcut are joined: "plain", or one of the forms that He et al. 2016, table 1, found
            to be worse: "scaled" (0.5 each), "exclusive_gate", "shortcut_gate", "dropout" (0.5, on the shortcut).
        gate_bias: b_g of the two gates at the start (section 3.1; -6: the shortcut starts open).
        attention: a name of `ATTENTIONS`, at the end of each branch: "none", "se", "eca", "cbam".
        reduction: channels over squeezed channels in "se" and "cbam" (r of Hu et al. 2018).
        scaling: what multiplies the branch: "rezero", "layerscale", or, without batch-norm, "skipinit", "fixup".
        norm: "batch" or "none" (convolutions then have biases).
        activation: "relu", "silu" or "gelu".
        subsample: what halves the resolution: "stride" (of the convolution), or after it "blur" (Zhang 2019; the
            stem's pooling too) or "average" (3x3 average-pooling, ResNeSt's).
        groups, width_per_group: as in torchvision: the bottleneck's inner width is channels * width_per_group / 64
            * groups (Xie et al. 2017; wide ResNets: width_per_group=128).
        splits: Res2Net's scale s, or ResNeSt's radix.
        stride_in: which convolution of a bottleneck takes the stride: "1x1" (the paper) or "3x3" (torchvision).
        drop_path: probability with which the last block drops its residual branch; earlier blocks drop linearly less
            (Huang et al., 'Deep Networks with Stochastic Depth', 2016, equation 4).
        dropout: probability before each but the first weight layer of a branch (Zagoruyko & Komodakis 2016, 2.3).
        head_dropout: probability before the classifier.
        zero_init_residual: whether the last batch-norm of each branch (in pre-activation: its last convolution)
            starts at zero (Goyal et al. 2017, section 5.1).
        in_channels: channels of the input image.
        num_classes: outputs of the classifier.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...] = CIFAR_WIDTHS
    stem: str = "cifar"
    stem_width: int | None = None
    block: str = "basic"
    order: str = "original"
    shortcut: str = "B"
    addition: str = "plain"
    gate_bias: float = -6.0
    attention: str = "none"
    reduction: int = 16
    scaling: str = "none"
    norm: str = "batch"
    activation: str = "relu"
    subsample: str = "stride"
    groups: int = 1
    width_per_group: int = 64
    splits: int = 1
    stride_in: str = "3x3"
    drop_path: float = 0.0
    dropout: float = 0.0
    head_dropout: float = 0.0
    zero_init_residual: bool = False
    in_channels: int = 3
    num_classes: int = 10

    def __post_init__(self) -> None:
        for name in ("depths", "widths"):
            value = getattr(self, name)
            if not isinstance(value, Sequence) or isinstance(value, str) or not value:
                raise SgResnetsError(f"{name}={value!r}: must be a list with an integer for each stage")
            object.__setattr__(self, name, tuple(integer(1)(f"{name}[{k}]", n) for k, n in enumerate(value)))
        if len(self.depths) != len(self.widths):
            raise SgResnetsError(f"depths={self.depths} and widths={self.widths} must have one entry for each stage")
        for name, valid in _VALID.items():
            value = getattr(self, name)
            if value not in valid:
                raise SgResnetsError(f"unknown {name} '{value}': {choices(str(value), valid)}")
        for name, check in _CHECKS.items():
            check(name, getattr(self, name))
        if self.stem_width is not None:
            integer(1)("stem_width", self.stem_width)
        for reason, holds in _RULES.items():
            if holds(self):
                raise SgResnetsError(reason.format(c=self))

    @property
    def branch_of_2015(self) -> bool:
        """Whether the branch is that of He et al. 2015, figure 5: conv, bn, relu, conv, bn, and nothing else."""
        return self.order == "original" and not self.dropout and not self.pools and self.scaling != "fixup"

    @property
    def pools(self) -> bool:
        """Whether pooling after the convolution halves the resolution, not the convolution's stride."""
        return self.subsample != "stride"

    def inner_width(self, channels: int) -> int:
        """Return the channels inside a bottleneck (Xie et al., 'Aggregated Residual Transformations', table 1)."""
        return channels * self.width_per_group // 64 * self.groups

    @property
    def stem_channels(self) -> int:
        """Channels out of the stem."""
        return self.stem_width or self.widths[0]

    def differences(self, other: "ResNetConfig") -> list[str]:
        """Return the names of the fields in which two networks differ that compute something else with the same
        weights, or cannot have the same weights; head, stem's input, and what matters in training alone are left
        out."""
        return [
            field.name
            for field in fields(self)
            if field.name not in _ADAPTED and getattr(self, field.name) != getattr(other, field.name)
        ]

    def override(self, **arch_params: Any) -> "ResNetConfig":
        """Return this configuration with the recipe's `arch_params` put over it; `depth` (layers) is turned into
        `depths`.

        Raises:
            SgResnetsError: an unknown key or value, both depth and depths, or a depth that the kind of net does not
                have.
        """
        defaults = {field.name: field.default for field in fields(self)}
        depth = arch_params.pop("depth", None)
        for key in arch_params:
            if key not in defaults:
                raise SgResnetsError(f"arch_params has no '{key}': {choices(key, [*defaults, 'depth'], limit=30)}")
        values = dict(arch_params)
        for key in [key for key, value in arch_params.items() if value is None and defaults[key] is not None]:
            if key not in ("num_classes", "in_channels"):  # which SuperGradients gives, known or not
                raise SgResnetsError(f"{key}=null: give a value, or leave it out for {getattr(self, key)}")
            del values[key]
        if depth is not None:
            integer(1)("depth", depth)
            if "depths" in values:
                raise SgResnetsError(f"depth={depth} and depths={list(values['depths'])}: give one of the two")
            values["depths"] = blocks_for_depth(depth, values.get("stem", self.stem), values.get("block", self.block))
        return replace(self, **values)


# Combinations that cannot be meant, by what a message says of them.
_RULES: dict[str, Callable[[ResNetConfig], Any]] = {
    "drop_path needs a shortcut: a plain net without its branch passes nothing on": (
        lambda c: c.shortcut == "none" and c.drop_path
    ),
    "scaling '{c.scaling}' needs a shortcut: it starts the branch near zero, and a plain net has nothing else": (
        lambda c: c.shortcut == "none" and c.scaling != "none"
    ),
    "zero_init_residual needs a shortcut: a plain net would start, and stay, at zero": (
        lambda c: c.shortcut == "none" and c.zero_init_residual
    ),
    "addition '{c.addition}' needs a shortcut to join": lambda c: c.shortcut == "none" and c.addition != "plain",
    "scaling '{c.scaling}' takes the place of batch-norm: set norm: none with it": (
        lambda c: c.scaling in ("skipinit", "fixup") and c.norm == "batch"
    ),
    "fixup is defined for the original order only": lambda c: c.scaling == "fixup" and c.order != "original",
    "zero_init_residual with scaling '{c.scaling}': two zeros in a row never learn; choose one": (
        lambda c: c.zero_init_residual and c.scaling in STARTS_AT_ZERO
    ),
    "order 'bn_after_addition' needs norm: batch": lambda c: c.order == "bn_after_addition" and c.norm != "batch",
    "block '{c.block}' is defined in the original order only": (
        lambda c: c.block in _ONE_ORDER and c.order != "original"
    ),
    "block '{c.block}' holds batch-norms: norm must be batch": lambda c: c.block in _ONE_ORDER and c.norm != "batch",
    "block '{c.block}' has no groups: groups and width_per_group need a bottleneck": (
        lambda c: c.block in _NO_BOTTLENECK and (c.groups, c.width_per_group) != (1, 64)
    ),
    "stride_in '1x1' needs block: bottleneck, the only one with a choice": (
        lambda c: c.stride_in == "1x1" and c.block != "bottleneck" and c.block in IMAGENET_DEPTHS
    ),
    "splits={c.splits} needs block: res2net (its scale) or resnest (its radix)": (
        lambda c: c.splits != 1 and c.block in IMAGENET_DEPTHS and c.block not in ("res2net", "resnest")
    ),
    "width_per_group={c.width_per_group} leaves no channel of widths={c.widths} in the bottleneck": (
        lambda c: min(c.widths) * c.width_per_group < 64 and c.block in {*IMAGENET_DEPTHS} - {*_NO_BOTTLENECK}
    ),
    "stem '{c.stem}' of {c.stem_channels} channels: its first layers have fewer, and need one at least": (
        lambda c: c.stem in ("deep", "tiered", "rs") and c.stem_channels < 3
    ),
    "block 'sk_basic' halves its channels: widths={c.widths} and stem_width={c.stem_channels} must be even": (
        lambda c: c.block == "sk_basic" and any(width % 2 for width in (c.stem_channels, *c.widths))
    ),
    "block 'sk_bottleneck' halves its inner channels: width_per_group / 64 of widths={c.widths} must be even": (
        lambda c: c.block == "sk_bottleneck" and c.groups == 1 and any(c.inner_width(width) % 2 for width in c.widths)
    ),
    "block 'resnest': splits={c.splits} must divide width_per_group / 64 of widths={c.widths}": (
        lambda c: c.block == "resnest" and any(c.inner_width(width) // c.groups % c.splits for width in c.widths)
    ),
    "block 'resnest': groups={c.groups} must divide its attention's channels, a quarter of the inner, 32 at least": (
        lambda c: (
            c.block == "resnest" and any(max(c.inner_width(width) * c.splits // 4, 32) % c.groups for width in c.widths)
        )
    ),
    "reduction={c.reduction} needs attention: se or cbam": (
        lambda c: c.attention in ("none", "eca") and c.reduction != ResNetConfig.reduction
    ),
    "gate_bias={c.gate_bias} needs addition: exclusive_gate or shortcut_gate": (
        lambda c: "gate" not in c.addition and c.gate_bias != ResNetConfig.gate_bias
    ),
    "attention 'cbam' holds batch-norms: norm must be batch": lambda c: c.attention == "cbam" and c.norm != "batch",
    "block 'res2net' has no dropout and no blur": lambda c: c.block == "res2net" and (c.dropout or c.pools),
}


def blocks_for_depth(depth: int, stem: str, block: str) -> tuple[int, ...]:
    """Blocks in each stage of a net of `depth` weighted layers. A user's block counts as three where it has an
    expansion, as a bottleneck has, and as two otherwise.

    Raises:
        SgResnetsError: no net of this kind has this depth, and the message names the nearest ones; or no such block.
    """
    table = IMAGENET_DEPTHS.get(block, {})
    if block == "pooled":
        raise SgResnetsError(f"depth={depth}: for block 'pooled' give depths, the blocks in each stage")
    if stem == "cifar":
        layers = 9 if table is THREE_LAYERS else 6  # three stages of n blocks of three or two layers, and two more
        if not table:
            layers = 9 if BLOCKS[block].expansion > 1 else 6
        if depth <= 2 or (depth - 2) % layers:
            below = max((depth - 2) // layers, 1) * layers + 2
            raise SgResnetsError(
                f"depth {depth}: a CIFAR net of {block} blocks has {layers}n + 2 layers; "
                f"nearest: {below} and {below + layers}"
            )
        return ((depth - 2) // layers,) * 3
    if stem not in ("imagenet", "deep", "tiered", "rs"):
        raise SgResnetsError(f"depth={depth}: for stem '{stem}' give depths, the blocks in each stage")
    if depth not in table:
        valid = ", ".join(map(str, table)) or "none: give `depths`, the blocks in each stage"
        raise SgResnetsError(f"depth {depth}: an ImageNet net of {block} blocks has these depths: {valid}")
    return table[depth]
