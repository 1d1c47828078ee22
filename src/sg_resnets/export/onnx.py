"""ONNX files: written from a network, float or with quantisers, with what belongs to it as metadata.

`torch.onnx`'s exporter writes QuantizeLinear and DequantizeLinear for fake quantisation, but leaves weights and biases
in float32; here they become the integers that the runtimes compute with.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sg_resnets.data.preprocessing import steps_of
from sg_resnets.export.exporter import OPSET, check_equal, check_opset, check_other_size, export, other_images
from sg_resnets.quantization.fake_quantize import QuantConv2d, Quantizer, QuantLinear, check_float32, quantizers
from sg_resnets.utils.errors import SgResnetsError, one_line
from sg_resnets.utils.files import check_parent, write_bytes

_SEVEN_BITS = 64
_LARGEST_BIAS = 2**30  # in int32, half of its range: the accumulator has room
_KEY = "sg_resnets"  # one entry of the file's metadata, JSON


@dataclass(frozen=True)
class FileInfo:
    """What an ONNX file says of itself.

    Attributes:
        classes: their names, in the order of the logits.
        mean, std: of the pixels in 0..1, one for each channel: how the network wants its images.
        uint8_input: the file takes pixels in 0..255, uint8, and normalises them itself.
        accuracy: of the network on its recipe's test data, measured in PyTorch, in 0..1.
        kind: "fp32", "ptq" or "qat".
        size: height and width in pixels of the images that the network was trained for; those of a file whose height
            and width are free can be others.
        recipe: what trained it.
        preprocessing: the steps from an image of any size to the network's input, as in a checkpoint.
    """

    classes: Sequence[str] = ()
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    uint8_input: bool = False
    accuracy: float | None = None
    kind: str = "fp32"
    size: Sequence[int] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any] | None, **more: Any) -> "FileInfo":
        """Return the description of a file from a data set's preprocessing (`preprocessing_params`) and `more`."""
        normalise = steps_of(preprocessing).get("NormalizeImage", {})
        return cls(
            classes=list((preprocessing or {}).get("class_names") or []),
            mean=list(normalise.get("mean", [])),
            std=list(normalise.get("std", [])),
            preprocessing=copy.deepcopy(dict(preprocessing or {})),
            **more,
        )


class _FromPixels(nn.Module):
    """uint8 pixels (N, C, H, W) through (x / 255 - mean) / std."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        deviation, middle = torch.tensor(list(std)).view(-1, 1, 1), torch.tensor(list(mean)).view(-1, 1, 1)
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("shift", middle / deviation)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels.float() * self.scale - self.shift)


class _Plain(nn.Module):
    """The exporter takes no fx.GraphModule at its top."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


class _Frozen(nn.Module):
    """A quantiser with constants in the place of what it computes them from."""

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.scale, self.zero_point = float(quantizer.scale()), int(quantizer.zero())
        self.low, self.high = quantizer.low, quantizer.high

    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, self.low, self.high)


def write(
    network: nn.Module,
    path: Path,
    image_shape: Sequence[int],
    info: FileInfo,
    integer_bias: bool = True,
    opset: int = OPSET,
    dynamic_size: bool = False,
) -> None:
    """Write `network` as ONNX: `images` (N, C, H, W), N free, to `logits` (N, K).

    Args:
        image_shape: C, H, W.
        integer_bias: of a network with quantisers, whether biases become int32.
        opset: version of ONNX's set of operators.
        dynamic_size: H and W are free too; those of `image_shape` are kept in the file's description.

    Raises:
        SgResnetsError: the file cannot be written, weights are not float32, a quantiser has no range, the network has
            operators that the opset lacks, or takes images of one size alone.
    """
    check_parent(path)
    check_float32(network)
    for name, quantizer in quantizers(network).items():
        if not quantizer.amax.isfinite().all():
            raise SgResnetsError(f"{name} has no finite range: calibrate the network before it is written")
    opset = check_opset(opset, bool(quantizers(network)))
    plain, scales = freeze(network)
    info = replace(info, size=list(image_shape[1:]))
    wrapped = _FromPixels(plain, info.mean, info.std) if info.uint8_input else _Plain(plain)
    images = torch.zeros(1, *image_shape, dtype=torch.uint8 if info.uint8_input else torch.float32)
    if dynamic_size:
        check_other_size(plain, image_shape)

    def model_of(images: Tensor, dynamic_size: bool) -> Any:
        return store_integers(
            export(wrapped, {"images": images}, ["logits"], opset, dynamic_size), scales, integer_bias
        )

    model = model_of(images, dynamic_size)
    if dynamic_size:
        others = other_images(image_shape, images.dtype)
        check_equal(model, model_of(others, False), others)
    save(model, path, info)


def save(model: Any, path: Path, info: FileInfo) -> None:
    """Write an ONNX model, checked, with its description.

    Raises:
        SgResnetsError: the file cannot be written.
    """
    import onnx

    onnx.helper.set_model_props(model, {_KEY: json.dumps(asdict(info))})
    onnx.checker.check_model(model, full_check=True)
    write_bytes(path, model.SerializeToString())


@torch.no_grad()
def freeze(network: nn.Module) -> tuple[nn.Module, dict[str, np.ndarray]]:
    """Return a copy, on the CPU and in eval mode, with constants in the place of its quantisers; and the scale of each
    weight, by the parameter's name in the file of a module that holds the copy as its `network`."""
    network = copy.deepcopy(network).cpu().eval()
    scales = {}
    for path, layer in network.named_modules():
        if isinstance(layer, QuantConv2d | QuantLinear):
            scales[f"network.{path}.weight"] = layer.weight_quantizer.scale().detach().numpy()
            layer.weight.copy_(layer.weight_quantizer(layer.weight))
            layer.weight_quantizer = nn.Identity()  # type: ignore[assignment]
    for path, quantizer in quantizers(network).items():
        network.set_submodule(path, _Frozen(quantizer))
    return network, scales


def store_integers(model: Any, scales: Mapping[str, np.ndarray], integer_bias: bool = True) -> Any:
    """Store weights that have `scales`, as `freeze` gives them, as int8 with a DequantizeLinear, biases as int32 with
    one: of input scale times weight scale. Returns the model."""
    from onnx import helper, numpy_helper

    if not scales:
        return model

    graph = model.graph
    initializers = {each.name: each for each in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}

    def constant(name: str) -> np.ndarray:
        node = made_by.get(name)
        if node is None:
            return numpy_helper.to_array(initializers[name])
        return constant(node.input[0]) if node.op_type == "Identity" else numpy_helper.to_array(node.attribute[0].t)

    def dequantized(name: str, integers: np.ndarray, scale: np.ndarray) -> str:
        axis: dict[str, Any] = {"axis": 0} if scale.ndim else {}
        parts = [integers, scale.astype(np.float32), np.zeros(scale.shape, integers.dtype)]
        names = [f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"]
        graph.initializer.extend(numpy_helper.from_array(p, n) for p, n in zip(parts, names, strict=True))
        added.append(helper.make_node("DequantizeLinear", names, [f"{name}_dequantized"], name=f"{name}_dq", **axis))
        return added[-1].output[0]

    added: list[Any] = []
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm") or node.input[1] not in scales:
            continue
        scale, weights = scales[node.input[1]], constant(node.input[1])
        source = made_by.get(node.input[0])
        if integer_bias and len(node.input) > 2 and source is not None and source.op_type == "DequantizeLinear":
            step, bias = constant(source.input[1]), constant(node.input[2])
            # A dead channel, or input, has so small a scale that its bias overflows: widen the scale.
            smallest = np.abs(bias) / (step * _LARGEST_BIAS)
            scale = np.maximum(scale, smallest) if (scale < smallest).any() else scale
            integers = np.rint(bias / (step * scale)).astype(np.int32)
            node.input[2] = dequantized(f"{node.name}/bias", integers, step * scale)
        steps = weights / scale.reshape(-1, *[1] * (weights.ndim - 1) if scale.ndim else [])
        node.input[1] = dequantized(f"{node.name}/weight", np.rint(steps).astype(np.int8), scale)
    for node in reversed(added):
        graph.node.insert(0, node)
    used = {name for node in graph.node for name in node.input}
    for node in [each for each in graph.node if each.op_type == "Identity" and each.output[0] not in used]:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for initializer in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(initializer)
    return model


def read_info(path: Path) -> FileInfo:
    """Return what the file says of itself; an empty `FileInfo` for one that we did not write.

    Raises:
        SgResnetsError: there is no such file, or it is no ONNX file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if path.is_dir():
        inside = ", ".join(sorted(each.name for each in path.glob("*.onnx"))) or "none, `sg-resnets export` writes one"
        raise SgResnetsError(f"{path} is a folder: give ONNX files; in it: {inside}")
    if not path.is_file():
        raise SgResnetsError(f"there is no {path}: give ONNX files, such as `sg-resnets export` writes")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
        onnx.checker.check_model(str(path))
        fields = dict(json.loads({entry.key: entry.value for entry in model.metadata_props}.get(_KEY, "{}")))
        return FileInfo(**{key: fields[key] for key in FileInfo.__dataclass_fields__ if key in fields})
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError, TypeError) as error:
        raise SgResnetsError(f"{path} is damaged or no ONNX file: export it again ({one_line(error)[:200]})") from None


def size_of(path: Path) -> int:
    """Return the bytes of a file, with those of the files in which it keeps its weights, if it does."""
    import onnx

    weights = onnx.load(path, load_external_data=False).graph.initializer
    others = {entry.value for each in weights for entry in each.external_data if entry.key == "location"}
    return sum(each.stat().st_size for each in (path, *(path.parent / other for other in others)))


def has_wide_weights(path: Path) -> bool:
    """Whether a file has weights of int8 that take more than 7 bits. Two products of such a weight and a uint8 do not
    fit into 16 bits, in which x86 kernels without VNNI add them."""
    import onnx

    weights = (each for each in onnx.load(path).graph.initializer if each.data_type == onnx.TensorProto.INT8)
    return any(np.abs(onnx.numpy_helper.to_array(each).astype(int)).max(initial=0) > _SEVEN_BITS for each in weights)
