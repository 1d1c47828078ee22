"""Pictures come to the network's size as torchvision brings them there."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from sg_resnets.data.fitting import Fitting, luma
from sg_resnets.data.preprocessing import preprocessing_params, settings_of
from sg_resnets.utils.errors import SgResnetsError


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_centre_is_torchvisions(interpolation):
    generator = np.random.default_rng(0)
    for _ in range(100):
        height, width = generator.integers(20, 300, 2).tolist()
        size, ratio = [28, 32, 224][generator.integers(3)], [1.0, 0.875, 0.95][generator.integers(3)]
        image = torch.from_numpy(generator.integers(0, 256, (3, height, width), dtype=np.uint8))
        fitted = Fitting.of(size, crop_ratio=ratio, interpolation=interpolation)(image)
        resize = v2.Resize(int(size / ratio), v2.InterpolationMode(interpolation))
        assert torch.equal(fitted, v2.CenterCrop(size)(resize(image)))
        pillow = np.asarray(v2.CenterCrop(size)(resize(Image.fromarray(image.permute(1, 2, 0).numpy()))))
        apart = np.abs(fitted.permute(1, 2, 0).numpy().astype(int) - pillow)  # of noise, the worst case
        assert apart.mean() < 0.5 and (interpolation == "bicubic" or apart.max() <= 1)


def test_wide_pictures_are_cut_stretched_or_padded():
    image = torch.zeros(3, 10, 40, dtype=torch.uint8)
    image[:, :, :5] = 200  # what stands at the left edge
    assert Fitting.of(16)(image).max() == 0
    squashed = Fitting.of(16, "squash")(image)
    assert squashed.shape == (3, 16, 16) and squashed[0, 8, 0] == 200
    padded = Fitting.of(16, "pad", mean=(0.5, 0.25, 1.0))(image)
    assert padded.shape == (3, 16, 16) and padded[0, 8, 0] == 200
    assert padded[:, 0, 0].tolist() == [128, 64, 255] and (padded[0, 6:10] != 128).all()
    assert Fitting.of([10, 40])(image).equal(image) and Fitting.of([5, 20])(image).shape == (3, 5, 20)


@pytest.mark.parametrize("size", [[20, 60], [60, 20], 33])
def test_a_picture_of_any_shape_covers_any_size(size):
    for height, width in ((7, 300), (300, 7), (33, 33), (19, 61)):
        image = torch.full((3, height, width), 255, dtype=torch.uint8)
        for fit in ("crop", "squash", "pad"):
            fitted = Fitting.of(size, fit, mean=(1.0, 1.0, 1.0))(image)
            assert fitted.shape == (3, *((size, size) if isinstance(size, int) else size)) and fitted.min() == 255


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "size=0: must be an integer from 1 to 16384"),
        ({"size": [224, 100_000]}, "size=100000: must be an integer from 1 to 16384"),
        ({"size": [3]}, r"size=\[3\]: must be the pictures' side in pixels, or \[height, width\]"),
        ({"size": 8, "fit": "stretch"}, "fit='stretch': must be one of crop, squash, pad"),
        ({"size": 8, "fit": "pad", "crop_ratio": 0.9}, "fit: pad shows the whole picture"),
        ({"size": 8, "interpolation": "lanczos"}, "interpolation='lanczos'"),
    ],
)
def test_wrong_sizes_are_named(options, words):
    with pytest.raises(SgResnetsError, match=words):
        Fitting.of(**options)


def test_grey_is_pillows():
    image = torch.randint(0, 256, (3, 40, 30), dtype=torch.uint8)
    assert np.array_equal(luma(image)[0], np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")))


@pytest.mark.parametrize("size", [21, 28, 32, 160, 176, 224, 288, [32, 64], [224, 320]])
@pytest.mark.parametrize("ratio", [0.8, 0.875, 0.95, 0.96, 1.0])
def test_a_description_gives_the_settings_again(size, ratio):
    for fit in ("crop", "squash", "pad"):
        made = Fitting.of(size, fit, ratio if fit == "crop" else 1.0, "bicubic", (0.5, 0.4, 0.3))
        settings = settings_of(preprocessing_params(["a"], made, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2)))
        assert settings.pop("std") == [0.2, 0.2, 0.2]
        assert Fitting.of(**settings) == made
    assert preprocessing_params(["a"], made, mean=[0.5], std=[0.2])["class_names"] == ["a"]
