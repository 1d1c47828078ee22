"""What a network is made of, layer by layer: output shape, parameters, multiply-accumulates, receptive field.

Nothing is computed: the network runs once on the meta device, where tensors have shapes and no data.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakTensorKeyDictionary

from sg_resnets.models.blocks import ResidualBlock
from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.resnet import ResNet
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hooks import watched

_LARGE = 1024  # pixels: no network of ours needs as many


@dataclass(frozen=True)
class LayerSummary:
    """`shape` of the output without the batch; MACs for one image; the side of the receptive field in pixels, 0 where
    it is the whole image."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: int


def summarise(config: ResNetConfig, size: int) -> list[LayerSummary]:
    """A row for each layer of the stem, each residual block, the pooling and the classifier, for images of `size`.

    The receptive field is that of the longest path of convolutions and poolings; attention, which sees the whole map,
    is left out, as is usual.

    Raises:
        SgResnetsError: the images are too small for the network.
    """
    with torch.device("meta"):
        network = ResNet(config).eval()
        image = torch.empty(1, config.in_channels, size, size)
    parts = dict(_parts(network))
    outputs: dict[str, tuple[tuple[int, ...], int]] = {}
    fields = _ReceptiveField(image)
    flops = FlopCounterMode(display=False)

    def record(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[name] = tuple(output.shape[1:]), fields.of(output)

    for block in network.blocks():
        block.se.register_forward_pre_hook(lambda module, inputs: fields.pause(True))
        block.se.register_forward_hook(lambda module, inputs, output: fields.pause(False))
    try:
        with torch.no_grad(), flops, fields, watched(network, parts, record):
            network(image)
    except RuntimeError as error:
        with suppress(RuntimeError), torch.no_grad():
            network(image.new_empty(1, config.in_channels, _LARGE, _LARGE))
            raise SgResnetsError(f"size={size}: too small an image for this network ({error})") from None
        raise  # a block's own
    counts = flops.get_flop_counts()
    return [
        LayerSummary(
            name,
            _kind(part),
            outputs[name][0],
            sum(parameter.numel() for parameter in part.parameters()),
            sum(counts.get(f"ResNet.{name}", {}).values()) // 2,
            0 if name in ("avgpool", "fc") else outputs[name][1],
        )
        for name, part in parts.items()
    ]


def _parts(network: ResNet) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_children():
        if isinstance(module, nn.Sequential) and isinstance(module[0], ResidualBlock):
            yield from ((f"{name}.{i}", block) for i, block in enumerate(module))
        elif not isinstance(module, nn.ReLU | nn.SiLU | nn.GELU):
            yield name, module


def _kind(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        side, stride = module.kernel_size[0], module.stride[0]
        return f"{side}x{side} convolution" + (f", stride {stride}" if stride > 1 else "")
    if isinstance(module, nn.Sequential):
        return " + ".join(dict.fromkeys(type(layer).__name__ for layer in module))
    return type(module).__name__


class _ReceptiveField(TorchDispatchMode):
    """Follows each tensor's (side of its receptive field, distance between neighbours), both in pixels of the image."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.fields = WeakTensorKeyDictionary()
        self.fields[image] = 1, 1
        self.paused = False

    def pause(self, paused: bool) -> None:
        """While paused, what is computed sees no more than its input."""
        self.paused = paused

    def of(self, tensor: Tensor) -> int:
        return self.fields.get(tensor, (0, 1))[0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        seen = [self.fields[tensor] for tensor in _tensors(args) if tensor in self.fields]
        if seen:
            side, step = max(side for side, _ in seen), max(step for _, step in seen)
            kernel, stride = (1, 1) if self.paused else _window(func, args)
            for tensor in _tensors(result):
                self.fields[tensor] = side + (kernel - 1) * step, step * stride
        return result


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _window(func: Any, args: Any) -> tuple[int, int]:
    """(pixels covered, stride) of a two-dimensional convolution or pooling; (1, 1) of anything else."""
    name = func.overloadpacket.__name__
    if name == "convolution" and args[1].dim() == 4:
        return (args[1].shape[-1] - 1) * args[5][0] + 1, args[3][0]
    if name.startswith(("max_pool2d", "avg_pool2d")):
        return args[1][0], (args[2] or args[1])[0]
    return 1, 1
