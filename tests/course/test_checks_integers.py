"""Lesson 7's checks, on what students write."""

import pytest
import torch
import torch.nn.functional as F

from sg_resnets.course import checks
from sg_resnets.course.checks import WrongAnswer


def pair(smallest, largest, dtype, levels=255, rounded=round, clamped=True):
    info = torch.iinfo(dtype)
    smallest, largest = min(smallest, 0.0), max(largest, 0.0)
    scale = (largest - smallest) / levels
    zero = rounded(info.min - smallest / scale)
    return scale, max(info.min, min(info.max, zero)) if clamped else zero


def as_tensors(smallest, largest, dtype):
    ends = torch.tensor([smallest, largest, 0.0], dtype=torch.float64)
    scale = (ends.max() - ends.min()) / 255
    return scale, (torch.iinfo(dtype).max - ends.max() / scale).round().int()


def without_zero(smallest, largest, dtype):
    scale = (largest - smallest) / 255
    return scale, round(torch.iinfo(dtype).min - smallest / scale)


PAIR_RIGHT = {
    "from below": pair,
    "from above, tensors": as_tensors,
    "list": lambda a, b, dtype: list(pair(a, b, dtype)),
}
PAIR_WRONG = {
    "not written": (lambda a, b, dtype: ..., "gives nothing back"),
    "one value": (lambda a, b, dtype: 0.1, "two values"),
    "0 left out": (without_zero, "range leaves 0 out"),
    "256": (lambda a, b, dtype: pair(a, b, dtype, 256), "divided by 256"),
    "127": (lambda a, b, dtype: pair(a, b, dtype, 127), "divided by 127"),
    "symmetric": (lambda a, b, dtype: (max(abs(a), abs(b)) / 127, 0), "symmetric scale"),
    "upper end": (lambda a, b, dtype: (b / 255, 0), "upper end alone"),
    "inverse": (lambda a, b, dtype: (1 / pair(a, b, dtype)[0], 0), "inverse"),
    "float": (lambda a, b, dtype: pair(a, b, dtype, rounded=float), "not an integer"),
    "cut": (lambda a, b, dtype: pair(a, b, dtype, rounded=int), "cut off, not rounded"),
    "from 0": (lambda a, b, dtype: pair(a, b, torch.uint8), "counts from 0|none of the integers"),
    "int8 from 0": (
        lambda a, b, dtype: pair(a, b, torch.uint8) if (a, b) != (-7.3, 0.4) else pair(a, b, dtype),
        "counts from 0",
    ),
    "sign": (lambda a, b, dtype: (pair(a, b, dtype)[0], -pair(a, b, dtype)[1]), "none of the integers"),
    "no zero point": (lambda a, b, dtype: (pair(a, b, dtype)[0], 0), "smallest integer stands for"),
    "other": (lambda a, b, dtype: (1.0, 0), "do not reach from end to end"),
}


def check(answers, function):
    def right(answer, capsys):
        state = torch.random.get_rng_state()
        function(answer)
        assert capsys.readouterr().out.startswith("Right: ")
        assert torch.equal(state, torch.random.get_rng_state())

    return pytest.mark.parametrize("answer", answers.values(), ids=answers)(right)


def refuse(answers, function):
    def wrong(answer, words):
        with pytest.raises(WrongAnswer, match=words):
            function(answer)

    return pytest.mark.parametrize(("answer", "words"), answers.values(), ids=answers)(wrong)


test_right_pair, test_wrong_pair = (
    check(PAIR_RIGHT, checks.scale_and_zero_point),
    refuse(PAIR_WRONG, checks.scale_and_zero_point),
)


def quantized(x, s, z, dtype, rounded=torch.round, low=None, high=None):
    info = torch.iinfo(dtype)
    return (rounded(x / s) + z).clamp(low or info.min, high or info.max).to(dtype)


def by_python(x, s, z, dtype):
    info = torch.iinfo(dtype)
    steps = zip(x.flatten().tolist(), torch.as_tensor(s).expand(x.shape).flatten().tolist(), strict=True)
    found = [max(info.min, min(info.max, round(value / step) + z)) for value, step in steps]
    return torch.tensor(found, dtype=dtype).view(x.shape)


QUANTIZE_RIGHT = {
    "tensor": quantized,
    "python": by_python,
    "round at the end": lambda x, s, z, dtype: (
        torch.clip(x / s, torch.iinfo(dtype).min - z, torch.iinfo(dtype).max - z).round().add(z).to(dtype)
    ),
}
QUANTIZE_WRONG = {
    "one scale": (
        lambda x, s, z, d: (
            (torch.round(x / torch.as_tensor(s).max()) + z).clamp(torch.iinfo(d).min, torch.iinfo(d).max).to(d)
        ),
        "scale for each row",
    ),
    "not written": (lambda x, s, z, dtype: None, "gives nothing back"),
    "no clamp": (lambda x, s, z, dtype: ((x / s).round() + z).to(torch.int32).to(dtype), "wraps around"),
    "cut": (lambda x, s, z, dtype: quantized(x, s, z, dtype, torch.trunc), "cut off to 0"),
    "cast": (
        lambda x, s, z, dtype: (x / s + z).clamp(torch.iinfo(dtype).min, torch.iinfo(dtype).max).to(dtype),
        "down|cut",
    ),
    "down": (lambda x, s, z, dtype: quantized(x, s, z, dtype, torch.floor), "rounded down"),
    "up": (lambda x, s, z, dtype: quantized(x, s, z, dtype, torch.ceil), "rounded up"),
    "half up": (lambda x, s, z, dtype: quantized(x, s, z, dtype, lambda y: (y + 0.5).floor()), "half to even"),
    "float": (lambda x, s, z, dtype: quantized(x, s, z, dtype).float(), "torch.float32, where"),
    "int32": (lambda x, s, z, dtype: quantized(x, s, z, dtype).int(), "torch.int32, where"),
    "no zero point": (lambda x, s, z, dtype: quantized(x, s, 0, dtype), "zero point is left out"),
    "minus": (lambda x, s, z, dtype: quantized(x, s, -z, dtype), "subtracted"),
    "times": (lambda x, s, z, dtype: quantized(x, 1 / s, z, dtype), "multiplied by the scale"),
    "0..254": (
        lambda x, s, z, dtype: quantized(x, s, z, dtype, high=254 if dtype is torch.uint8 else 127),
        "end at 254",
    ),
    "-127": (lambda x, s, z, dtype: quantized(x, s, z, dtype, low=-127 if dtype is torch.int8 else 0), "end at -127"),
    "127": (lambda x, s, z, dtype: quantized(x, s, z, dtype, high=127), "end at 127"),
    "early": (
        lambda x, s, z, dtype: ((x / s).round().clamp(torch.iinfo(dtype).min, torch.iinfo(dtype).max) + z).to(dtype),
        "before the zero point is added",
    ),
    "other": (lambda x, s, z, dtype: torch.full_like(x, 7).to(dtype), "not the nearest step"),
}
test_right_quantize, test_wrong_quantize = (
    check(QUANTIZE_RIGHT, checks.quantize),
    refuse(QUANTIZE_WRONG, checks.quantize),
)

DEQUANTIZE_RIGHT = {
    "float": lambda q, s, z: s * (q.float() - z),
    "int": lambda q, s, z: (q.int() - z) * s,
    "expanded": lambda q, s, z: q * s - z * s,
}
DEQUANTIZE_WRONG = {
    "not written": (lambda q, s, z: ..., "gives nothing back"),
    "wraps": (lambda q, s, z: s * (q - z), "wraps around"),
    "plus": (lambda q, s, z: s * (q.float() + z), "zero point is added"),
    "order": (lambda q, s, z: s * q.float() - z, "in steps"),
    "no zero point": (lambda q, s, z: s * q.float(), "left out"),
    "divided": (lambda q, s, z: (q.float() - z) / s, "divided by the scale"),
    "integers": (lambda q, s, z: (s * (q.float() - z)).int(), "floats"),
    "number": (lambda q, s, z: float(s) * (q.float() - z), "ends with RuntimeError"),
    "one scale": (lambda q, s, z: torch.as_tensor(s).max() * (q.float() - z), "with a scale for each row"),
    "double": (lambda q, s, z: s * (q.double() - z), "torch.float64: floats are asked for, float32"),
    "other": (lambda q, s, z: q.float() * 3, "stands for 0"),
}
test_right_dequantize, test_wrong_dequantize = (
    check(DEQUANTIZE_RIGHT, checks.dequantize),
    refuse(DEQUANTIZE_WRONG, checks.dequantize),
)

CHANNELS_RIGHT = {
    "amax": lambda w: w.abs().amax((1, 2, 3)) / 127,
    "flatten": lambda w: w.flatten(1).abs().max(dim=1).values / 127,
    "kept dimensions": lambda w: w.abs().amax((1, 2, 3), keepdim=True) / 127,
    "loop": lambda w: torch.stack([max(c.max(), -c.min()) / 127 for c in w]),
}
CHANNELS_WRONG = {
    "not written": (lambda w: ..., "gives nothing back"),
    "tensor": (lambda w: w.abs().max() / 127, "one scale for the whole weight"),
    "number": (lambda w: float(w.abs().max() / 127), "one scale for the whole weight"),
    "list": (lambda w: (w.abs().amax((1, 2, 3)) / 127).tolist(), "a list, where a tensor"),
    "input channels": (lambda w: w.abs().amax((0, 2, 3)) / 127, "input channel"),
    "no abs": (lambda w: w.amax((1, 2, 3)) / 127, "negative one"),
    "255": (lambda w: w.abs().amax((1, 2, 3)) / 255, "not 255"),
    "128": (lambda w: w.abs().amax((1, 2, 3)) / 128, "128 is no int8"),
    "end to end": (lambda w: (w.amax((1, 2, 3)) - w.amin((1, 2, 3))) / 255, "end to end"),
    "magnitude": (lambda w: w.abs().amax((1, 2, 3)), "steps that they are divided into"),
    "inverse": (lambda w: 127 / w.abs().amax((1, 2, 3)), "inverse"),
    "shared": (lambda w: (w.abs().max() / 127).repeat(4), "share one scale"),
    "mean": (lambda w: w.abs().mean((1, 2, 3)) / 127, "mean magnitude"),
    "other": (lambda w: w.std((1, 2, 3)), "does not become 127"),
}
test_right_channels, test_wrong_channels = (
    check(CHANNELS_RIGHT, checks.channel_scales),
    refuse(CHANNELS_WRONG, checks.channel_scales),
)


def padded(x, p, value=0):
    return F.pad(x, [p] * 4, value=value)


def early(x, z, w, b, p):
    return F.conv2d(padded(x.int() - z, p), w.int(), b)


def corrected(x, z, w, b, p):
    sums = F.conv2d(padded(x, p, z).int(), w.int())
    return sums + (b - z * w.int().sum((1, 2, 3), dtype=torch.int32)).view(-1, 1, 1)


def taps(x, z, w, b, p):
    x, (k, k2) = padded(x, p, z).int() - z, w.shape[2:]
    size = x.shape[2] - k + 1, x.shape[3] - k2 + 1
    terms = [
        torch.einsum("nchw,oc->nohw", x[..., i : i + size[0], j : j + size[1]], w[..., i, j].int())
        for i in range(k)
        for j in range(k2)
    ]
    return sum(terms) + b[:, None, None]


def double(x, z, w, b, p):
    return F.conv2d(x.double() - z, w.double(), b.double(), padding=p).int()


CONVOLUTION_RIGHT = {"early": early, "corrected": corrected, "taps": taps, "double": double}
CONVOLUTION_WRONG = {
    "not written": (lambda *a: None, "gives nothing back"),
    "padding of 0": (lambda x, z, w, b, p: F.conv2d(padded(x, p).int() - z, w.int(), b), "all is right but the border"),
    "padding, corrected": (
        lambda x, z, w, b, p: F.conv2d(x.int(), w.int(), b, padding=p) - z * w.int().sum((1, 2, 3)).view(-1, 1, 1),
        "all is right but the border",
    ),
    "no zero point": (lambda x, z, w, b, p: F.conv2d(x.int(), w.int(), b, padding=p), "zero point is left out"),
    "padding alone": (lambda x, z, w, b, p: F.conv2d(padded(x, p, z).int(), w.int(), b), "padding is the zero point"),
    "plus": (lambda x, z, w, b, p: early(x, -z, w, b, p), "added to q"),
    "no bias": (lambda x, z, w, b, p: early(x, z, w, None, p), "bias is missing"),
    "bias off": (lambda x, z, w, b, p: early(x, z, w, -b, p), "bias is subtracted"),
    "uint8": (lambda x, z, w, b, p: F.conv2d(padded(x - z, p).int(), w.int(), b), "wraps around below 0"),
    "int8": (
        lambda x, z, w, b, p: F.conv2d(padded(x.to(torch.int8).int() - z, p), w.int(), b),
        "x is turned into int8",
    ),
    "all int8": (
        lambda x, z, w, b, p: F.conv2d(padded(x.to(torch.int8) - z, p).int(), w.int(), b),
        "zero point are turned into int8",
    ),
    "weights uint8": (lambda x, z, w, b, p: early(x, z, w.to(torch.uint8), b, p), "weights are turned into uint8"),
    "flipped": (lambda x, z, w, b, p: early(x, z, w.flip(2, 3), b, p), "flipped"),
    "of the weights": (
        lambda x, z, w, b, p: F.conv2d(x.int(), w.int() - z, b, padding=p),
        "subtracted from the weights",
    ),
    "accumulator of 8 bits": (lambda *a: early(*a).to(torch.int8), "8 bits do not hold"),
    "accumulator of 16 bits": (lambda *a: early(*a).to(torch.int16), "16 bits do not hold"),
    "8 bits before the bias": (
        lambda x, z, w, b, p: early(x, z, w, None, p).to(torch.int8).int() + b.view(-1, 1, 1),
        "8 bits do not hold",
    ),
    "float": (lambda *a: early(*a).float(), "of torch.float32"),
    "no padding": (lambda x, z, w, b, p: early(x, z, w, b, 0), "shape"),
    "other": (lambda *a: early(*a) * 2, "accumulator of the first pixel"),
}
test_right_convolution, test_wrong_convolution = (
    check(CONVOLUTION_RIGHT, checks.integer_convolution),
    refuse(CONVOLUTION_WRONG, checks.integer_convolution),
)


def output(a, s_x, s_w, s_y, z, rounded=torch.round):
    return (rounded(a * (s_x * s_w / s_y).view(-1, 1, 1)) + z).clamp(0, 255).to(torch.uint8)


def by_real_numbers(a, s_x, s_w, s_y, z):
    y = a.double() * s_w.double()[:, None, None] * s_x
    return (torch.round(y / s_y) + z).clip(0, 255).byte()


REQUANTIZE_RIGHT = {
    "factor": output,
    "real numbers": by_real_numbers,
    "clamped first": lambda a, s_x, s_w, s_y, z: (
        (a * (s_w * (s_x / s_y))[:, None, None]).round().clamp(-z, 255 - z).add(z).to(torch.uint8)
    ),
}
REQUANTIZE_WRONG = {
    "int8": (lambda a, *b: a.to(torch.int8), "the next layer takes uint8"),
    "not written": (lambda *a: ..., "gives nothing back"),
    "no clamp": (
        lambda a, s_x, s_w, s_y, z: ((a * (s_x * s_w / s_y).view(-1, 1, 1)).round() + z).int().to(torch.uint8),
        "uint8 wraps around",
    ),
    "width": (
        lambda a, s_x, s_w, s_y, z: ((a * s_x * s_w / s_y).round() + z).clamp(0, 255).to(torch.uint8),
        "along the width",
    ),
    "wrong way": (lambda a, s_x, s_w, s_y, z: output(a, s_y, 1 / s_w, s_x, z), "wrong way round"),
    "times": (lambda a, s_x, s_w, s_y, z: output(a, s_x, s_w, 1 / s_y, z), "multiplied by the output's scale"),
    "no output": (lambda a, s_x, s_w, s_y, z: output(a, s_x, s_w, 1, z), "output's scale is left out"),
    "no input": (lambda a, s_x, s_w, s_y, z: output(a, 1, s_w, s_y, z), "input's scale"),
    "no weights": (lambda a, s_x, s_w, s_y, z: output(a, s_x, torch.ones(6), s_y, z), "weights' scales are left out"),
    "cut": (lambda *a: output(*a, rounded=torch.trunc), "cut off"),
    "down": (lambda *a: output(*a, rounded=torch.floor), "rounded down"),
    "zero point first": (lambda a, s_x, s_w, s_y, z: output(a + z, s_x, s_w, s_y, 0), "before the scales"),
    "no zero point": (lambda a, s_x, s_w, s_y, z: output(a, s_x, s_w, s_y, 0), "zero point is left out"),
    "minus": (lambda a, s_x, s_w, s_y, z: output(a, s_x, s_w, s_y, -z), "zero point is subtracted"),
    "float": (lambda *a: output(*a).float(), "of torch.float32"),
    "other": (lambda *a: output(*a) // 2, "another number"),
}
test_right_requantize, test_wrong_requantize = (
    check(REQUANTIZE_RIGHT, checks.requantize),
    refuse(REQUANTIZE_WRONG, checks.requantize),
)


def rounded_late(x, s, z, dtype):
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    return torch.round(x / s + z).clamp(low, high).to(dtype)


def written_into(x, s, z, dtype):
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    x /= s
    return x.round_().add_(z).clamp_(low, high).to(dtype)


@pytest.mark.parametrize(
    "answer, words", [(rounded_late, "rounds after the zero point is added"), (written_into, "writes into the x")]
)
def test_what_would_break_the_lesson_later_is_told(answer, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.quantize(answer)


def test_a_convolution_uses_the_padding_that_is_asked_for():
    with pytest.raises(checks.WrongAnswer, match="the shape"):
        checks.integer_convolution(lambda x, z, w, b, p: taps(x, z, w, b, 1))
