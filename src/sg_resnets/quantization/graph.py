"""From a float network to one with quantisers: trace it, fold what follows a convolution into it, and put a quantiser
on each tensor that enters or leaves an integer kernel.

The network becomes a `torch.fx.GraphModule` with the same modules, so its weights keep their names, and any block is
treated alike, also a user's: what counts is which tensor flows where.
"""

import copy
import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import StochasticDepth

from sg_resnets.models.layers import FixupConv2d, ScalarBias
from sg_resnets.models.scaling import Scale
from sg_resnets.quantization.fake_quantize import (
    QUANTIZED,
    Quantizer,
    activation_quantizer,
    quantize_weights,
    quantizers,
)
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.utils.errors import SgResnetsError, choices, one_line

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_GONE = (nn.Identity, *_DROPOUTS, StochasticDepth)  # fine-tuning runs without them
_OPERANDS = ("input", "tensor", "tensors", "other")  # names of the tensors that a function takes, in order
_ADDITIONS = (operator.add, operator.iadd, torch.add)
_LEAVES = (Scale, StochasticDepth)
# Ops whose output has the input's values, some of them left out or joined by zeros: it has the input's range.
_SAME_RANGE_MODULES = (nn.MaxPool2d, nn.Flatten)
_SAME_RANGE_FUNCTIONS = (operator.getitem, torch.flatten, torch.split, torch.chunk)  # and pad, with zeros
_SAME_RANGE_METHODS = (
    "flatten",
    "unflatten",
    "split",
    "chunk",
    "view",
    "reshape",
    "contiguous",
    "unsqueeze",
    "transpose",
)
_AVERAGES = (nn.AdaptiveAvgPool2d, nn.AvgPool2d)
_POOLING = (nn.MaxPool2d, *_AVERAGES)
# What values never go below: 0, or the minimum of x sigmoid(x), and of x Phi(x) and its form with tanh.
_LEAST = {"relu": 0.0, "sigmoid": 0.0, "softmax": 0.0, "silu": -0.2785, "gelu": -0.1701}
_LEAST_OF_MODULES = {nn.ReLU: 0.0, nn.ReLU6: 0.0, nn.Sigmoid: 0.0, nn.SiLU: -0.2785, nn.GELU: -0.1701}
_OF_PARTS = ("add", "iadd", "cat", "stack", "mean", "sum")  # whose least value follows from that of their operands


class QuantizedNetwork(fx.GraphModule):
    """A network with quantisers. Batch-norms that could not be folded keep their statistics."""

    @property
    def in_float(self) -> list[str]:
        """What computes in float32, as 'path: op'."""
        return self.meta["in_float"]

    def set_dataset_processing_params(self, **params: Any) -> None:
        """Keep the data's preprocessing, which SuperGradients hands to a network before it trains it."""
        self.meta["processing"] = params

    def get_input_channels(self) -> int:
        """Channels of the images that the network takes."""
        return next(module.in_channels for module in self.modules() if isinstance(module, nn.Conv2d))

    def train(self, mode: bool = True) -> "QuantizedNetwork":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return isinstance(module, _LEAVES) or super().is_leaf_module(module, path)


def insert_quantizers(
    network: nn.Module, params: QuantizationParams, kind: type[QuantizedNetwork] = QuantizedNetwork
) -> QuantizedNetwork:
    """A copy of `network` in eval mode, folded, with quantisers that have no range yet.

    Raises:
        SgResnetsError: a pattern of `skip_modules` that names nothing to skip, or a network that cannot be traced, or
            has nothing to quantise.
    """
    folded = fold(network, kind)
    layers = [path for path, module in folded.named_modules() if isinstance(module, tuple(QUANTIZED))]
    insertion = _Insertion(folded, params)
    insertion.run()
    for pattern in params.skip_modules:
        if pattern not in insertion.skipped:
            raise SgResnetsError(
                f"skip_modules: '{pattern}' names no layer or addition: {choices(pattern, layers, limit=8)}"
            )
    if not any(isinstance(module, tuple(QUANTIZED.values())) for module in folded.modules()):
        raise SgResnetsError("nothing is left to quantise: skip_modules names every layer, or there is none")
    return folded.to(next(network.parameters()).device)


def fold(network: nn.Module, kind: type[QuantizedNetwork] = QuantizedNetwork) -> QuantizedNetwork:
    """A copy of `network` in eval mode whose batch-norms and branch scales are part of the convolutions before them;
    what does nothing in eval mode is gone. The outputs are the same but for rounding.

    Raises:
        SgResnetsError: a network that cannot be copied or traced.
    """
    for path, layer in network.named_modules():
        if type(layer) in QUANTIZED and "weight" not in layer._parameters:
            raise SgResnetsError(
                f"{path}.weight is computed before each run, by pruning or weight norm: make it permanent first, with "
                "torch.nn.utils.prune.remove, remove_weight_norm or remove_spectral_norm"
            )
    try:
        network = copy.deepcopy(network).eval()
        _merge_fixup(network)
        graph = _Tracer().trace(network)
    except Exception as error:  # whatever a user's block does that cannot be traced
        raise SgResnetsError(
            f"{type(network).__name__} cannot be quantised: its forward decides by the values of tensors, it cannot be "
            f"copied, or it is no plain PyTorch ({one_line(error)[:200]})"
        ) from error
    traced = kind(network, graph, type(network).__name__)
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in list(graph.nodes):
        module = _module(traced, node)
        if module is not None and not node.args:
            node.args, node.kwargs = tuple(node.kwargs.values()), {}
        if _is_hooked(module):
            continue
        if isinstance(module, _GONE):
            _replace(graph, node, node.args[0])
            continue
        before = node.args[0] if module is not None and isinstance(node.args[0], fx.Node) else None
        if before is None or len(before.users) > 1 or calls[before.target] > 1:
            continue
        convolution: Any = _module(traced, before)
        if type(convolution) is not nn.Conv2d or _is_hooked(convolution):
            continue
        if type(module) is nn.BatchNorm2d and module.running_mean is not None:
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, module))
            _replace(graph, node, before)
        elif isinstance(module, Scale):
            _multiply(convolution, module.factor.detach().flatten())
            _replace(graph, node, before)
    graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _is_hooked(module: nn.Module | None) -> bool:
    """Whether something of the user's runs with the module, and would be lost with it."""
    return module is not None and bool(module._forward_hooks or module._forward_pre_hooks)


def _multiply(convolution: nn.Conv2d, factor: Tensor) -> None:
    """With parameters of its own: another layer may share those that it had."""
    for name, by in (("weight", factor.view(-1, 1, 1, 1)), ("bias", factor)):
        old = getattr(convolution, name)
        if old is not None:
            setattr(convolution, name, nn.Parameter(old.detach() * by, old.requires_grad))


def _merge_fixup(network: nn.Module) -> None:
    """conv(x + a) * m + b becomes an addition of a and a plain convolution."""
    for path, layer in list(network.named_modules()):
        if isinstance(layer, FixupConv2d):
            shift, plain = (
                ScalarBias(),
                nn.Conv2d(
                    layer.in_channels,
                    layer.out_channels,
                    layer.kernel_size,  # type: ignore[arg-type]
                    layer.stride,  # type: ignore[arg-type]
                    layer.padding,  # type: ignore[arg-type]
                    groups=layer.groups,
                ),
            )
            shift.bias = layer.bias_in
            factor = 1.0 if layer.multiplier is None else layer.multiplier.detach()
            plain.weight = nn.Parameter(layer.weight.detach() * factor)
            plain.bias = nn.Parameter(layer.bias_out.detach().expand(layer.out_channels).clone())
            network.set_submodule(path, nn.Sequential(shift, plain))


def _operands(node: fx.Node) -> list[Any]:
    """What a node takes: by position, then the tensors that it takes by name."""
    return [*node.args, *(node.kwargs[name] for name in _OPERANDS if name in node.kwargs)]


def _module(network: nn.Module, node: Any) -> nn.Module | None:
    if isinstance(node, fx.Node) and node.op == "call_module":
        return network.get_submodule(str(node.target))
    return None


def _path(node: fx.Node) -> str:
    """The path of the module whose forward a node stands in."""
    stack: Any = node.meta.get("nn_module_stack") or {}
    return list(stack)[-1] if stack else ""


def _replace(graph: fx.Graph, node: fx.Node, by: Any) -> None:
    node.replace_all_uses_with(by)
    graph.erase_node(node)


def _matches(path: str, pattern: str) -> bool:
    """Whether the module at `path`, or one that holds it, has the name."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")


class _Insertion:
    """One pass over a folded network: which tensors are quantised, and where each quantiser stands."""

    def __init__(self, network: QuantizedNetwork, params: QuantizationParams) -> None:
        self.network, self.graph, self.params = network, network.graph, params
        self.of_root: dict[fx.Node, str] = {}  # the quantiser that a tensor, and all of its range, has
        self.placed: dict[fx.Node, fx.Node] = {}  # tensor -> its quantised form
        self.skipped: set[str] = set()  # patterns that have kept something in float32

    def run(self) -> None:
        integer = [node for node in self.graph.nodes if self._is_integer(node)]
        additions = [node for node in self.graph.nodes if self._is_addition(node)]
        quantised = {id(_module(self.network, node)): node for node in integer}
        for node in quantised.values():
            quantize_weights(_module(self.network, node), self.params)
        for node in integer:
            self._quantize_input(node, node.args[0])
        for node in additions:
            for side in self._sides(node):
                self._quantize_input(node, side)
        for node in [*integer, *additions]:
            end = self._activated(node)
            if self.params.runtime.fused_addition:
                self._quantize_pooling(end)
            elif type(_module(self.network, node)) is not QUANTIZED[nn.Linear] and self._goes_on(end):
                self._quantize_output(end)
        self.graph.lint()
        self.network.recompile()
        self.network.meta["in_float"] = list(self._left())

    def _is_integer(self, node: fx.Node) -> bool:
        return type(_module(self.network, node)) in QUANTIZED and not self._is_skipped(str(node.target))

    def _is_addition(self, node: fx.Node) -> bool:
        """Of two tensors that the network computes."""
        adds = node.op == "call_function" and node.target in _ADDITIONS and "alpha" not in node.kwargs
        computed = all(isinstance(arg, fx.Node) and arg.op != "get_attr" for arg in _operands(node)[:2])
        return adds and computed and not self._is_skipped(_path(node))

    def _is_skipped(self, path: str) -> bool:
        patterns = [pattern for pattern in self.params.skip_modules if _matches(path, pattern)]
        self.skipped.update(patterns)
        return bool(patterns)

    def _sides(self, node: fx.Node) -> list[fx.Node]:
        """What is quantised of an addition: both sides, or where the runtime adds inside of a convolution's kernel, all
        but the first that is a convolution's own output."""
        sides = list(dict.fromkeys(_operands(node)[:2]))
        if self.params.runtime.fused_addition:
            direct = next((side for side in sides if self._is_integer_output(side)), None)
            sides = [side for side in sides if side is not direct]
        return sides

    def _is_integer_output(self, node: Any) -> bool:
        return type(_module(self.network, node)) in QUANTIZED.values() and len(node.users) == 1

    def _activated(self, node: fx.Node) -> fx.Node:
        """The ReLU that alone takes a node's output, or the node."""
        users = list(node.users)
        return users[0] if len(users) == 1 and isinstance(_module(self.network, users[0]), nn.ReLU) else node

    def _goes_on(self, node: fx.Node) -> bool:
        return any(user.op != "output" for user in node.users)

    def _same_range(self, node: fx.Node) -> bool:
        if node.op == "call_function" and node.target is nn.functional.pad:
            return not (node.kwargs.get("value") or any(node.args[3:]))
        return (
            isinstance(_module(self.network, node), _SAME_RANGE_MODULES)
            or (node.op == "call_function" and node.target in _SAME_RANGE_FUNCTIONS)
            or (node.op == "call_method" and node.target in _SAME_RANGE_METHODS)
        )

    def _root(self, node: Any) -> fx.Node:
        """The tensor that a node has its range from."""
        while self._same_range(node) and isinstance(_operands(node)[0], fx.Node):
            node = _operands(node)[0]
        return node

    def _least(self, value: Any) -> float:
        """What a tensor, a number or any of several is never below, at most 0; -inf where it is not known."""
        if isinstance(value, list | tuple):
            return min(map(self._least, value), default=0.0)
        if not isinstance(value, fx.Node):
            return 0.0 if isinstance(value, int | float) and value >= 0 else -math.inf
        root = self._root(value)
        if root.op == "call_module":
            module = _module(self.network, root)
            if isinstance(module, (*_AVERAGES, Quantizer)):
                return self._least(root.args[0])
            return next((least for kind, least in _LEAST_OF_MODULES.items() if isinstance(module, kind)), -math.inf)
        name = str(getattr(root.target, "__name__", root.target))
        if root.op not in ("call_function", "call_method") or name not in _OF_PARTS or "alpha" in root.kwargs:
            return _LEAST.get(name, -math.inf)
        if "add" in name:
            return sum(map(self._least, _operands(root)[:2]))
        least = self._least(_operands(root)[0])
        return least if name != "sum" or least == 0 else -math.inf

    def _quantized(self, tensor: fx.Node) -> fx.Node:
        """The node that quantises `tensor`, right after it; tensors of one root share their quantiser."""
        if tensor in self.placed:
            return self.placed[tensor]
        root = self._root(tensor)
        if root not in self.of_root:
            name = f"{root.name}_quantizer"
            self.network.add_submodule(name, activation_quantizer(self._least(root), self.params))
            self.of_root[root] = name
        with self.graph.inserting_after(tensor):
            self.placed[tensor] = self.graph.call_module(self.of_root[root], (tensor,))
        if tensor is not root and isinstance(_module(self.network, root), _AVERAGES):
            self._quantize_output(root)  # or the average would leave its kernel in float32
        return self.placed[tensor]

    def _quantize_input(self, node: fx.Node, tensor: Any) -> None:
        node.replace_input_with(tensor, self._quantized(tensor))

    def _quantize_pooling(self, tensor: fx.Node) -> None:
        """Of what takes a tensor the pooling: it then reads integers, and so is what a kernel writes for it."""
        for user in list(tensor.users):
            if isinstance(_module(self.network, user), _POOLING):
                self._quantize_input(user, tensor)

    def _quantize_output(self, tensor: fx.Node) -> None:
        quantised = self._quantized(tensor)
        tensor.replace_all_uses_with(quantised, delete_user_cb=lambda user: user is not quantised)

    def _left(self) -> Iterator[str]:
        """What computes in float32, as 'path: op'."""
        for node in self.graph.nodes:
            module = _module(self.network, node)
            if isinstance(module, Quantizer | nn.ReLU) or type(module) in QUANTIZED.values() or self._same_range(node):
                continue
            if module is not None:
                if not (isinstance(module, _AVERAGES) and node.args[0] in self.placed.values()):
                    yield f"{node.target}: {type(module).__name__}"
            elif node.op in ("call_function", "call_method"):
                name = node.target if isinstance(node.target, str) else node.target.__name__
                quantised = all(isinstance(arg, fx.Node) and arg in self.placed.values() for arg in _operands(node)[:2])
                if not (node.target in _ADDITIONS and (quantised or self.params.runtime.fused_addition)):
                    yield f"{_path(node) or node.name}: {name}"


def quantizers_of_layers(network: QuantizedNetwork) -> dict[str, list[str]]:
    """Return the quantisers of each quantised layer, by path: of its weights, and of its input."""
    return {
        str(node.target): [f"{node.target}.weight_quantizer", str(node.args[0].target)]
        for node in network.graph.nodes
        if type(_module(network, node)) in QUANTIZED.values()
    }


def quantizers_of_additions(network: QuantizedNetwork) -> dict[str, list[str]]:
    """Return the quantisers of what each addition takes, by the path of the module that does nothing else: others
    `skip_modules` cannot name alone."""
    found = {}
    for node in network.graph.nodes:
        path, before = _path(node), [each for each in _operands(node) if isinstance(_module(network, each), Quantizer)]
        alone = path and not any(name.startswith(f"{path}.") for name, _ in network.named_modules())
        if node.op == "call_function" and node.target in _ADDITIONS and before and alone:
            found[path] = [str(each.target) for each in before]
    return found


def enable_quantizers(network: nn.Module, wanted: Callable[[str, Quantizer], bool]) -> None:
    """Switch on the quantisers that are wanted, by path, and all others off."""
    for name, quantizer in quantizers(network).items():
        quantizer.enabled = wanted(name, quantizer)


def is_quantized(weights: Mapping[str, Any]) -> bool:
    """Whether a state dict is one of a network with quantisers."""
    return any(key.endswith("weight_quantizer.amax") for key in weights)


def rebuild(network: nn.Module, params: QuantizationParams, weights: Mapping[str, Tensor]) -> QuantizedNetwork:
    """Return the quantised network of a checkpoint, in eval mode: `network`, built from the same recipe, with
    quantisers, and the weights and ranges loaded strictly.

    Raises:
        SgResnetsError: the weights are those of other quantisers.
    """
    quantized = insert_quantizers(network, params)
    try:
        quantized.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise SgResnetsError(
            f"the checkpoint's quantisers are not those of its recipe ({str(error).splitlines()[-1].strip()[:200]})"
        ) from None
    return quantized.eval()
