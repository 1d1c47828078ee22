"""Folders of pictures as batches: the loader, the cache, decoding at a reduced size."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch.utils.data import DataLoader, Subset
from torchvision.transforms import RandomResizedCrop

from sg_resnets.data import image_folder, picture_cache, whole_batch
from sg_resnets.data.folder_loader import FolderLoader
from sg_resnets.data.image_folder import AREA, RATIO, TRIES, ImageFolderImages, crop_of
from sg_resnets.data.order import Place, PlacedLoader
from sg_resnets.utils import files
from sg_resnets.utils.errors import SgResnetsError


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LOCAL_RANK", raising=False)


def epoch(data, seed=0, **params):
    torch.manual_seed(seed)
    loader = data if isinstance(data, DataLoader) else FolderLoader(data, batch_size=3, **params)
    images, labels = (torch.cat(each) for each in zip(*loader, strict=True))
    return images, labels


def photograph(path, height=1500, width=2000, **how):
    """Smooth enough that its size does not change what is seen."""
    down, right = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(9 * down + 3 * k) * np.cos(7 * right * (k + 1)) for k in range(3)]
    grain = np.random.default_rng(0).normal(0, 20, (height, width, 1))  # without which it is a small file
    Image.fromarray((128 + 90 * np.stack(waves, 2) + grain).clip(0, 255).astype(np.uint8)).save(path, **how)


def test_batches_are_those_of_pytorchs_loader(picture_folder):
    for options in ({}, {"random_erasing": 1.0}, {"mean": [0.4], "std": [0.2]}, {"fit": "pad"}, {"train": False}):
        data = ImageFolderImages(str(picture_folder), size=16, **options)
        usual = DataLoader(data, 3, collate_fn=whole_batch)
        for ours, theirs in zip(epoch(data), epoch(usual), strict=True):
            assert torch.equal(ours, theirs)
        assert data[0][0].dtype == torch.float32  # the data set itself is as it was
        subset = Subset(FolderLoader(data, batch_size=3).dataset, [1, 3])
        assert next(iter(DataLoader(subset, batch_size=2)))[0].dtype == torch.float32


def test_half_of_the_pictures_are_mirrored_and_so_many_as_asked_erased(picture_folder):
    data = ImageFolderImages(str(picture_folder), size=16, fit="squash", random_erasing=0.3, std=[0.5, 0.25, 0.2])
    plain = ImageFolderImages(str(picture_folder), size=16, train=False, split="train", fit="squash", std=data.std)
    index = [0, 1] * 500
    torch.manual_seed(0)
    images, labels = data.__getitems__(index).batch
    whole, expected = plain.__getitems__(index).batch
    assert torch.equal(labels, expected)
    colour = data.normalised((255 * torch.tensor(data.mean)).round().to(torch.uint8).view(3, 1, 1))
    erased = (images == colour).all(1, keepdim=True)
    turned = whole.flip(-1)
    straight, mirrored = (
        ((images == each) | erased).flatten(1).all(1) & (each.flip(-1) != each).flatten(1).any(1)
        for each in (whole, turned)
    )
    assert (straight ^ mirrored).all() and mirrored.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert erased.flatten(1).any(1).float().mean().item() == pytest.approx(0.3, abs=0.05)


def test_the_number_of_workers_changes_nothing(picture_folder):
    def epoch_of(workers):
        data = ImageFolderImages(str(picture_folder), size=16, random_erasing=0.5, augment="trivial")
        loader = PlacedLoader(FolderLoader(data, batch_size=2, shuffle=True, num_workers=workers))
        return torch.cat([images for images, _ in loader.iterate(Place(seed=1, rank=0, epoch=3))])

    here, one, two = map(epoch_of, range(3))
    assert torch.equal(here, one) and torch.equal(here, two)


@pytest.mark.parametrize("kind", ["disk", "ram"])
@pytest.mark.parametrize("options", [{}, {"train": False}, {"fit": "squash"}, {"size": [16, 24]}])
def test_a_second_epoch_does_not_decode(picture_folder, monkeypatch, kind, options):
    without = epoch(ImageFolderImages(str(picture_folder), **{"size": 16, **options}))
    data = ImageFolderImages(str(picture_folder), cache=kind, **{"size": 16, **options})
    first = epoch(data)
    monkeypatch.setattr(image_folder, "read_pixels", None)
    second = epoch(data)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], without[1])
    if not data._crops:  # others are cut from the smaller picture
        assert torch.equal(first[0], without[0])
    if kind == "ram":
        shutil.rmtree(data.cache.folder.parent)


def test_a_picture_that_has_changed_is_decoded_anew(picture_folder):
    data = ImageFolderImages(str(picture_folder), size=16, train=False, cache="disk")
    before = epoch(data)[0]
    Image.new("RGB", (40, 30), "red").save(data.samples[0][0])
    after = epoch(data)[0]
    assert not torch.equal(before[0], after[0]) and torch.equal(before[1:], after[1:])
    path, other = Path(data.samples[1][0]), picture_folder / "other.bmp"
    Image.new("RGB", (40, 30), "red").save(path, "bmp")
    with_red = epoch(data)[0]
    Image.new("RGB", (40, 30), "blue").save(other)  # of the same size, and put in its place with the same time
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    after = epoch(data)[0]
    assert not torch.equal(with_red[1], after[1]) and torch.equal(with_red[0], after[0])
    for kept in data.cache.folder.rglob("*"):
        if kept.is_file():
            kept.write_bytes(kept.read_bytes()[:-1])  # as a full disk, or a kill, leaves it
    assert torch.equal(epoch(data)[0], after)
    assert torch.equal(epoch(data, num_workers=2)[0], after)


def is_shared(samples):
    return samples.pixels.is_shared()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_worker_makes_its_batch_where_the_training_reads_it(picture_folder, workers):
    data = ImageFolderImages(str(picture_folder), size=16)
    assert next(iter(DataLoader(data, batch_size=2, num_workers=workers, collate_fn=is_shared))) == bool(workers)


def test_what_has_no_room_is_refused_before_training(picture_folder, monkeypatch):
    monkeypatch.setattr(picture_cache.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(SgResnetsError, match=r"cache: 4 pictures need about .* GB in .*: set cache=none"):
        ImageFolderImages(str(picture_folder), size=16, train=False, cache="disk")
    with pytest.raises(SgResnetsError, match="cache='tape': must be one of none, ram, disk"):
        ImageFolderImages(str(picture_folder), cache="tape")


def test_a_cache_that_cannot_be_written_is_a_line(picture_folder, tmp_path):
    data = ImageFolderImages(str(picture_folder), size=16, cache="disk")
    data.cache.folder = tmp_path / "file"
    data.cache.folder.write_text("")
    with pytest.raises(SgResnetsError, match=r"cache: .* cannot be written \(Not a directory\): set cache=none"):
        epoch(data)


@pytest.mark.parametrize("turned", [1, 6])
@pytest.mark.parametrize("cache", ["none", "disk"])
def test_large_jpegs_are_decoded_at_a_reduced_size(tmp_path, monkeypatch, cache, turned):
    exif = Image.Exif()
    exif[0x0112] = turned
    for name in ("cat", "dog"):
        for part in ("train", "val"):
            (tmp_path / part / name).mkdir(parents=True)
            photograph(tmp_path / part / name / "0.jpg", quality=95, exif=exif)
    assert image_folder._is_large_jpeg(str(tmp_path / "train" / "cat" / "0.jpg"))
    sizes = []
    real = image_folder.to_tensor
    monkeypatch.setattr(image_folder, "to_tensor", lambda image: sizes.append(image.size) or real(image))
    reduced = epoch(ImageFolderImages(str(tmp_path), size=32, cache=cache))[0]
    assert sizes and all(max(size) <= 1000 for size in sizes)
    assert all((width < height) == (turned == 6) for width, height in sizes)
    monkeypatch.setattr(image_folder, "LARGE", 1e9)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    whole = epoch(ImageFolderImages(str(tmp_path), size=32, cache=cache))[0]
    assert (reduced - whole).abs().mean() < 0.06 < whole.std() / 10  # of pixels over their deviation: 3 of 255 levels


def test_a_large_picture_need_not_be_what_its_name_says(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        photograph(tmp_path / "train" / name / "0.jpg", 800, 1000, format="PNG")
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    assert image_folder._is_large_jpeg(str(tmp_path / "train" / "cat" / "0.jpg"))
    assert epoch(ImageFolderImages(str(tmp_path), size=32))[0].shape == (2, 3, 32, 32)


@pytest.mark.parametrize("size", [(375, 500), (500, 100), (30, 400)])
def test_crops_are_drawn_as_torchvisions(size):
    torch.manual_seed(0)
    picture = torch.empty(()).expand(3, *size)
    theirs = np.array([RandomResizedCrop.get_params(picture, AREA, RATIO) for _ in range(4000)])
    ours = np.array([crop_of(drawn, *size) for drawn in torch.rand(4000, TRIES, 4).tolist()])
    for a, b in zip(ours.T, theirs.T, strict=True):
        assert ks_2samp(a, b).pvalue > 0.001
    assert (ours[:, :2] >= 0).all() and (ours[:, :2] + ours[:, 2:] <= size).all()


def test_what_a_killed_process_left_in_the_cache_is_removed(picture_folder, monkeypatch):
    data = ImageFolderImages(str(picture_folder), size=16, cache="disk")
    epoch(data)
    kept = [file for file in data.cache.folder.rglob("*") if file.is_file()]
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    monkeypatch.setattr(files.os, "getpid", lambda: gone.pid)
    left = kept[0].with_name(f"{kept[0].name}{files.temporary_suffix()}")
    monkeypatch.undo()
    left.write_bytes(b"half")
    monkeypatch.setenv("XDG_CACHE_HOME", str(data.cache.folder.parents[2]))
    ImageFolderImages(str(picture_folder), size=16, cache="disk")
    assert not left.exists() and all(file.exists() for file in kept) and len(kept) == 4
