"""Loss and accuracy of both splits by epoch, as a table (`curves.csv`) and a picture (`curves.png`) in a run's folder.

The training figures are the host's: averages over the epoch, taken while the weights were still moving and the batches
were augmented. So early in training they lie below the test figures; that is no error.
"""

import csv
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sg_resnets.errors import SgResnetsError

# Okabe and Ito's palette, told apart by the colour-blind.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TRAIN_COLOUR, TEST_COLOUR = COLOURS[:2]


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
    if not os.path.exists(path):
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


def write_rows(rows: list[dict[str, Any]], path: str | Path) -> None:
    """Write dicts of the same keys as CSV, whole or not at all."""
    from sg_resnets.compat.atomic_checkpoints import whole_file

    with whole_file(path) as beside, open(beside, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def draw_curves(records: list[EpochRecord], title: str):
    """A matplotlib figure of two panels, loss and accuracy by epoch; needs no display."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    figure.suptitle(title)
    epochs = [record.epoch for record in records]
    for axes, quantity, unit, scale in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("nats", "%"), (1, 100), strict=True
    ):
        for split, colour, marker in (("train", TRAIN_COLOUR, "o"), ("test", TEST_COLOUR, "s")):
            values = [scale * getattr(record, f"{split}_{quantity}") for record in records]
            axes.plot(epochs, values, color=colour, marker=marker, markersize=4, label=split)
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{quantity} ({'cross-entropy, ' if quantity == 'loss' else ''}{unit})")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
