"""Callbacks for `phase_callbacks` in a recipe: curves and diagnostics."""

import resource
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from super_gradients.training.metrics.metric_utils import get_metrics_titles
from super_gradients.training.utils.callbacks import Callback, PhaseContext
from super_gradients.training.utils.utils import unwrap_model
from torch import nn

from sg_resnets.diagnostics.gradient_flow import BlockGradient, block_weights, draw_gradient_flow, first_to_last
from sg_resnets.models import named_blocks
from sg_resnets.runs.curves import EpochRecord, draw_curves, read_curves, write_curves
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.files import write_rows
from sg_resnets.utils.hooks import watched
from sg_resnets.utils.plots import TEST_COLOUR, TRAIN_COLOUR, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class TrainingCurves(Callback):
    """Writes `curves.csv` after each epoch and `curves.png` at the end, into the run's folder and TensorBoard.

    A resumed run goes on with the curves of its folder.
    """

    def __init__(self) -> None:
        self.records: list[EpochRecord] = []
        self.train: dict[str, float] = {}

    def on_training_start(self, context: PhaseContext) -> None:
        self.folder, self.began = Path(context.ckpt_dir), time.monotonic()
        self.records = read_curves(self.folder / "curves.csv")
        self.before = self.records[-1].seconds if self.records else 0.0

    def on_train_loader_end(self, context: PhaseContext) -> None:
        self.train = _loss_and_accuracy(context)

    def on_validation_loader_end(self, context: PhaseContext) -> None:
        if context.ddp_silent_mode or not self.train:
            return
        test = _loss_and_accuracy(context)
        record = EpochRecord(
            epoch=context.epoch + 1,
            train_loss=self.train["loss"],
            train_accuracy=self.train["accuracy"],
            test_loss=test["loss"],
            test_accuracy=test["accuracy"],
            seconds=round(self.before + time.monotonic() - self.began, 1),
            peak_memory_mib=round(_peak_memory_mib(), 1),
        )
        self.records = [kept for kept in self.records if kept.epoch < record.epoch] + [record]
        write_curves(self.records, self.folder / "curves.csv")

    def on_training_end(self, context: PhaseContext) -> None:
        if context.ddp_silent_mode or not self.records:
            return
        best = max(self.records, key=lambda record: record.test_accuracy)
        title = f"{context.experiment_name}: best test accuracy {best.test_accuracy:.2%} at epoch {best.epoch}"
        figure = draw_curves(self.records, title)
        save_figure(figure, self.folder / "curves.png")
        context.sg_logger.add_figure("curves", figure, global_step=self.records[-1].epoch)


def _loss_and_accuracy(context: PhaseContext) -> dict[str, float]:
    metrics: dict[str, Any] = dict(context.metrics_dict)
    accuracy = float(metrics.get("Accuracy", "nan"))
    names = [name for name in metrics if name not in get_metrics_titles(context.valid_metrics)]
    return {"loss": float(metrics[names[0]]) if names else float("nan"), "accuracy": accuracy}


def _peak_memory_mib() -> float:
    """The most memory this process has held, in main memory, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


class GradientFlow(Callback):
    """Writes `gradient_flow.csv` and `.png`: the gradient of each block in the first batch of each epoch. In float16 it
    is that of the scaled loss, as SuperGradients unscales it later: blocks then compare within an epoch only."""

    def __init__(self) -> None:
        self.flows: dict[str, list[BlockGradient]] = {}
        self.pending = False

    def on_training_start(self, context: PhaseContext) -> None:
        _refuse_without_blocks(self, context)

    def on_train_loader_start(self, context: PhaseContext) -> None:
        self.pending = not context.ddp_silent_mode

    def on_train_batch_gradient_step_start(self, context: PhaseContext) -> None:
        if not self.pending:
            return
        self.pending = False
        blocks = block_weights(unwrap_model(context.net))
        norms = [
            torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
            for weights in blocks.values()
        ]
        values = torch.stack(norms).tolist()
        flow = [BlockGradient(name, value) for name, value in zip(blocks, values, strict=True)]
        self.flows[f"epoch {context.epoch + 1}"] = flow

    def on_training_end(self, context: PhaseContext) -> None:
        if context.ddp_silent_mode or not self.flows:
            return
        rows = [{"epoch": e, "block": b.name, "norm": b.weights} for e, flow in self.flows.items() for b in flow]
        first, *_, last = self.flows.values() if len(self.flows) > 1 else [*self.flows.values()] * 2
        title = (
            f"First block's gradient over the last's: {first_to_last(first):.2g}, at the end {first_to_last(last):.2g}"
        )
        shown = dict(list(self.flows.items())[:: max(1, len(self.flows) // 6)])
        _save(context, "gradient_flow", rows, draw_gradient_flow(shown, title))


class ActivationStatistics(Callback):
    """Writes `activations.csv` and `.png`: mean, standard deviation and share of zeros of each block's output in the
    first batch of each epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.statistics: list[tuple[str, torch.Tensor]] = []
        self.watching = ExitStack()

    def on_training_start(self, context: PhaseContext) -> None:
        _refuse_without_blocks(self, context)

    def on_train_loader_start(self, context: PhaseContext) -> None:
        if context.ddp_silent_mode:
            return

        def measure(name: str, block: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            y = output.detach()
            self.statistics.append((name, torch.stack([y.mean(), y.std(), (y == 0).to(y.dtype).mean()])))

        network = unwrap_model(context.net)
        self.watching.enter_context(watched(network, named_blocks(network), measure))

    def on_train_batch_loss_end(self, context: PhaseContext) -> None:
        if not self.statistics:
            return
        self.watching.close()
        values = torch.stack([figures for _, figures in self.statistics]).float().tolist()
        for (name, _), (mean, deviation, zeros) in zip(self.statistics, values, strict=True):
            self.rows.append(
                {"epoch": context.epoch + 1, "block": name, "mean": mean, "deviation": deviation, "zeros": zeros}
            )
        self.statistics = []

    def on_training_end(self, context: PhaseContext) -> None:
        if self.rows:
            _save(context, "activations", self.rows, draw_activations(self.rows))


def _refuse_without_blocks(callback: Callback, context: PhaseContext) -> None:
    if not named_blocks(unwrap_model(context.net)):
        raise SgResnetsError(
            f"{type(callback).__name__} watches residual blocks of ours, and this network has none (a "
            "quantised network has no blocks any more): leave it out of phase_callbacks"
        )


def draw_activations(rows: list[dict[str, Any]]) -> "Figure":
    """Return a figure: deviation and share of zeros by block, in the first epoch and the last."""
    first, last = rows[0]["epoch"], rows[-1]["epoch"]
    figure = new_figure(8, 3.4)
    zeros = {epoch: [row["zeros"] for row in rows if row["epoch"] == epoch] for epoch in (first, last)}
    shares = ", ".join(f"{sum(z) / len(z):.0%} zeros in epoch {epoch}" for epoch, z in zeros.items())
    figure.suptitle(f"Outputs of the blocks: {shares}")
    for axes, key, label in zip(
        figure.subplots(1, 2), ("deviation", "zeros"), ("standard deviation", "share of zeros"), strict=True
    ):
        for epoch, colour in ((first, TRAIN_COLOUR), (last, TEST_COLOUR)):
            values = [row[key] for row in rows if row["epoch"] == epoch]
            axes.plot(range(1, len(values) + 1), values, color=colour, marker=".", label=f"epoch {epoch}")
        axes.set(xlabel="block (1 is nearest the image)", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _save(context: PhaseContext, name: str, rows: list[dict[str, Any]], figure: Any) -> None:
    folder = Path(context.ckpt_dir)
    write_rows(rows, folder / f"{name}.csv")
    save_figure(figure, folder / f"{name}.png")
    context.sg_logger.add_figure(name, figure, global_step=context.epoch or 0)
