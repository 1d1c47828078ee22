"""A quantisation recipe's `export_params`: SuperGradients' own, and ours, `opset` and `dynamic_size`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.conversion.export_params import ExportParams
from torch import nn
from torch.utils.data import DataLoader

from sg_resnets.export import exporter
from sg_resnets.quantization.sensitivity import first_images
from sg_resnets.utils.checks import BOOLEAN
from sg_resnets.utils.errors import SgResnetsError, choices
from sg_resnets.utils.files import check_parent

logger = get_logger(__name__)
EXPORT_KEYS = ("output_onnx_path", "opset", "dynamic_size")  # that are read


@dataclass
class OnnxExportParams(ExportParams):
    """A recipe's `export_params`. Of SuperGradients' keys `output_onnx_path` is read here, a copy of the last file.

    Attributes:
        opset: version of ONNX's set of operators.
        dynamic_size: height and width are free in the files.
    """

    opset: int = exporter.OPSET
    dynamic_size: bool = False


def check_export_keys(given: Mapping[str, Any]) -> None:
    """Warn of keys of a recipe's `export_params` that are not read here.

    Raises:
        SgResnetsError: there is no such key.
    """
    for key, value in given.items():
        if key not in OnnxExportParams.__dataclass_fields__:
            raise SgResnetsError(f"export_params has no '{key}': {choices(str(key), EXPORT_KEYS)}")
        if key not in EXPORT_KEYS and value is not None:
            logger.warning(f"export_params.{key}={value} is not read here; {', '.join(EXPORT_KEYS)} are")


def export_settings(given: Any, network: nn.Module, loader: DataLoader) -> OnnxExportParams:
    """Return how the ONNX files are written, from `export_params` or None.

    Raises:
        SgResnetsError: before any work, where they cannot be written so.
    """
    said = {key: getattr(given, key, None) for key in EXPORT_KEYS}
    settings = OnnxExportParams(**{key: value for key, value in said.items() if value is not None})
    settings.opset = exporter.check_opset(settings.opset, int8=True)
    if settings.output_onnx_path:
        settings.output_onnx_path = str(settings.output_onnx_path)
        check_parent(Path(settings.output_onnx_path))
    if BOOLEAN("dynamic_size", settings.dynamic_size):
        with torch.random.fork_rng(devices=[]):
            images = first_images(loader, 1)
        exporter.check_other_size(network, images.shape[1:])
    return settings
