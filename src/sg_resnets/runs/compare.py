"""Compares runs: accuracy, time and parameters in a table, their curves in one picture, mean and spread over seeds."""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sg_resnets.runs.checkpoints import read
from sg_resnets.runs.curves import EpochRecord, draw_runs, read_curves
from sg_resnets.runs.find import BEST, runs_with
from sg_resnets.utils.errors import SgResnetsError

# Keys in which two runs of the same thing may differ.
_ALIKE = frozenset(
    ("seed", "ckpt_root_dir", "experiment_name", "run_id", "resume", "resume_path", "ckpt_name", "hydra")
)
# What a network's state has besides parameters.
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


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


@dataclass(frozen=True)
class _Run:
    """What is kept of a run: `settings` by dotted key, without those of _ALIKE, and its seeds as text."""

    folder: Path
    settings: dict[str, Any]
    seeds: str
    parameters: int
    curves: list[EpochRecord]

    @property
    def experiment(self) -> Path:
        return self.folder.parent if self.folder.name.startswith("RUN_") else self.folder

    @property
    def smoke(self) -> str:
        return " (smoke)" if self.settings.get("smoke") else ""


def compare(paths: Sequence[Path]) -> list[Row]:
    """A row for each setting found in these folders (runs, or experiments with several), the teachers' last; paths
    that hold no run are left out (`without_runs`).

    A run is taken once, however often its path is given. Of an experiment's runs with the same settings and seed only
    the latest counts: it was run again. Experiments with the same settings are one row, whatever their names, unless
    they share a seed: then the name is what is compared, and each has its row.

    Raises:
        SgResnetsError: there is no run that has a checkpoint and curves in any of them, or one cannot be read.
    """
    folders = dict.fromkeys(folder for path in paths for folder in _runs(path))
    if not folders:
        raise SgResnetsError(
            f"no run with ckpt_best.pth and curves.csv in {', '.join(map(str, paths))}: give a run's folder, or an "
            "experiment's"
        )
    latest: dict[tuple[str, Path, str], _Run] = {}
    for run in map(_read, folders):
        key = json.dumps(run.settings, sort_keys=True), run.experiment, run.seeds
        latest[key] = max(latest.get(key, run), run, key=lambda one: one.folder.name)
    settled: dict[tuple[str, Path | None], list[_Run]] = {}
    for (settings, experiment, _), run in latest.items():
        seeds = [seed for others, _, seed in latest if others == settings]
        shared = len(set(seeds)) < len(seeds)
        settled.setdefault((settings, experiment if shared else None), []).append(run)
    named: dict[str, list[list[_Run]]] = {}
    for runs in settled.values():
        named.setdefault(_name(runs), []).append(runs)
    rows = [_row(*pair) for name, groups in named.items() for pair in zip(_labels(name, groups), groups, strict=True)]
    return rows + _teachers(latest.values())


def without_runs(paths: Sequence[Path]) -> list[Path]:
    """Those of the paths that hold no run with a checkpoint and curves, but for files (`checkpoints/*`)."""
    return [path for path in paths if not _runs(path) and not path.is_file()]


def _runs(path: Path) -> list[Path]:
    return [run.resolve() for run in reversed(runs_with(path, BEST, "curves.csv"))]


def _read(folder: Path) -> _Run:
    state = read(folder / BEST)
    recipe = state.get("recipe", {})
    values = dict(_flat(recipe)) if recipe else {"run": folder.name}  # without a recipe no two are known to be alike
    learnt = values.get("quantization_params.selective_quantizer_params.learn_amax")
    no_parameters = _BUFFERS if learnt else (*_BUFFERS, "amax")  # a quantiser's range
    return _Run(
        folder=folder,
        settings={key: value for key, value in values.items() if _ALIKE.isdisjoint(key.split("."))},
        seeds=str(sorted((key, value) for key, value in values.items() if key.split(".")[-1] == "seed")),
        parameters=sum(t.numel() for key, t in state["net"].items() if key.split(".")[-1] not in no_parameters),
        curves=read_curves(folder / "curves.csv"),
    )


def _flat(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in recipe.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _name(runs: Sequence[_Run]) -> str:
    """The experiment's name, the first one's of several."""
    first, *others = dict.fromkeys(run.experiment for run in runs)
    return first.name + (f" and {len(others)} more" if others else "") + runs[0].smoke


def _labels(name: str, groups: Sequence[Sequence[_Run]]) -> list[str]:
    """The name; of several rows with the same one, the values of the fewest keys that tell them apart too, or where
    all values are the same, their folder."""
    labels = [name] * len(groups)
    settings = [{**runs[0].settings, "folder": runs[0].experiment} for runs in groups]
    keys = {key for one in settings for key in one}
    for key in sorted(keys, key=lambda key: (key == "folder", key.count("."), key)):
        longer = [
            f"{label} {key.rpartition('.')[2]}={one[key]}" if key in one else label
            for label, one in zip(labels, settings, strict=True)
        ]
        if len(set(longer)) > len(set(labels)):
            labels = longer
    return labels


def _row(label: str, runs: Sequence[_Run]) -> Row:
    return Row(
        label=label,
        architecture=runs[0].settings.get("architecture", ""),
        parameters=runs[0].parameters,
        final=[run.curves[-1].test_accuracy for run in runs],
        best=[max(record.test_accuracy for record in run.curves) for run in runs],
        seconds=[run.curves[-1].seconds for run in runs],
        curves=[run.curves for run in runs],
    )


def _teachers(runs: Iterable[_Run]) -> list[Row]:
    found: dict[tuple[str, int, float], Row] = {}
    for run in runs:
        if (run.folder / "teacher.json").is_file():
            report = json.loads((run.folder / "teacher.json").read_text())
            name = run.settings.get("teacher_architecture") or run.settings.get("architecture", "")  # of a QAT: itself
            accuracy = [report.get("Accuracy", float("nan"))]
            row = Row(f"teacher {name}{run.smoke}", name, report["parameters"], accuracy, accuracy, [], [])
            found[row.label, row.parameters, accuracy[0]] = row
    return list(found.values())


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The lines to print; accuracies in %, time in seconds, mean +- standard deviation over the runs."""
    width = max(len(row.label) for row in rows)
    yield (
        f"{'':<{width}} {'network':<18} {'parameters':>11} {'runs':>4} {'final accuracy':>15} {'best epoch':>15} "
        f"{'time':>7}"
    )
    for row in rows:
        runs = len(row.curves) or ""
        seconds = f"{statistics.fmean(row.seconds):,.0f} s" if row.seconds else ""
        final, best = (_percent(values) for values in (row.final, row.best))
        yield (
            f"{row.label:<{width}} {row.architecture:<18} {row.parameters:>11,} {runs:>4} {final:>15} {best:>15} "
            f"{seconds:>7}"
        )


def _percent(values: Sequence[float]) -> str:
    mean = 100 * statistics.fmean(values)
    return f"{mean:.2f} +- {100 * statistics.stdev(values):.2f}" if len(values) > 1 else f"{mean:.2f}"


def draw_comparison(rows: Sequence[Row]) -> Any:
    """A matplotlib figure of the curves, training and test; the title names the row with the best final accuracy."""
    shown = [row for row in rows if row.curves]
    best = max(shown, key=lambda row: statistics.fmean(row.final))
    words = [row.label.split() for row in shown]
    shared = set.intersection(*map(set, words))
    labels = [" ".join(w for w in one if w not in shared) or " ".join(one) for one in words]
    title = f"Highest final test accuracy: {best.label}, {_percent(best.final)} %"
    return draw_runs(list(zip(labels, (row.curves for row in shown), strict=True)), title)
