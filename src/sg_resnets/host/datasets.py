"""Data sets, the collate function and the prediction steps, as SuperGradients takes them by name."""

import inspect
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from super_gradients.common.environment.ddp_utils import get_local_rank
from super_gradients.common.environment.device_utils import device_config
from super_gradients.common.registry.registry import ALL_COLLATE_FUNCTIONS, ALL_DATASETS, PROCESSINGS
from super_gradients.dataset_interfaces import HasClassesInformation
from super_gradients.module_interfaces import HasPreprocessingParams
from super_gradients.training.dataloaders import dataloaders
from super_gradients.training.datasets.auto_augment import rand_augment_transform
from super_gradients.training.processing.processing import ClassificationProcess
from super_gradients.training.utils.distributed_training_utils import wait_for_the_master
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import Grayscale, v2

from sg_resnets.data.catalogue import IN_MEMORY, given_keywords, in_memory
from sg_resnets.data.fitting import Fitting, sides
from sg_resnets.data.folder_loader import FolderLoader
from sg_resnets.data.image_folder import NAMES, ImageFolderImages, noise_folder
from sg_resnets.data.image_tensors import InMemoryImages, whole_batch
from sg_resnets.host.classes import note_data
from sg_resnets.host.patching import Put, Repair
from sg_resnets.utils.checks import one_of
from sg_resnets.utils.errors import SgResnetsError


class FitImage(ClassificationProcess):
    """The picture at the network's size: `data.fitting.Fitting`."""

    def __init__(
        self, size: int | list[int], fit: str, interpolation: str = "bilinear", fill: Sequence[int] = (0, 0, 0)
    ) -> None:
        self.fitting = Fitting(sides(size), fit, interpolation=interpolation, fill=tuple(fill))

    def preprocess_image(self, image: np.ndarray) -> tuple[np.ndarray, None]:
        """RGB uint8 (H, W, 3) to (*size, 3)."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return self.fitting(pixels).permute(1, 2, 0).numpy(), None

    def get_equivalent_photometric_module(self) -> None:
        """Return None: it moves pixels, and does not change their values."""

    def infer_image_input_shape(self) -> tuple[int, int]:
        """Return height and width in pixels."""
        return self.fitting.size

    @property
    def resizes_image(self) -> bool:
        """Whether the image has another size after it."""
        return True


class ResizeCenterCrop(FitImage):
    """The picture covers `resize`, a number for the shorter side, and the centre is cut out, as torchvision does it.

    SuperGradients' own Resize rounds down: a shorter side of 55 pixels becomes 27 instead of 28, and of those its
    CenterCrop(28) keeps a single row. Of the sides from 20 to 1,200 one in twelve is cut short like that.
    """

    def __init__(self, resize: int | list[int], size: int | list[int], interpolation: str = "bilinear") -> None:
        self.fitting = Fitting(sides(size), "crop", sides(resize), interpolation)


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


class ClassesOfLabels(HasClassesInformation):
    """What SuperGradients' samplers ask of a data set with one label for each sample."""

    class_names: list[str]
    targets: Any  # the label of each sample

    def get_sample_classes_information(self, index: int) -> np.ndarray:
        """Return how many of each class a sample holds, (classes,)."""
        return np.bincount([self.targets[index]], minlength=len(self.class_names))

    def get_dataset_classes_information(self) -> np.ndarray:
        """Return the same for all samples, (samples, classes)."""
        return np.eye(len(self.class_names), dtype=np.uint8)[self.targets]


class HostInMemoryImages(InMemoryImages, HasPreprocessingParams, ClassesOfLabels):
    """InMemoryImages whose preprocessing SuperGradients stores in checkpoints."""


# SuperGradients' RandAugment passes over what it does not know, and has inc0 mean inc1.
RAND_AUGMENT = re.compile(r"rand(-(m(\d|10)|n[1-9]|w0|mstd\d+(\.\d+)?|inc1))+")


class HostImageFolder(ImageFolderImages, HasPreprocessingParams, ClassesOfLabels):
    """ImageFolderImages whose preprocessing SuperGradients stores in checkpoints, with its RandAugment."""

    def augmentation_of(self, name: str | None) -> Any:
        """Return what `augment: name` stands for: a transform of uint8 (C, H, W), or None."""
        if isinstance(name, str) and RAND_AUGMENT.fullmatch(name):
            drawn = rand_augment_transform(name, min(self.fitting.size), list(self.mean))
            return v2.Compose([v2.ToPILImage(), drawn, v2.PILToTensor()])
        return super().augmentation_of(name)


def images_in_memory(name: str, data_on: str = "host", **params: Any) -> InMemoryImages:
    """Return the data set `name` of the catalogue; `data_on`: "host", main memory, or "device", the training's."""
    one_of("host", "device")("data_on", data_on)
    with wait_for_the_master(get_local_rank()):  # of several processes one downloads
        data = in_memory(name, HostInMemoryImages, **params)
    note_data(data.class_names)
    data.seed += get_local_rank()  # with repeated augmentation, several processes get the same images
    return data.to(device_config.device) if data_on == "device" else data


def images_on_disk(name: str, **params: Any) -> HostImageFolder:
    """Return a folder of pictures, or those that the CSV file `labels` lists, which are beside it without a `root`;
    `synthetic: N` gives noise of N classes, to try a recipe without them."""
    classes = params.pop("synthetic", None)
    params.pop("on_bad_image", None)  # it is seen to before training: `host/folders.py`
    params = given_keywords(name, params, inspect.signature(ImageFolderImages).parameters)
    if classes:
        params["root"] = noise_folder(classes)
    if "root" not in params and "labels" in params:
        params["root"] = params.pop("labels")
    if "root" not in params:
        what = {
            "image_folder": "root is missing; give the folder that holds your pictures",
            "image_csv": "labels is missing; give the CSV file that lists your pictures, with the columns file,class",
        }
        raise SgResnetsError(f"{name}: {what[name]}")
    data = HostImageFolder(**params)
    note_data(data.class_names)
    return data


def make_loader(dataset: Any, **params: Any) -> DataLoader:
    """Return PyTorch's loader, or for a folder of pictures ours, unless the recipe has a collate function."""
    if isinstance(dataset, ImageFolderImages) and params.get("collate_fn") is None:
        params.pop("collate_fn", None)
        return FolderLoader(dataset, device_config.device, **params)
    return DataLoader(dataset=dataset, **params)


def get_whole_batch() -> Any:
    """Return the collate function: SuperGradients calls what it finds in the registry, without arguments."""
    return whole_batch


ENTRIES = Repair(
    "data_sets",
    "no data sets in memory; its Resize rounds down, so that predict() cuts pictures short",
    [
        *(Put(ALL_DATASETS, name, partial(images_in_memory, name)) for name in IN_MEMORY),
        *(Put(ALL_DATASETS, name, partial(images_on_disk, name)) for name in NAMES),
        Put(ALL_COLLATE_FUNCTIONS, "whole_batch", get_whole_batch),
        Put(dataloaders, "DataLoader", make_loader),
        Put(PROCESSINGS, "ResizeCenterCrop", ResizeCenterCrop),
        Put(PROCESSINGS, "FitImage", FitImage),
        Put(PROCESSINGS, "ToGrayscale", ToGrayscale),
    ],
)
