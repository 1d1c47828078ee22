"""Predict what is in image files with a run's network, through SuperGradients' own prediction pipeline."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sg_resnets.data.image_folder import read_rgb
from sg_resnets.quantization.graph import is_quantized
from sg_resnets.runs.build import build_network, build_quantized, recipe_of
from sg_resnets.runs.checkpoints import load
from sg_resnets.utils.errors import SgResnetsError


def predict_images(
    checkpoint: Path, images: Sequence[Path], plugins: Sequence[str]
) -> Iterator[tuple[Path, str, float]]:
    """Yield (image file, class name, probability) for images of any size.

    Raises:
        SgResnetsError: the checkpoint does not say how its images are prepared, or a file is no image.
    """
    import numpy as np

    path, state = load(checkpoint)
    recipe = recipe_of(state, plugins)
    if not state.get("processing_params"):
        raise SgResnetsError(f"{path} does not say how its images are prepared: its data set did not either")
    if is_quantized(state["net"]):
        network = build_network(recipe)
        network.set_dataset_processing_params(**state["processing_params"])
        network.forward = build_quantized(recipe, state).forward  # the pipeline around the quantised network
    else:
        network = build_network(recipe, path)
    network.eval()
    for image in images:
        result = network.predict(np.asarray(read_rgb(image)), fuse_model=False, fp16=False)
        yield image, result.class_names[result.prediction.label], result.prediction.confidence
