"""The one network class: a stem, stages of blocks, global average pooling, a linear classifier.

He et al., 'Deep Residual Learning for Image Recognition' (2015), table 1 and section 4.2. State-dict keys are
torchvision's: `conv1`, `bn1`, `layer1.0.conv1`, `layer1.0.downsample.0`, `fc`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from sg_resnets.config import ResNetConfig
from sg_resnets.errors import SgResnetsError
from sg_resnets.nn.blocks import BLOCKS, ResidualBlock
from sg_resnets.nn.shortcuts import SHORTCUTS
from sg_resnets.nn.stems import STEMS


def _spread_over_channels(kernel: Tensor, in_channels: int) -> Tensor:
    old = kernel.shape[1]
    if in_channels < old:
        folded = kernel.new_zeros(kernel.shape[0], in_channels, *kernel.shape[2:])
        return folded.index_add_(1, torch.arange(old, device=kernel.device) % in_channels, kernel)
    source = torch.arange(in_channels, device=kernel.device) % old
    return kernel[:, source] / source.bincount()[source].view(1, -1, 1, 1)


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
        stem = STEMS[config.stem](config.in_channels, config.widths[0])
        self._stem_names = [name for name, _ in stem]
        for name, module in stem:
            self.add_module(name, module)
        self._stage_names = [f"layer{i + 1}" for i in range(len(config.depths))]
        for name, stage in zip(self._stage_names, self._make_stages(), strict=True):
            self.add_module(name, stage)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self._features = config.widths[-1] * BLOCKS[config.block].expansion
        self.fc = nn.Linear(self._features, config.num_classes)
        self._initialise()

    def _make_stages(self) -> list[nn.Sequential]:
        config = self.config
        make_block, make_shortcut = BLOCKS[config.block], SHORTCUTS[config.shortcut]
        # Block l of L drops its branch with probability l / L * drop_path (Huang et al. 2016, equation 4).
        count = sum(config.depths)
        rates = iter([config.drop_path * block / count for block in range(1, count + 1)])
        stages, in_channels = [], config.widths[0]
        for i, (depth, channels) in enumerate(zip(config.depths, config.widths, strict=True)):
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                out_channels = channels * make_block.expansion
                block = make_block(in_channels, channels, stride, config)
                block.downsample = make_shortcut(in_channels, out_channels, stride)
                rate = next(rates)
                block.drop_path = StochasticDepth(rate, "row") if rate else nn.Identity()
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

    def blocks(self) -> list[ResidualBlock]:
        """All residual blocks, from input to output."""
        return [module for module in self.modules() if isinstance(module, ResidualBlock)]

    def forward(self, x: Tensor) -> Tensor:
        for name in self._stem_names + self._stage_names:
            x = getattr(self, name)(x)
        return self.fc(self.avgpool(x).flatten(1))

    def train(self, mode: bool = True) -> "ResNet":
        """As usual, but that a batch-norm whose weights are frozen keeps its statistics too."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine and not module.weight.requires_grad:
                module.eval()
        return self

    # What the host asks of a network.

    def replace_head(self, new_num_classes: int | None = None, new_head: nn.Module | None = None) -> None:
        """Put a fresh linear classifier of `new_num_classes` outputs, or `new_head`, in the place of `fc`.

        Raises:
            SgResnetsError: neither is given.
        """
        if new_head is None:
            if new_num_classes is None:
                raise SgResnetsError("replace_head needs new_num_classes (a whole number) or new_head (a module)")
            new_head = nn.Linear(self._features, new_num_classes).to(next(self.parameters()))
        self.fc = new_head

    def get_input_channels(self) -> int:
        """Channels of the images that the network takes."""
        return self._first_convolution().in_channels

    def _first_convolution(self) -> nn.Conv2d:
        convolution = self.get_submodule(self._stem_names[0])
        assert isinstance(convolution, nn.Conv2d), "a stem's first module is a convolution"
        return convolution

    def replace_input_channels(
        self, in_channels: int, compute_new_weights_fn: Callable[[nn.Conv2d, int], nn.Conv2d] | None = None
    ) -> None:
        """Make the first convolution take `in_channels` so that an image whose channels are equal gives the same
        response as before: more channels share the kernels of the old ones, fewer sum them."""
        old = self._first_convolution()
        if compute_new_weights_fn is not None:
            new = compute_new_weights_fn(old, in_channels)
        else:
            size, stride, padding = old.kernel_size, old.stride, old.padding
            new = nn.Conv2d(in_channels, old.out_channels, size, stride, padding, bias=False)  # type: ignore[arg-type]
            new.weight = nn.Parameter(_spread_over_channels(old.weight.detach(), in_channels))
        setattr(self, self._stem_names[0], new)

    def get_finetune_lr_dict(self, lr: float) -> dict[str, float]:
        """Learning rates for the host's `finetune: True`: the classifier learns, the body is frozen."""
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
                f"set arch_params.in_channels={channels}"
            )
