"""Export a checkpoint: safetensors to share, ONNX in float32 or INT8 to run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from sg_resnets.data.preprocessing import image_size
from sg_resnets.export import exporter, onnx
from sg_resnets.models.zoo import ZOO
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.graph import QuantizedNetwork, insert_quantizers, is_quantized
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.quantization.sensitivity import within_drop
from sg_resnets.runs.build import (
    add_calibration_data,
    build_network,
    build_quantized,
    follow_split,
    loader_of,
    quiet,
    recipe_of,
)
from sg_resnets.runs.checkpoints import load, write_safetensors
from sg_resnets.utils.checks import BOOLEAN
from sg_resnets.utils.dotlist import parse_dotlist
from sg_resnets.utils.errors import SgResnetsError, choices
from sg_resnets.utils.files import check_parent

SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "int8": ".onnx"}
UNKNOWN_SIDE = 32  # pixels, of the images of a checkpoint that says nothing of them


@dataclass(frozen=True)
class Exported:
    """A file that was written, the checkpoint it is of, and what an ONNX file says of itself."""

    path: Path
    checkpoint: Path
    info: onnx.FileInfo | None = None

    def __str__(self) -> str:
        contents = self.path.read_bytes()
        return f"{self.path}  {len(contents):,} bytes  SHA-256 {sha256(contents).hexdigest()}  from {self.checkpoint}"


def choose_format(
    wanted: str, output: Path | None, quantization: Sequence[str] = (), onnx_options: Sequence[str] = ()
) -> str:
    """Return the format that a file is written in: the one that is asked for, else that of its name; `onnx_options` are
    the names of options that are for ONNX files.

    Raises:
        SgResnetsError: an unknown format, a name that does not end as it does, or options of another format.
    """
    endings = " or ".join(dict.fromkeys(SUFFIXES.values()))
    if not wanted and output is not None and output.suffix not in SUFFIXES.values():
        raise SgResnetsError(f"{output}: the file's name must end in {endings}")
    kind = wanted or (output.suffix.removeprefix(".") if output else "onnx" if onnx_options else "safetensors")
    if kind not in SUFFIXES:
        raise SgResnetsError(f"--format {kind}: {choices(kind, SUFFIXES)}")
    if onnx_options and kind == "safetensors":
        raise SgResnetsError(f"{onnx_options[0]} is for ONNX files: add --format onnx, or int8")
    if quantization and kind != "int8":
        raise SgResnetsError("--quantization is for INT8 files: add --format int8")
    if output is not None and output.suffix != SUFFIXES[kind]:
        raise SgResnetsError(f"{output}: the file's name must end in {SUFFIXES[kind]}")
    return kind


def export_checkpoint(
    run: Path,
    output: Path | None = None,
    kind: str = "safetensors",
    uint8_input: bool = False,
    plugins: Sequence[str] = (),
    quantization: Sequence[str] = (),
    opset: int | str | None = None,
    dynamic_size: bool | None = None,
) -> Exported:
    """Write a checkpoint (of a run: the best one) as a file of `kind`, a key of SUFFIXES; `output` is named after the
    architecture if it is None. The other arguments are those of `export_onnx`."""
    path, state = load(run)
    if output is None:
        output = Path(state["recipe"]["architecture"] + "_int8" * (kind == "int8") + SUFFIXES[kind])
    check_parent(output)
    if kind == "safetensors":
        write_safetensors(state, output)
        return Exported(output, path)
    return export_onnx(run, output, kind == "int8", uint8_input, plugins, quantization, opset, dynamic_size)


def export_onnx(
    run: Path,
    output: Path,
    int8: bool = False,
    uint8_input: bool = False,
    plugins: Sequence[str] = (),
    quantization: Sequence[str] = (),
    opset: int | str | None = None,
    dynamic_size: bool | None = None,
) -> Exported:
    """Write a checkpoint (of a run: the best one) as an ONNX file, with its preprocessing, recipe and accuracy in it.

    A float network becomes INT8 by calibration on its recipe's training data, with `quantization` (key=value) put over
    its recipe's `quantization_params`; a quantised one is INT8 already. Without `opset` and `dynamic_size` (free height
    and width) the recipe's `export_params` say them, or opset 17 and the size of the recipe's images.

    Raises:
        SgResnetsError: a float file, or another quantisation, is asked of a quantised network, an unknown parameter, a
            network that takes images of one size alone, or the file cannot be written.
    """
    check_parent(output)
    path, state = load(run)
    recipe = recipe_of(state, plugins)
    follow_split(recipe, path.parent)
    changes = parse_dotlist(quantization, "quantization parameter", "target=openvino")
    merged = OmegaConf.merge(recipe.get("quantization_params") or {}, changes)
    params = QuantizationParams.from_recipe(merged)  # type: ignore[arg-type]
    opset, dynamic_size = _onnx_options(recipe, opset, dynamic_size, int8)
    kind, accuracy = "fp32", None
    if OmegaConf.select(recipe, "training_hyperparams.metric_to_watch") == "Accuracy" and state.get("acc") is not None:
        accuracy = float(state["acc"])
    if is_quantized(state["net"]):
        if quantization:
            raise SgResnetsError(f"{path} holds a quantised network: leave out --quantization {quantization[0]}")
        if not int8:
            raise SgResnetsError(f"{path} holds a quantised network: write it with --format int8")
        network: Any = build_quantized(recipe, state)
        kind = "qat" if state.get("epoch") else "ptq"
    else:
        network = build_network(recipe, path).eval()
    preprocessing = state.get("processing_params")
    shape = (network.get_input_channels(), *_image_size(recipe, preprocessing))
    if dynamic_size:
        exporter.check_other_size(network, shape)
    if int8 and kind == "fp32":
        kind, accuracy, network = "ptq", None, _calibrated(network, recipe, params)
    info = onnx.FileInfo.of(
        preprocessing,
        uint8_input=uint8_input,
        accuracy=accuracy,
        kind=kind,
        recipe=OmegaConf.to_container(recipe, resolve=True),
    )
    if uint8_input and not info.mean:
        raise SgResnetsError(f"{path} does not say how its images are normalised: export it without --uint8-input")
    onnx.write(network, output, shape, info, params.runtime.integer_bias, opset, dynamic_size)
    return Exported(output, path, info)


def _onnx_options(recipe: DictConfig, opset: Any, dynamic_size: bool | None, int8: bool) -> tuple[int, bool]:
    """What is asked for, else what the recipe says; checked."""
    said = recipe.get("export_params") or {}
    opset = next(each for each in (opset, said.get("opset"), exporter.OPSET) if each is not None)
    dynamic_size = next(each for each in (dynamic_size, said.get("dynamic_size"), False) if each is not None)
    return exporter.check_opset(opset, int8), BOOLEAN("dynamic_size", dynamic_size)


def _image_size(recipe: DictConfig, preprocessing: Mapping[str, Any] | None) -> tuple[int, int]:
    """Height and width of the images that a checkpoint's network was trained for."""
    row = ZOO.get(recipe.architecture)
    return image_size(preprocessing) or 2 * (row.input_size if row else UNKNOWN_SIDE,)


def _calibrated(network: Any, recipe: DictConfig, params: QuantizationParams) -> Any:
    """Return the network with calibrated quantisers; the calibration images are the same every time."""
    add_calibration_data(recipe)

    def quantised(params: QuantizationParams) -> QuantizedNetwork:
        quantised = insert_quantizers(network, params)
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(OmegaConf.select(recipe, "training_hyperparams.seed", default=42))
            calibrate(quantised, loader_of(recipe, "calib"), params)
        return quantised

    if params.max_drop is None:
        return quantised(params)
    with quiet():
        test_loader = loader_of(recipe, "val")
    within = within_drop(quantised, params, network, test_loader)
    print(f"max_drop {params.max_drop}: {within}")
    return within.network
