"""Data sets: Fashion-MNIST (embedded and full) and CIFAR in memory, and any folder of images."""

from sg_resnets.data.catalogue import IN_MEMORY, in_memory
from sg_resnets.data.image_folder import ImageFolderImages
from sg_resnets.data.in_memory import InMemoryImages, whole_batch

__all__ = ["IN_MEMORY", "ImageFolderImages", "InMemoryImages", "in_memory", "whole_batch"]
