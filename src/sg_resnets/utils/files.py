"""Files that are written whole or not at all."""

import csv
import glob
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sg_resnets.utils.errors import SgResnetsError


def temporary_suffix() -> str:
    """Return how the names of this process's unfinished files end."""
    return f".{platform.node()}.{os.getpid()}.sg_resnets.tmp"


@contextmanager
def whole_file(path: str | Path, previous: str | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which becomes `path` at the end, when it is on the disk, or is removed if
    anything goes wrong; of a link the file that it points to is written. What `path` was before is kept under the name
    `previous`.

    Raises:
        SgResnetsError: the file cannot be written: there is no such folder, or the disk is full, for example.
    """
    target = Path(path).resolve()
    check_parent(target)
    temporary = Path(f"{target}{temporary_suffix()}")
    try:
        yield temporary
        flush(temporary)
        if previous is not None and target.exists():
            keep(target, target.with_name(previous))
        os.replace(temporary, target)
        remove_abandoned(target.parent)
        with suppress(OSError):  # some network file systems do not flush names
            flush(target.parent)
    except OSError as error:
        hint = "give another place" if isinstance(error, PermissionError) else "is the disk full?"
        raise SgResnetsError(f"{path} cannot be written ({error.strerror or error}): {hint}") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that processes that were killed have left in this folder."""
    import psutil

    here = glob.escape(platform.node())  # other machines may be writing into this folder too
    for path in folder.glob(f"*.{here}.*.sg_resnets.tmp"):
        process = path.name.split(".")[-3]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def keep(path: Path, under: Path, copied: bool = False) -> None:
    """Give a file a second name, of which another file is lost; at any moment one of the two has it. Where the file
    system has no links it loses its first name, or, if asked for, is copied."""
    link = Path(f"{under}{temporary_suffix()}")
    try:
        os.link(path, link)
    except OSError:
        if not copied:
            os.replace(path, under)
            return
        shutil.copyfile(path, link)
    os.replace(link, under)


def write_bytes(path: Path, contents: bytes) -> None:
    """Write a file.

    Raises:
        SgResnetsError: it cannot be written.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(contents)


def check_parent(path: Path) -> None:
    """Refuse a file to be written whose folder does not exist.

    Raises:
        SgResnetsError: there is no such folder, or `path` is a folder itself.
    """
    if not path.absolute().parent.is_dir():
        raise SgResnetsError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise SgResnetsError(f"{path} is a folder: name the file to write")


def write_rows(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write dicts with the same keys as CSV."""
    with (
        whole_file(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def make_folder(path: str | Path, key: str) -> Path:
    """Make a folder and return it; `key` is the option that names it.

    Raises:
        SgResnetsError: it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SgResnetsError(f"{key}={path}: the folder cannot be made ({error.strerror}): give another") from None
    return Path(path)
