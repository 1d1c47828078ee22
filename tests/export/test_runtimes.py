"""Each runtime that is here runs a file, and says what it computes in; one that is not is named, with what to do."""

import subprocess
import sys
import types

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sg_resnets.export import runtimes
from sg_resnets.export.onnx import read_info
from sg_resnets.utils.errors import SgResnetsError


@pytest.fixture
def file(write):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    return network, write(network, shape=(3, 12, 12))


def test_all_of_them_compute_the_same(file):
    network, path = file
    images = torch.randn(5, 3, 12, 12)
    with torch.no_grad():
        expected = network(images).numpy()
    loaded, _ = runtimes.load_everywhere(path)
    assert [each.runtime for each in loaded] == [runtimes.NAMES[name] for name in runtimes.installed()]
    assert loaded[0].runtime == "ONNX Runtime" and loaded[0].precision == "float32"
    for each in loaded:
        assert each.shape == (0, 3, 12, 12) and not each.uint8 and each.path == path
        tolerance = 1e-5 if each.precision == "float32" else 0.05
        np.testing.assert_allclose(each(images.numpy()), expected, atol=tolerance)
        with pytest.raises(
            SgResnetsError, match=r"takes one input of \(N, 3, 12, 12\), tensor\(float\), and was given"
        ):
            each(images[:, :2].numpy())


class _Broken:
    """Finds an OpenVINO without a library that it wants."""

    def find_spec(self, name, *_):
        if name == "openvino":
            raise ImportError("libtbb.so.12 is missing")


def test_one_that_is_not_here_is_named_with_what_to_do(file, monkeypatch):
    _, path = file
    with pytest.raises(
        SgResnetsError, match=r"unknown runtime 'openvin': did you mean openvino\? valid: onnxruntime, "
    ):
        runtimes.load(path, "openvin")
    if "tensorrt" not in runtimes.installed():
        with pytest.raises(SgResnetsError, match=r"^TensorRT is not here: pip install onnxruntime-gpu"):
            runtimes.load(path, "tensorrt")
    with monkeypatch.context() as old:
        old.setattr(runtimes, "openvino_version", lambda: "2022.3.0")
        with pytest.raises(
            SgResnetsError, match=r"^OpenVINO 2022.3.0 is too old: 2024 or later is needed \(pip install"
        ):
            runtimes.load(path, "openvino")
        assert "OpenVINO 2022.3.0 is too old" in runtimes.load_everywhere(path)[1][0]
    with monkeypatch.context() as broken:
        broken.setitem(sys.modules, "openvino", types.ModuleType("openvino"))
        broken.delitem(sys.modules, "openvino")
        broken.setattr(sys, "meta_path", [_Broken(), *sys.meta_path])
        with pytest.raises(SgResnetsError, match=r"^OpenVINO 20\d\d\S* cannot be imported: libtbb.so.12 is missing"):
            runtimes.load(path, "openvino")
        assert runtimes.load_everywhere(path)[0][0].runtime == "ONNX Runtime"
    monkeypatch.setattr(runtimes, "openvino_version", lambda: None)
    with pytest.raises(SgResnetsError, match=r"^OpenVINO is not installed \(pip install \"sg-resnets\[openvino\]\"\)"):
        runtimes.load(path, "openvino")


def test_a_runtime_that_fails_leaves_the_others(file, monkeypatch):
    _, path = file
    monkeypatch.setattr(runtimes, "installed", lambda: ["onnxruntime", "onnxruntime_cuda"])
    loaded, left_out = runtimes.load_everywhere(path)
    if len(loaded) == 1:
        assert left_out[0].startswith("left out: ONNX Runtime, CUDA does not start: is there a GPU")


class Twice(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :4].unsqueeze(2)


def test_what_is_no_classifier_of_images_is_one_line(write, tmp_path):
    path = write(Twice(), "twice", shape=(1, 4, 4))
    with pytest.raises(SgResnetsError, match=r"makes \(2, 4, 1\) of \(2, 1, 4, 4\): logits are \(N, classes\)"):
        runtimes.load(path)(torch.randn(2, 1, 4, 4).numpy())
    model = onnx.load(path)
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))
    onnx.save_model(model, path)
    with pytest.raises(SgResnetsError, match=r"takes 2 inputs: networks that take images alone can be run"):
        runtimes.load(path)
    for damaged in ("{", "[1, 2]"):
        onnx.helper.set_model_props(model, {"sg_resnets": damaged})
        onnx.save_model(model, path)
        with pytest.raises(SgResnetsError, match=r"is damaged or no ONNX file: export it again \("):
            read_info(path)


def test_after_openvino_a_signal_ends_no_process(file):
    """Two of its cores that end in the order in which they began leave a stack for signals that is freed."""
    _, path = file
    code = f"""
import gc, signal
from pathlib import Path
from sg_resnets.export.runtimes import load
signal.signal(signal.SIGTERM, lambda *_: print("still here"))
first, second = (load(Path({str(path)!r}), "openvino") for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "still here\n", (done.returncode, done.stderr)
