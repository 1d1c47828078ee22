"""ImageNet, or any folder of pictures (`data/folder.py` says how it may lie), as batches.

Training sees what the ResNet weights of torchvision were first trained with, a random resized crop and a flip;
validation the shorter side brought to size / 0.875 (224: 256) and the centre of it.
"""

import atexit
import functools
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from sg_resnets.data.fitting import Fitting, luma
from sg_resnets.data.folder import PARTS, contents, relative
from sg_resnets.data.image_tensors import Samples, balanced_first, erased
from sg_resnets.data.picture_cache import cache_of
from sg_resnets.data.pictures import read_rgb
from sg_resnets.data.preprocessing import per_channel, preprocessing_params
from sg_resnets.utils.checks import BOOLEAN, PROBABILITY, integer, one_of
from sg_resnets.utils.errors import SgResnetsError

# Over the ImageNet training images; the values used by torchvision and timm.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CPU = torch.device("cpu")
LARGE = 2**20  # bytes of a JPEG: it may be decoded at a reduced size
TRIES = 10  # of a random crop
# Under which it is registered. One who has a list of pictures looks for a data set that says so.
NAMES = ("image_folder", "image_csv")
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random crop: Szegedy et al. 2014, section 6
# Rectangles as of torchvision's random erasing, with which its second ResNet weights were trained.
torchvision_erased = functools.partial(erased, area=(0.02, 0.33), ratio=(0.3, 3.3), by_logarithm=True)


class Drawn(NamedTuple):
    """What is drawn for a picture: the tries of its crop, whether it is mirrored, the edges of what is erased."""

    crop: list[list[float]] | None
    mirrored: int | None
    erased: list[int] | None


class ImageFolderImages(Dataset):
    """Images float32 `(C, *size)` with labels, read from disk, C = len(mean); the augmentation is drawn from PyTorch's
    global generator.

    Args:
        root: the folder, or a CSV file that lists pictures: see `data.folder.contents`.
        train: whether this is the training part, "train", or "val".
        split: "train", "val", "test" or "all" in its place.
        augmented: whether images are cropped, mirrored and so on at random; None: where it is the training part.
        size: height and width in pixels: a number, or [height, width].
        fit: "crop": a random part in training, and the centre otherwise; "squash" and "pad": the whole picture.
        crop_ratio: for validation the shorter side becomes size / crop_ratio, and the centre is cut out.
        interpolation: "bilinear" or "bicubic", with antialiasing.
        augment: in training; "trivial" (Müller & Hutter 2021), or RandAugment in timm's notation, such as
            "rand-m7-mstd0.5-inc1": magnitude 7, its deviation 0.5, operations that grow with the magnitude.
        random_erasing: in training, the probability that a rectangle gets the mean's colour: 0.02 to 0.33 of the
            area, its height 0.3 to 3.3 of its width, whose logarithm is drawn evenly, as torchvision has it.
        horizontal_flip: in training, mirror half of the images, chosen at random.
        mean, std: one number per channel, of pixels scaled to [0, 1]; of one channel the images are grey.
        labels: a CSV file with the columns file, class and, if it likes, part.
        val_fraction: of each class so much is put aside where there is no validation part.
        split_seed: decides which.
        left_out: files that are not used, by their paths within `root`.
        max_samples: keep only the first so many samples, taken from the classes in turn; None keeps all.
        skip_samples: leave out so many before that.
        cache: "disk" or "ram" keep decoded pictures for the next epoch, those that are not augmented as they are seen,
            the others at size / `crop_ratio`, from which crops are cut; "none" decodes each time.

    Raises:
        SgResnetsError: where the folder is none of these, an argument is out of its range, or an image cannot be read.
    """

    def __init__(
        self,
        root: str,
        train: bool = True,
        size: int | Sequence[int] = 224,
        horizontal_flip: bool = True,
        mean: float | Sequence[float] = IMAGENET_MEAN,
        std: float | Sequence[float] = IMAGENET_STD,
        max_samples: int | None = None,
        crop_ratio: float | None = None,
        augment: str | None = None,
        random_erasing: float = 0.0,
        augmented: bool | None = None,
        split: str | None = None,
        fit: str = "crop",
        interpolation: str = "bilinear",
        labels: str | None = None,
        val_fraction: float = 0.2,
        split_seed: int = 0,
        left_out: Sequence[str] = (),
        skip_samples: int = 0,
        cache: str = "none",
    ):
        self.part = one_of(*PARTS, "all")("split", split or ("train" if BOOLEAN("train", train) else "val"))
        self.augmented = (split or train) in (True, "train") if augmented is None else BOOLEAN("augmented", augmented)
        self.horizontal_flip = BOOLEAN("horizontal_flip", horizontal_flip)
        self.random_erasing = PROBABILITY("random_erasing", random_erasing)
        of_grey = isinstance(mean, int | float) or (isinstance(mean, Sequence) and len(mean) == 1)
        channels = 1 if of_grey else 3
        self.mean, self.std = per_channel("mean", mean, channels), per_channel("std", std, channels)
        ratio = (0.875 if fit == "crop" else 1.0) if crop_ratio is None else crop_ratio
        self.fitting = Fitting.of(size, fit, ratio, interpolation, self.mean if channels == 3 else self.mean * 3)
        # The mean's, which is next to 0 once it is normalised.
        self._erased = torch.tensor(self.fitting.fill[:channels], dtype=torch.uint8).view(-1, 1, 1)
        self.augmentation = self.augmentation_of(augment) if self.augmented else None
        found = contents(root, labels, val_fraction, split_seed, None if self.part == "all" else self.part)
        self.classes = self.class_names = list(found.class_names)
        self.missing = found.missing
        skipped = frozenset(left_out)
        kept = [each for each in found.part(self.part) if relative(each.path, found.root) not in skipped]
        self.samples: list[tuple[str, int]] = [(each.path, each.label) for each in kept]
        self.targets = [label for _, label in self.samples]
        if max_samples is not None or skip_samples:
            most = len(self.samples)
            count = most if max_samples is None else integer(1)("max_samples", max_samples)
            indices = balanced_first(np.array(self.targets), count, integer(0, most)("skip_samples", skip_samples))
            self.samples, self.targets = ([each[i] for i in indices] for each in (self.samples, self.targets))
        how = {"root": str(Path(found.root).absolute()), "augmented": self._crops, **vars(self.fitting)}
        self.cache = cache_of(one_of("none", "ram", "disk")("cache", cache), how)
        if self.cache is not None:
            covering = self.fitting.covering(3, 4) if self._crops else self.fitting.size
            self.cache.refuse_little_room([path for path, _ in self.samples], 3 * covering[0] * covering[1])
        # (x / 255 - mean) / std as one multiplication and one subtraction, by device
        shift, scale = (torch.tensor(each).view(-1, 1, 1) for each in (self.mean, self.std))
        self._constants: dict[torch.device, tuple[Tensor, ...]] = {_CPU: (1 / (255 * scale), shift / scale)}

    def augmentation_of(self, name: str | None) -> Any:
        """Return what `augment: name` stands for: a transform of uint8 (C, H, W), or None.

        Raises:
            SgResnetsError: there is none of this name.
        """
        if name is None:
            return None
        if name == "trivial":
            return v2.TrivialAugmentWide()
        raise SgResnetsError(f"augment={name}: valid: trivial, or RandAugment such as rand-m7-mstd0.5-inc1")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image (C, *size) and its label."""
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: Sequence[int]) -> "PixelSamples":
        """A finished batch: images float32 (B, C, *size), labels int64 (B,)."""
        indices = [*indices]  # those of a training seed the generators when one goes through them: `PlacedBatch`
        pixels = _empty((len(indices), len(self.mean), *self.fitting.size))
        for place, index, drawn in zip(pixels, indices, self._draws(len(indices)), strict=True):
            image = self._prepared(self.samples[index][0], drawn.crop)
            place.copy_(image.flip(-1) if drawn.mirrored else image)
            if drawn.erased is not None:
                top, bottom, left, right = drawn.erased
                place[:, top:bottom, left:right] = self._erased
        labels = torch.tensor([self.targets[index] for index in indices])
        return PixelSamples(pixels, labels, self.normalised)

    def _draws(self, count: int) -> list[Drawn]:
        """What is drawn for each picture of a batch. Mirroring and erasing are done on its way into the batch: on a CPU
        a tenth of the time that the whole batch takes as tensors, and next to the decoding nothing."""
        none = [None] * count
        crops = torch.rand(count, TRIES, 4).tolist() if self._crops else none
        mirrored = torch.randint(2, (count,)).tolist() if self.augmented and self.horizontal_flip else none
        edges = none
        if self.augmented and self.random_erasing:
            edges = torch.stack(torchvision_erased(count, self.fitting.size, self.random_erasing), 1).tolist()
        return list(map(Drawn, crops, mirrored, edges))

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 (B, C, H, W) as float32: (pixels / 255 - mean) / std."""
        if pixels.device not in self._constants:  # a forked worker cannot use those of a GPU
            self._constants[pixels.device] = tuple(each.to(pixels.device) for each in self._constants[_CPU])
        scale, shift = self._constants[pixels.device]
        return pixels.float().mul_(scale).sub_(shift)

    @property
    def _crops(self) -> bool:
        """Whether random crops are cut."""
        return self.augmented and self.fitting.fit == "crop"

    def _prepared(self, path: str, crop: list[list[float]] | None) -> Tensor:
        """A picture at its size, uint8 (C, *size): cut as `crop` says, the whole of it without one."""
        image = self._whole(path) if crop is None else self._random_crop(path, crop)
        if self.augmentation is not None:
            image = self.augmentation(image)
        return luma(image) if len(self.mean) == 1 else image

    def _whole(self, path: str) -> Tensor:
        def make() -> Tensor:
            return self.fitting(read_pixels(path))

        return make() if self.cache is None else self.cache.get(path, make)

    def _random_crop(self, path: str, drawn: list[list[float]]) -> Tensor:
        size = self.fitting.size

        def reduction(height: int, width: int) -> float:
            _, _, height, width = crop_of(drawn, height, width)
            return min(height / size[0], width / size[1]) / 2

        if self.cache is not None:
            image = self.cache.get(path, lambda: self._covering(path))
        else:
            image = read_pixels(path, reduction)
        top, left, height, width = crop_of(drawn, *image.shape[1:])
        return self.fitting.resized(image[:, top : top + height, left : left + width], size)

    def _covering(self, path: str) -> Tensor:
        """The picture at the size that crops are cut from, no larger than it is."""
        covering = None

        def reduction(height: int, width: int) -> float:
            nonlocal covering
            covering = self.fitting.covering(height, width)  # of the whole size: a reduced one is rounded
            return height / covering[0] / 2

        image = read_pixels(path, reduction)
        covering = covering or self.fitting.covering(*image.shape[1:])
        return self.fitting.resized(image, covering) if covering[0] < image.shape[1] else image

    def get_dataset_preprocessing_params(self) -> dict:
        """Return what a network has to know to predict on an image file: see `preprocessing_params`."""
        return preprocessing_params(self.class_names, self.fitting, mean=self.mean, std=self.std)


def _empty(shape: tuple[int, ...]) -> Tensor:
    """uint8, of any values; in a worker in the memory that it shares with the training, which saves a copy."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(math.prod(shape))  # as PyTorch's own `default_collate` does
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


class PixelSamples(Samples):
    """The samples of a finished batch, normalised when they are first asked for: `FolderLoader` does not ask.

    Args:
        pixels: uint8 (B, C, H, W).
        labels: int64 (B,).
        normalised: makes float32 of pixels.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, normalised: Callable[[Tensor], Tensor]) -> None:
        list.__init__(self)
        self.pixels, self.labels = pixels, labels
        self._normalised = normalised

    @functools.cached_property
    def batch(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return self._normalised(self.pixels), self.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        images, labels = self.batch
        return zip(images, labels.tolist(), strict=True)


def crop_of(drawn: Sequence[Sequence[float]], height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop of a picture of this height and width, as torchvision's RandomResizedCrop
    has it: of so many tries, each four numbers in [0, 1), the first that fits; else the centre."""
    least, most = map(math.log, RATIO)
    for share, shape, down, right in drawn:
        area = (AREA[0] + (AREA[1] - AREA[0]) * share) * height * width
        ratio = math.exp(least + (most - least) * shape)
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return int(down * (height - high + 1)), int(right * (width - wide + 1)), high, wide
    wide, high = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (height - high) // 2, (width - wide) // 2, high, wide


def is_jpeg(path: str) -> bool:
    """Whether a file is a JPEG by its name."""
    return path.lower().endswith((".jpg", ".jpeg", ".jfif"))


def _is_large_jpeg(path: str) -> bool:
    """Whether it pays to decode a file at a reduced size."""
    try:
        return is_jpeg(path) and os.path.getsize(path) > LARGE
    except OSError:  # which is said where it is read
        return False


def to_tensor(image: Image.Image) -> Tensor:
    """RGB, as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_pixels(path: str | Path, reduction: Callable[[int, int], float] | None = None) -> Tensor:
    """The picture of `read_rgb`, uint8 (3, H, W), of a large JPEG by its `reduction`; most JPEGs are decoded without
    Pillow, which gives the same bytes.

    Raises:
        SgResnetsError: as `read_rgb`.
    """
    path = str(path)
    if reduction is not None and _is_large_jpeg(path):
        return to_tensor(read_rgb(path, reduction))
    if is_jpeg(path):
        try:
            image = decode_jpeg(read_file(path), ImageReadMode.UNCHANGED, apply_exif_orientation=True)
        except RuntimeError:
            pass  # Pillow reads it, or says what is wrong
        else:
            if len(image) == 3:  # neither grey nor CMYK
                return image
    return to_tensor(read_rgb(path))


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
