"""The degradation problem: training and test curves of plain and residual twins by depth.

He et al. 2015, figures 1 and 6. A deeper plain net is worse on the *training* data, so it is not overfitting.
"""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sg_resnets.diagnostics.curves import COLOURS, EpochRecord

Runs = Sequence[Sequence[EpochRecord]]  # of one network, one for each seed
STYLES = (("-", "o"), (":", "s"), ("-.", "^"), ((0, (5, 1, 1, 1, 1, 1)), "D"))  # the next where colours are used up


def rows(curves: Mapping[str, Runs]) -> list[dict[str, Any]]:
    """The curves as rows of a table: network, seed's place, and the figures of each epoch."""
    return [
        {"network": name, "run": i, **asdict(record)}
        for name, runs in curves.items()
        for i, run in enumerate(runs)
        for record in run
    ]


def draw_degradation(curves: Collection[tuple[str, Runs]], title: str) -> Any:
    """A matplotlib figure: training and test accuracy by epoch, means over the seeds with their standard deviation.
    Plain networks are dashed. The figure grows with its legend, the panels do not shrink."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8.5, 3.8), layout="constrained")
    for axes, split in zip(figure.subplots(1, 2, sharey=True), ("train", "test"), strict=True):
        for i, (name, runs) in enumerate(curves):
            turn, place = divmod(i, len(COLOURS))
            style, marker = STYLES[turn % len(STYLES)]
            style = "--" if name.startswith("plain") and turn == 0 else style
            look = {"color": COLOURS[place], "linestyle": style, "marker": marker, "markersize": 3}
            epochs = [record.epoch for record in runs[0]]
            values = 100 * np.array([[getattr(record, f"{split}_accuracy") for record in run] for run in runs])
            mean, spread = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(epochs))
            axes.plot(epochs, mean, **look, label=textwrap.fill(name, 60))
            axes.fill_between(epochs, mean - spread, mean + spread, color=COLOURS[place], alpha=0.15, linewidth=0)
        axes.set(xlabel="epoch", ylabel=f"{'training' if split == 'train' else 'test'} accuracy (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
    longest = min(60, max(len(name) for name, _ in curves))
    columns = max(1, min(len(curves), 110 // (longest + 8)))  # 110 characters are as wide as the figure
    legend = figure.legend(handles=axes.lines, loc="outside lower center", ncols=columns, fontsize=8, handlelength=4)
    heading = figure.suptitle(textwrap.fill(title, 88))
    pixels = sum(text.get_window_extent().height for text in (heading, legend))
    figure.set_figheight(3.3 + pixels / figure.dpi)
    return figure


def draw_accuracies(accuracies: Mapping[str, Sequence[float]], title: str = "") -> Any:
    """A matplotlib figure: a diamond for each variant's mean accuracy, a dot for each seed; the title names the best if
    none is given."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.38 * len(accuracies) + 1.2), layout="constrained")
    axes = figure.subplots()
    for y, (_, values) in enumerate(accuracies.items()):
        axes.plot([100 * float(np.mean(values))], [y], "D", color=COLOURS[0] if y == 0 else COLOURS[1], markersize=8)
        axes.plot([100 * value for value in values], [y] * len(values), "o", color="black", markersize=3)
    best = max(accuracies, key=lambda name: float(np.mean(accuracies[name])))
    title = title or f"The best of {len(accuracies)}: {best}, {100 * float(np.mean(accuracies[best])):.1f} %"
    axes.set_yticks(range(len(accuracies)), list(accuracies))
    axes.set(xlabel="test accuracy (%)", ylim=(len(accuracies) - 0.5, -0.5), title=title)
    axes.grid(alpha=0.3)
    return figure
