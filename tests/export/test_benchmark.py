"""Files of differently normalised images are compared on the same pixels, or not at all."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from sg_resnets.data.in_memory import whole_batch
from sg_resnets.export import benchmark
from sg_resnets.utils.errors import SgResnetsError
from support import random_images, raw

CLASSES = list("abcdefghij")


class Threshold(nn.Module):
    """Says 1 where the pixel in the corner, in 0..1 once (x * std + mean) has undone the normalisation, is above
    0.5."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, images):
        corner = images[:, 0, 0, 0:1] * self.std + self.mean
        return torch.cat([0.5 - corner, corner - 0.5], 1)


@pytest.fixture
def loader():
    data = raw(random_images(40, side=6), mean=[0.3], std=[0.2])
    data.labels = (data.images[:, 0, 0, 0] > 127).long()
    return DataLoader(data, batch_size=20, collate_fn=whole_batch)


@pytest.fixture
def file(write, monkeypatch):
    monkeypatch.setattr(benchmark, "latencies", lambda paths: [{} for _ in paths])

    def make(name, mean=0.3, std=0.2, side=6, **info):
        described = {"mean": [mean], "std": [std], "classes": CLASSES, **info}
        return write(Threshold(mean, std), name, shape=(1, side, side), **described)

    return make


def test_each_file_sees_the_images_as_it_wants_them(file, loader):
    own, other = {"mean": 0.3, "std": 0.2}, {"mean": 0.6, "std": 0.05}
    files = [file("other", **other), file("own", **own)]
    files += [file("pixels", uint8_input=True, **own), file("other_pixels", uint8_input=True, **other)]
    for order in (files, files[::-1]):
        assert [row.accuracy for row in benchmark.measure(order, loader)] == [1.0] * 4
    assert [row.accuracy for row in benchmark.measure(files[1:3], list(loader))] == [1.0] * 2  # says nothing of itself


@pytest.mark.parametrize(
    "different, words",
    [
        ({"classes": CLASSES[::-1]}, r"different.onnx has 10 classes \(j, ...\) that are not the test data's 10 \(a,"),
        ({"side": 8}, r"takes one input of \(N, 1, 8, 8\)"),
    ],
)
def test_files_of_other_classes_or_sizes_are_not_compared(file, loader, different, words):
    with pytest.raises(SgResnetsError, match=words):
        benchmark.measure([file("own"), file("different", **different)], loader)
