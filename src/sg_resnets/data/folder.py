"""Which pictures a folder holds, of which classes, and which part of them each is for."""

import csv
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from sg_resnets.data.pictures import endings
from sg_resnets.utils.checks import integer, number
from sg_resnets.utils.errors import SgResnetsError, choices

logger = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
VAL_FRACTION = number("a number > 0 and < 1", lambda value: 0 < value < 1)
SPLIT = "split.csv"  # in a run's folder: which pictures it was trained and validated on, where it chose them itself
_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
# What systems and programs leave beside pictures; besides, all whose names begin with a dot, an @ or a #.
_OF_SYSTEMS = frozenset(
    ("__macosx", "thumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "system volume information", "lost+found")
)
LAYOUTS = "expected {root}/train/<class>/ and {root}/val/<class>/, or {root}/<class>/, with pictures in each"


class Picture(NamedTuple):
    """A file, and the number of its class."""

    path: str
    label: int


@dataclass(frozen=True)
class Contents:
    """What was found.

    Attributes:
        root: the folder.
        class_names: in the order of their numbers.
        parts: the pictures of "train", "val" and "test", those that there are.
        is_split: whether "val" is taken from the training pictures.
        left_out: files that are no pictures, counted by their ending.
        beside: what stands beside the folders that are used, in words.
        missing: how many pictures of a run, of the part that is asked for, are not there any more.
    """

    root: Path
    class_names: tuple[str, ...]
    parts: dict[str, list[Picture]]
    is_split: bool = False
    left_out: Counter[str] = field(default_factory=Counter)
    beside: tuple[str, ...] = ()
    missing: int = 0

    def part(self, name: str) -> list[Picture]:
        """Return the pictures of a part, or of "all".

        Raises:
            SgResnetsError: there is no such part.
        """
        if name == "all":
            return [picture for pictures in self.parts.values() for picture in pictures]
        if name not in self.parts:
            raise SgResnetsError(f"{self.root} has no {name} part: {choices(name, self.parts)}")
        return self.parts[name]


def contents(
    root: str | Path,
    labels: str | Path | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    part: str | None = None,
) -> Contents:
    """Return what the folder `root` holds, of `part` alone if one is given.

    It has parts with a folder for each class in each; or a folder for each class, of which `val_fraction` is put aside
    for validation, chosen by `seed` and the files' names; or the CSV file `labels` lists it (columns file, class, and
    if it likes part), its files in `root` or beside it. A `root` that is a CSV file is such a one.

    Raises:
        SgResnetsError: there is no such thing, or what there is cannot be trained on.
    """
    VAL_FRACTION("val_fraction", val_fraction)
    integer(0)("split_seed", seed)
    root = Path(root).expanduser()
    if root.is_file():
        root, labels = root.parent, labels or root
    try:
        if labels is not None:
            found = _of_csv(root, Path(labels).expanduser(), part)
        elif not root.is_dir():
            raise SgResnetsError(f"there is no folder {root}; {LAYOUTS.format(root=root)}")
        elif folders := _part_folders(root):
            found = _of_parts(root, folders, part)
        else:
            found = _of_classes(root)
    except PermissionError as error:
        raise SgResnetsError(f"{error.filename} cannot be read ({error.strerror}): change its permissions") from error
    return _split(found, val_fraction, seed) if found.is_split and "train" in found.parts else found


def _is_left_by_a_system(name: str) -> bool:
    return name.startswith((".", "@", "#")) or name.lower() in _OF_SYSTEMS


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((each for each in entries if not _is_left_by_a_system(each.name)), key=lambda each: each.name)


def _files(folder: Path, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """All files in a folder and those within it; a link back to one that it is in is not followed."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _files(Path(entry.path), seen | {real})
        else:
            yield entry.path


def _pictures(folder: Path, left_out: Counter[str]) -> list[str]:
    """The paths of a folder's pictures; other files are counted in `left_out`."""
    known, found = endings(), []
    for path in _files(folder):
        ending = os.path.splitext(path)[1].lower()
        if ending in known:
            found.append(path)
        else:
            left_out[ending or "no ending"] += 1
    return found


def pictures_in(folder: Path) -> list[str]:
    """Return the paths of all pictures in a folder and those within it."""
    return _pictures(folder, Counter())


def _class_folders(folder: Path) -> dict[str, Path]:
    """The folders of classes by name, in one form of accents.

    Raises:
        SgResnetsError: two have the same name but for its case, or the form of its accents.
    """
    found: dict[str, Path] = {}
    for entry in _entries(folder):
        if not entry.is_dir():
            continue
        name = unicodedata.normalize("NFC", entry.name)
        if name in found:
            raise SgResnetsError(
                f"{folder} has two folders {name}, whose accents are stored in two ways: move the pictures into one"
            )
        found[name] = Path(entry.path)
    _refuse_equal_but_for_case(found, str(folder))
    return dict(sorted(found.items()))


def _refuse_equal_but_for_case(names: Iterable[str], where: str) -> None:
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(name.casefold(), name)
        if other != name:
            raise SgResnetsError(
                f"{where} has the classes {other} and {name}, which differ in case alone: give them one name"
            )


def _part_folders(root: Path) -> dict[str, Path]:
    """The folders of parts, where there are such.

    Raises:
        SgResnetsError: one part has two.
    """
    folders = {entry.name.lower(): Path(entry.path) for entry in _entries(root) if entry.is_dir()}
    found = {}
    for part, names in _FOLDERS.items():
        of_part = [folders[name] for name in names if name in folders and _has_folders(folders[name])]
        if len(of_part) > 1:
            names_found = " and ".join(folder.name for folder in of_part)
            raise SgResnetsError(f"{root} has {names_found}, which mean the same: keep one of them")
        if of_part:
            found[part] = of_part[0]
    flat = [folders[name] for name in _FOLDERS["val"] if name in folders and "val" not in found]
    for folder in flat if found else ():  # a test part may be without classes, and is not used then
        if pictures_in(folder):
            raise SgResnetsError(f"{folder} has pictures, and no class folders; {LAYOUTS.format(root=root)}")
    return found


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() for entry in _entries(folder))


def _beside(root: Path, parts: Iterable[Path] = ()) -> tuple[str, ...]:
    """What is not used: with folders of parts those that are none, and pictures that are in no class folder."""
    parts, known = list(parts), endings()
    others = [each.name + "/" for each in _entries(root) if parts and each.is_dir() and Path(each.path) not in parts]
    for folder in (root, *parts):
        files = [each for each in _entries(folder) if not each.is_dir()]
        loose = sum(os.path.splitext(each.name)[1].lower() in known for each in files)
        if loose:
            others.append(f"{loose:,} picture{'s' * (loose != 1)} in {folder} itself")
    return tuple(others)


def _of_parts(root: Path, folders: dict[str, Path], part: str | None) -> Contents:
    by_part = {each: _class_folders(folder) for each, folder in folders.items()}
    first = "train" if "train" in by_part else next(iter(by_part))
    names = list(by_part[first])
    _refuse_too_few(names, folders[first], root)
    for each, classes in by_part.items():
        odd = set(classes) - set(names) | (set(names) - set(classes) if each == "val" else set())
        if odd:
            _refuse_equal_but_for_case([*names, *classes], str(root))
            raise SgResnetsError(
                f"{folders[first].name}/ and {folders[each].name}/ of {root} differ in the classes "
                f"{', '.join(sorted(odd)[:5])}: each class needs a folder in both"
            )
    source = "train" if part == "val" and "val" not in folders else part  # of which it is taken
    wanted = [each for each in folders if part is None or each == source]
    left_out: Counter[str] = Counter()
    parts = {each: _labelled(names, by_part[each], left_out) for each in wanted}
    return Contents(root, tuple(names), parts, "val" not in folders, left_out, _beside(root, folders.values()))


def _of_classes(root: Path) -> Contents:
    classes = _class_folders(root)
    _refuse_too_few(list(classes), root, root)
    if {name.lower() for name in classes} <= {name for names in _FOLDERS.values() for name in names}:
        raise SgResnetsError(f"{root}/{next(iter(classes))} has no class folders; {LAYOUTS.format(root=root)}")
    left_out: Counter[str] = Counter()
    parts = {"train": _labelled(list(classes), classes, left_out)}
    return Contents(root, tuple(classes), parts, True, left_out, _beside(root))


def _labelled(names: Sequence[str], classes: dict[str, Path], left_out: Counter[str]) -> list[Picture]:
    found = []
    for name, folder in classes.items():
        here: Counter[str] = Counter()
        pictures = _pictures(folder, here)
        left_out += here
        if not pictures:
            others = f", only {_counted(here)}" if here else ""
            raise SgResnetsError(
                f"{folder} has no pictures{others}: put some into it, or remove the empty class folder"
            )
        label = names.index(name)
        found += [Picture(path, label) for path in pictures]
    return found


def _counted(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in sorted(left_out.items()))


def _refuse_too_few(names: Sequence[str], folder: Path, root: Path) -> None:
    if len(names) < 2:
        listed = f"one class folder, {names[0]}" if names else "no class folders"
        raise SgResnetsError(f"{folder} has {listed}, and two are needed at least; {LAYOUTS.format(root=root)}")


def _split(found: Contents, val_fraction: float, seed: int) -> Contents:
    """Put aside of each class `val_fraction`, one picture at least, for validation. A file's name and the seed decide
    about it, not the other files, so that few change parts when others are added."""
    by_class: dict[int, list[Picture]] = {}
    for picture in found.parts["train"]:
        by_class.setdefault(picture.label, []).append(picture)
    kept_back: set[Picture] = set()
    for label, pictures in by_class.items():
        if len(pictures) < 2:
            raise SgResnetsError(
                f"the class {found.class_names[label]} has one picture, {pictures[0].path}: two are needed at least, "
                "one to train on and one to validate on"
            )
        count = min(max(round(val_fraction * len(pictures)), 1), len(pictures) - 1)
        kept_back.update(sorted(pictures, key=lambda each: _draw(each.path, found.root, seed))[:count])
    train = [each for each in found.parts["train"] if each not in kept_back]
    val = [each for each in found.parts["train"] if each in kept_back]
    parts = {"train": train, "val": val, **{part: found.parts[part] for part in found.parts if part != "train"}}
    return replace(found, parts=parts)


def _draw(path: str, root: Path, seed: int) -> bytes:
    name = f"{seed}/{relative(path, root)}"
    return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def relative(path: str | Path, root: Path) -> str:
    """Return a file's path within `root`, the same on all systems; the whole path where it is not in it."""
    path = Path(path)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _of_csv(root: Path, file: Path, part: str | None) -> Contents:
    rows = list(_rows(file))
    places = [root, file.parent] if root.is_dir() else [file.parent]
    names = sorted({row["class"] for row in rows})
    _refuse_too_few(names, file, root)
    _refuse_equal_but_for_case(names, str(file))
    label_of = {name: label for label, name in enumerate(names)}
    parts: dict[str, dict[str, Picture]] = {}
    known: dict[str, Picture] = {}  # by its path without detours
    missing, missing_here = [], []
    for row in rows:
        names_of_file = dict.fromkeys((row["file"], row["file"].replace("\\", "/")))  # as Windows writes them
        candidates = (place / name for name in names_of_file for place in places)
        path = next((each for each in candidates if each.is_file()), None)
        if path is None:
            missing.append(row)
            continue
        picture = Picture(str(path), label_of[row["class"]])
        before = known.setdefault(os.path.normpath(path), picture)
        if before.label != picture.label:
            raise SgResnetsError(f"{file} gives {row['file']} two classes, {names[before.label]} and {row['class']}")
        parts.setdefault(row["part"], {})[before.path] = before
    if missing and parts and is_split_of_run(file):  # taken away since
        missing_here = [row for row in missing if part in (None, row["part"])]
        _refuse_lost_classes(missing_here, parts, names, places[0])
        logger.warning(f"{len(missing)} of the {len(rows)} pictures of {file} are not in {places[0]} any more")
    elif missing:
        raise SgResnetsError(
            f"{file} lists files that are not in {places[0]}: {some([row['file'] for row in missing])}"
        )
    if "train" not in parts:
        raise SgResnetsError(f"{file} has no picture for training: its column part says {', '.join(sorted(parts))}")
    listed = {part: list(parts[part].values()) for part in PARTS if part in parts}
    trained = {picture.label for picture in listed["train"]}
    for each, pictures in listed.items():
        unknown = sorted({names[picture.label] for picture in pictures if picture.label not in trained})
        if unknown:
            raise SgResnetsError(f"{file} has pictures of {', '.join(unknown[:5])} for {each}, and none for training")
    return Contents(places[0], tuple(names), listed, "val" not in listed, missing=len(missing_here))


def _refuse_lost_classes(
    missing: Sequence[dict[str, str]], parts: dict[str, dict[str, Picture]], names: Sequence[str], root: Path
) -> None:
    """Of a run's pictures some may be gone; not all that a class has in a part."""
    left = {(part, names[picture.label]) for part, pictures in parts.items() for picture in pictures.values()}
    lost = sorted({(row["part"], row["class"]) for row in missing} - left)
    if lost:
        part, name = lost[0]
        files = [row["file"] for row in missing if (row["part"], row["class"]) == lost[0]]
        raise SgResnetsError(
            f"all pictures of {name} that the run has for {part} are gone from {root}: put them back ({len(files)}, "
            f"such as {files[0]}), or train a new run"
        )


def some(names: Sequence[str]) -> str:
    """Return the first five of names, and how many there are."""
    return ", ".join(names[:5]) + (f", ... ({len(names):,} in all)" if len(names) > 5 else "")


def is_split_of_run(file: Path) -> bool:
    """Whether a file says how a run has split its pictures."""
    return file.name == SPLIT and file.is_file() and (file.parent / ".hydra").is_dir()


def _rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file: file, class, part.

    Raises:
        SgResnetsError: it is no such file.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig", errors="surrogateescape") as opened:
            reader = csv.DictReader(opened)
            columns = reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
            if "split" in columns and "part" not in columns:
                raise SgResnetsError(f"{file}: its column split has to be called part")
            if twice := [name for name in ("file", "class", "part") if columns.count(name) > 1]:
                raise SgResnetsError(f"{file} has two columns {twice[0]}: keep one of them")
            if not {"file", "class"} <= {*columns}:
                raise SgResnetsError(
                    f"{file} begins with {','.join(columns)}: its first line must name the columns file,class or "
                    "file,class,part"
                )
            for number, row in enumerate(reader, 2):
                if any(each.strip() for each in row.get(None, ())):
                    raise SgResnetsError(
                        f"{file}, line {number}: more columns than in the first line: quote a name that holds a comma, "
                        '"like, this"'
                    )
                part = (row.get("part") or "train").strip()
                if not (row["file"] or "").strip() or not (row["class"] or "").strip():
                    raise SgResnetsError(f"{file}, line {number}: a file and its class are needed")
                if part not in PARTS:
                    raise SgResnetsError(f"{file}, line {number}: part {part}: {choices(part, PARTS)}")
                name = unicodedata.normalize("NFC", row["class"].strip())
                yield {"file": row["file"].strip(), "class": name, "part": part}
    except FileNotFoundError:
        raise SgResnetsError(f"there is no file {file}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SgResnetsError(f"{file} cannot be read as CSV ({error})") from error
