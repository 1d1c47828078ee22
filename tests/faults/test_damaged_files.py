"""Checkpoints that are cut short, flipped, or hostile: none is loaded wrong, none runs code, each has its line."""

import io
import os
import pickle
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from sg_resnets.runs.checkpoints import read, write_safetensors
from sg_resnets.utils.errors import SgResnetsError
from support import differences


def damaged(contents, rng):
    """The contents of a file, cut short, with bits flipped, or with a block of zeros or of another place."""
    kind = rng.choice(["cut", "flip", "flip", "flip", "zeros", "moved"])
    if kind == "cut":
        return contents[: rng.randrange(len(contents))]
    changed = bytearray(contents)
    at = rng.randrange(len(contents))
    size = min(rng.randrange(1, 4096), len(contents) - at)
    if kind == "flip":
        for place in rng.sample(range(len(contents)), rng.randrange(1, 9)):
            changed[place] ^= 1 << rng.randrange(8)
    elif kind == "zeros":
        changed[at : at + size] = bytes(size)
    else:
        source = rng.randrange(len(contents) - size + 1)
        changed[at : at + size] = contents[source : source + size]
    return bytes(changed)


@pytest.fixture(scope="module")
def files(host, tmp_path_factory, float_run):
    """The files of a small run, and one as safetensors."""
    folder = tmp_path_factory.mktemp("files")
    for path in float_run.glob("*.pth"):
        shutil.copyfile(path, folder / path.name)
    write_safetensors(read(folder / "ckpt_best.pth"), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("name, share", [("ckpt_best.pth", 0.4), ("ckpt_latest.pth", 0.2), ("model.safetensors", 0.4)])
def test_a_damaged_file_is_refused_in_a_line_or_read_as_it_was(name, share, files, tries, tmp_path):
    path = tmp_path / name
    whole = (files / name).read_bytes()
    state = read(files / name)
    rng = random.Random(name)
    refused = same = 0
    for _ in range(round(tries(1000, 60) * share)):
        path.write_bytes(damaged(whole, rng))
        try:
            found = read(path)
        except SgResnetsError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
        else:
            same += 1
            assert differences(found, state) == []
    print(f"{name}: {refused} refused, {same} read as they were")
    assert refused > same


def test_where_the_one_before_is_there_it_is_read(files, tries, tmp_path, caplog):
    path, previous = tmp_path / "ckpt_latest.pth", tmp_path / "ckpt_previous.pth"
    shutil.copyfile(files / "ckpt_best.pth", previous)
    whole, wanted = (files / "ckpt_latest.pth").read_bytes(), (read(files / "ckpt_latest.pth"), read(previous))
    rng = random.Random(0)
    for _ in range(tries(200, 20)):
        path.write_bytes(damaged(whole, rng))
        caplog.clear()
        found = read(path)
        assert differences(found, wanted["read in its place" in caplog.text]) == []


def hostile():
    """Thirty pickles that run code when they are loaded by Python, in all places of a checkpoint."""

    class Run:
        def __init__(self, call, *args):
            self.reduced = call, args

        def __reduce__(self):
            return self.reduced

    touch = "open('ran', 'w').close()"
    calls = [
        Run(exec, touch),
        Run(eval, touch),
        Run(os.system, "touch ran"),
        Run(os.mkdir, "ran"),
        Run(Path.touch, Path("ran")),
        Run(__import__("subprocess").check_call, ["touch", "ran"]),
        Run(__import__("shutil").copyfile, __file__, "ran"),
        Run(torch.load, "ran.pth"),
        Run(torch.hub.load, ".", "ran"),
        Run(__import__("runpy").run_path, "ran.py"),
    ]
    for call in calls:
        yield {"net": {"fc.weight": call}}
        yield {"net": {"fc.weight": torch.zeros(2)}, "recipe": {"architecture": call}}
        yield {"net": {"fc.weight": torch.zeros(2)}, "processing_params": [call]}


@pytest.mark.parametrize("kind", ["zip", "pickle"])
def test_hostile_pickles_run_nothing(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ran.py").write_text("open('ran', 'w').close()")
    states = list(hostile())
    assert len(states) == 30
    before = set(os.listdir())
    for state in states:
        if kind == "zip":
            torch.save(state, "sent.pth")
        else:
            Path("sent.pth").write_bytes(pickle.dumps(state))
        with pytest.raises(SgResnetsError) as refused:
            read("sent.pth")
        assert "\n" not in str(refused.value)
        assert set(os.listdir()) == before | {"sent.pth"}


def test_they_would_run_where_a_pickle_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(next(hostile())))
    assert Path("ran").exists()


def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path):
    """An archive that says it is larger than it is."""
    path = tmp_path / "sent.pth"
    stream = io.BytesIO()
    torch.save({"net": {"fc.weight": torch.zeros(8)}}, stream)
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in source.namelist():
            contents = source.read(member)
            bomb.writestr(member, contents if not member.endswith("/data/0") else bytes(2**26))
    with pytest.raises(SgResnetsError):
        read(path)
