"""Checks of what a student writes in the lessons. Each takes the student's answer, says in a line that it is right, or
raises `WrongAnswer`, which says what is wrong and never how it is done right."""

from sg_resnets.course.checks.answers import WrongAnswer, begin
from sg_resnets.course.checks.distillation import kd_gradient, kd_loss, softmax
from sg_resnets.course.checks.integers import (
    channel_scales,
    dequantize,
    integer_convolution,
    quantize,
    requantize,
    scale_and_zero_point,
)
from sg_resnets.course.checks.residual_rules import residual_rules

__all__ = [
    "WrongAnswer",
    "begin",
    "channel_scales",
    "dequantize",
    "integer_convolution",
    "kd_gradient",
    "kd_loss",
    "quantize",
    "requantize",
    "residual_rules",
    "scale_and_zero_point",
    "softmax",
]
