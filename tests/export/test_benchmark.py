"""Files of differently normalised images are compared on the same pixels, or not at all."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from sg_resnets.data.image_tensors import whole_batch
from sg_resnets.export import benchmark
from sg_resnets.export.onnx import size_of
from sg_resnets.export.runtimes import load
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
    monkeypatch.setattr(benchmark, "latencies", lambda files, size: [{} for _ in files])

    def make(name, mean=0.3, std=0.2, side=6, **info):
        described = {"mean": [mean], "std": [std], "classes": CLASSES, **info}
        return write(Threshold(mean, std), name, shape=(1, side, side), **described)

    return make


def test_each_file_sees_the_images_as_it_wants_them(file, loader):
    own, other = {"mean": 0.3, "std": 0.2}, {"mean": 0.6, "std": 0.05}
    files = [file("other", **other), file("own", **own)]
    files += [file("pixels", uint8_input=True, **own), file("other_pixels", uint8_input=True, **other)]
    for order in (files, files[::-1]):
        assert {row.accuracy for row in benchmark.measure(order, loader)[0]} == {1.0}
    assert {row.accuracy for row in benchmark.measure(files[1:3], list(loader))[0]} == {1.0}  # says nothing of itself


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


@pytest.mark.parametrize("first, size", [("free", (6, 6)), ("fixed", (8, 10))])
def test_files_of_free_size_are_timed_on_images_of_the_first_files_size(first, size, write, monkeypatch):
    timed = {}

    def note(files, size):
        timed["size"] = tuple(size)
        return [{} for _ in files]

    monkeypatch.setattr(benchmark, "latencies", note)
    files = {
        "free": write(Threshold(0, 1), "free", shape=(1, 6, 6), dynamic_size=True, mean=[0.3], std=[0.2]),
        "fixed": write(Threshold(0, 1), "fixed", shape=(1, 8, 10), mean=[0.3], std=[0.2]),
    }
    benchmark.measure([files[first], *files.values()], None)
    assert timed["size"] == size


def test_a_file_of_free_size_is_timed_on_images_of_the_size_that_is_given(write, monkeypatch):
    monkeypatch.setattr(benchmark, "ROUND_SECONDS", 0.0)
    loaded = load(write(Threshold(0, 1), "free", shape=(1, 6, 6), dynamic_size=True))
    seen = set()
    noting = replace(loaded, run=lambda images: seen.add(images.shape) or loaded.run(images))
    benchmark.latencies([noting], 2, (7, 9))
    assert seen == {(batch, 1, 7, 9) for batch in benchmark.BATCHES}


def row(name, milliseconds, accuracy, runtime="ONNX Runtime"):
    times = {batch: [batch * milliseconds] * 3 for batch in benchmark.BATCHES}
    return benchmark.Measured(name, "fp32", runtime, "int8", 1000, times, accuracy=accuracy)


def test_the_fastest_is_one_that_is_as_accurate():
    rows = [row("a", 2.0, 0.90), row("b", 1.0, 0.895, "OpenVINO"), row("c", 0.5, 0.85)]
    first, second, left_out = benchmark.fastest(rows)
    assert first == (
        "the fastest here for 1 at a time, on one thread: b in OpenVINO, which computes in int8: 2.00 times as fast "
        "as a in ONNX Runtime, accuracy 0.8950 (0.9000)"
    )
    assert "for 32 at a time, on one thread: b" in second
    assert left_out == "not counted: c in ONNX Runtime loses 5.0 points"
    alone = [row("a", 2.0, None), row("b", 1.0, None)]
    for line in benchmark.fastest(alone):
        assert ": b in ONNX Runtime, which computes in int8: 2.00 times" in line and "accuracy not measured" in line
    assert len([*benchmark.table(rows)]) == 4


def test_of_those_that_are_as_fast_the_most_accurate_is_named():
    rows = [row("a", 2.0, 0.90), row("b", 1.0, 0.895), row("c", 1.0, 0.90, "OpenVINO")]
    first = next(benchmark.fastest(rows))
    assert "thread: c in OpenVINO, " in first and first.endswith("; as fast, within the spread: b in ONNX Runtime")


def test_a_file_that_is_as_fast_as_the_first_is_not_said_to_be_faster():
    first = next(benchmark.fastest([row("a", 1.0, 0.90), row("b", 1.0, 0.91)]))
    assert first.endswith("int8: as fast, within the spread, as a in ONNX Runtime, accuracy 0.9100 (0.9000)")


def test_what_overflows_is_not_the_fastest_and_an_option_that_is_needed_is_named():
    times = {"option": "session.x64quantprecision=1"}
    rows = [
        row("a", 2.0, 0.9),
        replace(row("b", 1.0, 0.9), **times),
        replace(row("b", 0.5, 0.9, "OpenVINO"), overflows=True),
    ]
    first, _, left_out = benchmark.fastest(rows)
    assert ": b in ONNX Runtime with session.x64quantprecision=1, which computes in int8: 2.00 times" in first
    assert left_out == "not counted: b in OpenVINO, whose 8-bit kernels overflow on this CPU"


def test_a_runtime_without_memory_for_the_batch_is_left_out_and_the_batch_that_fits_is_named(write, monkeypatch):
    monkeypatch.setattr(benchmark, "latencies", lambda files, size: [{} for _ in files])
    path = write(Threshold(0, 1), "net", shape=(1, 6, 6))

    def run(images):
        if len(images) > 8:
            raise MemoryError("out of memory")
        return images[:, 0, 0, :2]

    loaded = load(path)
    small = replace(loaded, runtime="OpenVINO", run=run)
    monkeypatch.setattr(benchmark, "load_everywhere", lambda path: ([loaded, small], []))
    rows, left_out = benchmark.measure([path], None)
    assert [row.runtime for row in rows] == ["ONNX Runtime"]
    assert left_out == [f"left out: OpenVINO cannot run {path} on (32, 1, 6, 6): out of memory; a batch of 8 fits"]


def test_a_file_whose_weights_stand_in_another_is_measured_with_them(write, tmp_path):
    path = write(nn.Sequential(nn.Flatten(), nn.Linear(36, 500)), "net", shape=(1, 6, 6))
    outside = tmp_path / "outside.onnx"
    onnx.save_model(onnx.load(path), outside, save_as_external_data=True, size_threshold=0)
    images = torch.randn(2, 1, 6, 6).numpy()
    np.testing.assert_array_equal(load(outside)(images), load(path)(images))
    assert size_of(outside) > 4 * 36 * 500 > outside.stat().st_size
