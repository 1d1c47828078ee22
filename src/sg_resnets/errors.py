"""The one exception of this package: a mistake that the user can mend."""

import math
from collections.abc import Iterable
from typing import Any


class SgResnetsError(ValueError):
    """A mistake the user can mend; the message is one line: what is wrong, the valid choices, what to do."""


def choices(wrong: str, valid: Iterable[str], limit: int = 12) -> str:
    """What a message says of the valid choices: the nearest names where one is near, then the first few."""
    from difflib import get_close_matches

    listed = list(valid)
    near = get_close_matches(wrong, listed, n=3, cutoff=0.6)
    shown = ", ".join(listed[:limit]) + (f", ... ({len(listed)} in all)" if len(listed) > limit else "")
    return (f"did you mean {' or '.join(near)}? " if near else "") + f"valid: {shown}"


def is_number(value: Any) -> bool:
    """Whether a value from YAML is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole_number(name: str, value: Any, least: int, below: int | None = None) -> int:
    """`value`, if it is a whole number with least <= value < below; True and False are none.

    Raises:
        SgResnetsError: it is not.
    """
    limits = f"from {least} on" if below is None else f"from {least} to {below - 1}"
    if type(value) is not int or value < least or (below is not None and value >= below):
        raise SgResnetsError(f"{name}={value!r}: must be a whole number {limits}")
    return value
