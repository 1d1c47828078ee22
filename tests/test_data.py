"""The data sets: their contents, their augmentation against its definition, and their life inside the host."""

import gzip
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from sg_resnets.data import InMemoryImages, fashion_mnist, in_memory, whole_batch
from sg_resnets.data.image_folder import ImageFolderImages, read_rgb
from sg_resnets.data.in_memory import balanced_first, crop_windows, cut_out
from sg_resnets.utils.errors import SgResnetsError

needs_full = pytest.mark.skipif(
    not (fashion_mnist.SYSTEM_FOLDER / "train-images-idx3-ubyte.gz").exists(),
    reason="the full Fashion-MNIST (Debian's package dataset-fashion-mnist) is not installed",
)


@pytest.fixture(scope="module")
def host():
    """The host's own ways to make a data loader and a prediction pipeline."""
    import super_gradients  # noqa: F401
    from super_gradients.common.factories.processing_factory import ProcessingFactory
    from super_gradients.training import dataloaders

    return SimpleNamespace(get=dataloaders.get, processing=ProcessingFactory().get)


def random_images(count=64, channels=1, side=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def raw(images=None, **options):
    """A data set whose tensors are the pixel values themselves, and with no pixel that is 0 before augmentation."""
    images = random_images() if images is None else images
    channels = images.shape[1]
    scale = {"mean": [0.0] * channels, "std": [1 / 255] * channels}
    return InMemoryImages(images, torch.arange(len(images)) % 10, list("abcdefghij"), **{**scale, **options})


def everything(dataset):
    return dataset.__getitems__(range(len(dataset)))


# the embedded data set


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


# augmentation, against its definition


def test_crop_windows_are_cut_from_the_zero_padded_image():
    images, padding = random_images(25, channels=3).float(), 2
    top, left = (offset.flatten() for offset in torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij"))
    cropped = crop_windows(images, padding, top, left)
    for image, crop, y, x in zip(images, cropped, top.tolist(), left.tolist(), strict=True):
        padded = np.zeros((3, 16, 16), np.float32)
        padded[:, 2:14, 2:14] = image
        assert np.array_equal(crop, padded[:, y : y + 12, x : x + 12])


@pytest.mark.parametrize("side", [1, 4, 5, 12])
def test_cut_out_zeroes_the_square_around_the_centre(side):
    images = random_images(144, channels=2).float()
    rows, columns = torch.arange(144) // 12, torch.arange(144) % 12
    cut = cut_out(images, side, rows, columns)
    for image, result, row, column in zip(images.numpy(), cut, rows.tolist(), columns.tolist(), strict=True):
        expected = image.copy()
        top, left = row - side // 2, column - side // 2
        expected[:, max(top, 0) : top + side, max(left, 0) : left + side] = 0
        assert np.array_equal(result, expected)


def test_every_crop_is_a_window_and_every_flip_its_mirror():
    images, padding = random_images(2000), 1
    augmented, labels = everything(raw(images, crop_padding=padding, horizontal_flip=True))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    found = []
    for image, result in zip(padded, augmented.numpy(), strict=True):
        windows = {(y, x): image[:, y : y + 12, x : x + 12] for y in range(3) for x in range(3)}
        found += [(*at, False) for at, window in windows.items() if np.array_equal(window, result)]
        found += [(*at, True) for at, window in windows.items() if np.array_equal(window[..., ::-1], result)]
    assert len(found) == len(images)
    assert labels.tolist() == [i % 10 for i in range(2000)]
    # 18 equally likely outcomes of 2000 draws: 111 each, standard deviation 10
    outcomes, counts = np.unique(found, axis=0, return_counts=True)
    assert len(outcomes) == 18 and counts.min() > 60 and counts.max() < 160


def test_padding_and_cutout_have_the_colour_of_the_mean():
    options = {"mean": [0.25, 0.5, 0.75], "std": [0.1, 0.2, 0.3], "crop_padding": 11, "cutout": 5}
    augmented, _ = everything(raw(random_images(channels=3), **options))
    assert (augmented == 0).all(dim=1).float().mean() > 0.3


def test_cutout_is_uniform_and_may_leave_the_image():
    augmented, _ = everything(raw(random_images(4000), cutout=4))
    holes = (augmented == 0).squeeze(1)
    areas = holes.sum((1, 2))
    assert areas.max() == 16 and areas.min() == 4  # a corner keeps a quarter of the square
    # A centre in rows 2..10 of 12 leaves all 4 rows: so 9/12 of them, and as many of the columns, are whole.
    assert (areas == 16).float().mean().item() == pytest.approx((9 / 12) ** 2, abs=0.04)


def test_augmentation_depends_on_seed_and_indices_alone():
    options = {"crop_padding": 2, "horizontal_flip": True, "cutout": 3}
    state = torch.get_rng_state()
    batch = raw(**options).__getitems__([5, 3, 8, 1])[0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(batch, raw(**options).__getitems__([5, 3, 8, 1])[0])
    assert not torch.equal(batch, raw(**options, seed=1).__getitems__([5, 3, 8, 1])[0])
    other_order = raw(**options).__getitems__([3, 5, 8, 1])[0]
    assert not torch.equal(batch[2:], other_order[2:])


def test_single_images_come_as_image_and_label():
    dataset = raw()
    image, label = dataset[-1]
    assert torch.equal(image, dataset.images[63].float()) and label == 3
    with pytest.raises(IndexError):
        dataset[64]


def test_size_resizes_as_pillow_does():
    images = random_images(20, channels=3)
    for size in (8, 12, 20):
        resized, _ = everything(raw(images, size=size))
        for image, result in zip(images, resized, strict=True):
            expected = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling.BILINEAR)
            assert np.abs(result.permute(1, 2, 0).numpy() - np.asarray(expected)).max() <= 1.01


def test_max_samples_takes_the_classes_in_turn():
    labels = np.array([0, 0, 0, 1, 2, 2, 1, 0])
    assert balanced_first(labels, 3).tolist() == [0, 3, 4]
    assert balanced_first(labels, 7).tolist() == [0, 1, 2, 3, 4, 5, 6]
    dataset = in_memory("fashion_mnist_mini", max_samples=200)
    assert len(dataset) == 200 and torch.bincount(dataset.labels).tolist() == [20] * 10


def test_skipped_and_kept_samples_are_the_whole():
    labels = np.array([0, 0, 0, 1, 2, 2, 1, 0])
    assert balanced_first(labels, 3, skip=3).tolist() == [1, 5, 6]
    kept, held_out = (
        in_memory("fashion_mnist_mini", **part) for part in ({"max_samples": 10_000}, {"skip_samples": 10_000})
    )
    assert len(kept) == 10_000 and torch.bincount(held_out.labels).tolist() == [200] * 10
    whole = in_memory("fashion_mnist_mini")
    assert kept.images.sum() + held_out.images.sum() == whole.images.sum()


# errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.1, 0.2, 0.3]}, r"mean=\[0.1, 0.2, 0.3\]: .*1 channel"),
        ({"std": [0.0]}, "std=.*positive"),
        ({"std": 0.3}, "std=0.3: must be a list"),
        ({"cutout": 29}, "cutout=29: .* from 0 to 28"),
        ({"crop_padding": -1}, "crop_padding=-1: .* from 0 to 27"),
        ({"crop_padding": "4"}, "crop_padding='4': must be an integer"),
        ({"max_samples": 0}, "max_samples=0: must be an integer >= 1"),
        ({"skip_samples": 2000}, "skip_samples=2000: .* from 0 to 1999"),
        ({"crop_pading": 4}, "no keyword 'crop_pading': did you mean crop_padding"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(SgResnetsError, match=message) as caught:
        in_memory("fashion_mnist_mini", train=False, **options)
    assert "\n" not in str(caught.value)


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


# CIFAR and image folders


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


@pytest.fixture
def folder(tmp_path):
    """train/ and val/ with two images each of a cat and a dog."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for i, shape in enumerate([(51, 40, 3), (40, 73, 3)]):
                Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def folder_loader(host, root, **options):
    loading = {"dataset": "image_folder", "batch_size": 4, "collate_fn": "whole_batch"}
    return host.get(dataset_params={"root": str(root), "size": 21, **options}, dataloader_params=loading)


def test_image_folder_trains_through_the_host(host, folder):
    loader = folder_loader(host, folder)
    images, labels = next(iter(loader))
    assert images.shape == (4, 3, 21, 21) and labels.tolist() == [0, 0, 1, 1]
    assert not torch.equal(images, next(iter(loader))[0])  # a random crop
    assert loader.dataset.class_names == ["cat", "dog"]
    assert folder_loader(host, folder, max_samples=2).dataset.targets == [0, 1]


def test_image_folder_predicts_with_the_transforms_of_validation(host, folder):
    dataset = folder_loader(host, folder, train=False).dataset
    params = dataset.get_dataset_preprocessing_params()["image_processor"]
    assert params["ComposeProcessing"]["processings"][0] == {
        "ResizeCenterCrop": {"resize": 24, "size": 21, "interpolation": "bilinear"}  # 21 / 0.875
    }
    process = host.processing(params)
    for (path, _), (expected, _) in zip(dataset.samples, dataset, strict=True):
        assert np.allclose(process.preprocess_image(np.asarray(Image.open(path)))[0], expected, atol=1e-5)


def test_image_folder_errors(host, folder):
    with pytest.raises(SgResnetsError, match="root is missing"):
        host.get(dataset_params={"train": True}, dataloader_params={"dataset": "image_folder"})
    (folder / "val" / "dog" / "0.png").write_bytes(b"no image")
    with pytest.raises(SgResnetsError, match=r"dog/0\.png cannot be read as an image"):
        list(folder_loader(host, folder, train=False))
    (folder / "train" / "cow").mkdir()
    with pytest.raises(SgResnetsError, match="differ in the classes cow"):
        folder_loader(host, folder)
    (folder / "val" / "cow").mkdir()
    with pytest.raises(SgResnetsError, match=r"cow.*empty class folder"):
        folder_loader(host, folder)
    (folder / "val").rename(folder / "test")
    with pytest.raises(SgResnetsError, match=r"val is missing; expected .*/train/<class>"):
        folder_loader(host, folder)


# inside the host


def mini_loader(host, workers=0, **options):
    options = {"crop_padding": 4, "horizontal_flip": True, "max_samples": 1000, **options}
    loading = {"dataset": "fashion_mnist_mini", "batch_size": 128, "shuffle": True, "num_workers": workers}
    return host.get(dataset_params=options, dataloader_params={**loading, "collate_fn": "whole_batch"})


@pytest.mark.parametrize("split", ["train", "val"])
def test_workers_for_data_on_the_gpu_are_one_line(split, host):
    from sg_resnets.host.trainer import check_data

    loaders = {"train": mini_loader(host), "val": mini_loader(host)}
    loaders[split] = mini_loader(host, workers=2)
    for loader in loaders.values():
        loader.dataset.images = SimpleNamespace(is_cuda=True)
    workers = f"dataset_params.{split}_dataloader_params.num_workers"
    with pytest.raises(SgResnetsError, match=f"^{workers}=2, but .* {workers}=0, or .*{split}_dataset_params.data_on"):
        check_data(torch.nn.Identity(), *loaders.values())


def two_epochs(loader):
    torch.manual_seed(3)
    return [[torch.cat(parts) for parts in zip(*loader, strict=True)] for _ in range(2)]


def test_batches_are_the_same_for_any_number_of_workers_and_differ_from_epoch_to_epoch(host):
    alone, helped = two_epochs(mini_loader(host)), two_epochs(mini_loader(host, workers=2))
    for (images, labels), (images_helped, labels_helped) in zip(alone, helped, strict=True):
        assert images.shape == (1000, 1, 28, 28)
        assert torch.equal(images, images_helped) and torch.equal(labels, labels_helped)
    first, second = ({image.numpy().tobytes() for image in images} for images, _ in alone)
    assert len(first & second) < 50  # of 162 ways to crop and flip an image, the same again

    plain = two_epochs(mini_loader(host, crop_padding=0, horizontal_flip=False))
    first, second = ({image.numpy().tobytes() for image in images} for images, _ in plain)
    assert first == second


def test_every_data_set_has_a_name_in_the_host(host):
    from super_gradients.common.registry.registry import ALL_DATASETS

    assert {"fashion_mnist_mini", "fashion_mnist", "cifar10", "cifar100", "image_folder"} <= ALL_DATASETS.keys()
    with pytest.raises(SgResnetsError, match="no keyword 'transforms'"):
        mini_loader(host, transforms=["ToTensor"])
    assert mini_loader(host, transforms=None, mean=None).dataset.mean == fashion_mnist.MEAN


def test_an_image_file_is_prepared_as_the_validation_data_are(host, tmp_path):
    dataset = mini_loader(host, train=False, crop_padding=0, horizontal_flip=False, max_samples=20).dataset
    torch.save(dataset.get_dataset_preprocessing_params(), tmp_path / "params.pth")
    params = torch.load(tmp_path / "params.pth", weights_only=True)
    assert params["class_names"] == list(fashion_mnist.CLASS_NAMES)
    process = host.processing(params["image_processor"])
    for i, (expected, _) in enumerate(dataset):
        Image.fromarray(dataset.images[i, 0].numpy()).save(tmp_path / "image.png")
        rgb = np.asarray(Image.open(tmp_path / "image.png").convert("RGB"))
        assert np.allclose(process.preprocess_image(rgb)[0], expected, atol=1e-5)


def test_predict_takes_an_image_file(host, tmp_path):
    from super_gradients.training.models.classification_models.base_classifer import BaseClassifier

    class Linear(BaseClassifier):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.fc = torch.nn.Linear(32 * 32, 10)

        def forward(self, x):
            return self.fc(x.flatten(1))

    dataset = mini_loader(host, train=False, size=32, max_samples=20).dataset
    net = Linear()
    for _ in range(2):  # the host alters the dict that it is given: the next one must be whole
        net.set_dataset_processing_params(**dataset.get_dataset_preprocessing_params())
    pixels = np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    prediction = net.predict(str(tmp_path / "photo.png")).prediction

    shorter_side_32 = Image.fromarray(pixels).resize((43, 32), Image.Resampling.BILINEAR)
    grey = np.asarray(shorter_side_32.convert("L"))[:, 6:38]  # (43 - 32) / 2 = 5.5, to the even 6 as in torchvision
    expected = net(torch.tensor((grey / 255 - 0.2860) / 0.3530).float().unsqueeze(0)).softmax(1)
    assert prediction.confidence == pytest.approx(expected.max().item(), abs=1e-4)
    assert prediction.label == expected.argmax().item()


def test_images_of_every_size_come_out_at_the_networks_size(host):
    sides = range(20, 1201)
    companions = [20 + side * 757 % 1181 for side in sides]  # every side once more, in another order
    for size in (28, 32, 224):
        process = host.processing({"ResizeCenterCrop": {"resize": size, "size": size}})
        for height, width in list(zip(sides, companions, strict=True))[:: 1 if size == 28 else 10]:
            result = process.preprocess_image(np.full((height, width, 3), 255, np.uint8))[0]
            # an image one pixel short would be filled up with black
            assert result.shape == (size, size, 3) and result.min() == 255, (height, width)


def test_whole_batch_stacks_what_is_not_a_batch_yet():
    images, labels = whole_batch([(torch.zeros(3, 4, 4), 1), (torch.ones(3, 4, 4), 2)])
    assert images.shape == (2, 3, 4, 4) and labels.tolist() == [1, 2]
    finished = (images, labels)
    assert whole_batch(finished) is finished


def test_data_sets_need_no_host():
    code = (
        "import sys; from sg_resnets.data import in_memory; in_memory('fashion_mnist_mini'); "
        "sys.exit('super_gradients' in sys.modules)"
    )
    source = Path(fashion_mnist.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_an_image_folder_is_augmented_as_asked_in_training_alone(host):
    from sg_resnets.data.image_folder import noise_folder
    from sg_resnets.host.datasets import HostImageFolder as ImageFolderImages  # which has SuperGradients' RandAugment

    root = noise_folder(2)
    plain = ImageFolderImages(root, size=32, horizontal_flip=False)
    kinds = {type(step).__name__ for step in plain.transform.transforms}
    for augment, step in (("trivial", "TrivialAugmentWide"), ("rand-m7-mstd0.5-inc1", "RandAugment")):
        train = ImageFolderImages(root, size=32, augment=augment, random_erasing=1.0)
        steps = {type(step).__name__ for step in train.transform.transforms}
        assert steps - kinds == {step, "RandomErasing"}
        assert train[0][0].shape == (3, 32, 32)
    val = ImageFolderImages(root, train=False, size=32, augment="trivial", random_erasing=1.0, crop_ratio=0.8)
    assert val.resize == 40 and torch.equal(val[0][0], val[0][0])
    for wrong, words in (({"augment": "autoo"}, "valid: trivial"), ({"augment": "rand-x9"}, "valid: trivial"),
                         ({"crop_ratio": 0}, "crop_ratio=0")):  # fmt: skip
        with pytest.raises(SgResnetsError, match=words):
            ImageFolderImages(root, **wrong)


def test_binary_cross_entropy_asks_one_question_for_each_class():
    from sg_resnets.training.losses import BinaryCrossEntropy

    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 2])
    p = torch.sigmoid(logits)
    yes = torch.eye(3)[labels]
    expected = -(yes * p.log() + (1 - yes) * (1 - p).log()).mean()
    torch.testing.assert_close(BinaryCrossEntropy()(logits, labels), expected)
    torch.testing.assert_close(BinaryCrossEntropy()(logits, yes), expected)
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]])
    both = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    torch.testing.assert_close(BinaryCrossEntropy(threshold=0.2)(logits, mixed), BinaryCrossEntropy()(logits, both))
    smoothed = 0.9 * yes + 0.1 / 3
    torch.testing.assert_close(
        BinaryCrossEntropy(smoothing=0.1)(logits, labels), BinaryCrossEntropy()(logits, smoothed)
    )
    with pytest.raises(SgResnetsError, match=r"smoothing=1\.5"):
        BinaryCrossEntropy(smoothing=1.5)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_batches_are_made_where_the_data_is_and_are_the_same_there(device):
    options = {"crop_padding": 2, "horizontal_flip": True, "cutout": 8, "max_samples": 200}
    here = in_memory("fashion_mnist_mini", **options)
    there = in_memory("fashion_mnist_mini", **options).to(device)
    (images, labels), (moved, classes) = (data.__getitems__([5, 3, 150]) for data in (here, there))
    assert moved.device.type == device and there.images.dtype == torch.uint8
    torch.testing.assert_close(moved.cpu(), images)
    assert torch.equal(classes.cpu(), labels)


def test_sixteen_bits_of_grey_keep_their_steps(tmp_path):
    """Pillow alone clips them to white."""
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    with Image.open(tmp_path / "ramp.png") as stored:
        assert stored.mode.startswith("I;16")
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "ramp.png"))[..., 1], ramp >> 8)


def test_pictures_broken_in_other_ways_are_named(folder, monkeypatch):
    whole = folder / "train" / "dog" / "0.png"
    content = bytearray(whole.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 0xFF
    content[-20:-16] = b"\x00\x01\x02\x03"  # a chunk that is none
    whole.write_bytes(content)
    with pytest.raises(SgResnetsError, match=r"dog/0\.png cannot be read as an image"):
        list(ImageFolderImages(str(folder), size=16))


def test_a_picture_larger_than_pillow_dares_is_named(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(SgResnetsError, match="cannot be read as an image"):
        ImageFolderImages(str(folder), size=16)[0]


def test_one_class_alone_is_refused(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
    with pytest.raises(SgResnetsError, match="has one class folder, cat, and two are needed at least"):
        ImageFolderImages(str(tmp_path))
