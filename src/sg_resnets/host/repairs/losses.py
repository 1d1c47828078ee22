"""Cross-entropy: class weights, and smoothing of labels that are mixed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from super_gradients.training.losses import label_smoothing_cross_entropy_loss
from super_gradients.training.losses.label_smoothing_cross_entropy_loss import CrossEntropyLoss
from torch import Tensor

from sg_resnets.data.preprocessing import class_names_of
from sg_resnets.host.patching import Patch, Repair
from sg_resnets.training.losses import weight_of_classes
from sg_resnets.utils.checks import is_number
from sg_resnets.utils.errors import SgResnetsError, choices

WEIGHTED = ("CrossEntropyLoss", "BinaryCrossEntropy", "FocalLoss")  # which take the weights of classes


def cross_entropy(
    original: Callable[..., Tensor],
    inputs: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    smooth_eps: float | None = None,
    smooth_dist: Tensor | None = None,
    from_logits: bool = True,
) -> Tensor:
    """Return PyTorch's cross-entropy, but for what it does not know."""
    if smooth_dist is not None or not from_logits:
        return original(inputs, target, weight, ignore_index, reduction, smooth_eps, smooth_dist, from_logits)
    more = {"ignore_index": ignore_index, "reduction": reduction, "label_smoothing": smooth_eps or 0.0}
    return F.cross_entropy(inputs, target, weight, **more)  # type: ignore[arg-type]


def take_list(original: Callable[..., None], self: CrossEntropyLoss, weight: Any = None, *args: Any, **kw: Any) -> None:
    """Take the weights of classes as YAML gives them, a list of numbers."""
    if weight is not None and not isinstance(weight, Tensor):
        weight = weight_of_classes(weight)
    original(self, weight, *args, **kw)


def with_class_weights(training_params: dict[str, Any], dataset: Any) -> dict[str, Any]:
    """Return the parameters with the `weight` of each loss as a list: the recipe may say `balanced`, a list,
    or a mapping from classes' names, in which those left out have 1.

    Raises:
        SgResnetsError: it is none of these, or not one number for each class of the data.
    """
    names = class_names_of(dataset)
    if names is None:
        return training_params

    def resolved(part: Any, name: str = "") -> Any:
        if not isinstance(part, Mapping):
            return part
        settled = {key: resolved(each, key) for key, each in part.items()}
        if name in WEIGHTED and settled.get("weight") is not None:
            settled["weight"] = class_weights(settled["weight"], names, dataset)
        return settled

    params = dict(training_params)
    if isinstance(params.get("loss"), Mapping):
        params["loss"] = resolved(params["loss"])
    elif params.get("loss") in WEIGHTED:
        params["criterion_params"] = resolved(params.get("criterion_params") or {}, params["loss"])
    return params


def class_weights(asked: Any, names: Sequence[str], dataset: Any) -> Any:
    """Return one weight for each class. `balanced` is N / (K N_k): of N images in K classes, N_k of class k.

    Raises:
        SgResnetsError: see `with_class_weights`.
    """
    if isinstance(asked, Tensor):
        return asked
    if asked == "balanced":
        counts = np.bincount(dataset.targets, minlength=len(names))
        if not counts.all():
            raise SgResnetsError(f"weight=balanced: there is no training image of {names[int(counts.argmin())]}")
        return (counts.sum() / (len(names) * counts)).tolist()
    if isinstance(asked, Mapping):
        for name in asked:
            if name not in names:
                raise SgResnetsError(f"weight: the data has no class '{name}': {choices(str(name), names, limit=20)}")
        asked = [asked.get(name, 1.0) for name in names]
    is_list = isinstance(asked, Sequence) and not isinstance(asked, str)
    if not is_list or not all(is_number(value) and value >= 0 for value in asked) or len(asked) != len(names):
        raise SgResnetsError(
            f"weight={asked}: must be balanced, {len(names)} numbers >= 0, one for each class, or numbers by the "
            "classes' names"
        )
    return [float(value) for value in asked]


REPAIRS = (
    Repair(
        "cross_entropy",
        "CrossEntropyLoss takes no list of class weights, divides by their number in place of their sum where labels "
        "are smoothed, and does not smooth those that mixup has mixed",
        [
            Patch(label_smoothing_cross_entropy_loss, "cross_entropy", cross_entropy),
            Patch(CrossEntropyLoss, "__init__", take_list),
        ],
    ),
)
