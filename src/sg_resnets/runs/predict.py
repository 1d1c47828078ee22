"""Predict what is in image files with a run's network, or an ONNX file, through SuperGradients' own prediction
pipeline."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sg_resnets.data.image_folder import read_rgb
from sg_resnets.quantization.graph import is_quantized
from sg_resnets.runs.build import build_network, build_quantized, recipe_of
from sg_resnets.runs.checkpoints import load
from sg_resnets.utils.errors import SgResnetsError


def predict_images(
    checkpoint: Path, images: Sequence[Path], plugins: Sequence[str], runtime: str | None = None
) -> Iterator[tuple[Path, str, float]]:
    """Yield (image file, class name, probability) for images of any size; `runtime` runs an ONNX file, ONNX Runtime
    where it is None.

    Raises:
        SgResnetsError: the checkpoint does not say how its images are prepared, a file is no image, or the runtime is
            not here.
    """
    import numpy as np

    if checkpoint.suffix.lower() == ".onnx":
        network = _network_of_file(checkpoint, plugins, runtime or "onnxruntime")
    elif runtime is not None:
        raise SgResnetsError(f"--runtime is for ONNX files, and {checkpoint} is none: `sg-resnets export` writes one")
    else:
        network = _network_of_checkpoint(checkpoint, plugins)
    network.eval()
    for image in images:
        result = network.predict(np.asarray(read_rgb(image)), fuse_model=False, fp16=False)
        yield image, result.class_names[result.prediction.label], result.prediction.confidence


def _network_of_checkpoint(checkpoint: Path, plugins: Sequence[str]) -> Any:
    path, state = load(checkpoint)
    recipe = recipe_of(state, plugins)
    if not state.get("processing_params"):
        raise SgResnetsError(f"{path} does not say how its images are prepared: its data set did not either")
    if not is_quantized(state["net"]):
        return build_network(recipe, path)
    network = build_network(recipe)
    network.set_dataset_processing_params(**state["processing_params"])
    network.forward = build_quantized(recipe, state).forward  # the pipeline around the quantised network
    return network


def _network_of_file(path: Path, plugins: Sequence[str], runtime: str) -> Any:
    """The pipeline around an ONNX file; of the network that its recipe describes nothing else is used."""
    import torch

    from sg_resnets.export.benchmark import predictor
    from sg_resnets.export.onnx import read_info
    from sg_resnets.export.runtimes import load as load_file

    info = read_info(path)
    if not info.preprocessing or not info.recipe:
        raise SgResnetsError(f"{path} does not say how its images are prepared: export it again from its run")
    network: Any = build_network(recipe_of({"recipe": info.recipe}, plugins))
    network.set_dataset_processing_params(**info.preprocessing)
    run = predictor(load_file(path, runtime), info)
    network.forward = lambda images: torch.from_numpy(run(images.cpu().numpy()))
    return network
