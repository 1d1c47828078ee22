"""The shipped ResNet-20 in INT8: its accuracy, its file, and what ONNX Runtime, OpenVINO and TensorRT make of it."""

import copy
import time
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from sg_resnets.export import benchmark as onnx_benchmark
from sg_resnets.export import onnx as onnx_file
from sg_resnets.export import runtimes
from sg_resnets.export.runtimes import load
from sg_resnets.quantization import fake_quantize
from support import optimised


def accuracy(network, images_and_labels):
    images, labels = images_and_labels
    with torch.no_grad():
        return float((network(images).argmax(1) == labels).float().mean())


@pytest.fixture(scope="module")
def float_accuracy(trained, images_and_labels):
    return accuracy(trained, images_and_labels)


def test_quantizers_compute_in_float32_whatever_autocast_does(calibrated, images_and_labels):
    network = copy.deepcopy(calibrated())
    seen = []
    for quantizer in fake_quantize.quantizers(network).values():
        quantizer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        network(images_and_labels[0][:4])
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"calibrator_i": "max"},
        {"histogram_calib_method": "mse"},
        {"per_channel": False},
        {"per_channel": False, "calibrator_w": "histogram"},
        {"reduce_range": True},
        {"target": "openvino"},
        {"target": "tensorrt"},
    ],
    ids=str,
)
def test_calibration_costs_at_most_half_a_point_and_half_a_minute(given, calibrated, images_and_labels, float_accuracy):
    began = time.perf_counter()
    network = calibrated(**given)
    assert time.perf_counter() - began < 30
    assert float_accuracy > 0.93 and accuracy(network, images_and_labels) > float_accuracy - 0.005


def test_resnet20_is_all_integer_kernels_small_and_agrees(calibrated, trained, write, tmp_path, images_and_labels):
    small, large = write(calibrated()), write(trained, "fp32")
    found = optimised(small, tmp_path)
    assert found["QLinearConv"] == 19 and found["QLinearAdd"] == 9
    assert not {"Conv", "FusedConv", "Add", "Relu", "Gemm", "MatMul", "GlobalAveragePool"} & set(found)
    assert small.stat().st_size <= 0.32 * large.stat().st_size
    model = onnx.load(small)
    onnx.checker.check_model(model, full_check=True)
    stored = Counter()
    for initializer in model.graph.initializer:
        stored[numpy_helper.to_array(initializer).dtype.name] += numpy_helper.to_array(initializer).size
    weights = sum(p.numel() for p in trained.parameters() if p.ndim > 1)
    assert stored["int8"] >= weights and stored["float32"] < 0.01 * weights
    scalars = [numpy_helper.to_array(n.attribute[0].t) for n in model.graph.node if n.op_type == "Constant"]
    assert all(value.ndim == 0 for value in scalars if value.size == 1 and value.dtype.name in ("float32", "uint8"))
    images = images_and_labels[0]
    predict = onnx_benchmark.predictor(load(small), onnx_file.read_info(small))
    with torch.no_grad():
        agreement = (predict(images.numpy()).argmax(1) == calibrated()(images).argmax(1).numpy()).mean()
    assert agreement >= 0.995


def test_seven_bit_weights_need_no_slow_kernels(calibrated, write, images_and_labels):
    """The largest sum of two products of uint8 and a 7-bit weight fits into 16 bits: any kernel gives the classes."""
    network = calibrated(reduce_range=True)
    path = write(network)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])  # as a user would
    images = images_and_labels[0]
    with torch.no_grad():
        expected = network(images).argmax(1).numpy()
    assert (session.run(None, {"images": images.numpy()})[0].argmax(1) == expected).mean() >= 0.995
    stored = [numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer]
    assert max(np.abs(array.astype(int)).max() for array in stored if array.dtype == np.int8) == 63
    assert 2 * 255 * 63 < 2**15


@pytest.mark.parametrize(
    ("overflows", "reduced", "exact"), [(True, False, "1"), (True, True, "0"), (False, False, "0")]
)
def test_slow_kernels_run_only_where_the_fast_ones_overflow(
    overflows, reduced, exact, calibrated, tmp_path, monkeypatch
):
    path = tmp_path / "net.onnx"
    onnx_file.write(calibrated(reduce_range=reduced), path, (1, 28, 28), onnx_file.FileInfo(kind="ptq"))
    monkeypatch.setattr(runtimes, "has_int8_kernels", lambda: not overflows)
    options = runtimes.onnxruntime_session(path).get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == exact
    assert runtimes.load(path).option == ("session.x64quantprecision=1" if exact == "1" else "")
    assert runtimes.load(path, "openvino").overflows == (exact == "1")
    assert [path.name in warning for warning in onnx_benchmark.warnings([path])] == [True] * int(exact)


@pytest.mark.parametrize("target, computes", [("onnxruntime", "int8"), ("tensorrt", "float32")])
def test_what_onnx_runtime_computes_in_is_read_from_the_graph_that_it_runs(target, computes, calibrated, write):
    """Signed activations it computes in float32, though the file's are quantised."""
    assert load(write(calibrated(target=target), target=target)).precision == computes


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_openvino_runs_the_file(target, calibrated, write, images_and_labels):
    network = calibrated(target=target)
    infer = load(write(network, target=target), "openvino")
    images = images_and_labels[0][:1000]
    with torch.no_grad():
        expected = network(images).argmax(1).numpy()
    assert (infer(images.numpy()).argmax(1) == expected).mean() >= 0.99


def test_tensorrt_gets_symmetric_int8_and_additions_that_it_can_fuse(calibrated, write):
    graph = onnx.load(write(calibrated(target="tensorrt"), target="tensorrt")).graph
    made_by = {output: node for node in graph.node for output in node.output}
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    values |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
    quantising = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zero_points = [values[node.input[2]] for node in quantising]
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zero_points)
    for node in graph.node:
        if node.op_type == "Conv":
            assert [made_by[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert values[node.input[2]].dtype == np.float32
    additions = [node for node in graph.node if node.op_type == "Add"]
    assert len(additions) == 9
    assert all({made_by[name].op_type for name in node.input} == {"Conv", "DequantizeLinear"} for node in additions)


@pytest.mark.gpu
def test_tensorrt_builds_an_engine(calibrated, write):
    tensorrt = pytest.importorskip("tensorrt")
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    file = write(calibrated(target="tensorrt"), target="tensorrt")
    assert parser.parse(file.read_bytes()), parser.get_error(0)
    profile, config = builder.create_optimization_profile(), builder.create_builder_config()
    profile.set_shape("images", (1, 1, 28, 28), (32, 1, 28, 28), (128, 1, 28, 28))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config)


def test_pixels_in_the_file_give_the_same_classes(calibrated, write, images_and_labels):
    info = {"mean": [0.2860], "std": [0.3530], "classes": ["a", "b"], "accuracy": 0.5, "kind": "ptq"}
    plain, pixels = write(calibrated(), "plain", **info), write(calibrated(), "pixels", uint8_input=True, **info)
    assert onnx.load(pixels).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    images = images_and_labels[0][:500].numpy()
    a, b = (onnx_benchmark.predictor(load(p), onnx_file.read_info(p))(images) for p in (plain, pixels))
    np.testing.assert_allclose(a, b, atol=0.2)
    assert (a.argmax(1) == b.argmax(1)).mean() >= 0.995
    read = onnx_file.read_info(pixels)
    assert read.classes == ["a", "b"] and read.accuracy == 0.5 and read.uint8_input
