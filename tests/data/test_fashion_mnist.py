"""Fashion-MNIST and CIFAR: the embedded subset, the full sets, and what is said where they are missing or damaged."""

import gzip
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch

from sg_resnets.data import fashion_mnist, in_memory
from sg_resnets.utils.errors import SgResnetsError
from support import everything

needs_full = pytest.mark.skipif(
    not (fashion_mnist.SYSTEM_FOLDER / "train-images-idx3-ubyte.gz").exists(),
    reason="the full Fashion-MNIST (Debian's package dataset-fashion-mnist) is not installed",
)


def test_mini_is_balanced_and_complete():
    for train, count in ((True, 12_000), (False, 2_000)):
        images, labels, names = fashion_mnist.load_mini(train)
        assert images.shape == (count, 1, 28, 28) and images.dtype == torch.uint8
        assert np.bincount(labels).tolist() == [count // 10] * 10
        assert len(names) == 10 and names[9] == "Ankle boot"
    assert "Copyright (c) 2017 Zalando SE" in fashion_mnist.MINI_FILE.with_name("FASHION_MNIST_LICENSE").read_text()


@needs_full
def test_mini_is_the_first_images_of_each_class_and_can_be_made_again():
    made = fashion_mnist.make_mini()
    with np.load(fashion_mnist.MINI_FILE) as stored:
        assert stored.keys() == made.keys()
        assert all(np.array_equal(stored[key], made[key]) for key in made)
    images, labels = fashion_mnist.read_full(train=True)
    for label in range(10):
        first = images[labels == label][:1200]
        assert np.array_equal(made["train_images"][made["train_labels"] == label], first)


@needs_full
def test_normalisation_is_that_of_the_full_training_set():
    pixels = fashion_mnist.read_full(train=True)[0] / 255
    assert (round(pixels.mean(), 4), round(pixels.std(), 4)) == (*fashion_mnist.MEAN, *fashion_mnist.STD)


def test_mini_is_normalised():
    images, labels = everything(in_memory("fashion_mnist_mini", train=False))
    assert images.dtype == torch.float32 and images.is_contiguous() and labels.dtype == torch.int64
    assert images.mean().item() == pytest.approx(0, abs=0.02) and images.std().item() == pytest.approx(1, abs=0.02)
    assert images.min().item() == pytest.approx(-0.2860 / 0.3530, abs=1e-4)


def test_damaged_mini_says_what_to_do(tmp_path, monkeypatch):
    damaged = tmp_path / "fashion_mnist_mini.npz"
    damaged.write_bytes(fashion_mnist.MINI_FILE.read_bytes()[:100_000])
    monkeypatch.setattr(fashion_mnist, "MINI_FILE", damaged)
    with pytest.raises(SgResnetsError, match=r"fashion_mnist_mini\.npz cannot be read.*install sg-resnets again"):
        fashion_mnist.load_mini()


@pytest.mark.parametrize(
    ("suffix", "content"),
    [(".gz", gzip.compress(bytes(range(256)) * 40)[:-30]), (".gz", gzip.compress(b"altered")), ("", b"\0\0\x08\x01")],
    ids=["truncated gz", "altered gz", "truncated"],
)
def test_damaged_full_set_is_refused(tmp_path, suffix, content):
    for name in fashion_mnist.CHECKSUMS:
        (tmp_path / f"{name}{suffix}").write_bytes(content)
    damaged = f"{tmp_path}/t10k-images-idx3-ubyte{suffix} is truncated or altered"
    with pytest.raises(SgResnetsError, match=damaged):
        in_memory("fashion_mnist", train=False, root=str(tmp_path))


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "cifar100"])
def test_missing_data_without_network_says_where_to_get_it(name, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise URLError("no route to host")

    for dataset in ("FashionMNIST", "CIFAR10", "CIFAR100"):
        monkeypatch.setattr(f"torchvision.datasets.{dataset}", no_network)
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "usr")
    with pytest.raises(SgResnetsError, match=r"download failed .*no route to host") as caught:
        in_memory(name, root=str(tmp_path / "here"))
    message = str(caught.value)
    assert str(tmp_path / "here") in message and "\n" not in message
    assert ("dataset-fashion-mnist" if name == "fashion_mnist" else "cs.toronto.edu") in message


@needs_full
def test_download_goes_to_root_where_the_system_has_none(tmp_path, monkeypatch):
    system = fashion_mnist.SYSTEM_FOLDER

    def download(root, download):
        (Path(root) / "FashionMNIST").mkdir(parents=True)
        (Path(root) / "FashionMNIST" / "raw").symlink_to(system)

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", download)
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "usr")
    for _ in range(2):  # the second time, a second download would fail
        assert len(in_memory("fashion_mnist", train=False, root=str(tmp_path))) == 10_000


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_torchvisions_normalised(name, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    cifar = SimpleNamespace(data=pixels, targets=[0, 1, 2, 0, 1, 2], classes=["airplane", "automobile", "bird"])
    monkeypatch.setattr(f"torchvision.datasets.{name.upper()}", lambda root, train, download: cifar)
    dataset = in_memory(name)
    images, labels = everything(dataset)
    mean, std = {
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    }[name]
    assert np.allclose(images.permute(0, 2, 3, 1), (pixels / 255 - mean) / std, atol=1e-5)
    assert labels.tolist() == cifar.targets and dataset.class_names == cifar.classes
