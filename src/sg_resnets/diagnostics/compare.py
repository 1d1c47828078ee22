"""Compares runs: accuracy, time and parameters in a table, their curves in one picture, mean and spread over seeds."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_resnets.compat.safe_checkpoints import read_checkpoint
from sg_resnets.diagnostics.curves import EpochRecord, read_curves
from sg_resnets.errors import SgResnetsError

# Keys in which two runs of the same thing may differ.
_ALIKE = ("seed", "ckpt_root_dir", "experiment_name", "run_id", "resume", "resume_path", "ckpt_name", "hydra")


@dataclass(frozen=True)
class Row:
    """Runs that differ in the seed alone. Accuracies in 0..1 and seconds, one for each run; `best` is that of the best
    epoch on the test data, so it flatters; `final` is the last epoch's."""

    label: str
    architecture: str
    parameters: int
    final: Sequence[float]
    best: Sequence[float]
    seconds: Sequence[float]
    curves: Sequence[Sequence[EpochRecord]]


def compare(paths: Sequence[Path]) -> list[Row]:
    """A row for each setting found in these folders (runs, or experiments with several), the teachers' last; paths
    that hold no run are left out.

    Raises:
        SgResnetsError: there is no run that has a checkpoint and curves in any of them.
    """
    rows: list[Row] = []
    there = [path for path in paths if _runs(path)]
    if not there:
        raise SgResnetsError(
            f"no run with ckpt_best.pth and curves.csv in {', '.join(map(str, paths))}: give a run's folder, or an "
            "experiment's"
        )
    for path in there:
        groups: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
        for run in _runs(path):
            state = read_checkpoint(run / "ckpt_best.pth")
            settings = dict(_settings(state.get("recipe", {})))
            groups.setdefault(json.dumps(settings, sort_keys=True), []).append((run, state))
        names = _labels(path, [json.loads(key) for key in groups])
        rows += [_row(name, runs) for name, runs in zip(names, groups.values(), strict=True)]
    return rows + _teachers(there)


def _runs(path: Path) -> list[Path]:
    candidates = [path, *sorted(path.glob("RUN_*"))]
    return [run for run in candidates if (run / "ckpt_best.pth").is_file() and (run / "curves.csv").is_file()]


def _settings(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in recipe.items():
        if key in _ALIKE:
            continue
        if isinstance(value, Mapping) and value:
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _labels(path: Path, settings: list[dict[str, Any]]) -> list[str]:
    """The folder's name; where it holds several settings, the values of the fewest keys that tell them apart too."""
    name = path.name if not path.name.startswith("RUN_") else path.resolve().parent.name
    labels = [name] * len(settings)
    for key in sorted({key for one in settings for key in one}, key=lambda key: (key.count("."), key)):
        longer = [
            f"{label} {key.rpartition('.')[2]}={one[key]}" if key in one else label
            for label, one in zip(labels, settings, strict=True)
        ]
        if len(set(longer)) > len(set(labels)):
            labels = longer
    return labels


def _row(label: str, runs: list[tuple[Path, dict[str, Any]]]) -> Row:
    curves = [read_curves(run / "curves.csv") for run, _ in runs]
    state = runs[0][1]
    parameters = sum(t.numel() for key, t in state["net"].items() if "running_" not in key and "num_batches" not in key)
    return Row(
        label=label,
        architecture=state.get("recipe", {}).get("architecture", ""),
        parameters=parameters,
        final=[records[-1].test_accuracy for records in curves],
        best=[max(record.test_accuracy for record in records) for records in curves],
        seconds=[records[-1].seconds for records in curves],
        curves=curves,
    )


def _teachers(paths: Sequence[Path]) -> list[Row]:
    found: dict[tuple[str, int, float], Row] = {}
    for run in (run for path in paths for run in _runs(path)):
        if (run / "teacher.json").is_file():
            report = json.loads((run / "teacher.json").read_text())
            name = read_checkpoint(run / "ckpt_best.pth").get("recipe", {}).get("teacher_architecture", "")
            accuracy = [report.get("Accuracy", float("nan"))]
            row = Row(f"teacher {name}", name, report["parameters"], accuracy, accuracy, [], [])
            found[name, row.parameters, accuracy[0]] = row
    return list(found.values())


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The lines to print; accuracies in %, time in seconds, mean +- standard deviation over the runs."""
    wide = max(len(row.label) for row in rows)
    yield (
        f"{'':<{wide}} {'network':<18} {'parameters':>11} {'runs':>4} {'final accuracy':>15} {'best epoch':>15} "
        f"{'time':>7}"
    )
    for row in rows:
        runs = len(row.curves) or ""
        seconds = f"{statistics.fmean(row.seconds):,.0f} s" if row.seconds else ""
        final, best = (_percent(values) for values in (row.final, row.best))
        yield (
            f"{row.label:<{wide}} {row.architecture:<18} {row.parameters:>11,} {runs:>4} {final:>15} {best:>15} "
            f"{seconds:>7}"
        )


def _percent(values: Sequence[float]) -> str:
    mean = 100 * statistics.fmean(values)
    return f"{mean:.2f} +- {100 * statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"


def draw_comparison(rows: Sequence[Row]) -> Any:
    """A matplotlib figure of the curves, training and test; the title names the row with the best final accuracy."""
    from sg_resnets.diagnostics.degradation import draw_degradation

    shown = [row for row in rows if row.curves]
    best = max(shown, key=lambda row: statistics.fmean(row.final))
    words = [row.label.split() for row in shown]
    shared = set.intersection(*map(set, words))
    labels = [" ".join(w for w in one if w not in shared) or " ".join(one) for one in words]
    lengths = [min(map(len, row.curves)) for row in shown]
    runs = [[run[:length] for run in row.curves] for row, length in zip(shown, lengths, strict=True)]
    title = f"Highest final test accuracy: {best.label}, {_percent(best.final)} %"
    return draw_degradation(list(zip(labels, runs, strict=True)), title)
