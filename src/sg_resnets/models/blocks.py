"""Residual blocks: y = relu(F(x) + shortcut(x)) (He et al. 2015, equations 1 and 2, figure 5).

The two blocks of the paper, `BasicBlock` and `Bottleneck`, read like it. `OrderedBlock` is the same in the other orders
of batch-norm, activation and addition (He et al., 'Identity Mappings in Deep Residual Networks', 2016, figure 4).

To add a block, subclass `ResidualBlock`, build the branch in `__init__`, return F(x) from `residual`, and decorate it
with `@register_block("name")`; a recipe then asks for it with `arch_params.block: name`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from sg_resnets.models.attention import ATTENTIONS
from sg_resnets.models.config import ORDERS, ResNetConfig
from sg_resnets.models.layers import activation, conv, halve, norm
from sg_resnets.models.registry import BLOCKS
from sg_resnets.models.scaling import SCALINGS
from sg_resnets.models.shortcuts import ADDITIONS, SHORTCUTS
from sg_resnets.utils.errors import SgResnetsError

# What `complete` adds to every block, and `relu`, which each may call where it likes.
_ADDED = frozenset(("downsample", "addition", "se", "scale", "drop_path", "bn_after", "relu_after"))
_OF_THE_BRANCH = ("order", "dropout", "subsample", "groups", "width_per_group", "splits", "stride_in")


class ResidualBlock(nn.Module):
    """Maps (N, in_channels, H, W) to (N, channels * expansion, H / stride, W / stride).

    A subclass takes (in_channels, channels, stride, config), builds its branch, and computes F(x) in `residual`. The
    network adds what all blocks have (shortcut, attention, scaling, activation) with `complete`; `downsample` is None
    in a plain net. What a configuration says of the branch itself (order, norm, dropout, groups, subsample) holds for
    our blocks; another one reads from `config`, in `__init__`, what it wants to follow. The network refuses the rest.
    """

    expansion = 1
    steps: Sequence[str] = ()  # names of the branch's parts in the order they run; left out, that of their definition
    downsample: nn.Module | None

    def __init__(self) -> None:
        super().__init__()
        self.relu: nn.Module = nn.ReLU()

    def residual(self, x: Tensor) -> Tensor:
        """Return F(x), the output of the residual branch."""
        raise NotImplementedError(f"{type(self).__name__} needs a method residual(x) that returns F(x)")

    def pre_activation(self, x: Tensor) -> Tensor:
        """Return what branch and shortcut both start from: x, unless an activation comes before they split."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre_activation(x)
        y = self.drop_path(self.scale(self.se(self.residual(x))))
        if self.downsample is not None:
            y = self.addition(y, self.downsample(x), x)
        return self.relu_after(self.bn_after(y))

    def complete(self, config: ResNetConfig, in_channels: int, out_channels: int, stride: int, shared: bool) -> None:
        """Add what all blocks have. `shared`: a pre-activation comes before the split, for the shortcut too.

        Raises:
            SgResnetsError: the block has a part of the name of one of these.
        """
        taken = sorted(_ADDED & self._modules.keys())
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
        after = ORDERS[config.order].after_addition.split()
        self.bn_after = norm(config, out_channels) if "bn" in after else nn.Identity()
        self.relu_after = self.relu if "relu" in after else nn.Identity()

    def branch_parts(self) -> list[nn.Module]:
        """Return what F(x) is made of, in the order it runs."""
        names = self.steps or [name for name, _ in self.named_children() if name not in _ADDED | {"relu"}]
        return [getattr(self, name) for name in names]

    def branch_layers(self, *kinds: type[nn.Module]) -> list[Any]:
        """Return all modules of these kinds in the branch, its parts' own included."""
        return [module for part in self.branch_parts() for module in part.modules() if isinstance(module, kinds)]

    def zero_init_last(self) -> None:
        """Start the branch at zero, so that the block starts as its shortcut: the last of its batch-norms and
        convolutions gets zeros.

        Raises:
            SgResnetsError: it has none.
        """
        layers = self.branch_layers(nn.BatchNorm2d, nn.Conv2d)
        if not layers:
            raise SgResnetsError(f"{type(self).__name__} cannot start at zero: it has no batch-norm or convolution")
        nn.init.zeros_(layers[-1].weight)


BLOCKS.base = ResidualBlock
register_block = BLOCKS.register


class OrderedBlock(ResidualBlock):
    """A branch of any number of weight layers, in any of the five orders, with dropout, pooling or Fixup's scalars
    where the configuration asks for them.

    Why the steps are names: 5 orders x 3 options are 15 forwards to write out, while the keys of the state dict must
    stay torchvision's (`conv1`, `bn1`, ...) whatever comes first, and a part may be replaced after it is made (`conv2`
    by split attention).
    """

    before_split: Sequence[str] = ()  # the pre-activation that the shortcut shares, then the branch's steps

    def pre_activation(self, x: Tensor) -> Tensor:
        return self._run(self.before_split, x)

    def residual(self, x: Tensor) -> Tensor:
        return self._run(self.steps, x)

    def _run(self, names: Sequence[str], x: Tensor) -> Tensor:
        for name in names:
            x = getattr(self, name)(x)
        return x

    def weight_layers(self, config: ResNetConfig, *layers: Any, strided: int = 0) -> None:
        """Add conv1, bn1, conv2, bn2, ... in the order asked for; layer number `strided` is followed by the pooling
        that takes its stride's place."""
        order = ORDERS[config.order]
        owned = config.norm == "batch" or not order.layer.startswith("bn")  # relu's input is no one else's
        self.relu = activation(config, inplace=owned and not order.layer.startswith("relu"))
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
        super().complete(config, in_channels, out_channels, stride, shared)
        if shared and config.order == "full_preact":
            self.before_split, self.steps = self.steps[:2], self.steps[2:]


class OrderedBasicBlock(OrderedBlock):
    """`BasicBlock` in another order."""

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        self.weight_layers(
            config,
            conv(config, in_channels, channels, 3, 1 if config.pools else stride),
            conv(config, channels, channels, 3),
            strided=1 if stride > 1 else 0,
        )


@register_block("basic")
class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (He et al. 2015, figure 5, left)."""

    ordered = OrderedBasicBlock
    steps = ("conv1", "bn1", "relu", "conv2", "bn2")

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        self.conv1 = conv(config, in_channels, channels, 3, stride)
        self.bn1 = norm(config, channels)
        self.relu = activation(config)
        self.conv2 = conv(config, channels, channels, 3)
        self.bn2 = norm(config, channels)

    def residual(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y))


class OrderedBottleneck(OrderedBlock):
    """`Bottleneck` in another order."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        width, strided = config.inner_width(channels), 1 if config.stride_in == "1x1" else 2
        strides = [stride if k == strided and not config.pools else 1 for k in (1, 2)]
        self.weight_layers(
            config,
            conv(config, in_channels, width, 1, strides[0]),
            conv(config, width, width, 3, strides[1], config.groups),
            conv(config, width, channels * self.expansion, 1),
            strided=strided if stride > 1 else 0,
        )


@register_block("bottleneck")
class Bottleneck(ResidualBlock):
    """1x1 down, 3x3, 1x1 up to four times the channels (He et al. 2015, figure 5, right)."""

    expansion = 4
    ordered = OrderedBottleneck
    steps = ("conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3", "bn3")

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        width = config.inner_width(channels)
        first, second = (stride, 1) if config.stride_in == "1x1" else (1, stride)
        self.conv1 = conv(config, in_channels, width, 1, first)
        self.bn1 = norm(config, width)
        self.relu = activation(config)
        self.conv2 = conv(config, width, width, 3, second, config.groups)
        self.bn2 = norm(config, width)
        self.conv3 = conv(config, width, channels * self.expansion, 1)
        self.bn3 = norm(config, channels * self.expansion)

    def residual(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.bn3(self.conv3(y))


@register_block("pooled")
class PooledBlock(OrderedBlock):
    """One 3x3 convolution beside the shortcut. Where the shape changes, a convolution, 2x2 max-pooling, batch-norm and
    activation come before the two part, so that the shortcut is always the identity.

    Wide and shallow networks of such blocks hold the speed records on CIFAR-10: Page, 'How to Train Your ResNet'
    (2018), part 4, whose branch has two convolutions; Jordan, '94% on CIFAR-10 in 3.29 Seconds on a Single GPU'
    (2024), section 3, without shortcuts.
    """

    steps = ("conv2", "bn2")

    def __init__(self, in_channels: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        self.relu = activation(config, inplace=False)
        if stride > 1 or in_channels != channels:
            self.before_split = ("conv1", "maxpool", "bn1", "relu")
            self.conv1 = conv(config, in_channels, channels, 3)
            self.maxpool = nn.MaxPool2d(stride)
            self.bn1 = norm(config, channels)
        self.conv2 = conv(config, channels, channels, 3)
        self.bn2 = norm(config, channels)

    def complete(self, config: ResNetConfig, in_channels: int, out_channels: int, stride: int, shared: bool) -> None:
        super().complete(config, out_channels, out_channels, 1, shared)


def block_class(config: ResNetConfig) -> Any:
    """Return the class of the configured block: the paper's own, or its ordered form where the branch is another."""
    cls = BLOCKS[config.block]
    return cls if config.branch_of_2015 else vars(cls).get("ordered", cls)  # a subclass has a branch of its own


class _Noting(ResNetConfig):
    """A configuration that notes what is read of it."""

    def __getattribute__(self, name: str) -> Any:
        object.__getattribute__(self, "__dict__").setdefault("_read", set()).add(name)
        return super().__getattribute__(name)


@contextmanager
def all_of_the_branch_read(config: ResNetConfig) -> Iterator[ResNetConfig]:
    """Yield a copy of `config` to make blocks with.

    Raises:
        SgResnetsError: at the end, if it says something of the branch that none of them has read.
    """
    noting = copy(config)
    object.__setattr__(noting, "__class__", _Noting)
    yield noting
    object.__setattr__(noting, "__class__", ResNetConfig)  # a block may keep it
    read = vars(noting).pop("_read", ())
    for name in _OF_THE_BRANCH:
        value = getattr(config, name)
        if name not in read and value != getattr(ResNetConfig, name):
            raise SgResnetsError(
                f"block '{config.block}' has no {name}={value}: its __init__ does not read config.{name}; leave it "
                "out, or take a block that does"
            )


def named_blocks(network: nn.Module) -> dict[str, ResidualBlock]:
    """Return all residual blocks by name, from input to output; the network may be wrapped."""
    return {name: module for name, module in network.named_modules() if isinstance(module, ResidualBlock)}
