"""Checks of what a student writes in the lessons. Each takes the student's answer, says in a line that it is right, or
raises `WrongAnswer`, which says what is wrong and never how it is done right."""

from sg_resnets.course.checks.answers import WrongAnswer, begin, guess
from sg_resnets.course.checks.depth import plain_net, train_step

__all__ = ["WrongAnswer", "begin", "guess", "plain_net", "train_step"]
