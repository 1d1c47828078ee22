"""The INT8 file: integer kernels, its biases, and the network that it leaves as it was."""

import copy

import numpy as np
import pytest
import torch

from sg_resnets.export import benchmark as onnx_benchmark
from sg_resnets.export import onnx as onnx_file
from sg_resnets.export.runtimes import load
from sg_resnets.quantization import graph
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.params import QuantizationParams
from support import network_of, optimised


def test_writing_a_file_leaves_the_network_as_it_was(trained, write):
    network = copy.deepcopy(trained).train()
    network.bn1.eval()  # as for frozen statistics
    write(network)
    assert network.training and network.layer1.training and not network.bn1.training


@pytest.mark.parametrize("name, convolutions, additions", [("resnet18_v1b", 20, 8), ("resnet50_v1b", 53, 16)])
def test_imagenet_resnets_are_all_integer_kernels(name, convolutions, additions, write, tmp_path):
    from super_gradients.training import models

    network = models.get(name, num_classes=1000).eval()
    params = QuantizationParams(calibrator_i="max")
    quantised = graph.insert_quantizers(network, params)
    calibrate(quantised, [torch.randn(2, 3, 64, 64)], params)
    path = write(quantised, shape=(3, 64, 64))
    found = optimised(path, tmp_path)
    assert found["QLinearConv"] == convolutions and found["QLinearAdd"] == additions
    assert not {"Conv", "FusedConv", "Add", "Relu"} & set(found)
    assert path.stat().st_size < 0.27 * sum(4 * p.numel() for p in network.parameters())


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_dead_channel_and_a_dead_input_keep_their_biases(per_channel, train_batches, write):
    """Their steps are so small that the bias, counted in them, would not fit into 32 bits."""
    network = network_of({}, train_batches)
    with torch.no_grad():
        network.layer1[0].conv1.weight[2] = 1e-12
        network.layer1[0].bn1.bias[2] = 0.7
        network.layer2[0].bn1.weight.zero_()
        network.layer2[0].bn1.bias.fill_(-1.0)  # after the ReLU nothing is left, and layer2.0.conv2 sees zeros
        network.layer2[0].bn2.bias.fill_(0.3)
    params = QuantizationParams(per_channel=per_channel)
    quantised = graph.insert_quantizers(network, params)
    calibrate(quantised, train_batches[:4], params)
    path, images = write(quantised), train_batches[5][0]
    with torch.no_grad():
        expected = quantised(images).numpy()
    found = onnx_benchmark.predictor(load(path), onnx_file.read_info(path))(images.numpy())
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
