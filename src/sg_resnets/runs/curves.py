"""Loss and accuracy of both splits by epoch, as a table (`curves.csv`) and a picture (`curves.png`) in a run's folder.

The training figures are SuperGradients' own: averages over the epoch, taken while the weights were still moving and the
batches were augmented. So early in training they lie below the test figures; that is no error.
"""

import csv
import statistics
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.files import write_rows
from sg_resnets.utils.plots import COLOURS, TEST_COLOUR, TRAIN_COLOUR, epoch_axis, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = (("-", "o"), (":", "s"), ("-.", "^"), ((0, (5, 1, 1, 1, 1, 1)), "D"))  # the next where colours are used up
LEGEND_CHARACTERS, TITLE_CHARACTERS, LABEL_CHARACTERS = 110, 88, 60  # that fit into a figure of 8.5 inches


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a run; losses in nats, accuracies in 0..1, `seconds` of training so far, resumed or not."""

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float
    peak_memory_mib: float


def read_curves(path: str | Path) -> list[EpochRecord]:
    """The epochs recorded in a `curves.csv`; none if there is no such file.

    Raises:
        SgResnetsError: the file holds no epoch, or something else.
    """
    if not Path(path).is_file():
        return []
    names = [field.name for field in fields(EpochRecord)]
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        records = [EpochRecord(int(row["epoch"]), *(float(row[name]) for name in names[1:])) for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error):
        records = []
    if not records:
        raise SgResnetsError(f"{path} holds no curves, rows of {','.join(names)}: remove it, or restore it")
    return records


def write_curves(records: list[EpochRecord], path: str | Path) -> None:
    """Write `records` as CSV, whole or not at all."""
    write_rows([asdict(record) for record in records], path)


Runs = Sequence[Sequence[EpochRecord]]  # of one network, one for each seed


def draw_curves(records: Sequence[EpochRecord], title: str) -> "Figure":
    """Return a figure of two panels, loss and accuracy by epoch."""
    figure = new_figure(8, 3.4, title)
    epochs = [record.epoch for record in records]
    for axes, quantity, label, scale in zip(
        figure.subplots(1, 2),
        ("loss", "accuracy"),
        ("loss (cross-entropy, nats)", "accuracy (%)"),
        (1, 100),
        strict=True,
    ):
        for split, colour, marker in (("train", TRAIN_COLOUR, "o"), ("test", TEST_COLOUR, "s")):
            values = [scale * getattr(record, f"{split}_{quantity}") for record in records]
            axes.plot(epochs, values, color=colour, marker=marker, markersize=4, label=split)
        epoch_axis(axes)
        axes.set_ylabel(label)
        axes.legend()
    return figure


def accuracies_by_epoch(runs: Runs, split: str) -> dict[int, list[float]]:
    """Return the accuracies in % of all runs that have the epoch, by epoch; `split` is "train" or "test"."""
    values: dict[int, list[float]] = {}
    for record in sorted((record for run in runs for record in run), key=lambda record: record.epoch):
        values.setdefault(record.epoch, []).append(100 * getattr(record, f"{split}_accuracy"))
    return values


def draw_runs(networks: Collection[tuple[str, Runs]], title: str) -> "Figure":
    """Return a figure of training and test accuracy by epoch, (name, runs) for each network: means over the runs with
    their standard deviation. Plain networks are dashed. The figure grows with its legend, the panels do not shrink."""
    figure = new_figure(8.5, 3.8)
    for axes, split in zip(figure.subplots(1, 2, sharey=True), ("train", "test"), strict=True):
        for i, (name, runs) in enumerate(networks):
            turn, place = divmod(i, len(COLOURS))
            style, marker = STYLES[turn % len(STYLES)]
            style = "--" if name.startswith("plain") and turn == 0 else style
            values = accuracies_by_epoch(runs, split)
            mean = [statistics.fmean(each) for each in values.values()]
            spread = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in values.values()]
            low, high = ([m + sign * s for m, s in zip(mean, spread, strict=True)] for sign in (-1, 1))
            axes.plot(
                list(values), mean, color=COLOURS[place], linestyle=style, marker=marker, markersize=3,
                label=textwrap.fill(name, LABEL_CHARACTERS),
            )  # fmt: skip
            axes.fill_between(list(values), low, high, color=COLOURS[place], alpha=0.15, linewidth=0)
        epoch_axis(axes)
        axes.set_ylabel(f"{'training' if split == 'train' else 'test'} accuracy (%)")
    longest = min(LABEL_CHARACTERS, max(len(name) for name, _ in networks))
    columns = max(1, min(len(networks), LEGEND_CHARACTERS // (longest + 8)))
    legend = figure.legend(handles=axes.lines, loc="outside lower center", ncols=columns, fontsize=8, handlelength=4)
    heading = figure.suptitle(textwrap.fill(title, TITLE_CHARACTERS))
    pixels = sum(text.get_window_extent().height for text in (heading, legend))
    figure.set_figheight(3.3 + pixels / figure.dpi)
    return figure
