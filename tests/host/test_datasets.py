"""The data sets inside SuperGradients: by name, in its loaders, and in its prediction pipeline."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sg_resnets.data import fashion_mnist
from sg_resnets.utils.errors import SgResnetsError


@pytest.fixture(scope="module")
def by_name():
    """SuperGradients' ways to make a data loader and a prediction pipeline."""
    import super_gradients  # noqa: F401
    from super_gradients.common.factories.processing_factory import ProcessingFactory
    from super_gradients.training import dataloaders

    return SimpleNamespace(get=dataloaders.get, processing=ProcessingFactory().get)


def mini_loader(by_name, workers=0, **options):
    options = {"crop_padding": 4, "horizontal_flip": True, "max_samples": 1000, **options}
    loading = {"dataset": "fashion_mnist_mini", "batch_size": 128, "shuffle": True, "num_workers": workers}
    return by_name.get(dataset_params=options, dataloader_params={**loading, "collate_fn": "whole_batch"})


def folder_loader(by_name, root, **options):
    loading = {"dataset": "image_folder", "batch_size": 4, "collate_fn": "whole_batch"}
    return by_name.get(dataset_params={"root": str(root), "size": 21, **options}, dataloader_params=loading)


def test_every_data_set_has_a_name_in_the_host(by_name):
    from super_gradients.common.registry.registry import ALL_DATASETS

    assert {
        "fashion_mnist_mini",
        "fashion_mnist",
        "cifar10",
        "cifar100",
        "image_folder",
        "image_csv",
    } <= ALL_DATASETS.keys()
    with pytest.raises(SgResnetsError, match="no keyword 'transforms'"):
        mini_loader(by_name, transforms=["ToTensor"])
    assert mini_loader(by_name, transforms=None, mean=None).dataset.mean == fashion_mnist.MEAN


def test_image_folder_trains_through_the_host(by_name, picture_folder):
    loader = folder_loader(by_name, picture_folder)
    images, labels = next(iter(loader))
    assert images.shape == (4, 3, 21, 21) and labels.tolist() == [0, 0, 1, 1]
    assert not torch.equal(images, next(iter(loader))[0])  # a random crop
    assert loader.dataset.class_names == ["cat", "dog"]
    assert folder_loader(by_name, picture_folder, max_samples=2).dataset.targets == [0, 1]


def test_a_csv_file_is_a_data_set_of_a_name_of_its_own(by_name, picture_folder):
    rows = ["train/cat/0.png,animal,train", "train/dog/0.png,plant,train", "val/cat/0.png,animal,val"]
    (picture_folder / "labels.csv").write_text("\n".join(["file,class,part", *rows]))
    loading = {"dataset": "image_csv", "batch_size": 1}
    params = {"labels": str(picture_folder / "labels.csv"), "train": False, "size": 21}
    loader = by_name.get(dataset_params=dict(params), dataloader_params=dict(loading))
    assert loader.dataset.class_names == ["animal", "plant"] and loader.dataset.targets == [0]
    assert loader.dataset.samples == [(str(picture_folder / "val/cat/0.png"), 0)]
    with pytest.raises(SgResnetsError, match=r"^image_csv: labels is missing; give the CSV file .* file,class$"):
        by_name.get(dataset_params={"train": True}, dataloader_params=dict(loading))
    with pytest.raises(SgResnetsError, match=r"^image_csv has no keyword 'label': did you mean labels"):
        by_name.get(dataset_params={"label": "x.csv"}, dataloader_params=dict(loading))


def test_image_folder_predicts_with_the_transforms_of_validation(by_name, picture_folder):
    dataset = folder_loader(by_name, picture_folder, train=False).dataset
    params = dataset.get_dataset_preprocessing_params()["image_processor"]
    assert params["ComposeProcessing"]["processings"][0] == {
        "ResizeCenterCrop": {"resize": 24, "size": 21, "interpolation": "bilinear"}  # 21 / 0.875
    }
    process = by_name.processing(params)
    for (path, _), (expected, _) in zip(dataset.samples, dataset, strict=True):
        assert np.allclose(process.preprocess_image(np.asarray(Image.open(path)))[0], expected, atol=1e-5)


def test_image_folder_errors(by_name, picture_folder):
    with pytest.raises(SgResnetsError, match="root is missing"):
        by_name.get(dataset_params={"train": True}, dataloader_params={"dataset": "image_folder"})
    (picture_folder / "val" / "dog" / "0.png").write_bytes(b"no image")
    with pytest.raises(SgResnetsError, match=r"dog/0\.png cannot be read as an image"):
        list(folder_loader(by_name, picture_folder, train=False))
    (picture_folder / "train" / "cow").mkdir()
    with pytest.raises(SgResnetsError, match="differ in the classes cow"):
        folder_loader(by_name, picture_folder)
    (picture_folder / "val" / "cow").mkdir()
    with pytest.raises(SgResnetsError, match=r"cow.*empty class folder"):
        folder_loader(by_name, picture_folder)
    for split in ("train", "val"):
        (picture_folder / split / "cow").rmdir()
    (picture_folder / "val").rename(picture_folder / "test")
    for split, where in (("train", "train"), ("val", "train"), ("test", "test")):  # val is taken from train
        (picture_folder / "test" / "dog" / "0.png").unlink(missing_ok=True)
        dataset = folder_loader(by_name, picture_folder, split=split).dataset
        assert {Path(path).parts[-3] for path, _ in dataset.samples} == {where}
        assert dataset.targets == ([0, 0, 1] if split == "test" else [0, 1])


def test_an_image_folder_is_augmented_as_asked_in_training_alone(by_name):
    from sg_resnets.data.image_folder import noise_folder
    from sg_resnets.host.datasets import HostImageFolder as ImageFolderImages  # which has SuperGradients' RandAugment

    root = noise_folder(2)
    plain = ImageFolderImages(root, size=32, horizontal_flip=False)
    assert plain.augmentation is None and not (plain[0][0] == 0).any()
    for augment, step in (("trivial", "TrivialAugmentWide"), ("rand-m7-mstd0.5-inc1", "RandAugment")):
        train = ImageFolderImages(root, size=32, augment=augment, random_erasing=1.0)
        steps = getattr(train.augmentation, "transforms", [train.augmentation])
        assert step in {type(step).__name__ for step in steps}
        torch.manual_seed(0)
        image = train[0][0]
        # Erased is what has the mean's colour, to the nearest of 256 levels: 0.02 to 0.33 of it.
        mean = train.normalised((255 * torch.tensor(train.mean)).round().to(torch.uint8).view(3, 1, 1))
        assert image.shape == (3, 32, 32) and 20 < (image == mean).all(0).sum() < 400 and mean.abs().max() < 0.01
    val = ImageFolderImages(root, train=False, size=32, augment="trivial", random_erasing=1.0, crop_ratio=0.8)
    assert val.fitting.resize == (40, 40) and val.augmentation is None and torch.equal(val[0][0], val[0][0])
    names = ("autoo", "rand-x9", "rand-foo", "rand-m99", "rand-n0", "rand-m9-inc0", "rand", True)
    for wrong, words in (
        *(({"augment": name}, "valid: trivial") for name in names),
        ({"crop_ratio": 0}, "crop_ratio=0"),
    ):
        with pytest.raises(SgResnetsError, match=words):
            ImageFolderImages(root, **wrong)


@pytest.mark.parametrize("split", ["train", "val"])
def test_workers_for_data_on_the_gpu_are_one_line(split, by_name):
    from sg_resnets.host.trainer import check_data

    loaders = {"train": mini_loader(by_name), "val": mini_loader(by_name)}
    loaders[split] = mini_loader(by_name, workers=2)
    for loader in loaders.values():
        loader.dataset.images = SimpleNamespace(is_cuda=True)
    workers = f"dataset_params.{split}_dataloader_params.num_workers"
    with pytest.raises(SgResnetsError, match=f"^{workers}=2, but .* {workers}=0, or .*{split}_dataset_params.data_on"):
        check_data(torch.nn.Identity(), *loaders.values())


def two_epochs(loader):
    torch.manual_seed(3)
    return [[torch.cat(parts) for parts in zip(*loader, strict=True)] for _ in range(2)]


def test_batches_are_the_same_for_any_number_of_workers_and_differ_from_epoch_to_epoch(by_name):
    alone, helped = two_epochs(mini_loader(by_name)), two_epochs(mini_loader(by_name, workers=2))
    for (images, labels), (images_helped, labels_helped) in zip(alone, helped, strict=True):
        assert images.shape == (1000, 1, 28, 28)
        assert torch.equal(images, images_helped) and torch.equal(labels, labels_helped)
    first, second = ({image.numpy().tobytes() for image in images} for images, _ in alone)
    assert len(first & second) < 50  # of 162 ways to crop and flip an image, the same again

    plain = two_epochs(mini_loader(by_name, crop_padding=0, horizontal_flip=False))
    first, second = ({image.numpy().tobytes() for image in images} for images, _ in plain)
    assert first == second


def test_an_image_file_is_prepared_as_the_validation_data_are(by_name, tmp_path):
    dataset = mini_loader(by_name, train=False, crop_padding=0, horizontal_flip=False, max_samples=20).dataset
    torch.save(dataset.get_dataset_preprocessing_params(), tmp_path / "params.pth")
    params = torch.load(tmp_path / "params.pth", weights_only=True)
    assert params["class_names"] == list(fashion_mnist.CLASS_NAMES)
    process = by_name.processing(params["image_processor"])
    for i, (expected, _) in enumerate(dataset):
        Image.fromarray(dataset.images[i, 0].numpy()).save(tmp_path / "image.png")
        rgb = np.asarray(Image.open(tmp_path / "image.png").convert("RGB"))
        assert np.allclose(process.preprocess_image(rgb)[0], expected, atol=1e-5)


def test_predict_takes_an_image_file(by_name, tmp_path):
    from super_gradients.training.models.classification_models.base_classifer import BaseClassifier

    class Linear(BaseClassifier):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.fc = torch.nn.Linear(32 * 32, 10)

        def forward(self, x):
            return self.fc(x.flatten(1))

    dataset = mini_loader(by_name, train=False, size=32, max_samples=20).dataset
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


def test_images_of_every_size_come_out_at_the_networks_size(by_name):
    sides = range(20, 1201)
    companions = [20 + side * 757 % 1181 for side in sides]  # every side once more, in another order
    for size in (28, 32, 224):
        process = by_name.processing({"ResizeCenterCrop": {"resize": size, "size": size}})
        for height, width in list(zip(sides, companions, strict=True))[:: 1 if size == 28 else 10]:
            result = process.preprocess_image(np.full((height, width, 3), 255, np.uint8))[0]
            # an image one pixel short would be filled up with black
            assert result.shape == (size, size, 3) and result.min() == 255, (height, width)
