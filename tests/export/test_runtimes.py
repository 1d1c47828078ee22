"""What ONNX Runtime, OpenVINO and TensorRT make of the file."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper


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
    from sg_resnets.export import benchmark as onnx_benchmark
    from sg_resnets.export import onnx as onnx_file

    path = tmp_path / "net.onnx"
    onnx_file.write(calibrated(), path, (1, 28, 28), onnx_file.FileInfo(kind="ptq", reduce_range=reduced))
    monkeypatch.setattr(onnx_benchmark, "has_int8_kernels", lambda: not overflows)
    options = onnx_benchmark.session(path).get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == exact


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_openvino_runs_the_file(target, calibrated, write, images_and_labels):
    openvino = pytest.importorskip("openvino")
    network = calibrated(target=target)
    compiled = openvino.Core().compile_model(write(network, target=target), "CPU")
    images = images_and_labels[0][:1000]
    with torch.no_grad():
        expected = network(images).argmax(1).numpy()
    assert (compiled(images.numpy())[0].argmax(1) == expected).mean() >= 0.99


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
