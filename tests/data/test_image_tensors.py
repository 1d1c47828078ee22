"""Images in memory: single ones and batches, their size, their number, and options that make no data set."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sg_resnets.data import InMemoryImages, fashion_mnist, in_memory, whole_batch
from sg_resnets.data.image_tensors import balanced_first
from sg_resnets.utils.errors import SgResnetsError
from support import everything, random_images, raw


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.1, 0.2, 0.3]}, r"mean=\[0.1, 0.2, 0.3\]: .*1 channel"),
        ({"std": [0.0]}, "std=.*positive"),
        ({"std": True}, "std=True: must be a list"),
        ({"mean": "5"}, "mean='5': must be a list"),
        ({"mean": [math.nan]}, "mean=.*numbers"),
        ({"std": [math.nan]}, "std=.*positive"),
        ({"std": [math.inf]}, "std=.*positive"),
        ({"horizontal_flip": "False"}, "horizontal_flip='False': must be True or False"),
        ({"horizontal_flip": 0.1}, r"horizontal_flip=0\.1: must be True or False"),
        ({"seed": "abc"}, "seed='abc': must be an integer"),
        ({"cutout": 29}, "cutout=29: .* from 0 to 28"),
        ({"random_erasing": 1.5}, r"random_erasing=1\.5: must be a number from 0 to 1"),
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
    ("labels", "message"),
    [
        ([0, 1, 2], r"must be 10 integers, one for each image, not int64 \(3,\)"),
        (list(range(12)), r"not int64 \(12,\)"),
        ([0.7] * 10, r"not float64 \(10,\)"),
        (torch.eye(10), r"not float32 \(10, 10\)"),
        (["a"] * 10, r"not <U1 \(10,\)"),
        ([True] * 10, r"not bool \(10,\)"),
        ([-1] * 10, "labels from -1 to -1: must be from 0 to 9, the places in class_names"),
        (np.arange(1, 11, dtype=np.uint16), "labels from 1 to 10: must be from 0 to 9"),
    ],
)
def test_labels_are_one_known_class_for_each_image(labels, message):
    def make(labels):
        return InMemoryImages(random_images(10), labels, list("abcdefghij"), mean=[0.5], std=[0.5])

    with pytest.raises(SgResnetsError, match=message):
        make(labels)
    for right in (list(range(10)), np.arange(10, dtype=np.uint16), torch.arange(10)):
        assert make(right).labels.tolist() == list(range(10)) and make(right).labels.dtype == torch.int64


def test_whole_batch_stacks_what_is_not_a_batch_yet():
    images, labels = whole_batch([(torch.zeros(3, 4, 4), 1), (torch.ones(3, 4, 4), 2)])
    assert images.shape == (2, 3, 4, 4) and labels.tolist() == [1, 2]
    finished = (images, labels)
    assert whole_batch(finished) is finished


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_batches_are_made_where_the_data_is_and_are_the_same_there(device):
    options = {"crop_padding": 2, "horizontal_flip": True, "cutout": 8, "random_erasing": 0.5, "max_samples": 200}
    here = in_memory("fashion_mnist_mini", **options)
    there = in_memory("fashion_mnist_mini", **options).to(device)
    (images, labels), (moved, classes) = (data.__getitems__([5, 3, 150]) for data in (here, there))
    assert moved.device.type == device and there.images.dtype == torch.uint8
    torch.testing.assert_close(moved.cpu(), images)
    assert torch.equal(classes.cpu(), labels)


def test_data_sets_need_no_host():
    code = (
        "import sys; from sg_resnets.data import in_memory; in_memory('fashion_mnist_mini'); "
        "sys.exit('super_gradients' in sys.modules)"
    )
    source = Path(fashion_mnist.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
