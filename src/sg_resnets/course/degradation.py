"""The degradation problem: training and test curves of plain and residual twins by depth.

He et al. 2015, figures 1 and 6. A deeper plain net is worse on the *training* data, so it is not overfitting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

from sg_resnets.runs.curves import Runs
from sg_resnets.utils.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rows(curves: Mapping[str, Runs]) -> list[dict[str, Any]]:
    """The curves as rows of a table: network, seed's place, and the figures of each epoch."""
    return [
        {"network": name, "run": i, **asdict(record)}
        for name, runs in curves.items()
        for i, run in enumerate(runs)
        for record in run
    ]


def draw_accuracies(accuracies: Mapping[str, Sequence[float]], title: str = "") -> "Figure":
    """Return a figure: a diamond for each variant's mean accuracy, a dot for each seed; the title names the best if
    none is given."""
    figure = new_figure(7, 0.38 * len(accuracies) + 1.2)
    axes = figure.subplots()
    for y, (_, values) in enumerate(accuracies.items()):
        axes.plot([100 * fmean(values)], [y], "D", color=COLOURS[0] if y == 0 else COLOURS[1], markersize=8)
        axes.plot([100 * value for value in values], [y] * len(values), "o", color="black", markersize=3)
    best = max(accuracies, key=lambda name: fmean(accuracies[name]))
    title = title or f"The best of {len(accuracies)}: {best}, {100 * fmean(accuracies[best]):.1f} %"
    axes.set_yticks(range(len(accuracies)), list(accuracies))
    axes.set(xlabel="test accuracy (%)", ylim=(len(accuracies) - 0.5, -0.5), title=title)
    axes.grid(alpha=0.3)
    return figure
