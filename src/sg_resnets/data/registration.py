"""Makes the data sets, the collate function and the prediction steps known to SuperGradients, by name.

The only module of this folder that imports the host.
"""

import inspect

import numpy as np
from PIL import Image
from super_gradients.common.environment.ddp_utils import get_local_rank
from super_gradients.common.environment.device_utils import device_config
from super_gradients.common.registry.registry import (
    register_collate_function,
    register_dataset,
    register_processing,
)
from super_gradients.module_interfaces import HasPreprocessingParams
from super_gradients.training.processing.processing import ClassificationProcess
from super_gradients.training.utils.distributed_training_utils import wait_for_the_master
from torch import nn
from torchvision.transforms import Grayscale
from torchvision.transforms import functional as F

from sg_resnets.data.catalogue import IN_MEMORY, given_keywords, in_memory
from sg_resnets.data.image_folder import ImageFolderImages, noise_folder
from sg_resnets.data.in_memory import InMemoryImages, whole_batch
from sg_resnets.errors import SgResnetsError


@register_processing("ResizeCenterCrop")
class ResizeCenterCrop(ClassificationProcess):
    """Shorter side to `resize`, then the centre (size, size), as torchvision does it.

    The host's own Resize rounds down: a shorter side of 55 pixels becomes 27 instead of 28, and of those its
    CenterCrop(28) keeps a single row. Of the sides from 20 to 1,200 one in twelve is cut short like that.
    """

    def __init__(self, resize: int, size: int, interpolation: str = "bilinear"):
        self.resize, self.size, self.interpolation = resize, size, F.InterpolationMode(interpolation)

    def preprocess_image(self, image: np.ndarray) -> tuple[np.ndarray, None]:
        """RGB uint8 (H, W, 3) to (size, size, 3)."""
        return np.asarray(
            F.center_crop(F.resize(Image.fromarray(image), [self.resize], self.interpolation), [self.size])
        ), None

    def get_equivalent_photometric_module(self) -> None:
        return None

    def infer_image_input_shape(self) -> tuple[int, int]:
        return self.size, self.size

    @property
    def resizes_image(self) -> bool:
        return True


@register_processing("ToGrayscale")
class ToGrayscale(ClassificationProcess):
    """Colour to one channel, by the luma weights of ITU-R 601 (0.299, 0.587, 0.114)."""

    def preprocess_image(self, image: np.ndarray) -> tuple[np.ndarray, None]:
        """RGB uint8 (H, W, 3) to (H, W, 1)."""
        return np.asarray(Image.fromarray(image).convert("L"))[:, :, None], None

    def get_equivalent_photometric_module(self) -> nn.Module:
        return Grayscale()

    @property
    def resizes_image(self) -> bool:
        return False


class HostInMemoryImages(InMemoryImages, HasPreprocessingParams):
    """InMemoryImages whose preprocessing the host stores in checkpoints."""


class HostImageFolder(ImageFolderImages, HasPreprocessingParams):
    """ImageFolderImages whose preprocessing the host stores in checkpoints."""


def _register_in_memory(name: str) -> None:
    def build(data_on: str = "host", **params) -> InMemoryImages:
        if data_on not in ("host", "device"):
            raise SgResnetsError(f"data_on={data_on}: valid: host, device")
        with wait_for_the_master(get_local_rank()):  # of several processes one downloads
            data = in_memory(name, HostInMemoryImages, **params)
        data.seed += get_local_rank()  # with repeated augmentation, several processes get the same images
        return data.to(device_config.device) if data_on == "device" else data

    register_dataset(name)(build)


for _name in IN_MEMORY:
    _register_in_memory(_name)


@register_dataset("image_folder")
def image_folder(**params) -> HostImageFolder:
    classes = params.pop("synthetic", None)
    params = given_keywords("image_folder", params, inspect.signature(ImageFolderImages).parameters)
    if classes:
        params["root"] = noise_folder(classes)
    if "root" not in params:
        raise SgResnetsError("image_folder: root is missing; give the folder that holds train/ and val/")
    return HostImageFolder(**params)


@register_collate_function("whole_batch")
def whole_batch_factory():
    """The host calls what it finds in the registry, without arguments, to get the collate function."""
    return whole_batch
