"""Metrics that SuperGradients lacks."""

import torch
from torch import Tensor
from torchmetrics import Metric


class MacroF1(Metric):
    """The mean over the classes of F1, the harmonic mean of precision and recall: rare classes count as much as others.
    Classes that are neither among the labels nor predicted are left out, as by scikit-learn.

    Takes outputs (N, K) and labels (N,), or mixtures (N, K), of which the largest share is the label.
    """

    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.greater_is_better = True
        # (3, K) once the number of classes is known: right ones, predictions, labels.
        self.add_state("counts", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count a batch."""
        labels = target if target.ndim == 1 else target.argmax(1)
        classes = torch.arange(preds.shape[1], device=preds.device)
        is_predicted, is_label = (each[:, None] == classes for each in (preds.argmax(1), labels))
        self.counts = self.counts + torch.stack(
            [(is_predicted & is_label).sum(0), is_predicted.sum(0), is_label.sum(0)]
        )

    def compute(self) -> Tensor:
        """Return the mean."""
        right, predicted, labels = self.counts
        f1 = 2 * right / (predicted + labels)  # nan for classes that are in neither
        return f1.nanmean()
