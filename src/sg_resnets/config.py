"""What a residual network is made of, as data: no torch here, so that tables and commands that only list stay fast.

He et al., 'Deep Residual Learning for Image Recognition' (2015): table 1 for the ImageNet depths, section 4.2 for the
CIFAR networks of 6n + 2 layers. He et al., 'Identity Mappings in Deep Residual Networks' (2016), figure 4: the orders.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from sg_resnets.errors import SgResnetsError, choices, is_number, whole_number

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
_ONE_ORDER = ("sk_basic", "sk_bottleneck", "res2net", "resnest")


@dataclass(frozen=True)
class ResNetConfig:
    """One residual network, or with `shortcut="none"` its plain twin.

    Attributes:
        depths: residual blocks in each stage.
        widths: channels in each stage, before the block's expansion.
        stem: a name of `STEMS`: "cifar" (one 3x3 convolution), "imagenet" (7x7 of stride 2, then max-pooling),
            "deep" and "tiered" (three 3x3), "rs" (deep, a strided convolution in the place of the pooling).
        stem_width: channels out of the stem; None is `widths[0]`.
        block: a name of `BLOCKS`: "basic", "bottleneck", "sk_basic", "sk_bottleneck", "res2net", "resnest", or one
            added with `@register_block`.
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
            given = getattr(self, name)
            if not isinstance(given, Sequence) or isinstance(given, str) or not given:
                raise SgResnetsError(f"{name}={given!r}: must be a list with a whole number for each stage")
            object.__setattr__(self, name, tuple(whole_number(f"{name}[{k}]", n, 1) for k, n in enumerate(given)))
        if len(self.depths) != len(self.widths):
            raise SgResnetsError(f"depths={self.depths} and widths={self.widths} must have one entry for each stage")
        for name, valid in _VALID.items():
            value = getattr(self, name)
            if value not in valid:
                raise SgResnetsError(f"unknown {name} '{value}': {choices(str(value), valid)}")
        for name in ("in_channels", "num_classes", "reduction", "groups", "width_per_group", "splits", "stem_width"):
            if name != "stem_width" or self.stem_width is not None:
                whole_number(name, getattr(self, name), 1)
        if not is_number(self.gate_bias):
            raise SgResnetsError(f"gate_bias={self.gate_bias!r}: must be a number, such as -6.0")
        for name in ("drop_path", "dropout", "head_dropout"):
            number = getattr(self, name)
            if not is_number(number) or not 0.0 <= number < 1.0:
                raise SgResnetsError(f"{name}={number!r}: must be a number of at least 0 and below 1")
        if not isinstance(self.zero_init_residual, bool):
            raise SgResnetsError(f"zero_init_residual={self.zero_init_residual!r}: must be True or False")
        for reason, meaningless in self._meaningless():
            if meaningless:
                raise SgResnetsError(reason)

    def _meaningless(self) -> list[tuple[str, Any]]:
        """Combinations that cannot be meant: (why, true if this is one)."""
        plain, normalised = self.shortcut == "none", self.norm == "batch"
        starts_at_zero = self.scaling in ("rezero", "skipinit", "fixup")
        stem_width, inner = self.stem_width or self.widths[0], min(self.widths) * self.width_per_group // 64
        return [
            ("drop_path needs a shortcut: a plain net without its branch passes nothing on", plain and self.drop_path),
            (
                f"scaling '{self.scaling}' needs a shortcut: it starts the branch at zero or near it, and a plain net "
                "has nothing else",
                plain and self.scaling != "none",
            ),
            (
                "zero_init_residual needs a shortcut: a plain net would start, and stay, at zero",
                plain and self.zero_init_residual,
            ),
            (f"addition '{self.addition}' needs a shortcut to join", plain and self.addition != "plain"),
            (
                f"scaling '{self.scaling}' takes the place of batch-norm: set norm: none with it",
                self.scaling in ("skipinit", "fixup") and normalised,
            ),
            ("fixup is defined for the original order only", self.scaling == "fixup" and self.order != "original"),
            (
                f"zero_init_residual with scaling '{self.scaling}': two zeros in a row never learn; choose one",
                self.zero_init_residual and starts_at_zero,
            ),
            ("order 'bn_after_addition' needs norm: batch", self.order == "bn_after_addition" and not normalised),
            (
                f"block '{self.block}' is defined in the original order only",
                self.block in _ONE_ORDER and self.order != "original",
            ),
            (
                f"block '{self.block}' holds batch-norms: norm must be batch",
                self.block in _ONE_ORDER and not normalised,
            ),
            (
                f"block '{self.block}' has no groups: groups and width_per_group need a bottleneck",
                self.block in ("basic", "sk_basic") and (self.groups, self.width_per_group) != (1, 64),
            ),
            (
                "stride_in '1x1' needs block: bottleneck, the only one with a choice",
                self.stride_in == "1x1" and self.block != "bottleneck" and self.block in IMAGENET_DEPTHS,
            ),
            (
                f"splits={self.splits} needs block: res2net (its scale) or resnest (its radix)",
                self.splits != 1 and self.block in IMAGENET_DEPTHS and self.block not in ("res2net", "resnest"),
            ),
            (
                f"width_per_group={self.width_per_group} leaves no channel of {min(self.widths)} in the bottleneck",
                inner < 1 and self.block in IMAGENET_DEPTHS and self.block not in ("basic", "sk_basic"),
            ),
            (
                f"stem '{self.stem}' of {stem_width} channels: its first layers have fewer, and need one at least",
                self.stem in ("deep", "tiered", "rs") and stem_width < 3,
            ),
            (
                f"block 'sk_basic' halves its channels: widths={self.widths} and stem_width={stem_width} must be even",
                self.block == "sk_basic" and any(width % 2 for width in (stem_width, *self.widths)),
            ),
            ("attention 'cbam' holds batch-norms: norm must be batch", self.attention == "cbam" and not normalised),
            ("block 'res2net' has no dropout and no blur", self.block == "res2net" and (self.dropout or self.pools)),
        ]

    @property
    def pools(self) -> bool:
        """Whether pooling after the convolution halves the resolution, not the convolution's stride."""
        return self.subsample != "stride"

    def override(self, **arch_params: Any) -> "ResNetConfig":
        """This configuration with the recipe's `arch_params` put over it; `depth` (layers) is turned into `depths`.

        Raises:
            SgResnetsError: an unknown key, or a depth that the kind of net does not have.
        """
        names = [field.name for field in fields(self)]
        depth = arch_params.pop("depth", None)
        for key in arch_params:
            if key not in names:
                raise SgResnetsError(f"arch_params has no '{key}': {choices(key, [*names, 'depth'], limit=30)}")
        given = {key: value for key, value in arch_params.items() if value is not None}
        if depth is not None:
            whole_number("depth", depth, 1)
            given["depths"] = blocks_for_depth(depth, given.get("stem", self.stem), given.get("block", self.block))
        return replace(self, **given)


def blocks_for_depth(depth: int, stem: str, block: str) -> tuple[int, ...]:
    """Blocks in each stage of a net of `depth` weighted layers.

    Raises:
        SgResnetsError: no net of this kind has this depth; the message names the nearest ones.
    """
    table = IMAGENET_DEPTHS.get(block, {})
    if stem == "cifar":
        layers = 9 if table is THREE_LAYERS else 6  # three stages of n blocks of three or two layers, and two more
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
