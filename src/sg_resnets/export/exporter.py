"""PyTorch's exporter to ONNX: which opsets it writes, and files whose height and width are free.

It records what a network does with one batch (a trace), so that what Python computes from the images' size becomes a
constant: for free sizes that is refused, and what is left is tried out on images of another size.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from sg_resnets.utils.checks import integer
from sg_resnets.utils.errors import SgResnetsError, one_line

OPSET = 17
OPSETS = range(7, 21)  # that this exporter writes, and ONNX Runtime reads
INT8_OPSETS = range(13, 21)  # from which on DequantizeLinear has an axis: a scale for each channel


def check_opset(opset: Any, int8: bool) -> int:
    """Return the number of an opset, from it or its digits.

    Raises:
        SgResnetsError: such a file cannot be written with it.
    """
    number = int(opset) if isinstance(opset, str) and opset.isdecimal() else opset
    valid = INT8_OPSETS if int8 else OPSETS
    check = integer(valid.start, valid.stop)
    if not check.allows(number):
        why = ", for INT8, which needs a scale for each channel" if int8 else ""
        raise SgResnetsError(check.refusal("opset", number) + why)
    return number


def other_images(image_shape: Sequence[int], kind: torch.dtype = torch.float32) -> Tensor:
    """Return noise (1, C, H', W') of another height and width than `image_shape` (C, H, W), odd and not square: pixels
    for uint8."""
    channels, height, width = image_shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (1, channels, height + 1, width + 18), dtype=torch.uint8, generator=generator)
    return pixels if kind == torch.uint8 else pixels / 128 - 1


@torch.no_grad()
def check_other_size(network: nn.Module, image_shape: Sequence[int]) -> None:
    """Run a network, in eval mode, on an image of another height and width than `image_shape` (C, H, W).

    Raises:
        SgResnetsError: it fails.
    """
    device = next((parameter.device for parameter in network.parameters()), "cpu")
    try:
        network(other_images(image_shape).to(device))
    except Exception as error:  # whatever a block or a head of the user's raises
        height, width = image_shape[1:]
        raise SgResnetsError(
            f"dynamic_size: the network takes images of {height} x {width} alone ({one_line(error)[:150]}): "
            "leave it out"
        ) from error


def export(
    network: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], opset: int, dynamic_size: bool = False
) -> Any:
    """Return `network` as an ONNX model of these inputs and outputs. The first input is images (N, C, H, W), N free, as
    it is in all outputs; with `dynamic_size` H and W are free too. Other inputs keep their shape.

    Raises:
        SgResnetsError: it has operators that the opset lacks, or computes with the size of the images in Python.
    """
    import onnx

    (name, images), *_ = inputs.items()
    file, free = io.BytesIO(), {2: "H", 3: "W"} if dynamic_size else {}
    with (
        warnings.catch_warnings(record=True) as caught,  # also that this exporter is the older one: it writes QDQ
        mock.patch.object(torch._C, "_jit_onnx_log", lambda *_: None, create=True),  # the whole graph, where it fails
    ):
        warnings.simplefilter("always")
        try:
            torch.onnx.export(
                network.eval(),
                tuple(inputs.values()),
                file,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=opset,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={name: {0: "N", **free}, **{output: {0: "N"} for output in outputs}},
            )
        except torch.onnx.errors.OnnxExporterError as error:
            why = one_line(error).partition(" [Caused")[0][:200]
            raise SgResnetsError(
                f"the network cannot be written with opset={opset}, dynamic_size={dynamic_size}: {why}"
            ) from error
    for warning in caught if dynamic_size else ():
        if issubclass(warning.category, torch.jit.TracerWarning) and "Converting a tensor to a" in str(warning.message):
            raise SgResnetsError(
                f"dynamic_size: {Path(warning.filename).name}, line {warning.lineno}, computes in Python with the size "
                f"of its images, and the file would keep what it comes to for {tuple(images.shape[2:])}: leave it out"
            )
    return onnx.load_from_string(file.getvalue())


def check_equal(free: Any, fixed: Any, images: Tensor) -> None:
    """Run a model of free size, and one that was recorded with `images` (N, C, H, W), on these.

    Raises:
        SgResnetsError: the first fails, or computes something else.
    """
    size = tuple(images.shape[2:])
    try:
        found, expected = (_run(model, images) for model in (free, fixed))
    except Exception as error:  # ONNX Runtime's exceptions share no class
        raise SgResnetsError(
            f"dynamic_size: ONNX Runtime cannot run the file on images of {size} ({one_line(error)[:150]}): "
            "leave it out"
        ) from error
    if np.abs(found - expected).max() > 1e-3 * np.abs(expected).max():
        raise SgResnetsError(f"dynamic_size: the file computes something else for images of {size}: leave it out")


def _run(model: Any, images: Tensor) -> np.ndarray:
    """Return a model's logits, without the kernels that overflow on some CPUs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.numpy()})[0]
