"""What quantisation cost and gained, at the end of a run: on the screen, as `report.json` and as `report.png`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sg_resnets.export import benchmark
from sg_resnets.export.benchmark import BATCHES, Measured
from sg_resnets.export.runtimes import NAMES
from sg_resnets.quantization.sensitivity import Sensitivity, WithinDrop
from sg_resnets.utils.files import write_bytes
from sg_resnets.utils.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 5  # layers in the table; the file has all


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        files: in each runtime, fp32 in ONNX Runtime first.
        left_out: runtimes that are not here, a line each.
        in_torch: accuracy in PyTorch, in 0..1, by kind.
        agreement: share of the test images for which a runtime and PyTorch name the same class, for each of `files`.
        in_float: operations that stay in float32.
        max_drop: points of accuracy that calibration may lose, if that was asked for.
        within: what stays in float32 for that.
    """

    model: str
    target: str
    files: Sequence[Measured]
    left_out: Sequence[str]
    in_torch: Mapping[str, float]
    agreement: Sequence[float]
    in_float: Sequence[str]
    paths: Sequence[Path]
    sensitivities: Sequence[Sensitivity]
    max_drop: float | None = None
    within: WithinDrop | None = None

    def lines(self) -> Iterator[str]:
        yield f"INT8 for {self.target}: {self.model}"
        yield from benchmark.table(self.files)
        yield ""
        for kind, accuracy in self.in_torch.items():
            same = [
                f"{row.runtime} for {share:.2%}"
                for row, share in zip(self.files, self.agreement, strict=True)
                if row.kind == kind
            ]
            yield f"{kind:<7} in PyTorch {accuracy:.4f}; the same class as there: {', '.join(same)} of the test images"
        kinds = sorted({name.rpartition(": ")[2] for name in self.in_float})
        yield f"left in float32: {len(self.in_float)} operations" + (f" ({', '.join(kinds)})" if kinds else "")
        if self.within is not None:
            yield self._about_drop(self.within)
        if self.sensitivities:
            yield "costliest layers, each quantised alone (noise of the logits; images that change their class):"
            for one in self.sensitivities[:SHOWN]:
                yield f"  {one.layer:<32} {one.noise:>6.1f} dB {one.changed:>7.2%}"
        yield f"measured on {benchmark.describe_machine()}"
        yield from self.left_out
        if not self._in_its_runtime():
            yield f"the times are those of this CPU, whatever {self.target} makes of the files"
        yield from benchmark.warnings(self.paths)
        yield from benchmark.fastest(self.files)

    def _about_drop(self, within: WithinDrop) -> str:
        """A sentence about what `max_drop` has done, and what that costs in speed."""
        said = f"max_drop {self.max_drop}: {within}"
        if not within.layers:
            return said
        rows = {row.kind: row for row in reversed(self._in_its_runtime() or self.files)}
        times = [f"{rows['ptq'].speed_up(rows['ptq_all'], batch)[1]:.2f}" for batch in BATCHES]
        batches = f"{BATCHES[0]} and {BATCHES[1]}"
        return f"{said}; for batches of {batches} it is {times[0]} and {times[1]} times as fast as that"

    def _in_its_runtime(self) -> list[Measured]:
        """The rows of the runtime that the files are for; none where it does not run all of them."""
        rows = [row for row in self.files if row.runtime == NAMES[self.target]]
        return rows if {row.kind for row in rows} == {row.kind for row in self.files} else []

    def save(self, folder: Path) -> None:
        """Write `report.json` and `report.png`."""
        files = [
            {
                "name": row.name,
                "kind": row.kind,
                "runtime": row.runtime,
                "computes_in": row.precision,
                "option": row.option,
                "bytes": row.size,
                "size_over_fp32": row.size / self.files[0].size,
                "accuracy": row.accuracy,
                "accuracy_in_pytorch": self.in_torch.get(row.kind),
                "agreement": share,
                "milliseconds": {batch: row.median(batch) for batch in BATCHES},
                "times_as_fast_as_fp32": {
                    batch: dict(zip(("low", "median", "high"), row.speed_up(self.files[0], batch), strict=True))
                    for batch in BATCHES
                },
            }
            for row, share in zip(self.files, self.agreement, strict=True)
        ]
        contents: dict[str, Any] = {
            "model": self.model,
            "target": self.target,
            "measured_on": benchmark.describe_machine(),
            "files": files,
            "left_out": list(self.left_out),
            "in_float": list(self.in_float),
            "kept_by_max_drop": list(self.within.layers) if self.within else [],
            "sensitivity": [vars(one) for one in self.sensitivities],
        }
        write_bytes(folder / "report.json", json.dumps(contents, indent=1).encode())
        save_figure(self.draw(), folder / "report.png")

    def draw(self) -> "Figure":
        """Return a figure of accuracy, size and time."""
        rows = (self._in_its_runtime() or self.files)[: len(self.in_torch)]
        first, last = rows[0], rows[-1]
        title = (
            f"{self.model}, INT8: {100 * ((last.accuracy or 0) - (first.accuracy or 0)):+.2f} points, "
            f"{last.size / first.size:.2f} of the size"
        )
        if self._in_its_runtime():
            title += f", {last.speed_up(first, BATCHES[-1])[1]:.2f} times as fast in {last.runtime}"
        return benchmark.draw(self.files, title)


def torch_predictor(network: nn.Module) -> benchmark.Predict:
    """Runs a network as the files are run."""
    device = next(network.parameters()).device

    @torch.no_grad()
    def predict(images: Any) -> Any:
        return network(torch.from_numpy(images).to(device)).float().cpu().numpy()

    return predict
