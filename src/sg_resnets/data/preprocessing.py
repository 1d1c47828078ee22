"""What a trained network has to know to predict on an image file, in plain lists and numbers.

SuperGradients stores this description in every checkpoint and builds its prediction pipeline from it. Plain
containers only, so that the checkpoint can be read with `torch.load(weights_only=True)`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sg_resnets.utils.errors import SgResnetsError


def preprocessing_params(
    class_names: Sequence[str],
    *,
    resize: int,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    interpolation: str = "bilinear",
) -> dict:
    """The steps from an RGB uint8 image (H, W, 3) of any size to the network's input (C, size, size), C = len(mean).

    The shorter side becomes `resize`, then the centre (size, size) is cut out; with one channel, colour becomes grey.
    The dict is new at every call, because SuperGradients replaces the descriptions inside it by live objects.
    """
    steps: list[dict] = [{"ResizeCenterCrop": {"resize": resize, "size": size, "interpolation": interpolation}}]
    if len(mean) == 1:
        steps.append({"ToGrayscale": {}})
    steps += [
        {"StandardizeImage": {"max_value": 255}},
        {"NormalizeImage": {"mean": list(mean), "std": list(std)}},
        {"ImagePermute": {"permutation": [2, 0, 1]}},
    ]
    return {"image_processor": {"ComposeProcessing": {"processings": steps}}, "class_names": list(class_names)}


def steps_of(preprocessing: Mapping[str, Any] | None) -> dict[str, Any]:
    """The steps of such a description, by name."""
    processor = (preprocessing or {}).get("image_processor", {})
    steps = processor.get("ComposeProcessing", {}).get("processings", [])
    return {name: given for step in steps for name, given in step.items()}


def image_side(preprocessing: Mapping[str, Any] | None) -> int | None:
    """Height and width that the description ends in, in pixels, if it says."""
    return steps_of(preprocessing).get("ResizeCenterCrop", {}).get("size")


def per_channel(name: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    """`values` as plain floats, one for each channel; `std` has to be positive.

    Raises:
        SgResnetsError: they are anything else.
    """
    try:
        numbers = () if isinstance(values, str) else tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != channels or not all(map(math.isfinite, numbers)) or (name == "std" and min(numbers) <= 0):
        kind = "positive numbers" if name == "std" else "numbers"
        raise SgResnetsError(f"{name}={values!r}: must be a list of {kind}, one for each of the {channels} channel(s)")
    return numbers
