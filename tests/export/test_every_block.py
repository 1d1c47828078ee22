"""Every block is folded, quantised and exported, and computes the same in the file."""

import numpy as np
import pytest
import torch

from sg_resnets.export import benchmark as onnx_benchmark
from sg_resnets.export import onnx as onnx_file
from sg_resnets.export.runtimes import load
from sg_resnets.quantization import graph
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.params import QuantizationParams
from support import KINDS, network_of, optimised


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_is_folded_quantised_and_exported(kind, train_batches, write, tmp_path):
    network = network_of(KINDS[kind], train_batches)
    for block in network.blocks():  # branches that start at zero, as if they had learnt something
        if hasattr(block.scale, "factor"):
            torch.nn.init.constant_(block.scale.factor, 0.5)
        if kind == "fixup":
            for layer in block.branch_layers(torch.nn.Conv2d):
                torch.nn.init.normal_(layer.weight, std=0.1)
                torch.nn.init.constant_(layer.bias_in, 0.1)
    if kind == "fixup":
        torch.nn.init.normal_(network.fc.weight)
    params = QuantizationParams(calibrator_i="max")
    images = train_batches[1][0]
    with torch.no_grad():
        exact = network(images)
        torch.testing.assert_close(graph.fold(network)(images), exact, rtol=1e-3, atol=1e-4)
        quantised = graph.insert_quantizers(network, params)
        calibrate(quantised, train_batches[:4], params)
        rounded = quantised(images)
    assert 0 < (rounded - exact).square().mean() < 0.02 * exact.square().mean()  # over 17 dB
    path = write(quantised)
    logits = onnx_benchmark.predictor(load(path), onnx_file.read_info(path))(images.numpy())
    step = (rounded - exact).abs().max()  # what quantising costs; two ways to compute it differ by far less
    assert np.abs(logits - rounded.numpy()).max() < step
    found = optimised(path, tmp_path)
    used = [node.target for node in quantised.graph.nodes if node.op == "call_module"]  # CBAM's twice
    convolutions = sum(isinstance(quantised.get_submodule(path), torch.nn.Conv2d) for path in used)
    assert convolutions >= sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    assert found["QLinearConv"] == convolutions
    gates = {"se": 6, "cbam": 3 * 5, "eca": 3 * 4, "full_preact": 3}  # what is left in float32, at least
    assert len(quantised.in_float) >= gates.get(kind, 0)
