"""Data sets, the collate function and the prediction steps, as SuperGradients takes them by name."""

import inspect
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from super_gradients.common.environment.ddp_utils import get_local_rank
from super_gradients.common.environment.device_utils import device_config
from super_gradients.common.registry.registry import ALL_COLLATE_FUNCTIONS, ALL_DATASETS, PROCESSINGS
from super_gradients.module_interfaces import HasPreprocessingParams
from super_gradients.training.datasets.auto_augment import rand_augment_transform
from super_gradients.training.processing.processing import ClassificationProcess
from super_gradients.training.utils.distributed_training_utils import wait_for_the_master
from torch import nn
from torchvision.transforms import Grayscale
from torchvision.transforms import functional as F

from sg_resnets.data.catalogue import IN_MEMORY, given_keywords, in_memory
from sg_resnets.data.image_folder import ImageFolderImages, noise_folder
from sg_resnets.data.in_memory import InMemoryImages, whole_batch
from sg_resnets.host.patching import Put, Repair
from sg_resnets.utils.checks import one_of
from sg_resnets.utils.errors import SgResnetsError


class ResizeCenterCrop(ClassificationProcess):
    """Shorter side to `resize`, then the centre (size, size), as torchvision does it.

    SuperGradients' own Resize rounds down: a shorter side of 55 pixels becomes 27 instead of 28, and of those its
    CenterCrop(28) keeps a single row. Of the sides from 20 to 1,200 one in twelve is cut short like that.
    """

    def __init__(self, resize: int, size: int, interpolation: str = "bilinear") -> None:
        self.resize, self.size, self.interpolation = resize, size, F.InterpolationMode(interpolation)

    def preprocess_image(self, image: np.ndarray) -> tuple[np.ndarray, None]:
        """RGB uint8 (H, W, 3) to (size, size, 3)."""
        return np.asarray(
            F.center_crop(F.resize(Image.fromarray(image), [self.resize], self.interpolation), [self.size])
        ), None

    def get_equivalent_photometric_module(self) -> None:
        """Return None: it moves pixels, and does not change their values."""

    def infer_image_input_shape(self) -> tuple[int, int]:
        """Return height and width in pixels."""
        return self.size, self.size

    @property
    def resizes_image(self) -> bool:
        """Whether the image has another size after it."""
        return True


class ToGrayscale(ClassificationProcess):
    """Colour to one channel, by the luma weights of ITU-R 601 (0.299, 0.587, 0.114)."""

    def preprocess_image(self, image: np.ndarray) -> tuple[np.ndarray, None]:
        """RGB uint8 (H, W, 3) to (H, W, 1)."""
        return np.asarray(Image.fromarray(image).convert("L"))[:, :, None], None

    def get_equivalent_photometric_module(self) -> nn.Module:
        """Return the module that does the same to a batch."""
        return Grayscale()

    @property
    def resizes_image(self) -> bool:
        """Whether the image has another size after it."""
        return False


class HostInMemoryImages(InMemoryImages, HasPreprocessingParams):
    """InMemoryImages whose preprocessing SuperGradients stores in checkpoints."""


class HostImageFolder(ImageFolderImages, HasPreprocessingParams):
    """ImageFolderImages whose preprocessing SuperGradients stores in checkpoints, with its RandAugment."""

    def augmentation(self, name: str | None) -> list[Any]:
        """Return the transforms that `augment: name` stands for."""
        if name is not None and name.startswith("rand-"):
            try:
                return [rand_augment_transform(name, self.size, list(self.mean))]
            except (AssertionError, ValueError):
                pass  # it is no name of a RandAugment
        return super().augmentation(name)


def images_in_memory(name: str, data_on: str = "host", **params: Any) -> InMemoryImages:
    """Return the data set `name` of the catalogue; `data_on`: "host", main memory, or "device", the training's."""
    one_of("host", "device")("data_on", data_on)
    with wait_for_the_master(get_local_rank()):  # of several processes one downloads
        data = in_memory(name, HostInMemoryImages, **params)
    data.seed += get_local_rank()  # with repeated augmentation, several processes get the same images
    return data.to(device_config.device) if data_on == "device" else data


def image_folder(**params: Any) -> HostImageFolder:
    """Return a folder of pictures; `synthetic: N` gives noise of N classes, to try a recipe without it."""
    classes = params.pop("synthetic", None)
    params = given_keywords("image_folder", params, inspect.signature(ImageFolderImages).parameters)
    if classes:
        params["root"] = noise_folder(classes)
    if "root" not in params:
        raise SgResnetsError("image_folder: root is missing; give the folder that holds train/ and val/")
    return HostImageFolder(**params)


def get_whole_batch() -> Any:
    """Return the collate function: SuperGradients calls what it finds in the registry, without arguments."""
    return whole_batch


ENTRIES = Repair(
    "data_sets",
    "no data sets in memory; its Resize rounds down, so that predict() cuts pictures short",
    [
        *(Put(ALL_DATASETS, name, partial(images_in_memory, name)) for name in IN_MEMORY),
        Put(ALL_DATASETS, "image_folder", image_folder),
        Put(ALL_COLLATE_FUNCTIONS, "whole_batch", get_whole_batch),
        Put(PROCESSINGS, "ResizeCenterCrop", ResizeCenterCrop),
        Put(PROCESSINGS, "ToGrayscale", ToGrayscale),
    ],
)
