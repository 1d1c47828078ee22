"""A data set held in memory, which returns finished batches: the augmentation is a few tensor operations a batch.

Small images (CIFAR, Fashion-MNIST) train faster than a per-image pipeline can prepare them. Here the images stay uint8
in one tensor, and PyTorch's `__getitems__` protocol normalises, crops, flips and cuts a whole batch at once.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from sg_resnets.data.fitting import Fitting
from sg_resnets.data.preprocessing import per_channel, preprocessing_params
from sg_resnets.utils.checks import BOOLEAN, PROBABILITY, integer
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.replay import Replayed

ERASED, RATIO = (0.02, 0.4), (0.3, 1 / 0.3)  # of random erasing: Zhong et al. 2017, section 4.2


class Samples(list):
    """The samples of a finished batch, (image, label) each, for collate functions that take a list; `batch` is whole:
    images float32 (B, C, H, W) and labels int64 (B,)."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        super().__init__(zip(images, labels.tolist(), strict=True))
        self.batch = images, labels


class InMemoryImages(Dataset):
    """Square images with labels, normalised and, where asked for, augmented.

    Augmentation is the same for any number of DataLoader workers: its random numbers come from `seed` and the indices
    of the batch, and from no global state. A shuffled loader forms other batches every epoch, so the augmentation
    differs from epoch to epoch; without shuffling, or with batches of one image, it would not.

    Args:
        images: uint8, (N, C, S, S).
        labels: integers from 0 to len(class_names) - 1, (N,).
        class_names: the name of label 0, of label 1, ...
        mean, std: one number per channel, of pixels scaled to [0, 1].
        size: all images are resized to (size, size), bilinear with antialiasing, when they are loaded; None keeps S.
        crop_padding: pad by so many pixels on each side, then cut a window of the original size at random (He et al.
            2015, section 4.2: 4). The padding is 0 after normalisation, that is, it has the mean's colour.
        horizontal_flip: mirror half of the images, chosen at random.
        cutout: side in pixels of a square set to 0 after normalisation (DeVries and Taylor 2017). Its centre is
            uniform over the image, so that the edge may cut the square. 0 means off.
        random_erasing: probability that a rectangle is set to 0 after normalisation: 0.02 to 0.4 of the area, its
            height 0.3 to 1 / 0.3 of its width (Zhong et al., 'Random Erasing Data Augmentation', 2017, algorithm 1).
        seed: changes the augmentation.
        max_samples: keep only the first so many samples, taken from the classes in turn; None keeps all.
        skip_samples: leave out so many before that. With `train: True` and what training keeps by `max_samples`, the
            rest of the training data is a validation set, on which hyper-parameters are chosen.

    Raises:
        SgResnetsError: where an argument is out of its range or does not fit the images.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Sequence[int] | np.ndarray | Tensor,
        class_names: Sequence[str],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: int | None = None,
        crop_padding: int = 0,
        horizontal_flip: bool = False,
        cutout: int = 0,
        random_erasing: float = 0.0,
        seed: int = 0,
        max_samples: int | None = None,
        skip_samples: int = 0,
    ):
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != images.shape[-2]:
            raise SgResnetsError(f"images must be uint8 (N, C, S, S), not {images.dtype} {tuple(images.shape)}")
        self.images = images
        self.class_names = list(class_names)
        self.labels = _checked(labels, images, len(self.class_names))
        self.size = images.shape[-1] if size is None else integer(1)("size", size)
        self.mean = per_channel("mean", mean, images.shape[1])
        self.std = per_channel("std", std, images.shape[1])
        self.crop_padding = integer(0, self.size)("crop_padding", crop_padding)
        self.horizontal_flip = BOOLEAN("horizontal_flip", horizontal_flip)
        self.cutout = integer(0, self.size + 1)("cutout", cutout)
        self.random_erasing = PROBABILITY("random_erasing", random_erasing)
        self.seed = integer(0)("seed", seed)
        if max_samples is not None or skip_samples:
            count = len(images) if max_samples is None else integer(1)("max_samples", max_samples)
            indices = balanced_first(self.labels.numpy(), count, integer(0, len(images))("skip_samples", skip_samples))
            self.images, self.labels = self.images[indices], self.labels[indices]
        if self.size != self.images.shape[-1]:
            self.images = resized(self.images, self.size)
        # (x / 255 - mean) / std as one multiplication and one subtraction
        self._scale = 1 / (255 * torch.tensor(self.std).view(-1, 1, 1))
        self._shift = (torch.tensor(self.mean) / torch.tensor(self.std)).view(-1, 1, 1)
        self._replayed: Replayed | None = None

    def to(self, device: str | torch.device) -> "InMemoryImages":
        """Hold the images on `device`, and make the batches there; loaders then must have no workers."""
        for name in ("images", "labels", "_scale", "_shift"):
            setattr(self, name, getattr(self, name).to(device))
        self._replayed = Replayed(self._made, self.images.device) if self.images.is_cuda else None
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy, which may be changed, nothing is recorded."""
        return {**vars(self), "_replayed": None}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def targets(self) -> list[int]:
        """The label of each sample."""
        return self.labels.tolist()

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image (C, size, size) and its label."""
        images, labels = self.__getitems__([range(len(self))[index]])
        return images[0], int(labels[0])

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A finished batch: images float32 (B, C, size, size), labels int64 (B,). Use `whole_batch` to collate it."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        plan = torch.stack([index, *self._draws(index)])
        if self._replayed is None:
            return self._made(plan)
        places = [each.data_ptr() for each in (self.images, self.labels, self._scale, self._shift)]
        settings = self.crop_padding, self.horizontal_flip, self.cutout, self.random_erasing
        images, labels = self._replayed([plan], (*settings, *places))
        return images.clone(), labels.clone()

    def get_dataset_preprocessing_params(self) -> dict:
        """Return what a network has to know to predict on an image file: see `preprocessing_params`."""
        return preprocessing_params(self.class_names, Fitting.of(self.size), mean=self.mean, std=self.std)

    def _generator(self, index: Tensor) -> torch.Generator:
        digest = hashlib.blake2b(index.numpy().tobytes(), digest_size=8, key=str(self.seed).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little"))

    def _draws(self, index: Tensor) -> list[Tensor]:
        """The random numbers of a batch, int64 (B,), in the order in which `_made` takes them."""
        generator = self._generator(index)
        most = [2 * self.crop_padding + 1] * 2 if self.crop_padding else []
        most += [2] if self.horizontal_flip else []
        most += [self.size] * 2 if self.cutout else []
        draws = [torch.randint(below, (len(index),), generator=generator) for below in most]
        if self.random_erasing:
            draws += erased(len(index), (self.size, self.size), self.random_erasing, generator)
        return draws

    def _made(self, plan: Tensor) -> tuple[Tensor, Tensor]:
        """The batch of a plan, int64 (1 + the number of draws, B): its indices, then what `_draws` drew."""
        index, *drawn = plan.to(self.images.device)
        draws = iter(drawn)
        images = self.images.index_select(0, index)  # ten times as fast as self.images[index]
        images = images.float().mul_(self._scale).sub_(self._shift)
        if self.crop_padding:
            images = crop_windows(images, self.crop_padding, top=next(draws), left=next(draws))
        if self.horizontal_flip:
            images = torch.where(next(draws).bool().view(-1, 1, 1, 1), images.flip(-1), images)
        if self.cutout:
            images = cut_out(images, self.cutout, row=next(draws), column=next(draws))
        if self.random_erasing:
            images = erase(images, *draws)
        return images, self.labels.index_select(0, index)


def _checked(labels: Sequence[int] | np.ndarray | Tensor, images: Tensor, classes: int) -> Tensor:
    """The labels as int64 (N,), where the images are."""
    given = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if given.shape != (len(images),) or given.dtype.kind not in "iu":
        raise SgResnetsError(
            f"labels must be {len(images)} integers, one for each image, not {given.dtype} {given.shape}"
        )
    if len(given) and not 0 <= given.min() <= given.max() < classes:
        raise SgResnetsError(
            f"labels from {given.min()} to {given.max()}: must be from 0 to {classes - 1}, the places in class_names"
        )
    return torch.as_tensor(given.astype(np.int64), device=images.device)


def resized(images: Tensor, size: int) -> Tensor:
    """Return uint8 images (N, C, S, S) as (N, C, size, size). On the CPU: CUDA has no antialiased kernel for uint8."""
    parts = images.cpu().split(4096)  # so that no float copy of all of them is made
    return torch.cat([F.interpolate(part, size=(size, size), mode="bilinear", antialias=True) for part in parts])


def crop_windows(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Pad `images` (B, C, S, S) with zeros, then cut from each the (S, S) window at its own `top` and `left` (B,)."""
    side = images.shape[-1]
    windows = F.pad(images, [padding] * 4).unfold(2, side, 1).unfold(3, side, 1)  # a view of every possible window
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def cut_out(images: Tensor, side: int, row: Tensor, column: Tensor) -> Tensor:
    """Zero in each of `images` (B, C, S, S) the square of `side` pixels centred at its own `row`, `column` (B,)."""

    def inside(centre: Tensor) -> Tensor:
        distance = torch.arange(images.shape[-1], device=images.device) - (centre - side // 2).view(-1, 1)
        return (distance >= 0) & (distance < side)

    return images.masked_fill((inside(row).unsqueeze(2) & inside(column).unsqueeze(1)).unsqueeze(1), 0.0)


def erased(
    count: int,
    size: tuple[int, int],
    probability: float,
    generator: torch.Generator | None = None,
    area: tuple[float, float] = ERASED,
    ratio: tuple[float, float] = RATIO,
    by_logarithm: bool = False,
) -> tuple[Tensor, ...]:
    """Draw rectangles for `count` images of `size`, height and width: top, bottom, left and right, int64 (count,), the
    ends not included; empty ones where nothing is erased. The first of ten tries that fits is taken, as by Zhong et al.
    of a hundred. `ratio`, height by width, is drawn evenly, or its logarithm is."""
    share, shape, top, left = torch.rand(4, count, 10, generator=generator)
    pixels = (area[0] + (area[1] - area[0]) * share) * math.prod(size)
    low, high = ratio
    shape = low * (high / low) ** shape if by_logarithm else low + (high - low) * shape
    height, width = (pixels * shape).sqrt().round(), (pixels / shape).sqrt().round()
    fits = (height < size[0]) & (width < size[1])
    first = fits.float().argmax(1, keepdim=True)  # of equal ones the first
    wanted = fits.any(1) & (torch.rand(count, generator=generator) < probability)
    height, width, top, left = (each.gather(1, first).squeeze(1) for each in (height, width, top, left))
    height, width = height * wanted, width * wanted
    top, left = (top * (size[0] - height + 1)).floor(), (left * (size[1] - width + 1)).floor()
    return tuple(each.to(torch.int64) for each in (top, top + height, left, left + width))


def erase(images: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Zero in each of `images` (B, C, S, S) the rectangle from its own `top` to before `bottom`, `left` to `right`."""
    place = torch.arange(images.shape[-1], device=images.device)
    rows = (place >= top.view(-1, 1)) & (place < bottom.view(-1, 1))
    columns = (place >= left.view(-1, 1)) & (place < right.view(-1, 1))
    return images.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0.0)


def balanced_first(labels: np.ndarray, count: int, skip: int = 0) -> np.ndarray:
    """Ascending indices of `count` samples: the first of each class, then the second of each class, and so on; the
    first `skip` of them are left out."""
    by_class = np.argsort(labels, kind="stable")
    turn = np.empty_like(by_class)
    turn[by_class] = np.arange(len(labels)) - np.searchsorted(labels[by_class], labels[by_class])
    return np.sort(np.argsort(turn, kind="stable")[skip : skip + count])


def whole_batch(batch: Any) -> Any:
    """Collate function: a batch that `__getitems__` finished passes through; a list of samples is stacked as usual."""
    if isinstance(batch, Samples):
        return batch.batch
    return default_collate(batch) if isinstance(batch, list) else batch
