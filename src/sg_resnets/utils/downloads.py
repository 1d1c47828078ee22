"""Files of weights that others publish: downloaded once, whole or not at all, or put into the folder by hand; their
SHA-256 is compared before each reading.

Where none is published, that of the first reading is kept beside the file, in `NAME.sha256`, as `sha256sum` writes it:
from then on a change is seen, but not that a file was bad from the beginning. Who knows the right one puts it there.
"""

import hashlib
import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

import torch

from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.files import make_folder, whole_file

MIRROR = "SG_RESNETS_MIRROR"  # the folder, or the address, that has the files in place of their publishers
PATIENCE = 10  # seconds without a byte


@contextmanager
def fetched(url: str, name: str, digits: str = "", mirrored: bool = True) -> Iterator[Path]:
    """Yield the file of `url`, as `name` in torch.hub's folder, for reading; `digits` are the first ones of its
    published SHA-256. Whether the mirror may stand for the address is `mirrored`.

    Raises:
        SgResnetsError: it cannot be downloaded, or its SHA-256 is another: which file is to be put where.
    """
    path = make_folder(Path(torch.hub.get_dir(), "checkpoints"), "TORCH_HOME") / name
    if path.is_file():
        digest = _sha256(path)
        if difference := _difference(digest, digits, path):
            raise SgResnetsError(f"{path} is damaged ({difference}): delete it; it comes from {url}")
    else:
        mirror = os.environ.get(MIRROR, "") if mirrored else ""
        address = _joined(mirror, name) if mirror else url
        with whole_file(path) as temporary:
            try:
                _download(address, temporary)
                digest = _sha256(temporary)
                if difference := _difference(digest, digits, path):
                    raise OSError(difference)
            except (OSError, ValueError, HTTPException) as error:
                more = f"; it comes from {url}" if mirror else f", or name a mirror with {MIRROR}" if mirrored else ""
                raise SgResnetsError(
                    f"{address} could not be downloaded ({_reason(error)}): put that file at {path}{more}"
                ) from None
    yield path
    note = _note(path)
    if not digits and not note.is_file():
        with suppress(SgResnetsError), whole_file(note) as temporary:  # others may own the folder
            temporary.write_text(f"{digest}  {name}\n")


def _joined(mirror: str, name: str) -> str:
    if "://" in mirror:
        return f"{mirror.rstrip('/')}/{name}"
    return str(Path(os.path.expanduser(mirror)).absolute() / name)


def _download(address: str, path: Path) -> None:
    """Write what is at an address; an end before the announced one, which neither urllib nor torch.hub takes for an
    error, is one."""
    from tqdm import tqdm

    url = address if "://" in address else Path(address).as_uri()
    request = urllib.request.Request(url, headers={"User-Agent": "sg-resnets"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer, open(path, "wb") as file:
        length = int(answer.headers.get("Content-Length") or 0)
        with tqdm(desc=address, total=length or None, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            while chunk := answer.read(1 << 20):
                bar.update(file.write(chunk))
        if length and file.tell() != length:
            raise OSError(f"it ended after {file.tell()} of {length} bytes")


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    return str(getattr(cause, "strerror", None) or cause)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _difference(digest: str, digits: str, path: Path) -> str:
    """In which SHA-256 a file differs from the published one, or from the one beside it; empty where in none."""
    note, noted = _note(path), ""
    if note.is_file():
        noted = note.read_text(errors="replace").partition(" ")[0].strip().lower()
        if not re.fullmatch("[0-9a-f]{64}", noted):
            raise SgResnetsError(f"{note} holds no SHA-256: delete it, or write what sha256sum says of the right file")
    for expected, source in ((digits, "was published"), (noted, f"is in {note.name}")):
        if not digest.startswith(expected):
            return f"SHA-256 {digest[:8]}, not {expected[:8]}, which {source}"
    return ""
