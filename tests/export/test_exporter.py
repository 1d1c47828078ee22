"""The opset that is asked for is in the file, and a file of free height and width computes what PyTorch does on images
of any size, in each runtime; what cannot be is one line."""

import re

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sg_resnets.export import exporter
from sg_resnets.export.onnx import read_info
from sg_resnets.export.runtimes import load, load_everywhere
from sg_resnets.quantization import graph
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.utils.errors import SgResnetsError
from support import KINDS, network_of

SIZES = [(28, 28), (29, 46), (45, 27), (64, 33), (15, 18)]


def version(path):
    (default,) = (each.version for each in onnx.load(path).opset_import if each.domain == "")
    return default


def quantized(network, batches):
    params = QuantizationParams(calibrator_i="max")
    made = graph.insert_quantizers(network, params)
    calibrate(made, batches, params)
    return made.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_free_size_computes_what_pytorch_does(kind, train_batches, write):
    network = network_of(KINDS[kind], train_batches)
    if kind == "fixup":  # starts at zero, and would be compared with nothing
        nn.init.normal_(network.fc.weight)
    loaded, _ = load_everywhere(write(network, "float", dynamic_size=True))
    for height, width in SIZES:
        images = torch.randn(3, 1, height, width)
        with torch.no_grad():
            expected = network(images).numpy()
        for each in loaded:
            assert each.shape == (0, 1, 0, 0)
            tolerance = 1e-4 if each.precision == "float32" else 0.05
            assert np.abs(each(images.numpy()) - expected).max() <= tolerance * np.abs(expected).max(), each.runtime


@pytest.mark.parametrize("kind", ["bottleneck", "D", "se", "blur", "imagenet", "resnest"])
def test_so_does_an_int8_file(kind, train_batches, write):
    """Roundings may fall either way: it differs from PyTorch about as much as that does from float32, at any size."""
    network = network_of(KINDS[kind], train_batches)
    int8 = quantized(network, train_batches[:4])
    loaded, _ = load_everywhere(write(int8, dynamic_size=True))
    small = train_batches[5][0][:16]
    for size in SIZES:
        images = nn.functional.interpolate(small, size, mode="bilinear")
        with torch.no_grad():
            expected, exact = int8(images).numpy(), network(images).numpy()
        cost = np.abs(expected - exact).max()
        assert 0 < cost < 0.2 * np.abs(exact).max()
        for each in loaded:
            if each.precision.startswith("int8"):
                assert np.abs(each(images.numpy()) - expected).max() < 3 * cost, (each.runtime, size)


@pytest.mark.parametrize("name", ["resnet18_v1b", "resnet20_cifar", "seresnet20_cifar"])
def test_models_of_the_zoo_take_images_of_any_size(name, get, write):
    network = get(name, num_classes=10).eval()
    channels = network.get_input_channels()
    file = load(write(network, shape=(channels, 64, 64), dynamic_size=True))
    for height, width in [(64, 64), (97, 33), (65, 130)]:
        images = torch.randn(2, channels, height, width)
        with torch.no_grad():
            np.testing.assert_allclose(file(images.numpy()), network(images).numpy(), atol=1e-4)


def test_pixels_of_any_size_go_into_a_file_that_normalises_them(trained, write):
    info = {"mean": [0.286], "std": [0.353], "uint8_input": True}
    file = load(write(trained, dynamic_size=True, **info))
    pixels = torch.randint(256, (3, 1, 35, 28), dtype=torch.uint8)
    with torch.no_grad():
        expected = trained((pixels / 255 - 0.286) / 0.353).numpy()
    assert file.shape == (0, 1, 0, 0) and file.uint8
    np.testing.assert_allclose(file(pixels.numpy()), expected, atol=1e-4)


def test_a_file_keeps_the_size_that_it_was_trained_for(trained, write):
    free, fixed = write(trained, "free", dynamic_size=True), write(trained, "fixed")
    assert read_info(free).size == read_info(fixed).size == [28, 28]
    assert load(fixed).shape == (0, 1, 28, 28)
    with pytest.raises(SgResnetsError, match=r"takes one input of \(N, 1, H, W\), tensor\(float\), and was given"):
        load(free)(np.zeros((1, 3, 28, 28), np.float32))


@pytest.mark.parametrize("opset", exporter.OPSETS)
def test_the_opset_is_the_one_that_is_asked_for(opset, train_batches, write):
    network = network_of({"shortcut": "B"}, train_batches)  # without slices, which the oldest lack
    images = train_batches[1][0][:8]
    with torch.no_grad():
        expected = network(images).numpy()
    path = write(network, "float", opset=opset)
    assert version(path) == opset
    for each in load_everywhere(path)[0]:
        if each.precision == "float32":
            np.testing.assert_allclose(each(images.numpy()), expected, atol=1e-4)
    int8 = quantized(network, train_batches[:2])
    if opset not in exporter.INT8_OPSETS:
        with pytest.raises(SgResnetsError, match=rf"opset={opset}: must be an integer from 13 to 20, for INT8"):
            write(int8, opset=opset)
        return
    path = write(int8, opset=opset, dynamic_size=True)
    found = load(path)
    assert version(path) == opset and found.precision.startswith("int8")
    with torch.no_grad():
        assert np.abs(found(images.numpy()) - int8(images).numpy()).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("opset", [6, 21, 17.0, True, "", "seventeen", "-13", None])
def test_another_opset_is_refused_with_the_valid_ones(opset):
    with pytest.raises(SgResnetsError, match=rf"^opset={re.escape(repr(opset))}: must be an integer from 7 to 20$"):
        exporter.check_opset(opset, int8=False)
    assert exporter.check_opset("13", int8=True) == 13


def test_an_operator_that_the_opset_lacks_is_named(train_batches, write, capfd):
    network = network_of(KINDS["resnest"], train_batches)
    with pytest.raises(SgResnetsError, match=r"with opset=12, .*'aten::unflatten' .* added in version 13") as caught:
        write(network, opset=12)
    assert "\n" not in str(caught.value) and capfd.readouterr().out == ""
    assert version(write(network, opset=13)) == 13


class InPython(nn.Module):
    """Averages by a number that Python has."""

    def forward(self, x):
        return x.sum((2, 3)) / int(x.shape[2] * x.shape[3])


HEADS = {
    "28 x 28 alone": nn.Sequential(nn.Flatten(), nn.Linear(8 * 28 * 28, 10)),
    r"test_exporter.py, line \d+, computes in Python with the size": nn.Sequential(InPython(), nn.Linear(8, 10)),
    "adaptive_avg_pool2d, input size not accessible": nn.Sequential(
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)
    ),
}


@pytest.mark.parametrize("words", HEADS)
def test_a_network_that_cannot_take_other_sizes_is_refused_and_has_a_file_of_its_own(words, write, tmp_path, capfd):
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), HEADS[words]).eval()
    with pytest.raises(SgResnetsError, match=words) as caught:
        write(network, "free", dynamic_size=True)
    assert "\n" not in str(caught.value) and "dynamic_size" in str(caught.value)
    assert not [*tmp_path.iterdir()] and capfd.readouterr().out == ""
    images = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        np.testing.assert_allclose(load(write(network))(images.numpy()), network(images).numpy(), atol=1e-4)


def test_a_file_that_computes_something_else_is_refused(trained, write, monkeypatch):
    """Whatever the exporter should write wrongly."""
    export = exporter.export

    def of_one_size(network, inputs, outputs, opset, dynamic_size):
        return export(network, inputs, outputs, opset, False)

    monkeypatch.setattr("sg_resnets.export.onnx.export", of_one_size)
    with pytest.raises(SgResnetsError, match=r"dynamic_size: ONNX Runtime cannot run the file on images of \(29, 46\)"):
        write(trained, dynamic_size=True)

    def another_network(network, inputs, outputs, opset, dynamic_size):
        network = nn.Sequential(network, nn.Softmax(1)) if dynamic_size else network
        return export(network, inputs, outputs, opset, dynamic_size)

    monkeypatch.setattr("sg_resnets.export.onnx.export", another_network)
    with pytest.raises(SgResnetsError, match=r"dynamic_size: the file computes something else for images of \(29, 46"):
        write(trained, dynamic_size=True)
