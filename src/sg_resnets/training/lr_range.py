"""The learning rate range test: the loss over a rate that grows with each step, and which rate it suggests.

Smith, 'Cyclical Learning Rates for Training Neural Networks', 2017, section 3.3; that the rate grows exponentially,
that the loss is smoothed, and that the test ends at four times its minimum, is Gugger's ('How Do You Find A Good
Learning Rate', 2018) and fastai's. The suggestion is ours: the rate at which the loss has made four fifths of its fall.
"""

import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sg_resnets.utils.checks import POSITIVE, integer
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.plots import TEST_COLOUR, TRAIN_COLOUR, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMOOTHING = 0.9  # of the moving average of the losses
SHARE = 0.8  # of the fall, at which the rate is suggested
LEAST_FALL = 0.05  # of the loss at the start
LEAST_STEPS = 20  # of a curve
EDGE, LEAST_EDGE = 0.1, 5  # of a curve: its beginning, where the rates change nothing yet, and its end


def growing_rates(start: float, end: float, steps: int) -> list[float]:
    """Return as many rates as steps, each by the same factor larger than the one before.

    Raises:
        SgResnetsError: there are too few steps, or `start` is not below `end`.
    """
    integer(LEAST_STEPS)("--steps", steps)
    for name, rate in (("--start", start), ("--end", end)):
        POSITIVE(name, rate)
    if start >= end:
        raise SgResnetsError(f"--start {start:g} --end {end:g}: the rate grows, so the end must be the larger one")
    return [start * (end / start) ** (step / (steps - 1)) for step in range(steps)]


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the moving average of the losses, without the bias of its beginning (Kingma & Ba 2015, section 3)."""
    mean, averages = 0.0, []
    for step, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        averages.append(mean / (1 - SMOOTHING**step))
    return averages


def edge(steps: int) -> int:
    """Return how many steps are a curve's beginning, or its end."""
    return max(LEAST_EDGE, round(EDGE * steps))


def has_fallen(losses: Sequence[float], averages: Sequence[float], steps: int) -> bool:
    """Whether the smoothed loss has fallen since the beginning of a curve of so many steps: by a twentieth, and by more
    than single losses scatter there."""
    start = statistics.fmean(averages[: edge(steps)])
    return start - min(averages) > max(LEAST_FALL * abs(start), statistics.pstdev(losses[: edge(steps)]))


def diverges(losses: Sequence[float], steps: int) -> bool:
    """Whether the smoothed loss has exploded: it is four times its minimum, or it had fallen and is above its beginning
    again. `steps` is how many there will be at most."""
    averages = smoothed(losses)
    lowest, above = min(averages), averages[-1] > statistics.fmean(averages[: edge(steps)])
    explodes = averages[-1] - lowest > 3 * abs(lowest) or (above and has_fallen(losses, averages, steps))
    return explodes and len(losses) > LEAST_EDGE


@dataclass(frozen=True)
class RateCurve:
    """The rates that were tried and the loss at each; `diverges` says that the test ended as the loss exploded, or
    became NaN, and not as there were no more rates.

    Raises:
        SgResnetsError: there are too few of them.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    diverges: bool = False

    def __post_init__(self) -> None:
        if len(self.losses) < LEAST_STEPS:
            raise SgResnetsError(
                f"the loss diverged after {len(self.losses)} steps, too few to suggest a rate: give a lower --start; "
                "if that does not help, something is wrong with the data or the loss"
            )

    @cached_property
    def averages(self) -> list[float]:
        """The smoothed losses."""
        return smoothed(self.losses)

    @property
    def start(self) -> float:
        """The loss at the beginning."""
        return statistics.fmean(self.averages[: edge(len(self.losses))])

    @property
    def lowest(self) -> float:
        """The minimum of the smoothed losses."""
        return min(self.averages)

    def describe(self) -> str:
        """Return a line: the loss at first, at its lowest, and at the end."""
        place, last = self.rates[self.averages.index(self.lowest)], self.rates[-1]
        end = f"diverged at {last:.2g}" if self.diverges else f"{self.averages[-1]:.3g} at {last:.2g}"
        return f"loss: {self.start:.3g} at first, {self.lowest:.3g} at {place:.2g}, {end}"

    def suggest(self) -> float:
        """Return the rate at which the smoothed loss has made four fifths of its fall.

        Raises:
            SgResnetsError: the loss does not fall, or still falls at the last rate.
        """
        count = len(self.losses)
        if not has_fallen(self.losses, self.averages, count):
            raise SgResnetsError(
                f"the loss hardly falls between {self.rates[0]:g} and {self.rates[-1]:.2g}, from {self.start:.3g} to "
                f"{self.lowest:.3g}, which suggests no rate: try more --steps"
            )
        goal = self.start - SHARE * (self.start - self.lowest)
        place = next(i for i, loss in enumerate(self.averages) if loss <= goal)
        if place >= count - edge(count) and not self.diverges:
            raise SgResnetsError(f"the loss still falls at the last rate: give an --end above {self.rates[-1]:g}")
        return self.rates[place]


def draw_curve(curve: RateCurve, title: str, asked: float) -> "Figure":
    """Return a figure: the loss of each step over its rate, and the smoothed one; the rate that is suggested, if one
    is, and the one that the recipe has, `asked`."""
    figure = new_figure(7.5, 4, title)
    axes = figure.subplots()
    axes.plot(curve.rates, curve.losses, color="0.75", linewidth=0.8, label="each step")
    axes.plot(curve.rates, curve.averages, color=TRAIN_COLOUR, label="smoothed")
    axes.axvline(asked, color="0.3", linestyle=":", label=f"the recipe's rate, {asked:.2g}")
    with suppress(SgResnetsError):
        rate = curve.suggest()
        axes.axvline(rate, color=TEST_COLOUR, linestyle="--", label=f"suggested, {rate:.2g}")
        axes.plot(rate, curve.averages[curve.rates.index(rate)], color=TEST_COLOUR, marker="o")
    room = max(curve.start - curve.lowest, 0.1 * abs(curve.start))
    axes.set_ylim(min(curve.losses) - 0.1 * room, curve.start + 0.6 * room)  # an explosion would hide the fall
    axes.set_xscale("log")
    axes.set(xlabel="learning rate", ylabel="training loss")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
