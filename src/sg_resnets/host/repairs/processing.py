"""The prediction pipeline that is read from a torchvision data set."""

import copy
from collections.abc import Callable
from typing import Any

from super_gradients.training.datasets.classification_datasets import torchvision_utils
from torchvision.transforms import CenterCrop, Resize

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


REPAIRS = (
    Repair(
        "torchvision_processing",
        "CenterCrop and Resize of a torchvision data set break predict(): int() of a tuple, swallowed",
        [Patch(torchvision_utils, "get_torchvision_transforms_equivalent_processing", take_sides_as_pairs)],
    ),
)
