"""`quantization_params` of a recipe, checked: SuperGradients' keys, and `target`, `reduce_range`, `sensitivity_images`,
`max_drop`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sg_resnets.utils.checks import BOOLEAN, integer, number
from sg_resnets.utils.errors import SgResnetsError, choices

CALIBRATORS = ("max", "histogram")
HISTOGRAM_METHODS = ("percentile", "mse", "entropy")


@dataclass(frozen=True)
class Target:
    """What a runtime wants of the graph.

    Attributes:
        unsigned: activations are uint8; else int8 with zero point 0.
        zero_point: those that can be negative are so too, with zero point 128; else int8 with zero point 0.
        fused_addition: a convolution's output reaches the addition unquantised, and the two become one kernel; else
            both sides of the addition are quantised, and so is each convolution's output.
        integer_bias: biases are stored as int32 of the scale that the accumulator has; else as float32.
    """

    unsigned: bool
    zero_point: bool
    fused_addition: bool
    integer_bias: bool


# ONNX Runtime: QLinearConv and QLinearAdd take uint8 and int8, the x86 kernels are made for uint8 (its documentation,
# 'Quantize ONNX models', on data types). OpenVINO: additions fused into the convolution as oneDNN's sum, and a zero
# point costs time, as in NNCF's preset 'performance'.
# TensorRT: 'signed symmetric', zero point 0, float biases; in a residual block the shortcut alone is quantised.
TARGETS = {
    "onnxruntime": Target(unsigned=True, zero_point=True, fused_addition=False, integer_bias=True),
    "openvino": Target(unsigned=True, zero_point=False, fused_addition=True, integer_bias=True),
    "tensorrt": Target(unsigned=False, zero_point=False, fused_addition=True, integer_bias=False),
}


_CHECKS = {
    **dict.fromkeys(("ptq_only", "per_channel", "learn_amax", "verbose", "reduce_range"), BOOLEAN),
    "percentile": number("a number > 0 and <= 100", lambda value: 0 < value <= 100),
    "sensitivity_images": integer(0),
}


@dataclass(frozen=True)
class QuantizationParams:
    """The keys of `quantization_params`, flat.

    Attributes:
        ptq_only: stop after calibration.
        calibrator_w, calibrator_i: how the range of weights and of activations is found: "max", or "histogram" with
            `histogram_calib_method`.
        per_channel: one range for each output channel of a weight; activations have one for each tensor.
        learn_amax: fine-tuning learns the ranges too.
        skip_modules: paths of modules that stay float32, exact or with * and ?.
        histogram_calib_method: "percentile", "mse" (least squared error) or "entropy" (least Kullback-Leibler
            divergence).
        percentile: of `|x|` that is inside the range, in 0..100.
        num_calib_batches: how many; None is as many as make 512 images.
        verbose: print the range of each quantiser.
        target: which runtime the file is for.
        reduce_range: weights of 7 bits, -63..63, so that the fast kernels of x86 without VNNI or AMX do not overflow.
        sensitivity_images: how many images each layer's own cost is measured with; 0 leaves it out.
        max_drop: points of accuracy on the test data, of 100, that calibration may lose; the costliest layers stay
            float32 until it is met. None quantises all.
    """

    ptq_only: bool = False
    calibrator_w: str = "max"
    calibrator_i: str = "histogram"
    per_channel: bool = True
    learn_amax: bool = False
    skip_modules: tuple[str, ...] = ()
    histogram_calib_method: str = "percentile"
    percentile: float = 99.99
    num_calib_batches: int | None = 16
    verbose: bool = False
    target: str = "onnxruntime"
    reduce_range: bool = False
    sensitivity_images: int = 256
    max_drop: float | None = None

    def __post_init__(self) -> None:
        for name, valid in (
            ("calibrator_w", CALIBRATORS),
            ("calibrator_i", CALIBRATORS),
            ("histogram_calib_method", HISTOGRAM_METHODS),
            ("target", tuple(TARGETS)),
        ):
            value = getattr(self, name)
            if value not in valid:
                raise SgResnetsError(f"quantization_params: unknown {name} '{value}': {choices(str(value), valid)}")
        for name, check in _CHECKS.items():
            check(f"quantization_params: {name}", getattr(self, name))
        if self.num_calib_batches is not None:
            integer(1)("quantization_params: num_calib_batches", self.num_calib_batches)
        if self.max_drop is not None:
            points = number("a number of 0 to 100, in points", lambda value: 0 <= value <= 100)
            points("quantization_params: max_drop", self.max_drop)
        if self.calibrator_w == "histogram" and self.per_channel:
            raise SgResnetsError(
                "quantization_params: calibrator_w=histogram has too few weights in a channel for a histogram: set "
                "calibrator_w=max, or per_channel=False"
            )

    @property
    def runtime(self) -> Target:
        return TARGETS[self.target]

    @classmethod
    def from_recipe(cls, given: Mapping[str, Any] | None) -> "QuantizationParams":
        """From a recipe's `quantization_params`, in which SuperGradients nests some keys.

        Raises:
            SgResnetsError: a key or a value that there is not.
        """
        from omegaconf import OmegaConf

        if OmegaConf.is_config(given):
            given = OmegaConf.to_container(given, resolve=True)  # type: ignore[assignment]
        flat: dict[str, Any] = {}
        for key, value in _keys_of("quantization_params", given).items():
            nested = key in ("selective_quantizer_params", "calib_params")
            flat.update(_keys_of(f"quantization_params: {key}", value) if nested else {key: value})
        valid = list(cls.__dataclass_fields__)
        for key in flat:
            if key not in valid:
                raise SgResnetsError(f"quantization_params has no '{key}': {choices(key, valid, limit=20)}")
        skip = flat.pop("skip_modules", None) or ()
        skip = [skip] if isinstance(skip, str) else skip
        if not isinstance(skip, list | tuple) or not all(isinstance(pattern, str) for pattern in skip):
            raise SgResnetsError(
                f"quantization_params: skip_modules={skip}: must be a list of modules' paths or patterns, such as "
                '[conv1,"layer1.*"]'
            )
        return cls(**flat, skip_modules=tuple(skip))


def _keys_of(what: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given or {}, Mapping):
        raise SgResnetsError(f"{what}={given}: must be keys and values")
    return given or {}
