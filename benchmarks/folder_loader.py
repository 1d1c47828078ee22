"""Images a second of a folder of pictures, against torchvision's ImageFolder with its v2 transforms; what a look at all
of them takes; and how long the loop of a training waits for its batches.

Run: python benchmarks/folder_loader.py [ROUNDS], after `pip install scikit-image scikit-learn`, whose photographs are
cut into 2,000 JPEGs of about 500x375 pixels. All loaders have the same batches and workers and go over the training
pictures in turn; each round gives a ratio. torchvision's turns its pictures into tensors before it crops them, the
faster of the two ways that its documentation shows.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from common import place, ratio
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from sg_resnets.data.check import look, look_at
from sg_resnets.data.folder_loader import FolderLoader
from sg_resnets.data.image_folder import IMAGENET_MEAN, IMAGENET_STD, ImageFolderImages, read_pixels
from sg_resnets.training.memory import keep_freed_memory

PICTURES, BATCH, WORKERS, SIZE = 2000, 32, 2, 224
PHOTOGRAPHS = {
    "skimage": ("data", "astronaut chelsea coffee rocket hubble_deep_field motorcycle_left retina ihc"),
    "sklearn": ("datasets/images", "china flower"),
}


def photographs() -> list[Image.Image]:
    """Those that come with scikit-image and scikit-learn, of 1,200 pixels at most."""
    found = []
    for package, (folder, names) in PHOTOGRAPHS.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            sys.exit("the photographs are missing: pip install scikit-image scikit-learn")
        for name in names.split():
            (file,) = Path(spec.origin).parent.joinpath(folder).glob(f"{name}.*[gG]")
            image = Image.open(file).convert("RGB")
            image.thumbnail((1200, 1200))
            found.append(image)
    return found


def write_pictures(root: Path, sources: list[Image.Image]) -> None:
    """train/ and val/ with a class for each photograph: random crops of it, mirrored and scaled."""
    draw = np.random.default_rng(0)
    for number in range(PICTURES):
        image = sources[number % len(sources)]
        size = int(draw.integers(450, 551)), int(draw.integers(340, 411))
        wide, high = size if draw.random() < 0.7 else size[::-1]
        scale = max(wide / image.width, high / image.height, 1) * draw.uniform(1, 1.3)
        image = image.resize((int(image.width * scale) + 1, int(image.height * scale) + 1), Image.Resampling.BICUBIC)
        left, top = draw.integers(image.width - wide + 1), draw.integers(image.height - high + 1)
        image = image.crop((left, top, left + wide, top + high))
        folder = root / ("train" if number < 0.9 * PICTURES else "val") / f"class_{number % len(sources)}"
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number:05d}.jpg", quality=int(draw.integers(85, 96)))


def loaders(root: Path, cache: Path) -> dict[str, DataLoader]:
    after = [
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    theirs = ImageFolder(
        str(root / "train"), v2.Compose([v2.ToImage(), v2.RandomResizedCrop(SIZE, antialias=True), *after])
    )
    how = {"batch_size": BATCH, "num_workers": WORKERS, "persistent_workers": True, "shuffle": True, "drop_last": True}
    kept = ImageFolderImages(str(root), cache="disk")
    assert kept.cache is not None
    kept.cache.folder = cache
    return {
        "torchvision": DataLoader(theirs, **how),
        "ours": FolderLoader(ImageFolderImages(str(root)), **how),
        "ours, cache: disk": FolderLoader(kept, **how),
        "decoding alone": DataLoader(ImageFolder(str(root / "train"), loader=decoded), **how),
    }


def decoded(path: str) -> int:
    """Nothing is made of the pixels: no loader that reads its pictures as ours does is faster."""
    return read_pixels(path).shape[-1]


def seconds(loader: DataLoader) -> float:
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def waiting(root: Path, runs: Path) -> str:
    """What a training says of its wait."""
    command = [sys.executable, "-m", "super_gradients.train_from_recipe", "--config-name=image_folder_resnet18"]
    command += [f"dataset_params.train_dataset_params.root={root}", "epochs=1", f"ckpt_root_dir={runs}"]
    done = subprocess.run(command, capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() + done.stdout.splitlines() if "has waited" in line]
    return said[0].partition(" - ")[2].rpartition(" - ")[2] if said else f"failed: {done.stderr[-1000:]}"


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    keep_freed_memory()  # as a training does; torchvision's loader gains from it too
    torch.set_num_threads(1)  # the workers have the cores
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "pictures")
        write_pictures(root, photographs())
        found = loaders(root, Path(folder, "cache"))
        first = {name: seconds(loader) for name, loader in found.items()}  # starts the workers, fills the cache
        times = [[seconds(loader) for loader in found.values()] for _ in range(rounds)]
        print(place(), f"\nworkers: {WORKERS}, batch: {BATCH}, pictures of about 500x375 at {SIZE}")
        columns = dict(zip(found, map(list, zip(*times, strict=True)), strict=True))
        images = len(found["torchvision"]) * BATCH
        for name, column in columns.items():
            middle = images / statistics.median(column)
            print(f"{name:<18} {middle:>7,.0f} images a second; first epoch {images / first[name]:,.0f}")
            if name != "torchvision":
                print("  " + ratio("times torchvision's", columns["torchvision"], column))
        paths = [path for path, _ in found["torchvision"].dataset.samples]  # type: ignore[attr-defined]
        looks = []
        for _ in range(rounds):
            start = time.perf_counter()
            list(map(look, paths))
            between = time.perf_counter()
            list(look_at(paths))
            looks.append((between - start, time.perf_counter() - between))
        alone, together = map(list, zip(*looks, strict=True))
        print(ratio("a look at all of them: one process over several", alone, together))
        print(waiting(root, Path(folder, "runs")))
