"""How often something is done: every so many minutes, or steps."""

import re
import time
from dataclasses import dataclass, field
from typing import Any

from sg_resnets.utils.checks import Check

_SECONDS = {"s": 1, "min": 60, "h": 3600}
_WORDS = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(_SECONDS)}|steps)")


def _parts(value: Any) -> tuple[float, str] | None:
    match = _WORDS.fullmatch(value) if isinstance(value, str) else None
    number, unit = (float(match[1]), match[2]) if match else (0.0, "")
    return (number, unit) if number > 0 and (unit != "steps" or number.is_integer()) else None


INTERVAL = Check(lambda value: _parts(value) is not None, "a time or a number of steps, such as 10min, 30s or 500steps")


@dataclass
class Interval:
    """An interval of time or of steps, which begins when the last one has ended; without either it never ends."""

    seconds: float | None = None
    steps: int | None = None
    _began: tuple[int, float] = field(default_factory=lambda: (0, time.monotonic()))

    @classmethod
    def parse(cls, value: Any) -> "Interval":
        """Return the interval that a recipe gives: `10min`, `30s`, `1h`, `500steps`, or None for none.

        Raises:
            SgResnetsError: it is none of these.
        """
        if value is None:
            return cls()
        INTERVAL("save_every", value)
        number, unit = _parts(value) or (0, "")
        return cls(steps=int(number)) if unit == "steps" else cls(seconds=number * _SECONDS[unit])

    def is_over(self, step: int) -> bool:
        """Whether it has ended, `step` steps after the first one began."""
        first, time_then = self._began
        if self.steps is not None:
            return step - first >= self.steps
        return self.seconds is not None and time.monotonic() - time_then >= self.seconds

    def begin(self, step: int) -> None:
        """Let the next one begin."""
        self._began = step, time.monotonic()
