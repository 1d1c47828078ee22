"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): 28x28 grey images of ten kinds of clothing; MIT licence.

`fashion_mnist_mini.npz` beside this file holds the first 1,200 training and the first 200 test images of each class,
in the original order. Anyone with the full data set can make it again::

    from sg_resnets.data import fashion_mnist as f
    numpy.savez_compressed(f.MINI_FILE, **f.make_mini())
"""

import gzip
import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sg_resnets.data.image_tensors import balanced_first
from sg_resnets.utils.errors import SgResnetsError

MINI_FILE = Path(__file__).with_name("fashion_mnist_mini.npz")
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist
DEFAULT_ROOT = "./data"

# Over all pixels of the 60,000 training images.
MEAN, STD = (0.2860,), (0.3530,)
CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# SHA-256 of the decompressed bytes: the .gz files of Debian and of the authors differ, their contents do not.
CHECKSUMS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load_mini(train: bool = True) -> tuple[Tensor, np.ndarray, tuple[str, ...]]:
    """The embedded 12,000 training or 2,000 test images (N, 1, 28, 28), their labels (N,), and the class names."""
    split = "train" if train else "test"
    try:
        with np.load(MINI_FILE, allow_pickle=False) as arrays:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise SgResnetsError(f"{MINI_FILE} cannot be read ({error}); install sg-resnets again") from error
    return torch.from_numpy(images).unsqueeze(1), labels, CLASS_NAMES


def load_full(train: bool = True, root: str | None = None) -> tuple[Tensor, np.ndarray, tuple[str, ...]]:
    """The 60,000 training or 10,000 test images (N, 1, 28, 28), their labels (N,), and the class names.

    Read from `root` (its own files, or where torchvision puts them), else from Debian's package, else downloaded by
    torchvision into `root` or ./data. Every file is checked.
    """
    images, labels = read_full(train, root)
    return torch.from_numpy(images).unsqueeze(1), labels, CLASS_NAMES


def make_mini(root: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of `fashion_mnist_mini.npz`, made from the full data set."""
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 12_000), ("test", 2_000)):
        images, labels = read_full(split == "train", root)
        indices = balanced_first(labels, count)
        arrays |= {f"{split}_images": images[indices], f"{split}_labels": labels[indices]}
    return arrays


def read_full(train: bool, root: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and labels (N,), uint8, checked against the published data set."""
    base = Path(root or DEFAULT_ROOT).expanduser()
    folders = [base, base / "FashionMNIST" / "raw"]  # the second is torchvision's
    folders.insert(len(folders) if root else 0, SYSTEM_FOLDER)
    names = [name for name in CHECKSUMS if name.startswith("train" if train else "t10k")]
    if not all(_find(name, folders) for name in names):
        _download(base)
    images, labels = (read_idx(_find(name, folders)[0]) for name in names)
    return images, labels


def read_idx(path: Path) -> np.ndarray:
    """The array in one idx file, plain or .gz; SgResnetsError where it is not the published one, byte for byte."""
    try:
        payload = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error):
        payload = b""
    if hashlib.sha256(payload).hexdigest() != CHECKSUMS[path.name.removesuffix(".gz")]:
        raise SgResnetsError(
            f"{path} is truncated or altered: its contents are not those of Fashion-MNIST; delete it to have it "
            "downloaded again, or reinstall Debian's package dataset-fashion-mnist if it came from there"
        )
    # idx: two zero bytes, the type (8 = uint8), the number of dimensions, then the dimensions, big-endian
    dimensions = payload[3]
    shape = np.frombuffer(payload, ">i4", dimensions, offset=4)
    return np.frombuffer(payload, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()


def _find(name: str, folders: list[Path]) -> list[Path]:
    return [path for folder in folders for path in (folder / name, folder / f"{name}.gz") if path.is_file()]


def _download(root: Path) -> None:
    from torchvision.datasets import FashionMNIST

    try:
        FashionMNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise SgResnetsError(
            f"Fashion-MNIST is neither in {SYSTEM_FOLDER} nor in {root}, and the download failed "
            f"({' '.join(str(error).split())}); install Debian's package dataset-fashion-mnist, or connect to the "
            f"network, so that torchvision can download it into {root}"
        ) from error
