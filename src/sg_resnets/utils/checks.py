"""Validators: what a value from YAML or from an argument may be, and the words that a message has for it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sg_resnets.utils.errors import SgResnetsError


@dataclass(frozen=True)
class Check:
    """`allows` decides about a value; `words` complete the sentence 'must be ...'."""

    allows: Callable[[Any], bool]
    words: str

    def __call__(self, name: str, value: Any) -> Any:
        """Return `value`.

        Raises:
            SgResnetsError: it is not allowed.
        """
        if not self.allows(value):
            raise SgResnetsError(self.refusal(name, value))
        return value

    def refusal(self, name: str, value: Any) -> str:
        """Return the line that refuses a value."""
        return f"{name}={value!r}: must be {self.words}"


def is_integer(value: Any) -> bool:
    """Whether a value is an integer; booleans are not numbers here."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; booleans are not numbers here."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def integer(least: int, below: int | None = None) -> Check:
    """An integer n with least <= n < below."""
    words = f"an integer >= {least}" if below is None else f"an integer from {least} to {below - 1}"
    return Check(lambda value: is_integer(value) and least <= value and (below is None or value < below), words)


def number(words: str, allows: Callable[[float], bool]) -> Check:
    """A finite number for which `allows` holds."""
    return Check(lambda value: is_number(value) and allows(value), words)


def one_of(*valid: str) -> Check:
    """One of these names."""
    return Check(lambda value: value in valid, "one of " + ", ".join(valid))


BOOLEAN = Check(lambda value: isinstance(value, bool), "True or False")
FINITE = number("a number", lambda value: True)
POSITIVE = number("a number > 0", lambda value: value > 0)
NOT_NEGATIVE = number("a number >= 0", lambda value: value >= 0)
PROBABILITY = number("a number from 0 to 1", lambda value: 0 <= value <= 1)
BELOW_ONE = number("a number >= 0 and < 1", lambda value: 0 <= value < 1)
