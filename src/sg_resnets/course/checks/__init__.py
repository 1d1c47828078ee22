"""Checks of what a student writes in the lessons. Each takes the student's answer, says in a line that it is right, or
raises `WrongAnswer`, which says what is wrong and never how it is done right."""

from sg_resnets.course.checks.answers import WrongAnswer, begin, guess
from sg_resnets.course.checks.blocks import block, residual_block, unrolled
from sg_resnets.course.checks.depth import copying, plain_net, train_step
from sg_resnets.course.checks.distillation import kd_gradient, kd_loss, softmax
from sg_resnets.course.checks.gradients import (
    gradient_probe,
    relu_stack,
    skip_gradient,
    through_jacobians,
    variances,
    weight_times_gradient,
)
from sg_resnets.course.checks.inside import block_deleted, branch_shares, direction, gradient_shares, share_of_paths
from sg_resnets.course.checks.integers import (
    channel_scales,
    dequantize,
    integer_convolution,
    quantize,
    requantize,
    scale_and_zero_point,
)
from sg_resnets.course.checks.pictures import accuracy_and_macro_recall, class_weights, split, statistics
from sg_resnets.course.checks.recipes import curves, recipe, schedule
from sg_resnets.course.checks.residual_rules import residual_rules

__all__ = [
    "WrongAnswer",
    "accuracy_and_macro_recall",
    "begin",
    "block",
    "block_deleted",
    "branch_shares",
    "channel_scales",
    "class_weights",
    "copying",
    "curves",
    "dequantize",
    "direction",
    "gradient_probe",
    "gradient_shares",
    "guess",
    "integer_convolution",
    "kd_gradient",
    "kd_loss",
    "plain_net",
    "quantize",
    "recipe",
    "relu_stack",
    "requantize",
    "residual_block",
    "residual_rules",
    "scale_and_zero_point",
    "schedule",
    "share_of_paths",
    "skip_gradient",
    "softmax",
    "split",
    "statistics",
    "through_jacobians",
    "train_step",
    "unrolled",
    "variances",
    "weight_times_gradient",
]
