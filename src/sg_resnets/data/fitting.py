"""Bring a picture of any size to that of the network: the same steps in training, evaluation and prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sg_resnets.utils.checks import Check, integer, number, one_of
from sg_resnets.utils.errors import SgResnetsError

LARGEST = 16_384  # pixels of a side; a picture of more is a mistake, and fills the memory
CROP_RATIO = number("a number > 0 and <= 1", lambda value: 0 < value <= 1)
FITS = one_of("crop", "squash", "pad")
INTERPOLATIONS = one_of("bilinear", "bicubic")
_SIDES = Check(
    lambda value: isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2,
    "the pictures' side in pixels, or [height, width]",
)


def sides(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of a size that is a number, for a square, or both.

    Raises:
        SgResnetsError: it is neither, or over `LARGEST`.
    """
    pair = (size, size) if isinstance(size, int) and not isinstance(size, bool) else tuple(_SIDES("size", size))
    for side in pair:
        integer(1, LARGEST + 1)("size", side)
    return pair


@dataclass(frozen=True)
class Fitting:
    """How a picture comes to its size.

    Attributes:
        size: height and width in pixels that it ends in.
        fit: "crop": it covers `resize`, and the centre is cut out; "squash": it is stretched; "pad": all of it is seen,
            with `fill` beside it.
        resize: height and width that it covers before the cut.
        interpolation: "bilinear" or "bicubic", with antialiasing.
        fill: the value of pixels that are padded, 0 to 255, one for each channel.
    """

    size: tuple[int, int]
    fit: str = "crop"
    resize: tuple[int, int] = (0, 0)
    interpolation: str = "bilinear"
    fill: tuple[int, ...] = (0,)

    @classmethod
    def of(
        cls,
        size: int | Sequence[int],
        fit: str = "crop",
        crop_ratio: float = 1.0,
        interpolation: str = "bilinear",
        mean: Sequence[float] = (0.0,),
    ) -> "Fitting":
        """Return the one for a `size`; with "crop" the picture covers size / `crop_ratio`, with "pad" it has the colour
        `mean` (of pixels scaled to [0, 1]) beside it.

        Raises:
            SgResnetsError: one of them is out of its range.
        """
        pair, ratio = sides(size), CROP_RATIO("crop_ratio", crop_ratio)
        if FITS("fit", fit) != "crop" and ratio != 1.0:
            raise SgResnetsError(f"crop_ratio={crop_ratio}: fit: {fit} shows the whole picture: leave it out")
        INTERPOLATIONS("interpolation", interpolation)
        resize = int(pair[0] / ratio), int(pair[1] / ratio)
        return cls(pair, fit, resize, interpolation, tuple(round(255 * value) for value in mean))

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 `(C, H, W)` to `(C, *size)`."""
        height, width = image.shape[-2:]
        if self.fit == "squash":
            return self.resized(image, self.size)
        if self.fit == "pad":
            scale = min(self.size[0] / height, self.size[1] / width)
            image = self.resized(image, (max(round(height * scale), 1), max(round(width * scale), 1)))
            return self._in_the_middle(image)
        (rows, columns), (high, wide) = self.covering(height, width), self.size
        top, left = round((rows - high) / 2), round((columns - wide) / 2)  # as torchvision rounds
        return self.resized(image, (rows, columns))[..., top : top + high, left : left + wide]

    def covering(self, height: int, width: int) -> tuple[int, int]:
        """Return the size at which a picture of `height` and `width` just covers `resize`."""
        high, wide = self.resize
        if high * width >= wide * height:
            return high, int(high * width / height)
        return int(wide * height / width), wide

    def resized(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """uint8 `(C, H, W)` to `(C, *size)`."""
        if tuple(image.shape[-2:]) == size:
            return image
        return F.interpolate(image[None], size=size, mode=self.interpolation, antialias=True)[0]

    def _in_the_middle(self, image: Tensor) -> Tensor:
        channels, height, width = image.shape
        fill = torch.tensor(self.fill, dtype=torch.uint8).view(-1, 1, 1)
        canvas = fill.expand(channels, *self.size).clone()
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        canvas[:, top : top + height, left : left + width] = image
        return canvas


def luma(image: Tensor) -> Tensor:
    """uint8 (3, H, W) to (1, H, W), by the weights of ITU-R 601 (0.299, 0.587, 0.114), rounded as Pillow rounds."""
    red, green, blue = image.to(torch.int32)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(torch.uint8)[None]
