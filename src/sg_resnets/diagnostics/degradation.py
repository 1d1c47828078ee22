"""The degradation problem: training and test curves of plain and residual twins by depth.

He et al. 2015, figures 1 and 6. A deeper plain net is worse on the *training* data, so it is not overfitting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sg_resnets.diagnostics.curves import COLOURS, EpochRecord

Curves = Mapping[str, Sequence[Sequence[EpochRecord]]]  # for each network the runs, one for each seed


def rows(curves: Curves) -> list[dict[str, Any]]:
    """The curves as rows of a table: network, seed's place, and the figures of each epoch."""
    return [
        {"network": name, "run": i, **asdict(record)}
        for name, runs in curves.items()
        for i, run in enumerate(runs)
        for record in run
    ]


def draw_degradation(curves: Curves, title: str) -> Any:
    """A matplotlib figure: training and test accuracy by epoch, means over the seeds with their standard deviation."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8.5, 3.8), layout="constrained")
    figure.suptitle(title)
    for axes, split in zip(figure.subplots(1, 2, sharey=True), ("train", "test"), strict=True):
        for (name, runs), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
            epochs = [record.epoch for record in runs[0]]
            values = 100 * np.array([[getattr(record, f"{split}_accuracy") for record in run] for run in runs])
            mean, spread = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(epochs))
            style = "--" if name.startswith("plain") else "-"
            axes.plot(epochs, mean, style, color=colour, marker=".", label=name)
            axes.fill_between(epochs, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
        axes.set(xlabel="epoch", ylabel=f"{'training' if split == 'train' else 'test'} accuracy (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def draw_bars(accuracies: Mapping[str, Sequence[float]], title: str = "") -> Any:
    """A matplotlib figure: one bar for each variant, its mean accuracy, and a dot for each seed; the title names the
    best if none is given."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.38 * len(accuracies) + 1.2), layout="constrained")
    axes = figure.subplots()
    for y, (_, values) in enumerate(accuracies.items()):
        axes.barh(y, 100 * float(np.mean(values)), color=COLOURS[0] if y == 0 else COLOURS[5])
        axes.plot([100 * value for value in values], [y] * len(values), "o", color="black", markersize=3)
    best = max(accuracies, key=lambda name: float(np.mean(accuracies[name])))
    title = title or f"The best of {len(accuracies)}: {best}, {100 * float(np.mean(accuracies[best])):.1f} %"
    lowest = min(min(values) for values in accuracies.values())
    axes.set_yticks(range(len(accuracies)), list(accuracies))
    axes.set(xlabel="test accuracy (%)", xlim=(max(0, 100 * lowest - 5), None), title=title)
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
    return figure
