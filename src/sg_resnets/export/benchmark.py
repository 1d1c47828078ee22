"""Compares ONNX files in ONNX Runtime: accuracy, size, latency. What is timed is timed in turn, so that a busy machine
slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sg_resnets.export.onnx import FileInfo, read_info
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hardware import cpu_name, has_int8_kernels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCHES = (1, 32)
ROUNDS, ROUND_SECONDS = 15, 0.05
Predict = Callable[[np.ndarray], np.ndarray]  # normalised images (N, C, H, W) to logits (N, K)


@dataclass(frozen=True)
class Measured:
    """One file. `accuracy` in 0..1, None without data; `milliseconds` of a batch by its size, one for each round."""

    name: str
    kind: str
    size: int
    accuracy: float | None
    milliseconds: Mapping[int, Sequence[float]]

    def median(self, batch: int) -> float:
        return statistics.median(self.milliseconds[batch])

    def speed_up(self, other: "Measured", batch: int) -> tuple[float, float, float]:
        """How many times as fast as `other`: median and middle half over the rounds, as (low, median, high)."""
        pairs = zip(other.milliseconds[batch], self.milliseconds[batch], strict=True)
        low, middle, high = statistics.quantiles([theirs / ours for theirs, ours in pairs], n=4)
        return low, middle, high


def session(path: Path, threads: int = 1) -> Any:
    """An ONNX Runtime session on the CPU; where its fast kernels would overflow, with those that do not.

    Raises:
        SgResnetsError: ONNX Runtime cannot run the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    exact = not has_int8_kernels() and not read_info(path).reduce_range  # with VNNI it would only be slow
    options.add_session_config_entry("session.x64quantprecision", "1" if exact else "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no class
        raise SgResnetsError(f"ONNX Runtime cannot run {path}: {' '.join(str(error).split())[:200]}") from None


def predictor(path: Path, info: FileInfo, data: FileInfo | None = None) -> Predict:
    """Runs a file on images that are normalised as `data` says, without it as the file's own, whatever it takes."""
    run, data = session(path), data or info

    def predict(images: np.ndarray) -> np.ndarray:
        if info.uint8_input:
            return _run(run, path, to_pixels(images, data))
        if info.mean and data.mean and (info.mean, info.std) != (data.mean, data.std):
            (mean, std), (own_mean, own_std) = _by_channel(data), _by_channel(info)
            images = (images * std + mean - own_mean) / own_std
        return _run(run, path, images)

    return predict


def _run(run: Any, path: Path, images: np.ndarray) -> np.ndarray:
    takes = run.get_inputs()[0]
    try:
        return run.run(None, {takes.name: images})[0]
    except Exception:  # its exceptions share no class
        shape = ", ".join(map(str, takes.shape))
        raise SgResnetsError(
            f"{path} takes one input of ({shape}), {takes.type}, and was given {images.shape}, {images.dtype}: compare "
            "files of the same images, with a free batch size"
        ) from None


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
        for name, predict in networks.items():
            named[name].append(predict(batch).argmax(1))
    return np.concatenate(labels), {name: np.concatenate(parts) for name, parts in named.items()}


def latencies(paths: Sequence[Path], rounds: int = ROUNDS) -> list[dict[int, list[float]]]:
    """Milliseconds of a batch by its size, for each file: one thread, the files in turn in each round."""
    runs = [session(path) for path in paths]
    random = np.random.default_rng(0)
    measured: list[dict[int, list[float]]] = [{} for _ in paths]
    for batch in BATCHES:
        works = []
        for run, path in zip(runs, paths, strict=True):
            takes = run.get_inputs()[0]
            shape = [batch, *(side if isinstance(side, int) else 224 for side in takes.shape[1:])]
            pixels = random.integers(0, 256, shape, dtype=np.uint8)
            images = pixels if takes.type == "tensor(uint8)" else (pixels / 255).astype(np.float32)
            works.append(lambda run=run, path=path, images=images: _run(run, path, images))
        repeats = [max(1, round(ROUND_SECONDS / _seconds(work, 2))) for work in works]
        for times in measured:
            times[batch] = []
        for _ in range(rounds):
            for times, work, count in zip(measured, works, repeats, strict=True):
                times[batch].append(1000 * _seconds(work, count))
    return measured


def _seconds(work: Callable[[], Any], count: int) -> float:
    """Seconds a call, the mean of `count`, after one to warm up."""
    work()
    start = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - start) / count


def measure(paths: Sequence[Path], loader: Iterable[Any] | None) -> list[Measured]:
    """Measure files; `loader` gives normalised images and labels, None leaves out the accuracy. Each file sees the
    images as it wants them; those of a loader that does not say how they are normalised are as the first one's.

    Raises:
        SgResnetsError: accuracies of files whose images have another size, or whose classes are others.
    """
    infos = [read_info(path) for path in paths]
    accuracies: list[float | None] = [None] * len(paths)
    if loader is not None:
        describe = getattr(getattr(loader, "dataset", None), "get_dataset_preprocessing_params", None)
        described = FileInfo.of(describe()) if describe else infos[0]
        data = described if described.mean else infos[0]
        for path, info in zip(paths, infos, strict=True):
            if info.classes and data.classes and list(info.classes) != list(data.classes):
                raise SgResnetsError(
                    f"{path} has {len(info.classes)} classes ({info.classes[0]}, ...) that are not the test data's "
                    f"{len(data.classes)} ({data.classes[0]}, ...): leave it out, or give --no-accuracy"
                )
        networks = {str(i): predictor(*pair, data) for i, pair in enumerate(zip(paths, infos, strict=True))}
        labels, named = predictions(loader, networks)
        accuracies = [float((named[str(i)] == labels).mean()) for i in range(len(paths))]
    times = latencies(paths)
    ambiguous = len({path.name for path in paths}) < len(paths)
    names = [str(path) if ambiguous else path.name for path in paths]
    return [
        Measured(name, info.kind, path.stat().st_size, accuracy, milliseconds)
        for name, path, info, accuracy, milliseconds in zip(names, paths, infos, accuracies, times, strict=True)
    ]


def table(rows: Sequence[Measured]) -> Iterator[str]:
    """The lines to print: milliseconds are medians, the speed-up is over the first file."""
    width = max(len(row.name) for row in rows)
    heads = "".join(f"{f'batch {batch}':>12} {'times as fast':>22}" for batch in BATCHES)
    yield f"{'':<{width}} {'accuracy':>9} {'size':>10} {'of first':>8}{heads}"
    for row in rows:
        accuracy = "" if row.accuracy is None else f"{row.accuracy:.4f}"
        times = ""
        for batch in BATCHES:
            low, middle, high = row.speed_up(rows[0], batch)
            times += f"{row.median(batch):>9.3f} ms {f'{middle:.2f} ({low:.2f} to {high:.2f})':>22}"
        size = f"{row.size / 2**10:,.0f} KiB"
        yield f"{row.name:<{width}} {accuracy:>9} {size:>10} {row.size / rows[0].size:>8.2f}{times}"


def describe_machine() -> str:
    """Return where the times were measured."""
    import onnxruntime

    return f"{cpu_name()}, one thread, ONNX Runtime {onnxruntime.__version__}"


def warnings(infos: Iterable[FileInfo]) -> Iterator[str]:
    """What a reader of the times has to know."""
    if not has_int8_kernels() and any(info.kind != "fp32" and not info.reduce_range for info in infos):
        yield (
            "This CPU is not known to have VNNI or AMX: without them ONNX Runtime's fast 8-bit kernels overflow on "
            "full-range weights and give wrong classes. Run the file with session.x64quantprecision=1, as `sg-resnets "
            "benchmark` does, which is exact and slow; or quantise with quantization_params.reduce_range=True, which "
            "is "
            "exact and fast."
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
    names = [row.name for row in rows]
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
