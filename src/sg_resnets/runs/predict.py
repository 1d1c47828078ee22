"""Predict what is in image files with a run's network, or an ONNX file, prepared as its validation data were."""

import copy
import glob
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from super_gradients.common.factories.processing_factory import ProcessingFactory
from torch import Tensor

from sg_resnets.data.folder import pictures_in
from sg_resnets.data.pictures import read_rgb
from sg_resnets.quantization.graph import is_quantized
from sg_resnets.runs.build import build_network, build_quantized, recipe_of
from sg_resnets.runs.checkpoints import load
from sg_resnets.utils.errors import SgResnetsError

BATCH = 32  # images that are predicted together
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What is in a file: the likeliest classes with their probabilities; or why it could not be read."""

    path: Path
    top: Sequence[tuple[str, float]] = ()
    error: str = ""


@dataclass(frozen=True)
class _Predictor:
    """`prepare` makes of RGB uint8 (H, W, 3) the network's float32 (C, H, W); `logits` of a batch of them (N, K)."""

    prepare: Callable[[np.ndarray], np.ndarray]
    logits: Callable[[Tensor], Tensor]
    class_names: Sequence[str]


def image_files(places: Iterable[Path]) -> list[Path]:
    """Return the files that are meant: of a folder all pictures in it, of a pattern such as `*.jpg` those that fit.

    Raises:
        SgResnetsError: a folder has no pictures.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = pictures_in(place)
            if not inside:
                raise SgResnetsError(f"{place} has no pictures")
            found += map(Path, inside)
        else:
            fitting = [] if place.exists() else sorted(glob.glob(str(place), recursive=True))
            found += map(Path, fitting) if fitting else [place]
    return found


def predict_images(
    checkpoint: Path,
    images: Sequence[Path],
    plugins: Sequence[str],
    runtime: str | None = None,
    top: int = 1,
    flip: bool = False,
) -> Iterator[Prediction]:
    """Yield what is in image files of any size, in their order: the `top` likeliest classes. `runtime` runs an ONNX
    file, ONNX Runtime where it is None; with `flip` the probabilities are the mean of those of the image and of its
    mirror image.

    Raises:
        SgResnetsError: the checkpoint does not say how its images are prepared, or the runtime is not here.
    """
    if checkpoint.suffix.lower() == ".onnx":
        predictor = _of_file(checkpoint, runtime or "onnxruntime")
    elif runtime is not None:
        raise SgResnetsError(f"--runtime is for ONNX files, and {checkpoint} is none: `sg-resnets export` writes one")
    else:
        predictor = _of_checkpoint(checkpoint, plugins)
    for start in range(0, len(images), BATCH):
        yield from _predict_batch(predictor, images[start : start + BATCH], top, flip)


def _predict_batch(predictor: _Predictor, files: Sequence[Path], top: int, flip: bool) -> Iterator[Prediction]:
    inputs: dict[Path, Tensor] = {}
    errors: dict[Path, str] = {}
    for file in files:
        try:
            inputs[file] = torch.from_numpy(predictor.prepare(np.asarray(read_rgb(file))))
        except SgResnetsError as error:
            errors[file] = str(error)
    best: dict[Path, list[tuple[str, float]]] = {}
    if inputs:
        batch = torch.stack([*inputs.values()]).float()
        with torch.no_grad():
            probabilities = predictor.logits(batch).softmax(1)
            if flip:
                probabilities = (probabilities + predictor.logits(batch.flip(-1)).softmax(1)) / 2
        values, classes = probabilities.topk(min(top, probabilities.shape[1]))
        for file, row, places in zip(inputs, values.tolist(), classes.tolist(), strict=True):
            best[file] = [(predictor.class_names[place], value) for place, value in zip(places, row, strict=True)]
    for file in files:
        yield Prediction(file, best.get(file, ()), errors.get(file, ""))


def _of_checkpoint(checkpoint: Path, plugins: Sequence[str]) -> _Predictor:
    path, state = load(checkpoint)
    recipe = recipe_of(state, plugins)
    if not state.get("processing_params"):
        raise SgResnetsError(f"{path} does not say how its images are prepared: its data set did not either")
    network = build_quantized(recipe, state) if is_quantized(state["net"]) else build_network(recipe, path)
    return _predictor(state["processing_params"], network.eval())


def _of_file(path: Path, runtime: str) -> _Predictor:
    from sg_resnets.export.benchmark import predictor, warnings
    from sg_resnets.export.onnx import read_info
    from sg_resnets.export.runtimes import load as load_file

    info = read_info(path)
    if not info.preprocessing:
        raise SgResnetsError(f"{path} does not say how its images are prepared: export it again from its run")
    file = load_file(path, runtime)
    if file.overflows:
        for warning in warnings([path]):
            logger.warning(warning)
    run = predictor(file, info)
    return _predictor(info.preprocessing, lambda images: torch.from_numpy(run(images.numpy())))


def _predictor(preprocessing: Mapping[str, Any], logits: Callable[[Tensor], Tensor]) -> _Predictor:
    process = ProcessingFactory().get(copy.deepcopy(preprocessing["image_processor"]))  # it alters what it is given
    return _Predictor(lambda image: process.preprocess_image(image)[0], logits, preprocessing["class_names"])
