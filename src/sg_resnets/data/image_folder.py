"""ImageNet, or any folder of images: root/train/<class>/*.jpg and root/val/<class>/*.jpg.

The transforms are those that the ResNet weights of torchvision were first trained and tested with: a random resized
crop and a flip for training; for validation the shorter side to size / 0.875 (224: 256) and the centre of it.
"""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from sg_resnets.data.in_memory import balanced_first
from sg_resnets.data.preprocessing import per_channel, preprocessing_params
from sg_resnets.utils.checks import BOOLEAN, PROBABILITY, integer, number
from sg_resnets.utils.errors import MissingFileError, SgResnetsError

# Over the ImageNet training images; the values used by torchvision and timm.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP_RATIO = number("a number > 0 and <= 1", lambda value: 0 < value <= 1)


class ImageFolderImages(ImageFolder):
    """Images float32 (3, size, size) with labels, read from disk one by one.

    Args:
        root: the folder that holds train/ and val/, with the same class folders in each.
        train: read train/, or val/.
        augmented: whether images are cropped, mirrored and so on at random; None: where `train` is True.
        size: height and width in pixels.
        crop_ratio: for validation the shorter side becomes size / crop_ratio, and the centre is cut out.
        augment: in training; "trivial" (Müller & Hutter 2021), or RandAugment in timm's notation, such as
            "rand-m7-mstd0.5-inc1": magnitude 7, its deviation 0.5, operations that grow with the magnitude.
        random_erasing: in training, the probability that a rectangle is erased.
        horizontal_flip: in training, mirror half of the images, chosen at random.
        mean, std: one number per channel, of pixels scaled to [0, 1].
        max_samples: keep only the first so many samples, taken from the classes in turn; None keeps all.

    Raises:
        SgResnetsError: where the folders are not as above, or an image cannot be read.
    """

    samples: list[tuple[str, int]]
    imgs: list[tuple[str, int]]
    targets: list[int]

    def __init__(
        self,
        root: str,
        train: bool = True,
        size: int = 224,
        horizontal_flip: bool = True,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        max_samples: int | None = None,
        crop_ratio: float = 0.875,
        augment: str | None = None,
        random_erasing: float = 0.0,
        augmented: bool | None = None,
    ):
        BOOLEAN("train", train)
        BOOLEAN("horizontal_flip", horizontal_flip)
        PROBABILITY("random_erasing", random_erasing)
        self.size = integer(1)("size", size)
        self.resize = int(size / CROP_RATIO("crop_ratio", crop_ratio))
        self.mean, self.std = per_channel("mean", mean, 3), per_channel("std", std, 3)
        augmented = train if augmented is None else augmented
        geometry = (
            [
                v2.RandomResizedCrop(size),
                v2.RandomHorizontalFlip(0.5 if horizontal_flip else 0.0),
                *self.augmentation(augment),
            ]
            if augmented
            else [v2.Resize(self.resize), v2.CenterCrop(size)]
        )
        to_tensor = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(self.mean, self.std)]
        if augmented and random_erasing:
            to_tensor.append(v2.RandomErasing(random_erasing))
        folder = _checked(Path(root).expanduser()) / ("train" if train else "val")
        try:
            super().__init__(str(folder), transform=v2.Compose([*geometry, *to_tensor]), loader=read_rgb)
        except FileNotFoundError as error:
            raise SgResnetsError(f"{folder}: {error}; remove the empty class folder or put images into it") from error
        if max_samples is not None:
            indices = balanced_first(np.array(self.targets), integer(1)("max_samples", max_samples))
            self.samples = self.imgs = [self.imgs[i] for i in indices]
            self.targets = [label for _, label in self.samples]

    def augmentation(self, name: str | None) -> list[Any]:
        """Return the transforms that `augment: name` stands for.

        Raises:
            SgResnetsError: there are none of this name.
        """
        if name is None:
            return []
        if name == "trivial":
            return [v2.TrivialAugmentWide()]
        raise SgResnetsError(f"augment={name}: valid: trivial, or RandAugment such as rand-m7-mstd0.5-inc1")

    @property
    def class_names(self) -> list[str]:
        return self.classes

    def get_dataset_preprocessing_params(self) -> dict:
        """Return what a network has to know to predict on an image file: see `preprocessing_params`."""
        return preprocessing_params(self.class_names, resize=self.resize, size=self.size, mean=self.mean, std=self.std)


@functools.cache
def noise_folder(classes: int) -> str:
    """A temporary folder of noise, two images in each class of train/ and val/; gone when Python ends."""
    folder = tempfile.mkdtemp(prefix="noise_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(classes):
            place = Path(folder, split, f"{label:04d}")
            place.mkdir(parents=True)
            for name in ("a.jpg", "b.jpg"):
                Image.fromarray(generator.integers(256, size=(40, 48, 3), dtype=np.uint8)).save(place / name)
    return folder


def _checked(root: Path) -> Path:
    layout = f"expected {root}/train/<class>/*.jpg and {root}/val/<class>/*.jpg"
    classes = {}
    for split in ("train", "val"):
        if not (root / split).is_dir():
            raise SgResnetsError(f"image_folder: {root / split} is missing; {layout}")
        classes[split] = {entry.name for entry in (root / split).iterdir() if entry.is_dir()}
    if classes["train"] != classes["val"]:
        odd = ", ".join(sorted(classes["train"] ^ classes["val"])[:5])
        raise SgResnetsError(f"image_folder: train/ and val/ of {root} differ in the classes {odd}; {layout}")
    if len(classes["train"]) < 2:
        listed = f"one class folder, {classes['train'].pop()}" if classes["train"] else "no class folders"
        raise SgResnetsError(f"image_folder: {root} has {listed}, and two are needed at least; {layout}")
    return root


# What Pillow raises for files that are damaged, no pictures, or larger than it dares to open.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_rgb(path: str | Path) -> Image.Image:
    """The picture in colour; of 16-bit grey the upper 8 bits, which Pillow would clip to white.

    Raises:
        SgResnetsError: there is no such file, or it is no picture.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):
                return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
            return image.convert("RGB")
    except FileNotFoundError:
        raise MissingFileError(f"no image at {path}") from None
    except UNREADABLE as error:
        raise SgResnetsError(
            f"{path} cannot be read as an image ({error}): replace it by a whole PNG, JPEG or another file that Pillow "
            "reads, or remove it"
        ) from error
