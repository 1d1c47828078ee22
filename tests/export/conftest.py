"""Files to be looked at, and run."""

import pytest


@pytest.fixture
def write(tmp_path):
    """write(network, name, target) -> the ONNX file of a network that takes (N, 1, 28, 28)."""
    from sg_resnets.export import onnx as onnx_file
    from sg_resnets.quantization.params import QuantizationParams

    def make(network, name="int8", target="onnxruntime", shape=(1, 28, 28), **info):
        path = tmp_path / f"{name}.onnx"
        integer_bias = QuantizationParams(target=target).runtime.integer_bias
        onnx_file.write(network, path, shape, onnx_file.FileInfo(**info), integer_bias)
        return path

    return make
