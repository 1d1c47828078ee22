"""Data sets: Fashion-MNIST (embedded and full) and CIFAR in memory, and any folder of pictures.

What is exported here is loaded when it is first asked for, so that what only looks at files needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sg_resnets.data.catalogue import IN_MEMORY, in_memory
    from sg_resnets.data.image_folder import ImageFolderImages
    from sg_resnets.data.image_tensors import InMemoryImages, whole_batch

_MODULES = {
    "IN_MEMORY": "catalogue",
    "in_memory": "catalogue",
    "ImageFolderImages": "image_folder",
    "InMemoryImages": "image_tensors",
    "whole_batch": "image_tensors",
}
__all__ = ["IN_MEMORY", "ImageFolderImages", "InMemoryImages", "in_memory", "whole_batch"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
