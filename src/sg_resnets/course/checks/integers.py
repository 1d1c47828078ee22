"""Checks of lesson 7: affine quantisation, and a convolution in integers (Jacob et al. 2018, sections 2.1 and 2.2)."""

from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sg_resnets.course.checks.answers import WrongAnswer, call, close, number, recognise, right, tensor

RANGES = ((-1.0, 3.0), (-7.3, 0.4), (0.0, 6.0), (2.0, 6.0), (-5.0, -1.0))  # of values; the last two leave 0 out


def scale_and_zero_point(function: Callable[[float, float, torch.dtype], tuple[float, int]]) -> None:
    """Check `scale_and_zero_point(smallest, largest, dtype)`: (scale, zero point) with which the type's integers reach
    from `smallest` to `largest`, 0 among the numbers that are met exactly.

    Raises:
        WrongAnswer: what is wrong.
    """
    name = "scale_and_zero_point"
    for dtype in (torch.uint8, torch.int8):
        low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
        for smallest, largest in RANGES:
            pair = call(name, function, smallest, largest, dtype)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise WrongAnswer(f"{name} gives {type(pair).__name__}: asked are two values, scale and zero point")
            scale, zero = number(f"the scale of {name}", pair[0]), number(f"the zero point of {name}", pair[1])
            where = f"for {smallest:g} to {largest:g} and {str(dtype).removeprefix('torch.')}"
            bottom, top = min(smallest, 0.0), max(largest, 0.0)
            expected = (top - bottom) / 255
            if abs(scale - expected) > 1e-5 * expected:
                _recognise_scale(scale, smallest, largest, where)
                raise WrongAnswer(f"{where}: with a scale of {scale:.6f} the steps do not reach from end to end")
            if zero != round(zero):
                raise WrongAnswer(f"{where}: the zero point is {zero:.4f}: not an integer, so 0 is none of the values")
            _check_zero(zero, low, high, bottom, expected, where)
    right("the integers reach from end to end, and 0 is one of the values.")


def _recognise_scale(scale: float, smallest: float, largest: float, where: str) -> None:
    width = max(largest, 0) - min(smallest, 0)
    known = {
        "the range leaves 0 out, so a zero, as padding brings it, becomes another number": (largest - smallest) / 255,
        "256 values have 255 steps between them, and the range is divided by 256": width / 256,
        "this is the symmetric scale, max|x| / 127, with which one side is not filled": max(abs(smallest), largest)
        / 127,
        "the range is divided by 127, so half of the integers are left out": width / 127,
        "this scale is of the upper end alone: the part below 0 is left out": largest / 255,
        "this is how many steps a unit has, the inverse of the scale": 255 / width,
    }
    for words, value in known.items():
        if abs(scale - value) <= 1e-5 * abs(value):
            raise WrongAnswer(f"{where}: {words}")


def _check_zero(zero: float, low: int, high: int, bottom: float, scale: float, where: str) -> None:
    exact = low - bottom / scale
    if zero == round(exact):
        return
    if not low <= zero <= high:
        raise WrongAnswer(f"{where}: the zero point {zero:g} is none of the integers {low} to {high}")
    if low and zero == round(-bottom / scale):
        raise WrongAnswer(f"{where}: the zero point counts from 0; this type's smallest integer is {low}")
    if zero == int(exact):
        raise WrongAnswer(f"{where}: the zero point is cut off, not rounded: {exact:.3f} becomes {zero:g}")
    raise WrongAnswer(
        f"{where}: with the zero point {zero:g} the smallest integer stands for {scale * (low - zero):.3f}, not for "
        f"{bottom:.3f}"
    )


def quantize(function: Callable[[Tensor, float, int, torch.dtype], Tensor]) -> None:
    """Check `quantize(x, scale, zero_point, dtype)`: round(x / scale) + zero point, half to even, within the type's
    integers and of that type.

    Raises:
        WrongAnswer: what is wrong.
    """
    for dtype, zero in (
        (torch.uint8, 101),
        (torch.int8, -21),
    ):  # odd, or rounding after the zero point is added would do the same
        low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
        scale = 0.25
        inside = torch.tensor([0.0, 1.0, -1.0, 0.3, 0.45, -0.3, -0.45, 0.7])
        kind = str(dtype).removeprefix("torch.")
        given = _integers("quantize", function, inside, scale, zero, dtype)
        steps = inside / scale
        if not torch.equal(given.double(), (steps.round() + zero).double()):
            recognise(
                given,
                {
                    "0.7 of a step is cut off to 0: the nearest integer is asked": steps.trunc() + zero,
                    "everything is rounded down: the nearest integer is asked": steps.floor() + zero,
                    "everything is rounded up: the nearest integer is asked": steps.ceil() + zero,
                    "x / scale is clamped before the zero point is added: the part below 0 is lost": (
                        steps.round().clamp(low, high) + zero
                    ),
                    "the zero point is left out: 0 does not become it": (steps.round()).clamp(low, high),
                    "the zero point is subtracted; that is the way back": (steps.round() - zero).clamp(low, high),
                    "x is multiplied by the scale; how many steps are in x is asked": (inside * scale).round() + zero,
                },
            )
            i = int((given.double() != steps.round() + zero).nonzero()[0])
            raise WrongAnswer(
                f"quantize({inside[i]:g}, scale 0.25, zero point {zero}, {kind}) gives {given[i]}: that is not the "
                "nearest step"
            )
        outside = torch.tensor([-1000.0, -60.0, 60.0, 1000.0])
        given = _integers("quantize", function, outside, scale, zero, dtype)
        ends = torch.tensor([low, low, high, high])
        if not torch.equal(given.long(), ends):
            for wrong in (-127, 127, 254):
                if wrong in given.tolist() and wrong not in (low, high):
                    raise WrongAnswer(f"the integers of {kind} are {low} to {high}; here they end at {wrong}")
            raise WrongAnswer(
                f"values beyond the range of {kind} become {given.tolist()}: an integer type wraps around"
            )
        halves = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5]) * scale
        given = _integers("quantize", function, halves, scale, zero, dtype)
        if torch.equal(given.long(), (halves / scale + zero).round().long()):
            raise WrongAnswer("quantize rounds after the zero point is added; round(x / s) comes first")
        if not torch.equal(given.long(), (halves / scale).round().long() + zero):
            raise WrongAnswer(
                f"half steps go one way: 0.5, 1.5, 2.5 steps become {[int(q) - zero for q in given[:3]]}; half to even "
                "is asked, which has no bias"
            )
    x, scales = torch.tensor([[0.3, -0.7], [0.3, -0.7]]), torch.tensor([[0.25], [0.125]])
    if _integers("with a scale for each row quantize", function, x, scales, 0, torch.int8).tolist() != [
        [1, -3],
        [2, -6],
    ]:
        raise WrongAnswer("quantize: with a scale for each row, a tensor, other integers are right")
    right("rounded half to even, stopped at the ends, and of the type that was asked for.")


def dequantize(function: Callable[[Tensor, float, int], Tensor]) -> None:
    """Check `dequantize(q, scale, zero_point)`: scale (q - zero point), float32.

    Raises:
        WrongAnswer: what is wrong.
    """
    for dtype, zero in ((torch.uint8, 100), (torch.int8, -20)):
        low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
        q, scale = torch.tensor([low, low + 1, 0, 60, 99, high], dtype=dtype), 0.25
        given = tensor("dequantize", call("dequantize", function, q.clone(), scale, zero), (6,))
        exact = q.double()
        if given.dtype is not torch.float32:
            raise WrongAnswer(f"dequantize gives {given.dtype}: floats are asked for, float32 as the network's")
        if not close(given.double(), scale * (exact - zero)):
            recognise(
                given,
                {
                    f"q - zero point is computed in {dtype}, which has no room for it: 0 - 100 wraps around to 156": (
                        scale * (q - zero).double()
                    ),
                    "the zero point is added; that was the way there": scale * (exact + zero),
                    "the zero point is in steps: it is to be taken off before the scale is applied": scale * exact
                    - zero,
                    "the zero point is left out: q = zero point has to give 0": scale * exact,
                    "it is divided by the scale; that was the way there": (exact - zero) / scale,
                },
            )
            raise WrongAnswer(f"the integer {zero} stands for 0 and each step for 0.25: {low} is not {given[0]:g}")
    q, scales = torch.tensor([[1, -3], [2, -6]], dtype=torch.int8), torch.tensor([[0.25], [0.125]])
    given = tensor("dequantize", call("dequantize", function, q, scales, 0), (2, 2))
    if not close(given, scales * q):
        raise WrongAnswer("dequantize: with a scale for each row, a tensor, other numbers are right")
    right("the integers are real numbers again.")


def channel_scales(function: Callable[[Tensor], Tensor]) -> None:
    """Check `channel_scales(weight (O, I, H, W))`: the symmetric int8 scale of each output channel, max|w| / 127, (O,).

    Raises:
        WrongAnswer: what is wrong.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 2, 5, generator=generator) - 0.5
    given = call("channel_scales", function, weight.clone())
    if not isinstance(given, Tensor | Real):
        raise WrongAnswer(f"channel_scales gives a {type(given).__name__}, where a tensor (O,) is asked")
    if isinstance(given, Tensor) and given.shape == (4, 1, 1, 1):
        given = given.flatten()
    size = tuple(given.shape) if isinstance(given, Tensor) else ()
    if size in ((), (1,)):
        raise WrongAnswer("there is one scale for the whole weight: one for each output channel is asked")
    if size == (3,):
        raise WrongAnswer("there is one scale for each input channel: an accumulator belongs to an output channel")
    given, largest = tensor("channel_scales", given, (4,)), weight.abs().amax((1, 2, 3))
    if not close(given, largest / 127):
        recognise(
            given,
            {
                "the largest value is taken, where a negative one can be larger in size": weight.amax((1, 2, 3)) / 127,
                "int8 has 127 steps on the side of the positive numbers, not 255": largest / 255,
                "128 is no int8: the largest weight would have to be cut off": largest / 128,
                "the channel's range from end to end is divided; with zero point 0 both sides need the larger one's "
                "reach": (weight.amax((1, 2, 3)) - weight.amin((1, 2, 3))) / 255,
                "these are the largest magnitudes: the steps that they are divided into are missing": largest,
                "this is the inverse: steps for each unit": 127 / largest,
                "the channels share one scale": (largest.max() / 127).expand(4),
                "the mean magnitude is taken: the largest weights would be cut off": weight.abs().mean((1, 2, 3)) / 127,
            },
        )
        raise WrongAnswer("with these scales the largest weight of a channel does not become 127 or -127")
    right("a scale for each output channel, its largest weight at 127 or -127.")


def integer_convolution(function: Callable[[Tensor, int, Tensor, Tensor, int], Tensor]) -> None:
    """Check `integer_convolution(x, zero_point, weight, bias, padding)`: the sums of (q - zero point) w, and the bias,
    int32 (N, O, H, W), of x uint8 (N, I, H, W), weight int8 (O, I, K, K) and bias int32 (O,).

    Raises:
        WrongAnswer: what is wrong.
    """
    generator = torch.Generator().manual_seed(0)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    x, zero, weight, bias = integers(0, 256, 2, 4, 6, 6), 70, integers(-127, 128, 6, 4, 3, 3), integers(-9999, 9999, 6)
    arguments = x.to(torch.uint8), zero, weight.to(torch.int8), bias.int(), 1
    given = tensor("integer_convolution", call("integer_convolution", function, *arguments), (2, 6, 6, 6))

    def sums(x: Tensor, weight: Tensor, bias: Tensor | None = bias, padded_with: int = 0) -> Tensor:
        return F.conv2d(F.pad(x, [1] * 4, value=padded_with), weight, bias)

    expected = sums(x - zero, weight)
    if not torch.equal(given.double(), expected.double()):
        inner = (..., slice(1, -1), slice(1, -1))
        if torch.equal(given[inner].double(), expected[inner].double()):
            raise WrongAnswer(
                "all is right but the border: there the padding has to stand for the number 0, and the integer 0 does "
                f"not ({zero} does)"
            )
        wide = x - zero
        recognise(
            given,
            {
                "the zero point is left out: the sum is of q w, not of (q - zero point) w": sums(x, weight),
                "the padding is the zero point's, but the sum is of q w, not of (q - zero point) w": sums(
                    x, weight, padded_with=zero
                ),
                "the zero point is added to q, not subtracted": sums(x + zero, weight),
                "the bias is missing": sums(wide, weight, None),
                "the bias is subtracted": sums(wide, weight, -bias),
                "q - zero point is computed in uint8, where it wraps around below 0": sums(
                    wide.to(torch.uint8).long(), weight
                ),
                "x is turned into int8, in which 128 to 255 become negative": sums(
                    x.to(torch.int8).long() - zero, weight
                ),
                "x and the zero point are turned into int8, in which 128 to 255 become negative": sums(
                    wide.to(torch.int8).long(), weight
                ),
                "the weights are turned into uint8, in which the negative ones become large": sums(
                    wide, weight.to(torch.uint8).long()
                ),
                "the kernel is flipped: networks slide it as it is (cross-correlation)": sums(wide, weight.flip(2, 3)),
                "the zero point is subtracted from the weights": sums(x, weight - zero),
            },
        )
        for bits in (8, 16):
            for sum_of_products in (given.double(), given.double() - bias.view(-1, 1, 1)):
                if sum_of_products.abs().max() <= 2**bits < expected.abs().max():
                    raise WrongAnswer(f"the sums overflow: {bits} bits do not hold a sum of products")
        raise WrongAnswer(
            f"the accumulator of the first pixel in the second row is {given[0, 0, 1, 1]:g}, and "
            f"sum((q - zero point) w) + bias is {expected[0, 0, 1, 1]}"
        )
    if given.dtype is not torch.int32:
        raise WrongAnswer(f"the numbers are right, but of {given.dtype}: the accumulators are int32")
    for padding in (0, 2):
        size = (2, 6, 4 + 2 * padding, 3 + 2 * padding)
        given = call("integer_convolution", function, arguments[0][..., :5], *arguments[1:4], padding)
        given = tensor("integer_convolution", given, size)
        wanted = F.conv2d(F.pad(x[..., :5] - zero, [padding] * 4), weight, bias)
        if not torch.equal(given.long(), wanted):
            raise WrongAnswer(f"with padding={padding} the sums are others: is the padding used that is asked for?")
    right("the sums of products, exact, in int32, at the border too.")


def requantize(function: Callable[[Tensor, float, Tensor, float, int], Tensor]) -> None:
    """Check `requantize(accumulator, input_scale, weight_scales, output_scale, zero_point)`: the next layer's uint8, of
    an int32 accumulator (N, O, H, W) and weight scales (O,).

    Raises:
        WrongAnswer: what is wrong.
    """
    generator = torch.Generator().manual_seed(0)
    accumulator = torch.randint(-40000, 40000, (2, 6, 6, 6), generator=generator).int()
    weight_scales = torch.rand(6, generator=generator) * 0.01 + 0.002
    s_x, s_y, zero = 0.02, 0.05, 91
    given = call("requantize", function, accumulator.clone(), s_x, weight_scales, s_y, zero)
    given = tensor("requantize", given, (2, 6, 6, 6))

    def result(factor: Any, rounded: Callable[[Tensor], Tensor] = torch.round) -> Tensor:
        return (rounded(accumulator.double() * factor) + zero).clamp(0, 255)

    scales = weight_scales.double()
    by_channel = scales.view(-1, 1, 1)
    right_factor = s_x * by_channel / s_y
    expected = result(right_factor)
    if given.dtype is torch.int8:
        raise WrongAnswer("requantize gives torch.int8: the next layer takes uint8")
    if not torch.equal(given.double(), expected):
        free = (accumulator.double() * right_factor).round() + zero
        recognise(
            given,
            {
                "values are not stopped at 0 and 255: uint8 wraps around": free.long().to(torch.uint8),
                "values are not stopped at 0 and 255": free,
                "the weights' scales run along the width: each belongs to an output channel": result(
                    s_x * scales / s_y
                ),
                "the weights' scales run along the height: each belongs to an output channel": result(
                    s_x * scales.view(-1, 1) / s_y
                ),
                "the scales are the wrong way round: the accumulator's steps are s_x s_w, the result's s_y": (
                    result(s_y / (s_x * by_channel))
                ),
                "it is multiplied by the output's scale": result(s_x * by_channel * s_y),
                "the output's scale is left out": result(s_x * by_channel),
                "the input's scale is left out": result(by_channel / s_y),
                "the weights' scales are left out": result(torch.tensor(s_x / s_y)),
                "0.7 is cut off to 0: the nearest integer is asked": result(right_factor, torch.trunc),
                "everything is rounded down: the nearest integer is asked": result(right_factor, torch.floor),
                "the zero point is added before the scales are applied": ((accumulator.double() + zero) * right_factor)
                .round()
                .clamp(0, 255),
                "the output's zero point is left out": (free - zero).clamp(0, 255),
                "the output's zero point is subtracted": (free - 2 * zero).clamp(0, 255),
                "it is clamped before the zero point is added": (free - zero).clamp(0, 255) + zero,
            },
        )
        raise WrongAnswer(
            f"the accumulator {accumulator[0, 0, 0, 0]} of channel 0 becomes {given[0, 0, 0, 0]:g}, which stands for "
            "another number"
        )
    if given.dtype is not torch.uint8:
        raise WrongAnswer(f"the numbers are right, but of {given.dtype}: the next layer takes uint8")
    right("the accumulators are the next layer's uint8.")


def _integers(name: str, function: Callable[..., Tensor], x: Tensor, scale: Any, zero: int, dtype: Any) -> Tensor:
    handed = x.clone()
    given = tensor(name, call(name, function, handed, scale, zero, dtype), tuple(x.shape))
    if not torch.equal(handed, x):
        raise WrongAnswer(f"{name} writes into the x that it is given: make a new tensor")
    if given.dtype is not dtype:
        raise WrongAnswer(f"{name} gives {given.dtype}, where {dtype} was asked for")
    return given
