"""Folders of pictures: what cannot be read is named."""

import numpy as np
import pytest
import torch
from PIL import Image

from sg_resnets.data.image_folder import ImageFolderImages, read_rgb
from sg_resnets.utils.errors import SgResnetsError


def test_one_number_for_the_mean_makes_the_pictures_grey(picture_folder):
    with_number, with_list = (
        ImageFolderImages(str(picture_folder), mean=m, std=s, train=False) for m, s in ((0.3, 0.2), ([0.3], [0.2]))
    )
    image, other = with_number[0][0], with_list[0][0]
    assert image.shape[0] == 1 and torch.equal(image, other)


def test_sixteen_bits_of_grey_keep_their_steps(tmp_path):
    """Pillow alone clips them to white."""
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    with Image.open(tmp_path / "ramp.png") as stored:
        assert stored.mode.startswith("I;16")
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "ramp.png"))[..., 1], ramp >> 8)


def test_pictures_broken_in_other_ways_are_named(picture_folder, monkeypatch):
    whole = picture_folder / "train" / "dog" / "0.png"
    content = bytearray(whole.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 0xFF
    content[-20:-16] = b"\x00\x01\x02\x03"  # a chunk that is none
    whole.write_bytes(content)
    with pytest.raises(SgResnetsError, match=r"dog/0\.png cannot be read as an image"):
        list(ImageFolderImages(str(picture_folder), size=16))


def test_a_picture_larger_than_pillow_dares_is_named(picture_folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(SgResnetsError, match="cannot be read as an image"):
        ImageFolderImages(str(picture_folder), size=16)[0]


def test_one_class_alone_is_refused(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
    with pytest.raises(SgResnetsError, match="has one class folder, cat, and two are needed at least"):
        ImageFolderImages(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizontal_flip": "False", "train": False}, "horizontal_flip='False': must be True or False"),
        ({"train": "val"}, "train='val': must be True or False"),
        ({"augmented": "no"}, "augmented='no': must be True or False"),
        ({"skip_samples": 1000}, "skip_samples=1000: must be an integer from 0 to"),
        ({"augment": True}, "augment=True: valid: trivial"),
        ({"random_erasing": 2}, "random_erasing=2: must be a number from 0 to 1"),
        ({"crop_ratio": "half"}, "crop_ratio='half': must be a number > 0 and <= 1"),
        ({"std": 0.3}, "std=0.3: must be a list of positive numbers up to 1, one for each of the 3"),
        ({"mean": [123.7, 116.3, 103.5]}, "mean=.*from 0 to 1, .* divide those of pixels up to 255 by 255"),
        ({"std": [58.4, 57.1, 57.4]}, "std=.*up to 1, .* divide those of pixels up to 255 by 255"),
        ({"mean": [0.5, 0.5, float("nan")]}, "mean=.* must be a list of numbers"),
    ],
)
def test_wrong_options_are_named(picture_folder, options, message):
    with pytest.raises(SgResnetsError, match=message):
        ImageFolderImages(str(picture_folder), **options)
