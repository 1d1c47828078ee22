"""Residual blocks: y = relu(F(x) + shortcut(x)) (He et al. 2015, equations 1 and 2, figure 5), in the five orders of
batch-norm, activation and addition of He et al., 'Identity Mappings in Deep Residual Networks' (2016), figure 4.

To add one, subclass `ResidualBlock`, build the branch in `__init__`, return F(x) from `residual`, and decorate it with
`@register_block("name")`; a recipe then asks for it with `arch_params.block: name`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sg_resnets.config import ORDERS, ResNetConfig
from sg_resnets.errors import SgResnetsError
from sg_resnets.nn.attention import ATTENTIONS
from sg_resnets.nn.layers import activation, conv, halve, norm
from sg_resnets.nn.registry import Registry
from sg_resnets.nn.scaling import SCALINGS
from sg_resnets.nn.shortcuts import ADDITIONS, SHORTCUTS

# What `complete` adds to every block, and `relu`, which each may call where it likes.
_SHARED = frozenset(("downsample", "addition", "se", "scale", "drop_path", "bn_after", "relu"))

BLOCKS = Registry("block")
register_block = BLOCKS.register


class ResidualBlock(nn.Module):
    """Maps (N, in_channels, H, W) to (N, channels * expansion, H / stride, W / stride).

    A subclass takes (in_channels, channels, stride, config) and builds its branch; what all blocks share (shortcut,
    attention, scaling, activation) the network adds with `complete`. `downsample` is None in a plain net.
    What a configuration says of the branch itself (order, norm, dropout, groups, subsample) holds where `weight_layers`
    makes the branch; a block of its own making reads from `config` what it wants to follow.
    """

    expansion = 1
    downsample: nn.Module | None
    before_split: Sequence[str] = ()  # names of submodules, in the order they run: a pre-activation that
    steps: Sequence[str] = ()  # the shortcut shares, then the branch, and what follows the addition
    after_addition: Sequence[str] = ("relu",)

    def __init__(self) -> None:
        super().__init__()
        self.relu: nn.Module = nn.ReLU()

    def residual(self, x: Tensor) -> Tensor:
        """F(x), the residual branch."""
        return self._through(self.steps, x)

    def forward(self, x: Tensor) -> Tensor:
        x = self._through(self.before_split, x)
        y = self.drop_path(self.scale(self.se(self.residual(x))))
        if self.downsample is not None:
            y = self.addition(y, self.downsample(x), x)
        return self._through(self.after_addition, y)

    def _through(self, names: Sequence[str], x: Tensor) -> Tensor:
        for name in names:
            x = getattr(self, name)(x)
        return x

    def weight_layers(self, config: ResNetConfig, *layers: Any, strided: int = 0) -> None:
        """Add conv1, bn1, conv2, bn2, ... in the order asked for; layer number `strided` is followed by the pooling
        that takes its stride's place."""
        order = ORDERS[config.order]
        fresh = config.norm == "batch" or not order.layer.startswith("bn")
        self.relu = activation(config, inplace=fresh and not order.layer.startswith("relu"))
        steps = []
        for k, layer in enumerate(layers, 1):
            names = (order.last if k == len(layers) else order.layer).split()
            self.add_module(f"conv{k}", layer)
            if "bn" in names:
                before = names.index("bn") < names.index("conv")
                self.add_module(f"bn{k}", norm(config, layer.in_channels if before else layer.out_channels))
            if config.scaling == "fixup" and k == len(layers):
                layer.multiplier = nn.Parameter(torch.ones(1))
            if config.dropout and k > 1:
                self.dropout = nn.Dropout(config.dropout)
                names.insert(names.index("conv"), "dropout")
            if k == strided and config.pools:
                self.halve = halve(config, layer.out_channels)
                names.append("halve")
            steps += [f"{name}{k}" if name in ("conv", "bn") else name for name in names]
        self.steps = steps

    def complete(self, config: ResNetConfig, in_channels: int, out_channels: int, stride: int, shared: bool) -> None:
        """Add what all blocks have. `shared`: a pre-activation comes before the split, for the shortcut too.

        Raises:
            SgResnetsError: the block has a part of the name of one of these.
        """
        taken = sorted((_SHARED - {"relu"}) & self._modules.keys())
        if taken:
            raise SgResnetsError(
                f"block '{config.block}' has its own {', '.join(taken)}, but the network adds what every block has "
                f"under these names: call it something else"
            )
        if not self.steps:
            self.relu = activation(config, inplace=False)
        self.downsample = SHORTCUTS[config.shortcut](in_channels, out_channels, stride, config)
        self.addition = ADDITIONS[config.addition](in_channels, out_channels, stride, config)
        self.se = ATTENTIONS[config.attention](out_channels, config)
        self.scale = SCALINGS[config.scaling](out_channels, config)
        self.drop_path: nn.Module = nn.Identity()
        if shared and config.order == "full_preact":
            self.before_split, self.steps = self.steps[:2], self.steps[2:]
        names = ORDERS[config.order].after_addition.split()
        if "bn" in names:
            self.bn_after = norm(config, out_channels)
        self.after_addition = ["bn_after" if name == "bn" else name for name in names]

    def branch_parts(self) -> list[nn.Module]:
        """What F(x) is made of, in the order it runs; in a block without `steps`, in which its parts were defined."""
        names = self.steps or [name for name, _ in self.named_children() if name not in _SHARED]
        return [getattr(self, name) for name in names]

    def branch_layers(self, *kinds: type[nn.Module]) -> list[Any]:
        """All modules of these kinds in the branch, its parts' own included."""
        return [module for part in self.branch_parts() for module in part.modules() if isinstance(module, kinds)]

    def zero_init_last(self) -> None:
        """Start the branch at zero, so that the block starts as its shortcut: the last of its batch-norms and
        convolutions gets zeros."""
        nn.init.zeros_(self.branch_layers(nn.BatchNorm2d, nn.Conv2d)[-1].weight)


def named_blocks(network: nn.Module) -> dict[str, ResidualBlock]:
    """All residual blocks by name, from input to output; the network may be wrapped."""
    return {name: module for name, module in network.named_modules() if isinstance(module, ResidualBlock)}


@register_block("basic")
class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (He et al. 2015, figure 5, left)."""

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        self.weight_layers(
            config,
            conv(config, in_channels, channels, 3, 1 if config.pools else stride),
            conv(config, channels, channels, 3),
            strided=1 if stride > 1 else 0,
        )


def inner_width(channels: int, config: ResNetConfig) -> int:
    """Channels inside a bottleneck (Xie et al., 'Aggregated Residual Transformations', 2017, table 1)."""
    return channels * config.width_per_group // 64 * config.groups


@register_block("bottleneck")
class Bottleneck(ResidualBlock):
    """1x1 down, 3x3, 1x1 up to four times the channels (He et al. 2015, figure 5, right)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        width, strided = inner_width(channels, config), 1 if config.stride_in == "1x1" else 2
        strides = [stride if k == strided and not config.pools else 1 for k in (1, 2)]
        self.weight_layers(
            config,
            conv(config, in_channels, width, 1, strides[0]),
            conv(config, width, width, 3, strides[1], config.groups),
            conv(config, width, channels * self.expansion, 1),
            strided=strided if stride > 1 else 0,
        )
