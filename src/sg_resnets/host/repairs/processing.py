"""The prediction pipeline that is read from a torchvision data set; mixup and cutmix of finished batches."""

import copy
from collections.abc import Callable
from typing import Any

from super_gradients.training.datasets.classification_datasets import torchvision_utils
from super_gradients.training.datasets.mixup import CollateMixup
from torchvision.transforms import CenterCrop, Resize

from sg_resnets.data.image_tensors import Samples
from sg_resnets.host.patching import Patch, Repair


def _with_one_side(transform: Any) -> Any:
    size = getattr(transform, "size", None)
    if isinstance(transform, CenterCrop | Resize) and isinstance(size, list | tuple) and len(set(size)) == 1:
        transform = copy.copy(transform)
        transform.size = size[0]
    return transform


def take_sides_as_pairs(original: Callable[[Any], Any], transforms: Any) -> Any:
    """Take (224, 224) for 224, and the transforms of a Compose or of a data set."""
    transforms = getattr(transforms, "transform", transforms)  # a data set's StandardTransform
    transforms = getattr(transforms, "transforms", transforms)  # a Compose
    return original([_with_one_side(transform) for transform in transforms])


def take_finished_batches(original: Callable[..., Any], self: CollateMixup, batch: Any, *args: Any) -> Any:
    """Mix the batches that data sets in memory finish themselves too: tensors of images and labels, not samples."""
    return original(self, Samples(batch[0].cpu(), batch[1]) if isinstance(batch, tuple) else batch, *args)


REPAIRS = (
    Repair(
        "torchvision_processing",
        "CenterCrop and Resize of a torchvision data set break predict(): int() of a tuple, swallowed",
        [Patch(torchvision_utils, "get_torchvision_transforms_equivalent_processing", take_sides_as_pairs)],
    ),
    Repair(
        "mixing",
        "mixup and cutmix take a finished batch for two samples",
        [Patch(CollateMixup, "__call__", take_finished_batches)],
    ),
)
