"""What a trained network has to know to predict on an image file, in plain lists and numbers.

SuperGradients stores this description in every checkpoint and builds its prediction pipeline from it. Plain
containers only, so that the checkpoint can be read with `torch.load(weights_only=True)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sg_resnets.utils.errors import SgResnetsError

if TYPE_CHECKING:
    from sg_resnets.data.fitting import Fitting


def preprocessing_params(
    class_names: Sequence[str], fitting: "Fitting", *, mean: Sequence[float], std: Sequence[float]
) -> dict:
    """The steps from an RGB uint8 image (H, W, 3) of any size to the network's input `(C, *fitting.size)`,
    C = len(mean).

    With one channel, colour becomes grey. The dict is new at every call, because SuperGradients replaces the
    descriptions inside it by live objects.
    """
    steps: list[dict] = [_step_of(fitting)]
    if len(mean) == 1:
        steps.append({"ToGrayscale": {}})
    steps += [
        {"StandardizeImage": {"max_value": 255}},
        {"NormalizeImage": {"mean": list(mean), "std": list(std)}},
        {"ImagePermute": {"permutation": [2, 0, 1]}},
    ]
    return {"image_processor": {"ComposeProcessing": {"processings": steps}}, "class_names": list(class_names)}


def _step_of(fitting: "Fitting") -> dict[str, dict[str, Any]]:
    size, resize = (_number_or_list(pair) for pair in (fitting.size, fitting.resize))
    if fitting.fit == "crop":
        return {"ResizeCenterCrop": {"resize": resize, "size": size, "interpolation": fitting.interpolation}}
    given = {"size": size, "fit": fitting.fit, "interpolation": fitting.interpolation, "fill": list(fitting.fill)}
    return {"FitImage": given}


def _number_or_list(pair: tuple[int, int]) -> int | list[int]:
    return pair[0] if pair[0] == pair[1] else list(pair)


def steps_of(preprocessing: Mapping[str, Any] | None) -> dict[str, Any]:
    """The steps of such a description, by name."""
    processor = (preprocessing or {}).get("image_processor", {})
    steps = processor.get("ComposeProcessing", {}).get("processings", [])
    return {name: given for step in steps for name, given in step.items()}


def settings_of(preprocessing: Mapping[str, Any] | None) -> dict[str, Any]:
    """The description as a folder's data set takes it: size, fit, interpolation, crop_ratio, mean and std."""
    steps = steps_of(preprocessing)
    normalise, crop = steps.get("NormalizeImage", {}), steps.get("ResizeCenterCrop")
    settings = {key: normalise[key] for key in ("mean", "std") if key in normalise}
    if crop is None:
        return {**settings, **{key: each for key, each in steps.get("FitImage", {}).items() if key != "fill"}}
    pairs = list(zip(_pair(crop["size"]), _pair(crop["resize"]), strict=True))
    ratio = next(
        (ratio for ratio in _ratios(pairs) if all(int(small / ratio) == large for small, large in pairs)), None
    )
    how = {key: crop[key] for key in ("size", "interpolation") if key in crop}
    return {**settings, **how, "fit": "crop", "crop_ratio": ratio}


def _ratios(pairs: Sequence[tuple[int, int]]) -> Iterator[float]:
    """The quotients of (size, resize), with few digits if they may have them: `Fitting.of` has to find `resize`
    again."""
    for digits in (2, 3, 4, 17):
        yield from (round(small / (large + more), digits) for small, large in pairs for more in (0, 0.5))


def image_size(preprocessing: Mapping[str, Any] | None) -> tuple[int, int] | None:
    """Height and width that the description ends in, in pixels, if it says."""
    steps = steps_of(preprocessing)
    size = (steps.get("ResizeCenterCrop") or steps.get("FitImage") or {}).get("size")
    return _pair(size) if size else None


def _pair(side: int | Sequence[int]) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else (side[0], side[1])


def class_names_of(dataset: Any) -> list[str] | None:
    """The names of a data set's classes, of ours or of torchvision's, if it has any."""
    names = getattr(dataset, "class_names", None) or getattr(dataset, "classes", None)
    return None if names is None else list(names)


def per_channel(name: str, values: float | Sequence[float], channels: int) -> tuple[float, ...]:
    """`values` as plain floats, one for each channel, from 0 to 1 as the pixels are; `std` has to be positive. Of one
    channel a number will do.

    Raises:
        SgResnetsError: they are anything else.
    """
    listed = [values] if isinstance(values, int | float) else values
    try:
        numbers = () if isinstance(values, str | bool) else tuple(float(value) for value in listed)
    except (TypeError, ValueError):
        numbers = ()
    in_range = all(0 <= number <= 1 for number in numbers) and not (name == "std" and 0 in numbers)
    if len(numbers) != channels or not in_range:
        kind = "positive numbers up to 1" if name == "std" else "numbers from 0 to 1"
        raise SgResnetsError(
            f"{name}={values!r}: must be a list of {kind}, one for each of the {channels} channel(s), of pixels scaled "
            "to [0, 1]: divide those of pixels up to 255 by 255"
        )
    return numbers
