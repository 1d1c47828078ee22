"""One picture from a file, as a person sees it: upright, its transparent parts white, of any depth."""

import functools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sg_resnets.utils.errors import MissingFileError, SgResnetsError

# What Pillow raises for files that are damaged or no pictures.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, MemoryError)
# Pillow registers endings for these, and has no decoder.
_NOT_DECODED = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS"}
ORIENTATION = 0x0112  # of EXIF


class UnreadableError(SgResnetsError):
    """A file that is no whole picture; `reason` says why."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(
            f"{path} cannot be read as an image ({reason}): replace it by a whole PNG, JPEG or another file that "
            "Pillow reads, or remove it"
        )
        self.path, self.reason = Path(path), reason

    def __reduce__(self) -> tuple:
        return UnreadableError, (self.path, self.reason)


@functools.cache
def endings() -> frozenset[str]:
    """The endings, in small letters, of the files that Pillow reads here."""
    known = Image.registered_extensions()
    return frozenset(ending for ending, kind in known.items() if kind in Image.OPEN and kind not in _NOT_DECODED)


def read_rgb(path: str | Path, reduction: Callable[[int, int], float] | None = None) -> Image.Image:
    """The picture in colour, 8 bits a channel: turned upright as its EXIF data says, transparent parts on white, of
    several the first; 16-bit grey by its upper 8 bits, or where these are 0, by the lower; floats from 0 to 1 as 0 to
    255.

    `reduction` is told height and width, and answers by what factor both may be smaller: a JPEG is decoded at a half, a
    quarter or an eighth of its size where that is enough.

    Raises:
        MissingFileError: there is no such file.
        UnreadableError: it is no whole picture, has more pixels than Pillow opens, or numbers of an unknown range.
    """
    try:
        with Image.open(path) as image:
            if reduction is not None:
                width, height = image.size
                turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
                factor = max(reduction(*((width, height) if turned else (height, width))), 1)
                if image.format == "JPEG":
                    image.draft(None, (math.ceil(width / factor), math.ceil(height / factor)))
            return to_rgb(image)
    except FileNotFoundError:
        raise MissingFileError(f"no image at {path}") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UnreadableError(path, f"it has more than the {limit:,} pixels that Pillow opens") from None
    except UNREADABLE as error:
        raise UnreadableError(path, " ".join(str(error).split()) or type(error).__name__) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """An opened picture as `read_rgb` gives it.

    Raises:
        ValueError: it holds integers of over 16 bits, or floats that are not from 0 to 1.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        upright = ImageOps.exif_transpose(image)
        return Image.fromarray(_eight_bits(np.asarray(upright))).convert("RGB")
    if image.mode == "RGB" and not image.has_transparency_data and ORIENTATION not in image.getexif():  # as most are
        return image.convert("RGB")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 1):  # NaN too
            raise ValueError(f"its pixels are floats from {low:g} to {high:g}: store them as 0 to 1, or as 8-bit")
        return np.rint(values * 255).astype(np.uint8)
    if low < 0 or high > 65535:
        raise ValueError(f"its pixels are integers from {low} to {high}: store them as 8-bit or 16-bit")
    return (values >> 8 if high > 255 else values).astype(np.uint8)
