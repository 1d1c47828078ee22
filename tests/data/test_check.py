"""A look at every file finds the damaged ones, all of them, and no others."""

import random
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sg_resnets.data.check import look, look_at

SMOOTH = np.add.outer(np.arange(200), np.arange(260))[..., None] * np.array([0.5, 0.3, 0.2])
NOISE = np.random.default_rng(0).normal(0, 12, (200, 260, 3))
PICTURE = Image.fromarray((SMOOTH + NOISE).clip(0, 255).astype(np.uint8))
WHOLE = {
    "a.jpg": {},
    "progressive.jpg": {"progressive": True},
    "restarts.jpg": {"restart_marker_rows": 1},
    "b.png": {},
    "c.webp": {},
    "d.gif": {},
    "e.tif": {"compression": "tiff_lzw"},
    "f.bmp": {},
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_pictures_are_whole(name, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "\xff\xd9 \xff\x01"
    PICTURE.save(tmp_path / name, **WHOLE[name], **({"exif": exif} if name.endswith("jpg") else {}))
    looked = look(str(tmp_path / name))
    assert looked.reason == "" and looked.digest == blake2b(Path(looked.path).read_bytes(), digest_size=16).hexdigest()
    if name.endswith("jpg"):  # what cameras add behind the end
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\xff\x01more")
        assert look(str(tmp_path / name)).reason == ""


def garbage_inside(contents, generator):
    middle = len(contents) // 2
    return contents[:middle] + generator.randbytes(2000) + contents[middle + 2000 :]


DAMAGES = {
    "cut": lambda contents, generator: contents[: len(contents) * 2 // 3],
    "cut short of its end": lambda contents, generator: contents[:-200],
    "empty": lambda contents, generator: b"",
    "text": lambda contents, generator: b"<html>not found</html>" * 20,
    "zeros": lambda contents, generator: bytes(len(contents)),
    "zeros at the end": lambda contents, generator: contents[: len(contents) // 2] + bytes(len(contents) // 2),
    "garbage inside": garbage_inside,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["a.jpg", "progressive.jpg", "b.png"])
def test_damaged_pictures_are_named(name, damage, tmp_path):
    PICTURE.save(tmp_path / name, **WHOLE[name])
    broken = DAMAGES[damage]((tmp_path / name).read_bytes(), random.Random(0))
    (tmp_path / name).write_bytes(broken)
    assert look(str(tmp_path / name)).reason


def test_several_processes_see_what_one_sees(tmp_path):
    paths = []
    for i in range(210):
        paths.append(str(tmp_path / f"a b\n{i}.png"))
        Image.new("L", (4, 4), i % 250).save(paths[-1])
    Path(paths[7]).write_bytes(b"x")
    paths.append(str(tmp_path / "none.png"))
    several = sorted(look_at(paths, processes=2), key=lambda each: paths.index(each.path))
    assert several == [look(path) for path in paths]
    bad = [each for each in several if each.reason]
    assert [each.path for each in bad] == [paths[7], paths[-1]]
    assert several[0].digest == several[0 + 250 - 250].digest and several[1] != replace(several[1], digest="")
