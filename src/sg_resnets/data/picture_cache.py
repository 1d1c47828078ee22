"""Decoded pictures, kept for the next epoch: reading them again takes a tenth of the time of decoding."""

import atexit
import errno
import json
import mmap
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.files import remove_abandoned, temporary_suffix

SHARED_MEMORY = Path("/dev/shm")
# int64: when the picture's file was changed, and when its place or its rights were (ns), its size in bytes, height and
# width of what is stored. A file that is put in its place with its time has another second time.
_HEADER = 5


class PictureCache:
    """Pictures, uint8 (3, H, W), each in a file of its own, with when its picture was changed: another one is decoded
    anew. Any number of processes may read and write at once.

    Args:
        folder: where; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_full = False

    def get(self, path: str, make: Callable[[], Tensor]) -> Tensor:
        """Return what is kept of the picture `path`, or what `make` makes of it, which is kept.

        Raises:
            SgResnetsError: it cannot be written.
        """
        try:
            stat = os.stat(path)
        except OSError:
            return make()  # which says what is wrong
        stamp = np.array([stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size])
        file = self._file(path)
        kept = _mapped(file)
        header, pixels = kept[: 8 * _HEADER], kept[8 * _HEADER :]
        if len(header) == 8 * _HEADER:
            *before, height, width = header.view(np.int64).tolist()
            if before == stamp.tolist() and len(pixels) == 3 * height * width:
                return torch.from_numpy(pixels.reshape(height, width, 3)).permute(2, 0, 1)
        picture = make()
        self._write(file, np.concatenate([stamp, picture.shape[1:]]), picture.permute(1, 2, 0).contiguous().numpy())
        return picture

    def _file(self, path: str) -> str:
        name = blake2b(os.fsencode(path), digest_size=16).hexdigest()
        return f"{self.folder}/{name[:2]}/{name[2:]}"

    def _write(self, file: str, header: np.ndarray, pixels: np.ndarray) -> None:
        if self._is_full:
            return
        temporary = f"{file}{temporary_suffix()}"
        try:
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(temporary, "wb") as stream:
                stream.write(header.astype(np.int64).data)
                stream.write(pixels.data)
            os.replace(temporary, file)  # whoever has the old one mapped keeps it
        except OSError as error:
            with suppress(OSError):
                os.remove(temporary)
            if error.errno == errno.ENOSPC:
                self._is_full = True
                warnings.warn(f"cache: {self.folder} is full: other pictures are decoded each time", stacklevel=2)
                return
            raise SgResnetsError(f"cache: {file} cannot be written ({error.strerror}): set cache=none") from None

    def refuse_little_room(self, paths: Sequence[str], size_of_one: int) -> None:
        """Refuse to begin what would fill the disk, or the memory.

        Raises:
            SgResnetsError: there is too little room for these pictures, of about so many bytes each.
        """
        needed = sum(not os.path.exists(self._file(path)) for path in paths) * size_of_one
        place = next(each for each in (self.folder, *self.folder.parents) if each.is_dir())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise SgResnetsError(
                f"cache: {len(paths):,} pictures need about {needed / 1e9:.1f} GB in {place}, and "
                f"{free / 1e9:.1f} are free: set cache=none"
                + (", or cache=disk" if place.is_relative_to(SHARED_MEMORY) else "")
            )


def _mapped(file: str) -> np.ndarray:
    """The bytes of a file, read as they are used; none where there is no such file."""
    try:
        with open(file, "rb", buffering=0) as stream:
            return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    except (OSError, ValueError):  # it is not there, or empty
        return np.empty(0, np.uint8)


def cache_of(kind: str, settings: Mapping[str, Any]) -> PictureCache | None:
    """Return the cache for pictures that are prepared by `settings`: "disk", below ~/.cache/sg_resnets, is there for
    the next training too; "ram" is gone with this process; "none" is None.

    Raises:
        SgResnetsError: there is no such memory on this system.
    """
    if kind == "none":
        return None
    key = blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()
    if kind == "disk":
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        cache = PictureCache(Path(base).expanduser() / "sg_resnets" / "pictures" / key)
        for part in cache.folder.glob("??"):
            remove_abandoned(part)
        return cache
    if not SHARED_MEMORY.is_dir():
        raise SgResnetsError(
            f"cache=ram: this system has no {SHARED_MEMORY}: set cache=disk, which memory is used for too"
        )
    # The processes of one training have one parent, and one cache.
    owner = os.getppid() if "LOCAL_RANK" in os.environ else os.getpid()
    prefix = f"sg_resnets_{os.getuid()}_"
    for other in SHARED_MEMORY.glob(f"{prefix}*"):
        if not Path("/proc", other.name.removeprefix(prefix)).exists():  # its process was killed
            shutil.rmtree(other, ignore_errors=True)
    folder = SHARED_MEMORY / f"{prefix}{owner}"
    if os.environ.get("LOCAL_RANK", "0") == "0":  # which is the last to end
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return PictureCache(folder / key)
