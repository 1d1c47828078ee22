"""Checks of what a student writes in the lessons. Each takes the student's answer, says in a line that it is right, or
raises `WrongAnswer`, which says what is wrong and never how it is done right."""

from sg_resnets.course.checks.answers import WrongAnswer, begin, guess
from sg_resnets.course.checks.depth import copying, plain_net, train_step
from sg_resnets.course.checks.pictures import accuracy_and_macro_recall, class_weights, split, statistics
from sg_resnets.course.checks.recipes import curves, recipe, schedule

__all__ = [
    "WrongAnswer", "accuracy_and_macro_recall", "begin", "class_weights", "copying", "curves", "guess", "plain_net",
    "recipe", "schedule", "split", "statistics", "train_step",
]  # fmt: skip
