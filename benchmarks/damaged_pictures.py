"""`sg-resnets check` on 10,000 pictures, 20 of them damaged: which are named, and how long it takes.

Run: python benchmarks/damaged_pictures.py [ROUNDS], after `pip install scikit-image scikit-learn`. The pictures are
those of folder_loader.py, each under five names; the damaged ones are JPEGs, progressive JPEGs and PNGs, broken in
seven ways. Opening and decoding all of them in one process with Pillow stands beside it, in turn.
"""

import random
import re
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from itertools import product
from pathlib import Path

from common import place, ratio
from folder_loader import photographs, write_pictures
from PIL import Image

FORMATS = {
    "jpg": {"format": "JPEG"},
    "progressive.jpg": {"format": "JPEG", "progressive": True},
    "png": {"format": "PNG"},
}
WAYS = {
    "cut": lambda whole: whole[: len(whole) * 2 // 3],
    "cut short of its end": lambda whole: whole[:-200],
    "empty": lambda whole: b"",
    "text": lambda whole: b"<html>not found</html>" * 20,
    "zeros": lambda whole: bytes(len(whole)),
    "zeros at the end": lambda whole: whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2),
    "garbage inside": lambda whole: (
        whole[: len(whole) // 2] + random.Random(0).randbytes(2000) + whole[len(whole) // 2 + 2000 :]
    ),
}


def write_damaged(root: Path, source: Image.Image) -> set[str]:
    """Twenty files among the others; their paths."""
    written = set()
    for (ending, how), (name, damage) in list(product(FORMATS.items(), WAYS.items()))[:20]:
        contents = BytesIO()
        source.save(contents, **how)
        file = root / "train" / "class_0" / f"{name.replace(' ', '_')}.{ending}"
        file.write_bytes(damage(contents.getvalue()))
        written.add(str(file))
    return written


def one_by_one(root: Path) -> float:
    """Seconds that one process needs to decode them all."""
    start = time.perf_counter()
    for file in root.glob("*/*/*"):
        try:
            with Image.open(file) as image:
                image.load()
        except (OSError, SyntaxError):
            pass
    return time.perf_counter() - start


def checked(root: Path) -> tuple[float, str]:
    """Seconds of the command, from its start, and what it prints."""
    start = time.perf_counter()
    command = [Path(sys.executable).with_name("sg-resnets"), "check", root]
    done = subprocess.run(command, capture_output=True, text=True)
    return time.perf_counter() - start, done.stdout


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        root, sources = Path(folder, "pictures"), photographs()
        write_pictures(root, sources)
        for file in list(root.glob("*/*/*")):
            for number in range(4):
                file.with_stem(f"{file.stem}_{number}").hardlink_to(file)
        damaged = write_damaged(root, sources[0].resize((500, 375)))
        print(place(), f"\n{len(list(root.glob('*/*/*'))):,} pictures, {len(damaged)} of them damaged")
        alone, command = [], []
        for _ in range(rounds):
            alone.append(one_by_one(root))
            seconds, said = checked(root)
            command.append(seconds)
        named = set(re.findall(r"^\s*(/.*?): ", said, re.MULTILINE)) - {str(root)}
        print(f"named {len(named & damaged)}, missed {len(damaged - named)}, false alarms {len(named - damaged)}")
        print(f"seconds: one process {min(alone):.1f}, the command {min(command):.1f}")
        print(ratio("one process over the command", alone, command))
