"""What a folder of pictures holds, and which of them are damaged."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from sg_resnets.data.check import Looked, look_at
from sg_resnets.data.folder import Contents, contents, pictures_in, relative, some
from sg_resnets.utils.errors import SgResnetsError


def check_folder(folder: Path) -> tuple[list[str], bool]:
    """Return what there is to say of a folder, in lines, and whether a picture in it is damaged.

    Raises:
        SgResnetsError: there is no such folder, or no picture in it.
    """
    folder = folder.expanduser()
    if not folder.exists():
        raise SgResnetsError(f"there is no folder {folder}")
    try:
        found = contents(folder)
        lines = list(describe(found))
        paths = [picture.path for pictures in found.parts.values() for picture in pictures]
    except SgResnetsError as error:  # it may hold pictures all the same
        found, lines, paths = None, [str(error)], pictures_in(folder) if folder.is_dir() else []
        if not folder.is_dir():
            raise
    if not paths:
        raise SgResnetsError(f"{folder} has no pictures")
    looked = look_with_progress(paths)
    damaged = sorted((each for each in looked if each.reason), key=lambda each: each.path)
    lines += in_two_parts(looked, found) if found else ()
    lines.append(f"{count_of(len(paths), 'picture')} looked at, {len(damaged):,} damaged{':' if damaged else ''}")
    return [*lines, *(f"{each.path}: {each.reason}" for each in damaged)], bool(damaged)


def describe(found: Contents) -> Iterator[str]:
    """Yield a few lines about what was found."""
    counts = ", ".join(f"{len(pictures):,} {part}" for part, pictures in found.parts.items())
    chosen = "; val was taken from the training pictures, chosen by their names" if found.is_split else ""
    yield f"{found.root}: {len(found.class_names)} classes, pictures: {counts}{chosen}"
    sizes = Counter(picture.label for picture in found.parts.get("train", [])).most_common()
    if sizes:
        (most, largest), (least, smallest) = sizes[0], sizes[-1]
        names = found.class_names
        yield f"largest class: {names[most]} ({largest:,} to train on), smallest: {names[least]} ({smallest:,})"
    if found.left_out:
        others = ", ".join(f"{count:,} {ending}" for ending, count in found.left_out.most_common())
        yield f"left out, no pictures that Pillow reads: {others}"
    if found.beside:
        yield f"not used: {some(found.beside)}"


def look_with_progress(paths: list[str]) -> list[Looked]:
    """Look at files; on a terminal with a bar."""
    bar = tqdm(look_at(paths), "looking at the pictures", len(paths), delay=2, disable=not sys.stderr.isatty())
    return list(bar)


def in_two_parts(looked: list[Looked], found: Contents) -> Iterator[str]:
    """Yield a line where the same pictures, byte for byte, are in two parts."""
    parts_of: dict[str, set[str]] = {}
    for part, pictures in found.parts.items():
        for picture in pictures:
            parts_of.setdefault(picture.path, set()).add(part)
    by_digest: dict[str, set[str]] = {}
    for each in looked:
        if each.digest and not each.reason:
            by_digest.setdefault(each.digest, set()).add(each.path)
    twice = [paths for paths in by_digest.values() if len(set().union(*(parts_of[path] for path in paths))) > 1]
    if twice:
        pair = " and ".join(relative(path, found.root) for path in sorted(twice[0])[:2])
        yield (
            f"{count_of(len(twice), 'picture')} in two parts, such as {pair}: the network is tested on what it was "
            "trained on"
        )


def count_of(number: int, what: str) -> str:
    """Return '3 pictures'."""
    return f"{number:,} {what}{'s' * (number != 1)}"
