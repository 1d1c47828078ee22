"""Task losses that SuperGradients lacks."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.utils.checks import BELOW_ONE, is_number
from sg_resnets.utils.errors import SgResnetsError


def weight_of_classes(weight: Any) -> Tensor | None:
    """The `weight` of a loss as a tensor (K,), or None.

    Raises:
        SgResnetsError: it is no list of numbers.
    """
    if weight is None or isinstance(weight, Tensor):
        return weight
    is_list = isinstance(weight, Sequence) and not isinstance(weight, str)
    if not is_list or not all(is_number(value) and value >= 0 for value in weight):
        raise SgResnetsError(f"weight={weight}: must be a list of numbers >= 0, one for each class")
    return torch.tensor(weight, dtype=torch.float32)


def mean_over_images(losses: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of `losses` (N, K), in which each image weighs as much as its class: `weight` (K,), `target` labels (N,)
    or mixtures (N, K). As `nn.CrossEntropyLoss` has it for labels, its mean is over the sum of the weights; that one
    divides by N for mixtures.

    Raises:
        SgResnetsError: there are fewer or more weights than classes.
    """
    if weight is None:
        return losses.mean()
    if len(weight) != losses.shape[1]:
        raise SgResnetsError(f"weight has {len(weight)} numbers, and the network {losses.shape[1]} classes")
    losses = losses.mean(1)
    of_images = weight[target] if target.ndim == 1 else target.to(weight.dtype) @ weight
    return (losses * of_images).sum() / of_images.sum()


class BinaryCrossEntropy(nn.Module):
    """Each class is a yes-or-no question of its own: the mean of the binary cross-entropy over images and classes
    (Wightman, Touvron & Jégou, 'ResNet strikes back', 2021, section 3).

    Takes logits (N, K) and labels (N,), or the mixtures (N, K) of mixup and cutmix.

    Args:
        smoothing: s turns the targets y into (1 - s) y + s / K.
        threshold: targets above it become 1 and all others 0, so that every class in a mixture is a yes; None keeps
            the shares.
        weight: of each class, by which its images weigh in the mean; None: all the same.

    Raises:
        SgResnetsError: smoothing or threshold is not in [0, 1), or weight no list of numbers.
    """

    weight: Tensor | None

    def __init__(
        self, smoothing: float = 0.0, threshold: float | None = None, weight: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.smoothing = BELOW_ONE("BinaryCrossEntropy: smoothing", smoothing)
        self.threshold = threshold if threshold is None else BELOW_ONE("BinaryCrossEntropy: threshold", threshold)
        self.register_buffer("weight", weight_of_classes(weight))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        given = target
        if target.ndim == 1:
            target = F.one_hot(target, logits.shape[1])
        target = target.to(logits.dtype)
        if self.smoothing:
            target = torch.lerp(target, torch.full_like(target, 1 / logits.shape[1]), self.smoothing)
        if self.threshold is not None:
            target = (target > self.threshold).to(logits.dtype)
        losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return mean_over_images(losses, given, self.weight)
