"""The diagnostics as callbacks of the host, for `phase_callbacks` in a recipe."""

import sys
import time
from pathlib import Path
from typing import Any

from super_gradients.training.metrics.metric_utils import get_metrics_titles
from super_gradients.training.utils.callbacks import Callback, PhaseContext

from sg_resnets.diagnostics.curves import EpochRecord, draw_curves, read_curves, write_curves


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
        figure.savefig(self.folder / "curves.png", dpi=150)
        context.sg_logger.add_figure("curves", figure, global_step=self.records[-1].epoch)


def _loss_and_accuracy(context: PhaseContext) -> dict[str, float]:
    metrics: dict[str, Any] = dict(context.metrics_dict)
    accuracy = next((float(metrics[name]) for name in metrics if name == "Accuracy"), float("nan"))
    names = [name for name in metrics if name not in get_metrics_titles(context.valid_metrics)]
    return {"loss": float(metrics[names[0]]) if names else float("nan"), "accuracy": accuracy}


def _peak_memory_mib() -> float:
    """The most memory this process has held, on the host, in MiB."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
