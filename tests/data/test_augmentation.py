"""Crops, flips and cutout against their definition."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms.v2 import RandomErasing

from sg_resnets.data.image_folder import torchvision_erased
from sg_resnets.data.image_tensors import crop_windows, cut_out, erase, erased
from support import everything, random_images, raw


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


def test_erasing_zeroes_the_rectangle():
    images = random_images(4, channels=2).float() + 1
    corners = ([0, 2, 5, 3], [12, 4, 5, 9], [1, 0, 0, 11], [2, 12, 12, 12])
    results = erase(images, *(torch.tensor(edge) for edge in corners))
    for image, result, top, bottom, left, right in zip(images.numpy(), results, *corners, strict=True):
        expected = image.copy()
        expected[:, top:bottom, left:right] = 0
        assert np.array_equal(result, expected)


def test_erased_rectangles_are_as_in_the_paper():
    side, count = 28, 20_000
    top, bottom, left, right = erased(count, (side, side), 0.5, torch.Generator().manual_seed(0))
    height, width = (bottom - top).numpy(), (right - left).numpy()
    some = height > 0
    assert some.mean() == pytest.approx(0.5, abs=0.02) and np.array_equal(some, width > 0)
    assert top.min() >= 0 and left.min() >= 0 and bottom.max() <= side and right.max() <= side
    assert height.max() < side and width.max() < side
    area, ratio = (height * width)[some] / side**2, (height[some] / width[some])
    assert 0.01 < area.min() < 0.03 and 0.37 < area.max() < 0.42 and ratio.min() < 0.4 and ratio.max() > 2.5
    # Against the algorithm as the paper has it, one image at a time.
    rng = np.random.default_rng(0)
    areas = []
    while len(areas) < 5000:
        asked, shape = rng.uniform(0.02, 0.4) * side**2, rng.uniform(0.3, 1 / 0.3)
        h, w = round((asked * shape) ** 0.5), round((asked / shape) ** 0.5)
        if h < side and w < side:
            areas.append(h * w / side**2)
    assert area.mean() == pytest.approx(np.mean(areas), abs=0.006) and area.std() == pytest.approx(
        np.std(areas), abs=0.006
    )
    for start, length in ((top, height), (left, width)):
        place = start.numpy()[some] / (side - length[some])
        assert place.mean() == pytest.approx(0.5, abs=0.01) and place.min() == 0 and place.max() == 1


def test_rectangles_of_a_folder_are_those_of_torchvision():
    torch.manual_seed(0)
    count, size = 3000, (24, 40)
    top, bottom, left, right = torchvision_erased(count, size, 1.0)
    theirs = RandomErasing(p=1.0)
    drawn = [theirs.make_params([torch.zeros(3, *size)]) for _ in range(count)]
    ours = {"i": top, "j": left, "h": bottom - top, "w": right - left}
    for name, values in ours.items():
        expected = [each[name] for each in drawn]
        # Where no try fits they say the whole image, and ours none of it: too rarely to be seen.
        assert ks_2samp(values.numpy(), expected).pvalue > 0.01, name
    ratio = [(each["h"] / each["w"]) for each in drawn]
    assert ks_2samp((ours["h"] / ours["w"]).numpy(), ratio).pvalue > 0.01


def test_random_erasing_is_done_to_its_share_of_the_images():
    images, _ = everything(raw(random_images(2000), random_erasing=0.3))
    plain, _ = everything(raw(random_images(2000)))
    assert (images != plain).flatten(1).any(1).float().mean().item() == pytest.approx(0.3, abs=0.04)


def test_augmentation_depends_on_seed_and_indices_alone():
    options = {"crop_padding": 2, "horizontal_flip": True, "cutout": 3, "random_erasing": 0.5}
    state = torch.get_rng_state()
    batch = raw(**options).__getitems__([5, 3, 8, 1])[0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(batch, raw(**options).__getitems__([5, 3, 8, 1])[0])
    assert not torch.equal(batch, raw(**options, seed=1).__getitems__([5, 3, 8, 1])[0])
    other_order = raw(**options).__getitems__([3, 5, 8, 1])[0]
    assert not torch.equal(batch[2:], other_order[2:])
