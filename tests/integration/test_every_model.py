"""All that is done with a model: a training step, ONNX, another head, other channels, a copy, a file."""

import copy
import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sg_resnets.models import ResNet
from sg_resnets.models.zoo import ZOO
from support import named


@pytest.mark.parametrize("name", named(ZOO))
def test_a_model_trains_exports_adapts_copies_and_reloads(name, tmp_path):
    import onnxruntime

    row = ZOO[name]
    network = ResNet(row.config)
    images = torch.randn(4, 3, *(2 * [64 if row.input_size == 224 else 16]))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # a mean of 0, a variance of 1, and small branches: 600 blocks do not overflow
            nn.init.constant_(module.weight, 1 if row.config.shortcut == "none" else 0.3)

    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    loss = nn.functional.cross_entropy(network.train()(images), torch.arange(4))
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in network.parameters())
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)  # plain110 starts with a gradient of 4e7
    optimiser.step()
    with torch.no_grad():
        expected = network.eval()(images)
    assert expected.isfinite().all()

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter is deprecated; it is the fast one
        torch.onnx.export(network, (images,), file, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (exported,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    scale = max(1.0, expected.abs().max().item())
    assert np.abs(exported - expected.numpy()).max() < 1e-4 * scale

    ema = copy.deepcopy(network)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    fresh = ResNet(row.config)
    fresh.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True), strict=True)
    network.replace_head(new_num_classes=7)
    network.replace_input_channels(1)
    with torch.no_grad():
        assert torch.equal(ema(images), expected) and torch.equal(fresh.eval()(images), expected)
        assert network.eval()(images[:, :1]).shape == (4, 7)
