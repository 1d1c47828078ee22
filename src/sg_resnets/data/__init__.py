"""Data sets: Fashion-MNIST (embedded and full) and CIFAR in memory, and any folder of images.

Importing this package does not import SuperGradients; `register()` does, and makes everything available in recipes.
"""

from sg_resnets.data.catalogue import IN_MEMORY, in_memory
from sg_resnets.data.image_folder import ImageFolderImages
from sg_resnets.data.in_memory import InMemoryImages, whole_batch

__all__ = ["IN_MEMORY", "ImageFolderImages", "InMemoryImages", "in_memory", "register", "whole_batch"]


def register() -> None:
    """Register the data sets, `whole_batch` and the prediction steps with SuperGradients; again does nothing."""
    from sg_resnets.data import registration  # noqa: F401
