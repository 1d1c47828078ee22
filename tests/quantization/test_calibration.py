"""Calibrators against their definitions, and tensors that they cannot be given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sg_resnets.models import ResNet
from sg_resnets.quantization import calibrators, graph
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.fake_quantize import quantizers
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.quantization.sensitivity import sensitivity
from sg_resnets.utils.errors import SgResnetsError
from support import SMALL, network_of


def test_percentile_is_that_of_all_batches_and_memory_does_not_grow():
    calibrator = calibrators.HistogramCalibrator("percentile", 99.0, 127)
    batches = [torch.randn(10_000) * 2**i for i in range(12)]  # each reaches farther than all before
    for batch in batches:
        calibrator.collect(batch)
        assert len(calibrator.counts) <= 2 * calibrators.BINS
    every = torch.cat(batches).abs()
    assert calibrator.counts.sum() == len(every)
    assert calibrator.amax().item() == pytest.approx(np.percentile(every, 99.0), abs=2 * calibrator.width)


def test_mse_is_the_best_of_all_ranges():
    x = torch.randn(50_000)
    x[:5] = 40.0  # a few outliers: it pays to clip them, or not, as the squared error says
    calibrator = calibrators.HistogramCalibrator("mse", 99.99, 127)
    calibrator.collect(x)

    def error(amax):
        return float((torch.fake_quantize_per_tensor_affine(x, amax / 127, 0, -127, 127) - x).square().mean())

    best = min(error(float(amax)) for amax in torch.linspace(1, 40, 400))
    assert error(calibrator.amax().item()) <= 1.02 * best


def test_entropy_cuts_a_far_outlier_off_where_max_does_not():
    x = torch.cat([torch.randn(100_000), torch.tensor([100.0])])
    found = {}
    for method in ("entropy", "max"):
        calibrator = (
            calibrators.MaxCalibrator() if method == "max" else calibrators.HistogramCalibrator(method, 99.99, 127)
        )
        calibrator.collect(x[:-1])
        calibrator.collect(x[-1:])
        found[method] = calibrator.amax().item()
    assert found["max"] == 100.0 and 2.0 < found["entropy"] < 25.0


@pytest.mark.parametrize("values", [[3.0], [0.0, 2.8]], ids=["constant", "binary"])
def test_entropy_keeps_a_spike_at_the_largest_value(values):
    calibrator = calibrators.HistogramCalibrator("entropy", 99.99, 127)
    calibrator.collect(torch.tensor(values).repeat(1000))
    assert calibrator.amax() == pytest.approx(max(values), rel=0.01)


@pytest.mark.parametrize("method", ["max", "histogram"])
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_one_line(method, broken, trained, train_batches):
    network = graph.insert_quantizers(trained, params := QuantizationParams(calibrator_i=method))
    with torch.no_grad():
        network.get_parameter("layer1.0.conv1.bias")[0] = broken
    with pytest.raises(SgResnetsError, match=r"saw NaN or infinity at .*: check that the float checkpoint"):
        calibrate(network, train_batches[:2], params)


def test_no_calibration_data_is_one_line(trained):
    params = QuantizationParams()
    with pytest.raises(SgResnetsError, match="no calibration data: the loader gave no batch"):
        calibrate(graph.insert_quantizers(trained, params), [], params)


def uncalibrated():
    return graph.insert_quantizers(ResNet(replace(SMALL, in_channels=1)).eval(), QuantizationParams())


IMAGES = torch.linspace(-1, 1, 8 * 64).view(8, 1, 8, 8)


def test_without_ranges_a_network_computes_in_float_and_is_not_written(write):
    network = uncalibrated()
    floating = network(IMAGES)
    graph.enable_quantizers(network, lambda name, quantizer: False)
    assert torch.equal(network(IMAGES), floating) and floating.isfinite().all()
    with pytest.raises(SgResnetsError, match="_quantizer has no finite range: calibrate the network before"):
        write(network)


@pytest.mark.parametrize("data", [[], [IMAGES, IMAGES / 0]], ids=["none", "infinity"])
def test_after_a_calibration_that_failed_the_ranges_are_those_of_before(data):
    network, params = uncalibrated(), QuantizationParams()
    calibrate(network, [IMAGES], params)
    before = network(IMAGES)
    with pytest.raises(SgResnetsError):
        calibrate(network, data, params)
    assert torch.equal(network(IMAGES), before)
    assert all(each.enabled and each.calibrator is None for each in quantizers(network).values())


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_what_is_not_float32_is_one_line(kind, write):
    network, words = uncalibrated().to(kind), f"is {str(kind)[6:]}, not float32: call network.float"
    with pytest.raises(SgResnetsError, match=words):
        calibrate(network, [IMAGES.to(kind)], QuantizationParams())
    with pytest.raises(SgResnetsError, match=words):
        write(ResNet(SMALL).to(kind))


def test_sensitivity_leaves_modes_and_quantisers_as_they_were():
    network = uncalibrated()
    calibrate(network, [IMAGES], QuantizationParams())
    network.train()
    network.fc.eval()
    with pytest.raises(RuntimeError):
        sensitivity(network, IMAGES[:, :, 0])
    assert len(sensitivity(network, IMAGES)) == 10 and network.training and not network.fc.training
    assert all(quantizer.enabled for quantizer in quantizers(network).values())


def test_a_tensor_of_zeros_stays_zero():
    network = network_of({}, [(torch.rand(8, 1, 28, 28),)])
    torch.nn.init.zeros_(network.layer1[0].conv1.weight)
    params = QuantizationParams()
    quantised = graph.insert_quantizers(network, params)
    calibrate(quantised, [(torch.rand(8, 1, 28, 28),)], params)
    with torch.no_grad():
        assert quantised(torch.rand(2, 1, 28, 28)).isfinite().all()


def test_the_picture_of_the_ranges_shows_what_calibration_finds(trained, images_and_labels):
    from sg_resnets.quantization.ranges import draw_ranges, ranges
    from sg_resnets.utils.hooks import outputs_of

    with torch.no_grad(), outputs_of(trained, ["layer1.0"]) as outputs:
        trained(images_and_labels[0][:100])
    x = outputs["layer1.0"]
    assert x.shape == (100, 16, 28, 28) and not trained.layer1[0]._forward_hooks
    found = ranges(x)
    assert found["max"] == x.max() and found["percentile"] == pytest.approx(np.percentile(x, 99.99), rel=0.01)
    texts = [text.get_text() for axes in draw_ranges(x).axes for text in axes.get_legend().get_texts()]
    assert f"mse: {found['mse']:.2f}" in texts
