"""Look at every picture before it is needed: which files are damaged, and which are the same."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO

from PIL import Image

from sg_resnets.data.pictures import UNREADABLE, to_rgb
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hardware import cpu_cores

_ZERO_AFTER_FF, _END_OF_IMAGE, _RESTARTS = 0x00, 0xD9, range(0xD0, 0xD8)  # of a JPEG: ITU-T T.81, table B.1
_HAVE_LENGTH = frozenset((*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE))


@dataclass(frozen=True)
class Looked:
    """What a look at a file gave.

    Attributes:
        path: the file.
        reason: why it is damaged; empty if it is not.
        digest: of its bytes: files with the same are the same.
    """

    path: str
    reason: str
    digest: str


def look(path: str) -> Looked:
    """Read a file and decode it whole."""
    try:
        contents = Path(path).read_bytes()
        reason = _damage(contents)
    except OSError as error:
        return Looked(path, error.strerror or str(error), "")
    return Looked(path, reason, blake2b(contents, digest_size=16).hexdigest())


def _damage(contents: bytes) -> str:
    if not contents:
        return "it is empty"
    try:
        with Image.open(BytesIO(contents)) as image:
            if image.format in ("JPEG", "MPO"):
                if reason := _damage_of_jpeg(contents):
                    return reason
                image.draft(None, (1, 1))  # all codes are read, an eighth of the pixels made of them
                image.load()
            else:
                to_rgb(image)
    except Image.DecompressionBombError:
        return f"it has more than the {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels that Pillow opens: make it smaller"
    except Image.UnidentifiedImageError:
        return "it is no picture that Pillow knows"
    except UNREADABLE as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _damage_of_jpeg(contents: bytes) -> str:
    """What a decoder passes over without a word: bytes among the codes that cannot stand there, and zeros at the end,
    where a file was never written."""
    at = contents.find(b"\xff", 2)
    while 0 <= at < len(contents) - 1:
        marker = contents[at + 1]
        if marker == _END_OF_IMAGE:
            return ""
        if marker in _HAVE_LENGTH:
            at += 2 + int.from_bytes(contents[at + 2 : at + 4], "big")
        elif marker == _ZERO_AFTER_FF or marker in _RESTARTS:
            at += 2
        elif marker == 0xFF:  # fill
            at += 1
        else:
            return f"its bytes {at} and {at + 1} cannot stand in a JPEG"
        at = contents.find(b"\xff", at)
    return "its end was never written" if contents.endswith(bytes(16)) else ""


def look_at(paths: Sequence[str], processes: int | None = None) -> Iterator[Looked]:
    """Yield what a look at each file gives, in no order; by several processes, as many as there are cores if not
    told."""
    processes = min(processes or cpu_cores(), -(-len(paths) // 100))
    if processes < 2:
        yield from map(look, paths)
        return
    found: Queue[Looked | None] = Queue()
    readers = [Thread(target=_look_elsewhere, args=(paths[i::processes], found), daemon=True) for i in range(processes)]
    for reader in readers:
        reader.start()
    left, seen = processes, 0
    while left:
        looked = found.get()
        if looked is None:
            left -= 1
        else:
            seen += 1
            yield looked
    if seen < len(paths):
        raise SgResnetsError(f"{len(paths) - seen} of {len(paths)} files could not be looked at: is the memory full?")


def _look_elsewhere(paths: Sequence[str], found: "Queue[Looked | None]") -> None:
    """Have another Python look at the files. It is started by name, so that it imports nothing but this module."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-m", __name__], stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        Thread(target=_give, args=(other.stdin, paths), daemon=True).start()
        for line in other.stdout:
            found.put(Looked(*json.loads(line)))
    found.put(None)


def _give(stdin: IO[str], paths: Sequence[str]) -> None:
    with suppress(BrokenPipeError), stdin:
        stdin.writelines(f"{json.dumps(path)}\n" for path in paths)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # the one that has started this one says it
        for line in sys.stdin:
            print(json.dumps(astuple(look(json.loads(line)))))
