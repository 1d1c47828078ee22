"""Checks of what a student writes in the lessons. Each takes the student's answer, says in a line that it is right, or
raises `WrongAnswer`, which says what is wrong and never how it is done right."""

from sg_resnets.course.checks.answers import WrongAnswer, begin, guess
from sg_resnets.course.checks.blocks import block, residual_block, unrolled
from sg_resnets.course.checks.gradients import (
    gradient_probe,
    relu_stack,
    skip_gradient,
    through_jacobians,
    variances,
    weight_times_gradient,
)
from sg_resnets.course.checks.inside import block_deleted, branch_shares, direction, gradient_shares, share_of_paths

__all__ = [
    "WrongAnswer",
    "begin",
    "block",
    "block_deleted",
    "branch_shares",
    "direction",
    "gradient_probe",
    "gradient_shares",
    "guess",
    "relu_stack",
    "residual_block",
    "share_of_paths",
    "skip_gradient",
    "through_jacobians",
    "unrolled",
    "variances",
    "weight_times_gradient",
]
