"""The one network class: a stem, stages of blocks, global average pooling, a linear classifier.

He et al., 'Deep Residual Learning for Image Recognition' (2015), table 1 and section 4.2. State-dict keys are
torchvision's: `conv1`, `bn1`, `layer1.0.conv1`, `layer1.0.downsample.0`, `fc`.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchvision.ops import StochasticDepth

from sg_resnets.models import multi_path  # noqa: F401  (its blocks register themselves)
from sg_resnets.models.blocks import ResidualBlock, all_of_the_branch_read, block_class, named_blocks
from sg_resnets.models.config import ORDERS, ResNetConfig
from sg_resnets.models.layers import ScalarBias, activation, norm
from sg_resnets.models.shortcuts import ZeroPad
from sg_resnets.models.stems import STEMS
from sg_resnets.utils.errors import SgResnetsError


def _spread_over_channels(kernel: Tensor, in_channels: int) -> Tensor:
    old = kernel.shape[1]
    if in_channels < old:
        folded = kernel.new_zeros(kernel.shape[0], in_channels, *kernel.shape[2:])
        return folded.index_add_(1, torch.arange(old, device=kernel.device) % in_channels, kernel)
    source = torch.arange(in_channels, device=kernel.device) % old
    return kernel[:, source] / source.bincount()[source].view(1, -1, 1, 1)


class _Tracer(fx.Tracer):
    """Leaves modules whole that compute something else in training."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, StochasticDepth | ZeroPad) or super().is_leaf_module(m, module_qualified_name)


class ResNet(nn.Module):
    """Maps images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        SgResnetsError: the configuration names a block, shortcut or stem that is not registered.
    """

    avgpool: nn.Module
    fc: nn.Module

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.arch_params_key = "arch_params"  # of the recipe, for messages; a distillation has two networks
        self.head_is_new = False  # whether the classifier has been replaced, and knows nothing yet
        stem = STEMS[config.stem](config)
        with all_of_the_branch_read(config) as of_branch:
            stages = self._make_stages(of_branch, pooled=stem[-1][0] != "conv1")
        self._features = config.widths[-1] * block_class(config).expansion
        end = {"bn": norm(config, self._features), "relu": activation(config)}
        body = [
            *stem,
            *((f"layer{i}", stage) for i, stage in enumerate(stages, 1)),
            *((f"{name}_end", end[name]) for name in ORDERS[config.order].end.split()),
        ]
        self._body = [name for name, _ in body]
        for name, module in body:
            self.add_module(name, module)
        pooling: list[nn.Module] = [nn.AdaptiveAvgPool2d(1)]
        if config.scaling == "fixup":
            pooling.append(ScalarBias())
        if config.head_dropout:
            pooling.append(nn.Dropout(config.head_dropout))
        self.avgpool = nn.Sequential(*pooling) if len(pooling) > 1 else pooling[0]
        self.fc = nn.Linear(self._features, config.num_classes)
        self._initialise()

    def _make_stages(self, of_branch: ResNetConfig, pooled: bool) -> list[nn.Sequential]:
        config = self.config
        make_block = block_class(config)
        count = sum(config.depths)
        stages: list[nn.Sequential] = []
        index, in_channels = 0, config.stem_channels
        for depth, channels in zip(config.depths, config.widths, strict=True):
            blocks = []
            for j in range(depth):
                index += 1
                stride = 2 if stages and j == 0 else 1
                out_channels = channels * make_block.expansion
                block = make_block(in_channels, channels, stride, of_branch)
                # He et al. 2016, appendix: a first unit that follows a stand-alone convolution, and in the authors'
                # code a unit that changes the shape, activates before it splits.
                shared = stride > 1 or in_channels != out_channels or (index == 1 and not pooled)
                block.complete(config, in_channels, out_channels, stride, shared)
                if config.drop_path:  # l / L * p_L (Huang et al. 2016, equation 4)
                    block.drop_path = StochasticDepth(config.drop_path * index / count, "row")
                blocks.append(block)
                in_channels = out_channels
            stages.append(nn.Sequential(*blocks))
        return stages

    def _initialise(self) -> None:
        """He initialisation, N(0, 2 / fan_out) (He et al., 'Delving Deep into Rectifiers', 2015, equation 14)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if self.config.zero_init_residual:
            for block in self.blocks():
                block.zero_init_last()
        if self.config.scaling == "fixup":
            self._initialise_fixup()

    @torch.no_grad()
    def _initialise_fixup(self) -> None:
        """Zhang et al. 2019, section 3, rules 1 and 2: classifier and last layer of each branch start at zero, the
        other m - 1 of its m layers are scaled by L^(-1 / (2m - 2)), L the number of blocks."""
        blocks = self.blocks()
        for block in blocks:
            *others, last = block.branch_layers(nn.Conv2d) or [None]
            if getattr(last, "multiplier", None) is None:
                raise SgResnetsError(
                    f"scaling 'fixup' needs a block made with `weight_layers`: '{self.config.block}' is not"
                )
            for layer in others:
                layer.weight *= len(blocks) ** (-1 / (2 * len(others)))
            last.weight.zero_()
        for parameter in self.fc.parameters():
            parameter.zero_()

    def blocks(self) -> list[ResidualBlock]:
        """All residual blocks, from input to output."""
        return list(named_blocks(self).values())

    def forward(self, x: Tensor) -> Tensor:
        for name in self._body:
            x = getattr(self, name)(x)
        return self.fc(self.avgpool(x).flatten(1))

    def train(self, mode: bool = True) -> "ResNet":
        """As usual, but that a batch-norm whose weights are frozen keeps its statistics too."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine and not module.weight.requires_grad:
                module.eval()
        return self

    def __prepare_scriptable__(self) -> nn.Module:
        """Give `torch.jit.script`, which compiles no loop over names, the network as a traced one: same keys, straight
        line code."""
        network = copy.deepcopy(self)
        return fx.GraphModule(network, _Tracer().trace(network))

    # What SuperGradients asks of a network.

    def replace_head(self, new_num_classes: int | None = None, new_head: nn.Module | None = None) -> None:
        """Put a fresh linear classifier of `new_num_classes` outputs, or `new_head`, in the place of `fc`.

        Raises:
            SgResnetsError: neither is given, or no number of classes.
        """
        if new_head is None and new_num_classes is None:
            raise SgResnetsError("replace_head needs new_num_classes (an integer) or new_head (a module)")
        classes: Any = (
            new_num_classes if new_head is None else getattr(new_head, "out_features", self.config.num_classes)
        )
        self.config = replace(self.config, num_classes=classes)
        self.fc = nn.Linear(self._features, classes).to(next(self.parameters())) if new_head is None else new_head
        self.head_is_new = True

    def get_input_channels(self) -> int:
        """Channels of the images that the network takes."""
        return self._first_convolution()[1].in_channels

    def _first_convolution(self) -> tuple[str, nn.Conv2d]:
        return next((name, module) for name, module in self.named_modules() if isinstance(module, nn.Conv2d))

    def replace_input_channels(
        self, in_channels: int, compute_new_weights_fn: Callable[[nn.Conv2d, int], nn.Conv2d] | None = None
    ) -> None:
        """Make the first convolution take `in_channels` so that an image whose channels are equal gives the same
        response as before: more channels share the kernels of the old ones, fewer sum them."""
        self.config = replace(self.config, in_channels=in_channels)
        name, old = self._first_convolution()
        if compute_new_weights_fn is not None:
            new = compute_new_weights_fn(old, in_channels)
        else:
            new = copy.deepcopy(old)
            new.in_channels = in_channels
            spread = _spread_over_channels(old.weight.detach(), in_channels)
            new.weight = nn.Parameter(spread, old.weight.requires_grad)
        self.set_submodule(name, new)

    def get_finetune_lr_dict(self, lr: float) -> dict[str, float]:
        """Return the learning rates for SuperGradients' `finetune: True`: the classifier learns, the body is frozen."""
        return {"fc": lr, "default": 0.0}

    def validate_input_shape(self, input_shape: Sequence[int]) -> None:
        """Refuse batches (N, C, H, W) of another number of channels before training starts.

        Raises:
            SgResnetsError: the data has another number of channels than the network.
        """
        channels, takes = tuple(input_shape)[1], self.get_input_channels()
        if channels != takes:
            raise SgResnetsError(
                f"the network takes {takes}-channel images but the data has {channels}: "
                f"set {self.arch_params_key}.in_channels={channels}"
            )
