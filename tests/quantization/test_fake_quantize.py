"""Quantisers: what they round to, which gradients they pass, and ranges that are learnt."""

import numpy as np
import pytest
import torch

from sg_resnets.quantization import fake_quantize, graph
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.params import QuantizationParams


@pytest.mark.parametrize("low, high, zero", [(0, 255, 0), (0, 255, 128), (-128, 127, 0)])
def test_a_quantizer_rounds_as_jacob_et_al_2018_equation_1_and_passes_gradients_in_range(low, high, zero):
    quantizer = fake_quantize.Quantizer(low, high, zero)
    quantizer.amax.fill_(2.0)
    x = (1.5 * torch.randn(1000)).requires_grad_()  # no value is half a step
    y = quantizer(x)
    scale = 2.0 / (high - zero)
    integers = np.clip(np.rint(x.detach().double().numpy() / scale) + zero, low, high)
    np.testing.assert_allclose(y.detach().numpy(), (integers - zero) * scale, atol=1e-6)
    y.sum().backward()
    inside = (x > (low - zero) * scale) & (x < (high - zero) * scale)
    assert torch.equal(x.grad[inside], torch.ones(int(inside.sum()))) and not x.grad[x.abs() > 2.5].any()


def test_weights_have_a_range_for_each_channel():
    layer = torch.nn.Conv2d(2, 3, 1, bias=False)
    layer.weight.data = torch.tensor([[0.5, -1.0], [10.0, 3.3], [0.01, 0.003]]).view(3, 2, 1, 1)
    fake_quantize.quantize_weights(layer, QuantizationParams())
    layer.weight_quantizer.amax.copy_(torch.tensor([1.0, 10.0, 0.01]))
    rounded = layer.weight_quantizer(layer.weight).flatten(1).detach().numpy()
    steps = np.array([[1.0], [10.0], [0.01]]) / 127
    np.testing.assert_allclose(rounded, np.rint(layer.weight.detach().flatten(1).numpy() / steps) * steps, rtol=1e-5)


@pytest.mark.parametrize(
    "arch",
    [
        {"order": "relu_before_addition"},
        {"block": "res2net", "splits": 4, "width_per_group": 16, "widths": (64, 128, 256)},
        {"block": "resnest", "splits": 2, "widths": (64, 64, 64)},
        {"block": "sk_basic"},
        {"order": "full_preact"},
        {"attention": "se", "activation": "gelu"},
    ],
    ids=lambda arch: next(iter(arch.values())),
)
def test_what_is_never_negative_has_all_256_steps(arch):
    """Sums, means and concatenations of what relu gives, too; and what can be negative has a zero in the middle."""
    from sg_resnets.models import ResNet
    from sg_resnets.models.zoo import ZOO

    network, images = ResNet(ZOO["resnet20_cifar"].config.override(depths=(1, 1, 1), **arch)), torch.randn(8, 3, 32, 32)
    network.train()(images)
    params = QuantizationParams(calibrator_i="max")
    quantised = graph.insert_quantizers(network.eval(), params)
    least = {}
    activations = {name: q for name, q in fake_quantize.quantizers(quantised).items() if q.low == 0}
    for name, quantizer in activations.items():
        quantizer.register_forward_hook(lambda module, x, y, name=name: least.update({name: x[0].min().item()}))
    calibrate(quantised, [(images,)], params)
    for name, quantizer in activations.items():
        if quantizer.least is None:
            assert quantizer.zero_point == (128 if least[name] < 0 else 0), name
        else:  # SiLU and GELU
            assert quantizer.least <= least[name] < 0 < int(quantizer.zero()) < 128, name


def test_a_learnt_range_has_the_gradient_of_lsq():
    """Esser et al. 2020, equation 3: d y / d s = round(x / s) - x / s in range, the clipped integer outside; section
    2.2: times 1 / sqrt(N levels). A step along it moves s = amax / levels as far as LSQ moves s."""
    quantizer = fake_quantize.Quantizer(-128, 127, 0, learn=True)
    for value, expected in ((0.034, 3 - 3.4), (0.0367, 4 - 3.67), (5.0, 127), (-5.0, -128)):
        for images, features in ((1, 1), (3, 16)):
            quantizer.amax.data.fill_(1.27)
            quantizer.zero_grad()
            quantizer(torch.full((images, features), value)).sum().backward()
            of_s = images * features * expected / (features * 127) ** 0.5
            assert quantizer.amax.grad.item() / 127 == pytest.approx(of_s, rel=1e-3)


def test_an_activations_range_is_learnt_where_the_loss_asks_for_it():
    """Without weight decay: a range that cuts the tail off grows, and one far too large shrinks."""
    x = torch.randn(64, 16, 7, 7).relu()
    quantizer = fake_quantize.Quantizer(0, 15, 0, learn=True)
    for start in (0.5, 30.0):
        quantizer.amax.data.fill_(start)
        optimiser = torch.optim.SGD(quantizer.parameters(), lr=0.1)
        for _ in range(200):
            loss = (quantizer(x) - x).square().sum(dim=(1, 2, 3)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert 1.5 < quantizer.amax.item() < 4.0
