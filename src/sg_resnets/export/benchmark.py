"""Compares ONNX files in each runtime that is here: accuracy, size, latency. What is timed is timed in turn, so that a
busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sg_resnets.export.onnx import FileInfo, read_info, size_of
from sg_resnets.export.runtimes import EXACT, NAMES, PROVIDERS, Loaded, installed, load_everywhere, overflows, versions
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hardware import cpu_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCHES = (1, 32)
UNKNOWN_SIZE = (224, 224)  # of the images of a file that does not say it
ROUNDS, ROUND_SECONDS = 15, 0.05
LARGEST_DROP = 0.01  # of the first file's accuracy: what loses more is no way to run the network
Predict = Callable[[np.ndarray], np.ndarray]  # normalised images (N, C, H, W) to logits (N, K)


@dataclass(frozen=True, eq=False)
class Measured:
    """One file in one runtime.

    Attributes:
        name: of the file.
        kind: "fp32", "ptq" or "qat".
        runtime, precision: what ran it, and what that computes in.
        size: bytes.
        milliseconds: of a batch by its size, one for each round.
        classes: what it named, (N,); None without data.
        accuracy: in 0..1; None without data.
        option, overflows: as in `Loaded`.
    """

    name: str
    kind: str
    runtime: str
    precision: str
    size: int
    milliseconds: Mapping[int, Sequence[float]]
    classes: np.ndarray | None = None
    accuracy: float | None = None
    option: str = ""
    overflows: bool = False

    @property
    def way(self) -> str:
        """How it was run, in words."""
        return f"{self.name} in {self.runtime}" + (f" with {self.option}" if self.option else "")

    def median(self, batch: int) -> float:
        return statistics.median(self.milliseconds[batch])

    def speed_up(self, other: "Measured", batch: int) -> tuple[float, float, float]:
        """How many times as fast as `other`: median and middle half over the rounds, as (low, median, high)."""
        pairs = zip(other.milliseconds[batch], self.milliseconds[batch], strict=True)
        low, middle, high = statistics.quantiles([theirs / ours for theirs, ours in pairs], n=4)
        return low, middle, high


def predictor(file: Loaded, info: FileInfo, data: FileInfo | None = None) -> Predict:
    """Runs a file on images that are normalised as `data` says, without it as the file's own, whatever it takes."""
    data = data or info

    def predict(images: np.ndarray) -> np.ndarray:
        if info.uint8_input:
            return file(to_pixels(images, data))
        if info.mean and data.mean and (info.mean, info.std) != (data.mean, data.std):
            (mean, std), (own_mean, own_std) = _by_channel(data), _by_channel(info)
            images = (images * std + mean - own_mean) / own_std
        return file(images)

    return predict


def to_pixels(images: np.ndarray, info: FileInfo) -> np.ndarray:
    """Normalised images as the pixels 0..255 that they were."""
    mean, std = _by_channel(info)
    return np.rint((images * std + mean) * 255).clip(0, 255).astype(np.uint8)


def _by_channel(info: FileInfo) -> list[np.ndarray]:
    return [np.asarray(values, np.float32).reshape(-1, 1, 1) for values in (info.mean, info.std)]


def predictions(loader: Iterable[Any], networks: Mapping[str, Predict]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels (N,) and the class that each network names, (N,), batch by batch."""
    labels: list[np.ndarray] = []
    named: dict[str, list[np.ndarray]] = {name: [] for name in networks}
    for images, target in loader:
        batch = np.ascontiguousarray(images.cpu().numpy())
        labels.append(target.cpu().numpy())
        for start in range(0, len(batch), BATCHES[-1]):  # which is known to fit
            for name, predict in networks.items():
                named[name].append(predict(batch[start : start + BATCHES[-1]]).argmax(1))
    return np.concatenate(labels), {name: np.concatenate(parts) for name, parts in named.items()}


def latencies(
    files: Sequence[Loaded], rounds: int = ROUNDS, size: Sequence[int] = UNKNOWN_SIZE
) -> list[dict[int, list[float]]]:
    """Milliseconds of a batch by its size, for each file: in turn in each round. `size` is the height and width of the
    images of those files in which they are free."""
    random = np.random.default_rng(0)
    measured: list[dict[int, list[float]]] = [{} for _ in files]
    for batch in BATCHES:
        works = [partial(file, noise(file, batch, size, random)) for file in files]
        repeats = [max(1, round(ROUND_SECONDS / _seconds(work, 2))) for work in works]
        for times in measured:
            times[batch] = []
        for _ in range(rounds):
            for times, work, count in zip(measured, works, repeats, strict=True):
                times[batch].append(1000 * _seconds(work, count))
    return measured


def noise(file: Loaded, batch: int, size: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """A batch as a file takes it, of images of `size` where that is free."""
    pixels = random.integers(0, 256, [batch, *_filled(file.shape[1:], (3, *size))], dtype=np.uint8)
    return pixels if file.uint8 else (pixels / 255).astype(np.float32)


def _filled(shape: Sequence[int], by: Sequence[int]) -> list[int]:
    """A shape with numbers of `by` where it is free."""
    return [side or other for side, other in zip(shape, by, strict=False)]


def _seconds(work: Callable[[], Any], count: int) -> float:
    """Seconds a call, the mean of `count`, after one to warm up."""
    work()
    start = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - start) / count


def measure(paths: Sequence[Path], loader: Iterable[Any] | None) -> tuple[list[Measured], list[str]]:
    """Measure files in each runtime that is here, the first file in ONNX Runtime first; and return what was left out, a
    line each. `loader` gives normalised images and labels, None leaves out the accuracy. Each file sees the images as
    it wants them; those of a loader that does not say how they are normalised are as the first one's, and so is
    the size of the images that files of free size are timed on.

    Raises:
        SgResnetsError: accuracies of files whose images have another size, or whose classes are others.
    """
    infos = {path: read_info(path) for path in paths}
    data = _described(loader, infos)
    files, left_out = list[Loaded](), list[str]()
    for path in infos:
        loaded, missing = load_everywhere(path)
        files += loaded
        left_out += missing
    files.sort(key=lambda file: list(NAMES.values()).index(file.runtime))
    size = _filled(files[0].shape[2:], infos[files[0].path].size or UNKNOWN_SIZE)
    for file in [file for file in files if file.runtime != NAMES["onnxruntime"]]:
        problem = _problem(file, size)
        if problem:
            files.remove(file)
            left_out.append(f"left out: {problem}")
    times = latencies(files, size=size)
    named: dict[str, np.ndarray] = {}
    if loader is not None:
        networks = {str(i): predictor(file, infos[file.path], data) for i, file in enumerate(files)}
        labels, named = predictions(loader, networks)
    ambiguous = len({path.name for path in infos}) < len(infos)
    rows = []
    for i, (file, milliseconds) in enumerate(zip(files, times, strict=True)):
        classes = named.get(str(i))
        rows.append(
            Measured(
                name=str(file.path) if ambiguous else file.path.name,
                kind=infos[file.path].kind,
                runtime=file.runtime,
                precision=file.precision,
                size=size_of(file.path),
                milliseconds=milliseconds,
                classes=classes,
                accuracy=None if classes is None else float((classes == labels).mean()),
                option=file.option,
                overflows=file.overflows,
            )
        )
    return rows, list(dict.fromkeys(left_out))


def _problem(file: Loaded, size: Sequence[int]) -> str | None:
    """Why a file cannot be run in its runtime on the largest batch, and which one can; None where it can."""
    random, why, batch = np.random.default_rng(0), "", BATCHES[-1]
    while batch:
        try:
            file(noise(file, batch, size, random))
        except SgResnetsError as error:
            why, batch = why or str(error), batch // 2
        else:
            return f"{why}; a batch of {batch} fits" if why else None
    return why


def _described(loader: Any, infos: Mapping[Path, FileInfo]) -> FileInfo:
    """What is known of the loader's images; the files' classes must be theirs."""
    first = next(iter(infos.values()))
    describe = getattr(getattr(loader, "dataset", None), "get_dataset_preprocessing_params", None)
    described = FileInfo.of(describe()) if describe else first
    data = described if described.mean else first
    for path, info in infos.items() if loader is not None else ():
        if info.classes and data.classes and list(info.classes) != list(data.classes):
            raise SgResnetsError(
                f"{path} has {len(info.classes)} classes ({info.classes[0]}, ...) that are not the test data's "
                f"{len(data.classes)} ({data.classes[0]}, ...): leave it out, or give --no-accuracy"
            )
    return data


def table(rows: Sequence[Measured]) -> Iterator[str]:
    """The lines to print: milliseconds are medians, the speed-up is over the first row."""
    widths = [max(len(getattr(row, key)) for row in rows) for key in ("name", "runtime", "precision")]
    widths[2] = max(widths[2], len("computes in"))
    heads = "".join(f"{f'batch {batch}':>12} {'times as fast':>22}" for batch in BATCHES)
    yield _left(widths, "", "", "computes in") + f" {'accuracy':>9} {'size':>10} {heads}"
    for row in rows:
        accuracy = "" if row.accuracy is None else f"{row.accuracy:.4f}"
        times = ""
        for batch in BATCHES:
            low, middle, high = row.speed_up(rows[0], batch)
            times += f"{row.median(batch):>9.3f} ms {f'{middle:.2f} ({low:.2f} to {high:.2f})':>22}"
        size = f"{row.size / 2**10:,.0f} KiB"
        yield _left(widths, row.name, row.runtime, row.precision) + f" {accuracy:>9} {size:>10} {times}"


def _left(widths: Sequence[int], *cells: str) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))


def fastest(rows: Sequence[Measured]) -> Iterator[str]:
    """A sentence for each batch size: what runs it the fastest here, of what is as accurate as the first; the most
    accurate of those whose middle halves overlap."""
    first = rows[0]
    lost = {row: (first.accuracy or 0) - (row.accuracy or 0) for row in rows}
    able = [row for row in rows if lost[row] <= LARGEST_DROP and not row.overflows]
    for batch in BATCHES:
        speeds = {row: row.speed_up(first, batch) for row in able}
        slowest = max(speeds.values(), key=lambda speed: speed[1])[0]
        alike = [row for row in able if speeds[row][2] >= slowest]
        best = max(alike, key=lambda row: (row.accuracy or 0, speeds[row][1]))
        said = f"the fastest here for {batch} at a time, on one thread: {best.way}, which computes in {best.precision}"
        if best is not first:
            times = "as fast, within the spread, as" if first in alike else f"{speeds[best][1]:.2f} times as fast as"
            said += f": {times} {first.name} in {first.runtime}"
        if best.accuracy is None or first.accuracy is None:
            said += ", accuracy not measured"
        else:
            said += f", accuracy {best.accuracy:.4f}" + ("" if best is first else f" ({first.accuracy:.4f})")
        others = [row.way for row in alike if row not in (best, first)]
        yield said + (f"; as fast, within the spread: {', '.join(others)}" if others else "")
    for row in rows:
        if lost[row] > LARGEST_DROP:
            yield f"not counted: {row.way} loses {100 * lost[row]:.1f} points"
        elif row.overflows:
            yield f"not counted: {row.way}, whose 8-bit kernels overflow on this CPU"


def describe_machine() -> str:
    """Return where the times were measured."""
    import torch

    gpu = len(set(installed()) & set(PROVIDERS)) > 1 and torch.cuda.is_available()
    return f"{cpu_name()}, one thread, {torch.cuda.get_device_name() + ', ' if gpu else ''}{', '.join(versions())}"


def warnings(paths: Iterable[Path]) -> Iterator[str]:
    """What a reader of the times, or who runs the files, has to know."""
    wide = [path.name for path in paths if overflows(path)]
    if wide:
        yield (
            f"{', '.join(wide)}: this CPU is not known to have VNNI or AMX; without them fast 8-bit kernels overflow "
            f"on full-range weights and give wrong classes: OpenVINO's, and ONNX Runtime's unless it is given "
            f"{EXACT}=1, as by `sg-resnets`: exact and slow. quantization_params.reduce_range=True is exact and fast "
            "in both."
        )


def draw(rows: Sequence[Measured], title: str) -> "Figure":
    """Return a figure: accuracy, size and time of each file."""
    from sg_resnets.utils.plots import COLOURS, new_figure

    figure = new_figure(9, 1.6 + 0.5 * len(rows), title)
    panels: list[tuple[str, list[Any], str]] = [
        ("test accuracy, %", [None if row.accuracy is None else 100 * row.accuracy for row in rows], "{:.2f}"),
        ("file, KiB", [row.size / 2**10 for row in rows], "{:,.0f}"),
        *((f"batch of {batch}, ms", [row.median(batch) for row in rows], "{:.3g}") for batch in BATCHES),
    ]
    panels = [panel for panel in panels if None not in panel[1]]
    alone = len({row.runtime for row in rows}) == 1
    names = [row.name if alone else f"{row.name}\n{row.runtime}, {row.precision}" for row in rows]
    for axes, (label, values, form) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        bars = axes.barh(
            range(len(rows)), values, tick_label=names, color=[COLOURS[i % len(COLOURS)] for i in range(len(rows))]
        )
        axes.bar_label(bars, [form.format(value) for value in values], padding=3)
        axes.set_xlabel(label)
        axes.set_xlim(0, 1.35 * max(values))
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    return figure
