"""What a residual network is made of, as data: no torch here, so that tables and commands that only list stay fast.

He et al., 'Deep Residual Learning for Image Recognition' (2015): table 1 for the ImageNet depths, section 4.2 for the
CIFAR networks of 6n + 2 layers.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from sg_resnets.errors import SgResnetsError, choices

# He et al. 2015, table 1: blocks in each of the four stages.
IMAGENET_DEPTHS = {
    "basic": {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)},
    "bottleneck": {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)},
}
CIFAR_WIDTHS = (16, 32, 64)
IMAGENET_WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class ResNetConfig:
    """One residual network, or with `shortcut="none"` its plain twin.

    Attributes:
        depths: residual blocks in each stage.
        widths: channels in each stage, before the block's expansion; the stem has `widths[0]`.
        stem: a name of `STEMS`: "cifar" (one 3x3 convolution) or "imagenet" (7x7 of stride 2, then max-pooling).
        block: a name of `BLOCKS`: "basic", "bottleneck", or one added with `@register_block`.
        shortcut: a name of `SHORTCUTS`: "A" (identity, zero-padded where the shape changes), "B" (projection where
            the shape changes), "C" (projection everywhere), "none" (no addition: a plain net).
        stride_in: which convolution of a bottleneck takes the stride: "1x1" (the paper) or "3x3" (torchvision).
        drop_path: probability with which the last block drops its residual branch; earlier blocks drop linearly less
            (Huang et al., 'Deep Networks with Stochastic Depth', 2016, equation 4).
        zero_init_residual: whether the last batch-norm of each branch starts at zero (Goyal et al. 2017, section 5.1).
        in_channels: channels of the input image.
        num_classes: outputs of the classifier.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...] = CIFAR_WIDTHS
    stem: str = "cifar"
    block: str = "basic"
    shortcut: str = "B"
    stride_in: str = "3x3"
    drop_path: float = 0.0
    zero_init_residual: bool = False
    in_channels: int = 3
    num_classes: int = 10

    def __post_init__(self) -> None:
        for name in ("depths", "widths"):
            numbers = tuple(getattr(self, name))
            object.__setattr__(self, name, numbers)
            if not numbers or not all(isinstance(number, int) and number > 0 for number in numbers):
                raise SgResnetsError(
                    f"{name}={getattr(self, name)}: needs at least one stage, and whole numbers above 0"
                )
        if len(self.depths) != len(self.widths):
            raise SgResnetsError(f"depths={self.depths} and widths={self.widths} must have one entry for each stage")
        if self.stride_in not in ("1x1", "3x3"):
            raise SgResnetsError(f"stride_in={self.stride_in!r}: valid are '1x1' (the paper) and '3x3' (torchvision)")
        if not isinstance(self.drop_path, int | float) or not 0.0 <= self.drop_path < 1.0:
            raise SgResnetsError(f"drop_path={self.drop_path}: must be a number of at least 0 and below 1")
        if self.drop_path and self.shortcut == "none":
            raise SgResnetsError("drop_path needs a shortcut: a plain net without its branch passes nothing on")
        for name in ("in_channels", "num_classes"):
            number = getattr(self, name)
            if not isinstance(number, int) or number < 1:
                raise SgResnetsError(f"{name}={number!r}: must be a whole number from 1 on")

    def override(self, **arch_params: Any) -> "ResNetConfig":
        """This configuration with the recipe's `arch_params` put over it; `depth` (layers) is turned into `depths`.

        Raises:
            SgResnetsError: an unknown key, or a depth that the kind of net does not have.
        """
        names = [field.name for field in fields(self)]
        depth = arch_params.pop("depth", None)
        for key in arch_params:
            if key not in names:
                raise SgResnetsError(f"arch_params has no '{key}': {choices(key, [*names, 'depth'], limit=20)}")
        config = replace(self, **{key: value for key, value in arch_params.items() if value is not None})
        if depth is not None:
            if not isinstance(depth, int):
                raise SgResnetsError(f"depth={depth!r}: must be a whole number of layers, such as 20")
            config = replace(config, depths=blocks_for_depth(depth, config.stem, config.block))
        return config


def blocks_for_depth(depth: int, stem: str, block: str) -> tuple[int, ...]:
    """Blocks in each stage of a net of `depth` weighted layers.

    Raises:
        SgResnetsError: no net of this kind has this depth; the message names the nearest ones.
    """
    if stem == "cifar":
        layers = 9 if block == "bottleneck" else 6  # three stages of n blocks of three or two layers, and two more
        if depth <= 2 or (depth - 2) % layers:
            below = max((depth - 2) // layers, 1) * layers + 2
            raise SgResnetsError(
                f"depth {depth}: a CIFAR net of {block} blocks has {layers}n + 2 layers; "
                f"nearest: {below} and {below + layers}"
            )
        return ((depth - 2) // layers,) * 3
    table = IMAGENET_DEPTHS.get(block, {})
    if depth not in table:
        valid = ", ".join(map(str, table)) or "none: give `depths`, the blocks in each stage"
        raise SgResnetsError(f"depth {depth}: an ImageNet net of {block} blocks has these depths: {valid}")
    return table[depth]
