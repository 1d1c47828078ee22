"""What makes a step of training wait for the GPU. Figures stay there, and are fetched a few times a second."""

import time
from collections.abc import Callable
from typing import Any

import torch
from super_gradients.common.registry.registry import METRICS
from super_gradients.training.metrics import classification_metrics, metric_utils
from super_gradients.training.metrics.metric_utils import get_metrics_dict
from super_gradients.training.sg_trainer import sg_trainer
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import distributed_training_utils, sg_trainer_utils
from super_gradients.training.utils.utils import AverageMeter
from torch import Tensor
from torchmetrics.utilities.enums import DataType
from tqdm import tqdm

from sg_resnets.host.patching import Patch, Put, Rebind, Repair

SECONDS = 0.2  # between two looks
STEPS_BETWEEN_CHECKS = 256


class ProgressBar(tqdm):
    """The Trainer's: what stands behind the bar is fetched and written a few times a second, and at the end."""

    _figures: dict[str, Any] | None = None
    _next = 0.0

    def set_postfix(self, ordered_dict: Any = None, refresh: bool = True, **figures: Any) -> None:
        self._figures = {**(ordered_dict or {}), **figures}
        if not self.disable and time.monotonic() >= self._next:
            self._show()

    def __exit__(self, kind: type | None, *error: Any) -> None:
        if kind is not None:
            self._figures = None  # what is on the GPU may not be fetched any more
        super().__exit__(kind, *error)

    def close(self) -> None:
        if not self.disable and self._figures:
            self._show()
        super().close()

    def _show(self) -> None:
        self._next = time.monotonic() + SECONDS
        super().set_postfix(_fetched(self._figures or {}))


class ReservedMemory:
    """The bytes that PyTorch holds of a GPU, which takes longer to count than some steps take."""

    def __init__(self) -> None:
        self.bytes = self.next = 0.0

    def __call__(self, original: Callable[[], float]) -> float:
        if time.monotonic() >= self.next:
            self.bytes, self.next = original(), time.monotonic() + SECONDS
        return self.bytes


def describe(
    original: Callable[..., dict[str, Any]], results: Any, metrics: Any, losses: Any, **others: Any
) -> dict[str, Any]:
    """Name the figures of a step, which alone gives `gpu_mem`, where they are; those of an epoch as numbers, when its
    labels have been looked at."""
    if "gpu_mem" not in others:
        for metric in (metrics or {}).values():
            if isinstance(metric, Accuracy):
                metric.check_labels()
        return original(results, metrics, losses, **others)
    return {**others, **get_metrics_dict(results, metrics, losses)}


def note_numbers(original: Callable[..., Any], monitored_values_dict: Any, new_values_dict: dict[str, Any]) -> Any:
    """Note an epoch's figures as numbers."""
    return original(monitored_values_dict, _fetched(new_values_dict))


def average_there(meter: AverageMeter) -> Any:
    """Return the averages of several losses as tensors, where they are."""
    total = meter._sum
    if total is None or not total.dim() or total.requires_grad:
        return _AVERAGE.fget(meter)
    return tuple((total / meter._count).unbind())


def give_numbers(original: Callable[..., Any], self: Trainer, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Return an epoch's losses as SuperGradients does, as numbers."""
    results = original(self, *args, **kwargs)
    count = len(self.loss_logging_items_names)
    losses = (each.cpu().numpy()[()] if isinstance(each, Tensor) else each for each in results[:count])
    return *losses, *results[count:]


class Accuracy(classification_metrics.Accuracy):
    """SuperGradients' accuracy, which counts without looking at what it counts: torchmetrics looks six times in a step
    whether labels are what they should be.

    Raises:
        ValueError: a label is below 0; on a GPU up to 256 steps later, at the latest when the epoch has ended.
    """

    unchecked: tuple[Tensor, ...] = ()  # labels

    def update(self, preds: Tensor, target: Tensor) -> None:
        labels = target.argmax(1) if target.shape == preds.shape else target
        if preds.ndim != 2 or labels.shape != preds.shape[:1] or labels.is_floating_point():
            return super().update(preds, target)
        correct = (preds.argmax(1) == labels).sum()
        self.mode = DataType.MULTICLASS
        self.tp += correct
        self.fn += labels.numel() - correct
        self.unchecked = (*self.unchecked, labels)
        if labels.device.type == "cpu" or len(self.unchecked) == STEPS_BETWEEN_CHECKS:
            self.check_labels()

    def compute(self) -> Tensor:
        return self.tp / (self.tp + self.fn) if self.mode == DataType.MULTICLASS else super().compute()

    def reset(self) -> None:
        super().reset()
        self.check_labels()

    def check_labels(self) -> None:
        """Look at those that were not looked at yet."""
        labels, self.unchecked = self.unchecked, ()
        lowest = int(torch.cat(labels).min()) if labels else 0
        if lowest < 0:
            raise ValueError(f"Accuracy: a label is {lowest}: labels are from 0 to one below the classes")


def _fetched(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value.item() if isinstance(value, Tensor) else value for name, value in figures.items()}


_AVERAGE: Any = vars(AverageMeter)["average"]
REPAIRS = (
    Repair(
        "waiting",
        "each step waits for the GPU eight times: its figures are fetched to be shown, and its labels looked at",
        [
            Put(sg_trainer, "tqdm", ProgressBar),
            Put(AverageMeter, "average", property(average_there)),
            Patch(Trainer, "_train_epoch", give_numbers),
            Patch(metric_utils, "get_train_loop_description_dict", describe),
            Patch(sg_trainer_utils, "update_monitored_values_dict", note_numbers),
            Patch(distributed_training_utils, "get_gpu_mem_utilization", ReservedMemory()),
            Rebind("Accuracy", classification_metrics.Accuracy, Accuracy),
            Put(METRICS, "Accuracy", Accuracy),
        ],
    ),
)
