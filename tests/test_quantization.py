"""INT8: folding, quantisers and calibrators against their definitions, what ONNX Runtime and OpenVINO make of the
files, and whole runs through the host's entry point."""

import copy
import json
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from omegaconf import OmegaConf
from onnx import numpy_helper

from sg_resnets.utils.errors import SgResnetsError

RECIPE = "qat_fashion_mnist_mini_resnet20"
SMALL = {"in_channels": 1, "num_classes": 10, "depth": 8, "widths": [8, 16, 32]}


@pytest.fixture(scope="module")
def quantization(host):
    """The package's modules by name."""
    from types import SimpleNamespace

    from sg_resnets.export import benchmark as onnx_benchmark
    from sg_resnets.export import int8_report as report
    from sg_resnets.export import onnx as onnx_file
    from sg_resnets.quantization import calibrate, calibrators, fake_quantize, graph, params

    return SimpleNamespace(
        calibrate=calibrate.calibrate,
        Params=params.QuantizationParams,
        benchmark=onnx_benchmark,
        calibrators=calibrators,
        fake=fake_quantize,
        files=onnx_file,
        graph=graph,
        report=report,
    )


@pytest.fixture(scope="module")
def test_images(host):
    """All test images of the embedded subset, normalised, and their labels."""
    from sg_resnets.data import in_memory

    return in_memory("fashion_mnist_mini", train=False).__getitems__(range(2000))


@pytest.fixture(scope="module")
def train_batches(host):
    """16 batches of 64 training images, as they are evaluated."""
    from sg_resnets.data import in_memory

    images, labels = in_memory("fashion_mnist_mini", train=True).__getitems__(range(0, 12000, 11))
    return list(zip(images.split(64), labels.split(64), strict=True))[:16]


@pytest.fixture(scope="module")
def trained(host):
    """The shipped ResNet-20."""
    from super_gradients.training import models

    return models.get("resnet20_cifar", num_classes=10, pretrained_weights="fashion_mnist").eval()


@pytest.fixture(scope="module")
def calibrated(quantization, trained, train_batches):
    """calibrated(**params) -> the shipped ResNet-20 after calibration; each is made once."""
    made = {}

    def make(**given):
        key = str(sorted(given.items()))
        if key not in made:
            params = quantization.Params(**given)
            network = quantization.graph.insert_quantizers(trained, params)
            quantization.calibrate(network, train_batches, params)
            made[key] = network
        return made[key]

    return make


@pytest.fixture
def write(quantization, tmp_path):
    """write(network, name, target) -> the ONNX file of a network that takes (N, 1, 28, 28)."""

    def make(network, name="int8", target="onnxruntime", shape=(1, 28, 28), **info):
        path = tmp_path / f"{name}.onnx"
        integer_bias = quantization.Params(target=target).runtime.integer_bias
        quantization.files.write(network, path, shape, quantization.files.FileInfo(**info), integer_bias)
        return path

    return make


def optimised(path, tmp_path):
    """How often each op stands in the graph that ONNX Runtime makes of the file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)


def network_of(arch_params, batches):
    """A zoo's network of 8 layers with statistics that fit the data; otherwise untrained."""
    from super_gradients.training import models

    torch.manual_seed(0)
    network = models.get("custom_resnet", arch_params={**SMALL, **arch_params})
    with torch.no_grad():
        for _ in range(2):
            network.train()(batches[0][0])
    return network.eval()


# Folding


def test_folding_changes_no_output_and_leaves_no_batch_norm(quantization, trained, test_images):
    folded = quantization.graph.fold(trained)
    with torch.no_grad():
        torch.testing.assert_close(folded(test_images[0][:100]), trained(test_images[0][:100]), rtol=1e-4, atol=1e-5)
    kinds = Counter(type(module).__name__ for module in folded.modules())
    assert kinds["BatchNorm2d"] == 0 and kinds["Conv2d"] == 19 and trained.bn1.num_batches_tracked > 0


KINDS = {
    "bottleneck": {"block": "bottleneck", "depth": 11},
    "full_preact": {"order": "full_preact"},
    "bn_after_addition": {"order": "bn_after_addition"},
    "plain": {"shortcut": "none"},
    "C": {"shortcut": "C"},
    "D": {"shortcut": "D"},
    "gate": {"addition": "exclusive_gate"},
    "scaled": {"addition": "scaled"},
    "se": {"attention": "se"},
    "eca": {"attention": "eca"},
    "cbam": {"attention": "cbam"},
    "rezero": {"scaling": "rezero"},
    "layerscale": {"scaling": "layerscale"},
    "skipinit": {"scaling": "skipinit", "norm": "none"},
    "fixup": {"scaling": "fixup", "norm": "none"},
    "silu": {"activation": "silu"},
    "blur": {"subsample": "blur"},
    "deep": {"stem": "deep", "depth": None, "depths": [1, 1, 1]},
    "imagenet": {"stem": "imagenet", "depth": None, "depths": [1, 1, 1]},
    "rs": {"stem": "rs", "depth": None, "depths": [1, 1, 1]},
    "groups": {"block": "bottleneck", "depth": 11, "groups": 2},
    "sk_basic": {"block": "sk_basic"},
    "sk_bottleneck": {"block": "sk_bottleneck", "depth": 11},
    "res2net": {"block": "res2net", "depth": 11, "splits": 2, "width_per_group": 32},
    "resnest": {"block": "resnest", "depth": 11, "splits": 2},
    "drop_path": {"drop_path": 0.5, "dropout": 0.3, "head_dropout": 0.3},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_is_folded_quantised_and_exported(kind, quantization, train_batches, write, tmp_path):
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
    params = quantization.Params(calibrator_i="max")
    images = train_batches[1][0]
    with torch.no_grad():
        exact = network(images)
        torch.testing.assert_close(quantization.graph.fold(network)(images), exact, rtol=1e-3, atol=1e-4)
        quantised = quantization.graph.insert_quantizers(network, params)
        quantization.calibrate(quantised, train_batches[:4], params)
        rounded = quantised(images)
    assert 0 < (rounded - exact).square().mean() < 0.02 * exact.square().mean()  # over 17 dB
    path = write(quantised)
    logits = quantization.benchmark.predictor(path, quantization.files.read_info(path))(images.numpy())
    step = (rounded - exact).abs().max()  # what quantising costs; two ways to compute it differ by far less
    assert np.abs(logits - rounded.numpy()).max() < step
    found = optimised(path, tmp_path)
    used = [node.target for node in quantised.graph.nodes if node.op == "call_module"]  # CBAM's twice
    convolutions = sum(isinstance(quantised.get_submodule(path), torch.nn.Conv2d) for path in used)
    assert convolutions >= sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    assert found["QLinearConv"] == convolutions
    gates = {"se": 6, "cbam": 3 * 5, "eca": 3 * 4, "full_preact": 3}  # what is left in float32, at least
    assert len(quantised.in_float) >= gates.get(kind, 0)


def test_a_network_that_cannot_be_traced_is_refused_in_a_line(quantization):
    class Deciding(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(SgResnetsError, match="Deciding cannot be quantised: its forward decides by the values"):
        quantization.graph.fold(Deciding())


# Quantisers


@pytest.mark.parametrize("low, high, zero", [(0, 255, 0), (0, 255, 128), (-128, 127, 0)])
def test_a_quantizer_rounds_as_jacob_et_al_2018_equation_1_and_passes_gradients_in_range(quantization, low, high, zero):
    quantizer = quantization.fake.Quantizer(low, high, zero)
    quantizer.amax.fill_(2.0)
    x = (1.5 * torch.randn(1000)).requires_grad_()  # no value is half a step
    y = quantizer(x)
    scale = 2.0 / (high - zero)
    integers = np.clip(np.rint(x.detach().double().numpy() / scale) + zero, low, high)
    np.testing.assert_allclose(y.detach().numpy(), (integers - zero) * scale, atol=1e-6)
    y.sum().backward()
    inside = (x > (low - zero) * scale) & (x < (high - zero) * scale)
    assert torch.equal(x.grad[inside], torch.ones(int(inside.sum()))) and not x.grad[x.abs() > 2.5].any()


def test_weights_have_a_range_for_each_channel(quantization):
    layer = torch.nn.Conv2d(2, 3, 1, bias=False)
    layer.weight.data = torch.tensor([[0.5, -1.0], [10.0, 3.3], [0.01, 0.003]]).view(3, 2, 1, 1)
    quantization.fake.quantize_weights(layer, quantization.Params())
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
def test_what_is_never_negative_has_all_256_steps(arch, quantization):
    """Sums, means and concatenations of what relu gives, too; and what can be negative has a zero in the middle."""
    from sg_resnets.models import ResNet
    from sg_resnets.models.zoo import ZOO

    network, images = ResNet(ZOO["resnet20_cifar"].config.override(depths=(1, 1, 1), **arch)), torch.randn(8, 3, 32, 32)
    network.train()(images)
    params = quantization.Params(calibrator_i="max")
    quantised = quantization.graph.insert_quantizers(network.eval(), params)
    least = {}
    activations = {name: q for name, q in quantization.fake.quantizers(quantised).items() if q.low == 0}
    for name, quantizer in activations.items():
        quantizer.register_forward_hook(lambda module, x, y, name=name: least.update({name: x[0].min().item()}))
    quantization.calibrate(quantised, [(images,)], params)
    assert {name: q.zero_point for name, q in activations.items()} == {n: 128 if x < 0 else 0 for n, x in least.items()}


def test_a_learnt_range_has_the_gradient_of_lsq(quantization):
    """Esser et al. 2020, equation 3: d y / d s = round(x / s) - x / s in range, the clipped integer outside; section
    2.2: times 1 / sqrt(N levels). A step along it moves s = amax / levels as far as LSQ moves s."""
    quantizer = quantization.fake.Quantizer(-128, 127, 0, learn=True)
    for value, expected in ((0.034, 3 - 3.4), (0.0367, 4 - 3.67), (5.0, 127), (-5.0, -128)):
        for images, features in ((1, 1), (3, 16)):
            quantizer.amax.data.fill_(1.27)
            quantizer.zero_grad()
            quantizer(torch.full((images, features), value)).sum().backward()
            of_s = images * features * expected / (features * 127) ** 0.5
            assert quantizer.amax.grad.item() / 127 == pytest.approx(of_s, rel=1e-3)


def test_an_activations_range_is_learnt_where_the_loss_asks_for_it(quantization):
    """Without weight decay: a range that cuts the tail off grows, and one far too large shrinks."""
    x = torch.randn(64, 16, 7, 7).relu()
    quantizer = quantization.fake.Quantizer(0, 15, 0, learn=True)
    for start in (0.5, 30.0):
        quantizer.amax.data.fill_(start)
        optimiser = torch.optim.SGD(quantizer.parameters(), lr=0.1)
        for _ in range(200):
            loss = (quantizer(x) - x).square().sum(dim=(1, 2, 3)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert 1.5 < quantizer.amax.item() < 4.0


def test_quantizers_compute_in_float32_whatever_autocast_does(quantization, calibrated, test_images):
    network = copy.deepcopy(calibrated())
    seen = []
    for quantizer in quantization.fake.quantizers(network).values():
        quantizer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        network(test_images[0][:4])
    assert set(seen) == {torch.float32}


# Calibrators


def test_percentile_is_that_of_all_batches_and_memory_does_not_grow(quantization):
    calibrator = quantization.calibrators.HistogramCalibrator("percentile", 99.0, 127)
    batches = [torch.randn(10_000) * 2**i for i in range(12)]  # each reaches farther than all before
    for batch in batches:
        calibrator.collect(batch)
        assert len(calibrator.counts) <= 2 * quantization.calibrators.BINS
    every = torch.cat(batches).abs()
    assert calibrator.counts.sum() == len(every)
    assert calibrator.amax().item() == pytest.approx(np.percentile(every, 99.0), abs=2 * calibrator.width)


def test_mse_is_the_best_of_all_ranges(quantization):
    x = torch.randn(50_000)
    x[:5] = 40.0  # a few outliers: it pays to clip them, or not, as the squared error says
    calibrator = quantization.calibrators.HistogramCalibrator("mse", 99.99, 127)
    calibrator.collect(x)

    def error(amax):
        return float((torch.fake_quantize_per_tensor_affine(x, amax / 127, 0, -127, 127) - x).square().mean())

    best = min(error(float(amax)) for amax in torch.linspace(1, 40, 400))
    assert error(calibrator.amax().item()) <= 1.02 * best


def test_entropy_cuts_a_far_outlier_off_where_max_does_not(quantization):
    x = torch.cat([torch.randn(100_000), torch.tensor([100.0])])
    found = {}
    for method in ("entropy", "max"):
        calibrator = (
            quantization.calibrators.MaxCalibrator()
            if method == "max"
            else quantization.calibrators.HistogramCalibrator(method, 99.99, 127)
        )
        calibrator.collect(x[:-1])
        calibrator.collect(x[-1:])
        found[method] = calibrator.amax().item()
    assert found["max"] == 100.0 and 2.0 < found["entropy"] < 25.0


@pytest.mark.parametrize("values", [[3.0], [0.0, 2.8]], ids=["constant", "binary"])
def test_entropy_keeps_a_spike_at_the_largest_value(values, quantization):
    calibrator = quantization.calibrators.HistogramCalibrator("entropy", 99.99, 127)
    calibrator.collect(torch.tensor(values).repeat(1000))
    assert calibrator.amax() == pytest.approx(max(values), rel=0.01)


@pytest.mark.parametrize("method", ["max", "histogram"])
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_one_line(method, broken, quantization, trained, train_batches):
    network = quantization.graph.insert_quantizers(trained, params := quantization.Params(calibrator_i=method))
    with torch.no_grad():
        network.get_parameter("layer1.0.conv1.bias")[0] = broken
    with pytest.raises(SgResnetsError, match=r"saw NaN or infinity at .*: check that the float checkpoint"):
        quantization.calibrate(network, train_batches[:2], params)


def test_writing_a_file_leaves_the_network_as_it_was(trained, write):
    network = copy.deepcopy(trained).train()
    network.bn1.eval()  # as for frozen statistics
    write(network)
    assert network.training and network.layer1.training and not network.bn1.training


def test_a_module_may_be_called_by_keyword(quantization, train_batches):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = torch.nn.Conv2d(1, 4, 3, bias=False), torch.nn.BatchNorm2d(4)

        def forward(self, x):
            return self.bn(input=self.conv(input=x)).mean((2, 3))

    network = quantization.graph.insert_quantizers(Net(), params := quantization.Params())
    quantization.calibrate(network, train_batches[:1], params)
    assert network.conv.weight_quantizer.amax.shape == (4,) and not hasattr(network, "bn")


def test_a_tensor_of_zeros_stays_zero(quantization):
    network = network_of({}, [(torch.rand(8, 1, 28, 28),)])
    torch.nn.init.zeros_(network.layer1[0].conv1.weight)
    params = quantization.Params()
    quantised = quantization.graph.insert_quantizers(network, params)
    quantization.calibrate(quantised, [(torch.rand(8, 1, 28, 28),)], params)
    with torch.no_grad():
        assert quantised(torch.rand(2, 1, 28, 28)).isfinite().all()


def test_the_picture_of_the_ranges_shows_what_calibration_finds(quantization, trained, test_images):
    from sg_resnets.quantization.ranges import draw_ranges, ranges
    from sg_resnets.utils.hooks import outputs_of

    with torch.no_grad(), outputs_of(trained, ["layer1.0"]) as outputs:
        trained(test_images[0][:100])
    x = outputs["layer1.0"]
    assert x.shape == (100, 16, 28, 28) and not trained.layer1[0]._forward_hooks
    found = ranges(x)
    assert found["max"] == x.max() and found["percentile"] == pytest.approx(np.percentile(x, 99.99), rel=0.01)
    texts = [text.get_text() for axes in draw_ranges(x).axes for text in axes.get_legend().get_texts()]
    assert f"mse: {found['mse']:.2f}" in texts


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
def test_calibration_costs_at_most_half_a_point_and_half_a_minute(given, calibrated, test_images, trained):
    began = time.perf_counter()
    network = calibrated(**given)
    assert time.perf_counter() - began < 30
    images, labels = test_images
    with torch.no_grad():
        accuracy = [float((n(images).argmax(1) == labels).float().mean()) for n in (trained, network)]
    assert accuracy[0] > 0.93 and accuracy[1] > accuracy[0] - 0.005


# The file


def test_resnet20_is_all_integer_kernels_small_and_agrees(
    calibrated, trained, write, tmp_path, test_images, quantization
):
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
    images = test_images[0]
    predict = quantization.benchmark.predictor(small, quantization.files.read_info(small))
    with torch.no_grad():
        agreement = (predict(images.numpy()).argmax(1) == calibrated()(images).argmax(1).numpy()).mean()
    assert agreement >= 0.995


@pytest.mark.parametrize("name, convolutions, additions", [("resnet18_v1b", 20, 8), ("resnet50_v1b", 53, 16)])
def test_imagenet_resnets_are_all_integer_kernels(name, convolutions, additions, quantization, write, tmp_path):
    from super_gradients.training import models

    network = models.get(name, num_classes=1000).eval()
    params = quantization.Params(calibrator_i="max")
    quantised = quantization.graph.insert_quantizers(network, params)
    quantization.calibrate(quantised, [torch.randn(2, 3, 64, 64)], params)
    path = write(quantised, shape=(3, 64, 64))
    found = optimised(path, tmp_path)
    assert found["QLinearConv"] == convolutions and found["QLinearAdd"] == additions
    assert not {"Conv", "FusedConv", "Add", "Relu"} & set(found)
    assert path.stat().st_size < 0.27 * sum(4 * p.numel() for p in network.parameters())


def test_seven_bit_weights_need_no_slow_kernels(calibrated, write, test_images):
    """The largest sum of two products of uint8 and a 7-bit weight fits into 16 bits: any kernel gives the classes."""
    network = calibrated(reduce_range=True)
    path = write(network)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])  # as a user would
    images = test_images[0]
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
def test_openvino_runs_the_file(target, calibrated, write, test_images):
    openvino = pytest.importorskip("openvino")
    network = calibrated(target=target)
    compiled = openvino.Core().compile_model(write(network, target=target), "CPU")
    images = test_images[0][:1000]
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


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_dead_channel_and_a_dead_input_keep_their_biases(per_channel, quantization, train_batches, write):
    """Their steps are so small that the bias, counted in them, would not fit into 32 bits."""
    network = network_of({}, train_batches)
    with torch.no_grad():
        network.layer1[0].conv1.weight[2] = 1e-12
        network.layer1[0].bn1.bias[2] = 0.7
        network.layer2[0].bn1.weight.zero_()
        network.layer2[0].bn1.bias.fill_(-1.0)  # after the ReLU nothing is left, and layer2.0.conv2 sees zeros
        network.layer2[0].bn2.bias.fill_(0.3)
    params = quantization.Params(per_channel=per_channel)
    quantised = quantization.graph.insert_quantizers(network, params)
    quantization.calibrate(quantised, train_batches[:4], params)
    path, images = write(quantised), train_batches[5][0]
    with torch.no_grad():
        expected = quantised(images).numpy()
    found = quantization.benchmark.predictor(path, quantization.files.read_info(path))(images.numpy())
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_a_convolution_that_is_called_twice_is_not_folded_twice(quantization):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn1, self.bn2 = torch.nn.Conv2d(2, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
            self.bn1.running_var.fill_(4.0)

        def forward(self, x):
            return self.bn2(self.conv(self.bn1(self.conv(x))))

    network, images = Twice().eval(), torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(quantization.graph.fold(network)(images), network(images))


@pytest.mark.gpu
def test_quantisers_live_on_the_networks_device(quantization, trained, train_batches):
    params = quantization.Params()
    network = quantization.graph.insert_quantizers(copy.deepcopy(trained).cuda(), params)
    quantization.calibrate(network, train_batches, params)
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"cuda"}
    assert network(train_batches[0][0].cuda()).isfinite().all()


def test_quantisers_are_made_on_the_networks_device(quantization):
    from sg_resnets.models import ResNet
    from sg_resnets.models.zoo import ZOO

    network = ResNet(ZOO["resnet20_cifar"].config).to("meta")
    quantised = quantization.graph.insert_quantizers(network, quantization.Params())
    assert {tensor.device.type for tensor in [*quantised.parameters(), *quantised.buffers()]} == {"meta"}


def test_pixels_in_the_file_give_the_same_classes(calibrated, write, quantization, test_images):
    info = {"mean": [0.2860], "std": [0.3530], "classes": ["a", "b"], "accuracy": 0.5, "kind": "ptq"}
    plain, pixels = write(calibrated(), "plain", **info), write(calibrated(), "pixels", uint8_input=True, **info)
    assert onnx.load(pixels).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    images = test_images[0][:500].numpy()
    a, b = (quantization.benchmark.predictor(p, quantization.files.read_info(p))(images) for p in (plain, pixels))
    np.testing.assert_allclose(a, b, atol=0.2)
    assert (a.argmax(1) == b.argmax(1)).mean() >= 0.995
    read = quantization.files.read_info(pixels)
    assert read.classes == ["a", "b"] and read.accuracy == 0.5 and read.uint8_input


# Whole runs


@pytest.fixture(scope="module")
def float_run(host, tmp_path_factory):
    """The folder of a small float network's run."""
    from super_gradients import Trainer, init_trainer
    from super_gradients.common.environment.cfg_utils import load_recipe

    from conftest import TINY

    init_trainer()
    root = tmp_path_factory.mktemp("float")
    torch.set_num_threads(1)
    Trainer.train_from_config(load_recipe("fashion_mnist_mini_resnet20", overrides=[*TINY, f"ckpt_root_dir={root}"]))
    return next(root.glob("*/RUN_*"))


@pytest.fixture
def quantise(compose, host, float_run, tmp_path):
    """quantise(overrides...) -> (result, run folder): the small net through the host's `quantize_from_config`."""

    def run(*overrides, tiny=True):
        given = [f"ckpt_root_dir={tmp_path}", f"checkpoint_params.checkpoint_path={float_run}"]
        cfg = compose(*given, "quantization_params.sensitivity_images=16", *overrides, recipe=RECIPE, tiny=tiny)
        result = host.Trainer.quantize_from_config(cfg)
        return result, sorted(Path(cfg.ckpt_root_dir, cfg.experiment_name).glob("RUN_*"))[-1]

    return run


@pytest.fixture(autouse=True)
def _short_timings(host, monkeypatch):
    from sg_resnets.export import benchmark as onnx_benchmark

    monkeypatch.setattr(onnx_benchmark, "ROUND_SECONDS", 0.0)


def test_a_run_calibrates_fine_tunes_exports_and_reports(quantise, capfd, sg_resnets_command):
    result, run = quantise()
    printed = capfd.readouterr().out
    assert {"fp32.onnx", "ptq.onnx", "qat.onnx", "report.png", "ckpt_best.pth", "ckpt_latest.pth", "curves.png"} <= {
        path.name for path in run.iterdir()
    }
    assert result.output_onnx_path == str(run / "qat.onnx") and 0 <= result.valid_metrics_dict["Accuracy"] <= 1
    report = json.loads((run / "report.json").read_text())
    assert [file["kind"] for file in report["files"]] == ["fp32", "ptq", "qat"]
    for file in report["files"]:
        assert file["agreement"] >= 0.9 and file["bytes"] == (run / file["name"]).stat().st_size
        assert set(file["milliseconds"]) == {"1", "32"} and str(round(file["accuracy"], 4)) in printed
    layers = [one["layer"] for one in report["sensitivity"]]
    assert sorted(layers) == sorted(set(layers)) and {"conv1", "layer2.0.conv2", "fc"} <= set(layers)
    assert "times as fast" in printed and layers[0] in printed and "left in float32: 0" in printed
    weights = torch.load(run / "ckpt_latest.pth")["net"]
    assert "conv1.weight_quantizer.amax" in weights
    done = sg_resnets_command("evaluate", run, cwd=run)
    assert done.returncode == 0 and "resnet20_cifar, quantised" in done.stdout, done.stderr
    best = max(float(line.split(",")[4]) for line in (run / "curves.csv").read_text().splitlines()[1:])
    assert f"{best:.4f}" in done.stdout


def test_ptq_only_stops_after_calibration_and_its_checkpoint_is_whole(quantise, sg_resnets_command, tmp_path):
    result, run = quantise("quantization_params.ptq_only=True", f"export_params.output_onnx_path={tmp_path / 'a.onnx'}")
    assert {path.name for path in run.iterdir()} == {
        "fp32.onnx",
        "ptq.onnx",
        "report.json",
        "report.png",
        "ckpt_best.pth",
    }
    assert (tmp_path / "a.onnx").read_bytes() == (run / "ptq.onnx").read_bytes()
    assert result.output_onnx_path == str(tmp_path / "a.onnx")
    state = torch.load(run / "ckpt_best.pth", weights_only=True)
    assert state["recipe"]["quantization_params"]["ptq_only"] and "layer1.0.conv1.weight_quantizer.amax" in state["net"]
    for path, own in ((run, "ptq"), (run / "ckpt_best.pth", "ptq")):
        done = sg_resnets_command("export", path, tmp_path / f"{own}.onnx", "--format", "int8", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        exported, mine = (onnx.load(p).graph for p in (tmp_path / f"{own}.onnx", run / "ptq.onnx"))
        assert exported.initializer == mine.initializer and exported.node == mine.node


def test_a_checkpoint_keeps_the_watched_metric_and_the_recipe_as_it_was_given(quantise):
    metrics = "training_hyperparams.valid_metrics_list=[Top5,Accuracy]"
    _, run = quantise("quantization_params.ptq_only=True", metrics, "distillation=kd")
    state = torch.load(run / "ckpt_best.pth", weights_only=True)
    report = json.loads((run / "report.json").read_text())
    assert state["acc"] == pytest.approx(report["files"][1]["accuracy_in_pytorch"], abs=1e-6)
    assert "calib_dataset_params" not in state["recipe"]["dataset_params"]  # it is derived anew when the run goes on
    assert state["recipe"]["training_hyperparams"]["loss"] == "CrossEntropyLoss"


def test_the_trainers_network_and_plain_recipes_are_taken_as_by_the_host(host, compose, float_run, tmp_path):
    from super_gradients import Trainer
    from super_gradients.training import models

    cfg = compose(
        f"ckpt_root_dir={tmp_path}", f"checkpoint_params.checkpoint_path={float_run}",
        "quantization_params.ptq_only=True", "quantization_params.sensitivity_images=0", recipe=RECIPE,
    )  # fmt: skip
    assert Trainer.quantize_from_config(OmegaConf.to_container(cfg)).output_onnx_path.endswith("ptq.onnx")
    trainer = Trainer("none", ckpt_root_dir=str(tmp_path))
    with pytest.raises(SgResnetsError, match="there is no network to quantise: give model="):
        trainer.ptq(model=None, valid_loader=[])
    with pytest.raises(SgResnetsError, match="give training_params, as for"):
        trainer.qat(model=torch.nn.Conv2d(1, 1, 1), train_loader=[], valid_loader=[])
    quantised = next(tmp_path.glob("qat_*/RUN_*/ckpt_best.pth"))
    with pytest.raises(ValueError, match="holds a quantised network: give the float one"):
        models.get("resnet20_cifar", arch_params=SMALL, num_classes=10, checkpoint_path=str(quantised))


def test_a_float_run_is_exported_and_the_files_are_compared(float_run, sg_resnets_command, tmp_path):
    done = sg_resnets_command("export", float_run, "--format", "int8", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "resnet20_cifar_int8.onnx").is_file(), done.stderr
    for name, *options in (("float.onnx",), ("int8.onnx", "--format", "int8"), ("pixels.onnx", "--uint8-input")):
        done = sg_resnets_command("export", float_run, name, *options, cwd=tmp_path)
        assert done.returncode == 0 and "SHA-256" in done.stdout, done.stderr
    assert (tmp_path / "resnet20_cifar_int8.onnx").read_bytes() == (tmp_path / "int8.onnx").read_bytes()
    done = sg_resnets_command("benchmark", "float.onnx", "int8.onnx", "pixels.onnx", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "benchmark.png").is_file(), done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if ".onnx" in line}
    state = torch.load(float_run / "ckpt_best.pth")
    assert rows["float.onnx"][1] == rows["pixels.onnx"][1] == f"{float(state['acc']):.4f}"
    large, small = (
        sum(len(stored.SerializeToString()) for stored in onnx.load(tmp_path / name).graph.initializer)
        for name in ("float.onnx", "int8.onnx")
    )
    assert small < large / 2 and rows["int8.onnx"][4]  # of so small a network's file half are names
    from sg_resnets.export.onnx import read_info

    info = read_info(tmp_path / "float.onnx")
    assert len(info.classes) == 10 and info.recipe["architecture"] == "resnet20_cifar" and info.mean == [0.286]


def test_export_takes_quantization_params(float_run, sg_resnets_command, tmp_path):
    done = sg_resnets_command(
        "export", float_run, "o.onnx", "--format", "int8", "--quantization", "target=openvino",
        "--quantization", "reduce_range=True", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    from sg_resnets.export.onnx import read_info

    assert read_info(tmp_path / "o.onnx").reduce_range
    for args, words in (
        (["--format", "int8", "--quantization", "target=openvin"], "unknown target 'openvin': did you mean openvino"),
        (["--format", "onnx", "--quantization", "target=openvino"], "--quantization is for INT8 files"),
    ):
        done = sg_resnets_command("export", float_run, "p.onnx", *args, cwd=tmp_path)
        assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_images_of_a_folder_are_calibrated_as_they_are_evaluated(compose, tmp_path, host):
    """Training images, but not cropped and mirrored at random."""
    from sg_resnets.data.image_folder import noise_folder
    from sg_resnets.runs.build import add_calibration_data, loader_of

    root = noise_folder(3)
    recipe = compose(
        "arch_params.num_classes=3", f"dataset_params.train_dataset_params.root={root}",
        "dataset_params.train_dataset_params.size=32", recipe="qat_image_folder", tiny=False,
    )  # fmt: skip
    add_calibration_data(recipe)
    calibrated_on, evaluated = (loader_of(recipe, split).dataset for split in ("calib", "val"))
    assert str(calibrated_on.root).endswith("train") and repr(calibrated_on.transform) == repr(evaluated.transform)
    assert torch.equal(calibrated_on[0][0], calibrated_on[0][0])


def test_a_killed_fine_tuning_resumed_ends_as_one_that_was_not(quantise, compose, host, tmp_path):
    from sg_resnets.runs.resume import resume_run

    settings = ("epochs=2", "lr=0.01", "quantization_params.sensitivity_images=0", "ema=True")
    _, whole = quantise(*settings, "experiment_name=whole")
    expected = torch.load(whole / "ckpt_latest.pth")["ema_net"]
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Killed(Callback):
        already = False

        def on_train_batch_end(self, context):
            if context.epoch == 1 and not Killed.already:
                Killed.already = True
                raise RuntimeError("killed")

    CALLBACKS["Killed"] = Killed
    with pytest.raises(RuntimeError, match="killed"):
        quantise(*settings, "experiment_name=cut", "training_hyperparams.phase_callbacks=[Killed,TrainingCurves]")
    (cut,) = (tmp_path / "cut").glob("RUN_*")
    assert torch.load(cut / "ckpt_latest.pth")["epoch"] == 1
    resume_run(cut, [])
    found = torch.load(cut / "ckpt_latest.pth")
    assert found["epoch"] == 2 and (cut / "qat.onnx").is_file()
    assert all(torch.equal(expected[key], value) for key, value in found["ema_net"].items())


def test_learnt_ranges_move_and_skipped_modules_stay_float(quantise):
    result, run = quantise(
        "quantization_params.selective_quantizer_params.learn_amax=True",
        "quantization_params.selective_quantizer_params.skip_modules=[fc,layer1.*,layer3.0.addition]",
        "quantization_params.calib_params.verbose=True",
        "lr=0.1",
    )
    network = result.quantized_model
    quantised = {name.rpartition(".")[0] for name, _ in network.named_modules() if name.endswith("weight_quantizer")}
    assert quantised == {"conv1"} | {f"layer{i}.0.conv{j}" for i in (2, 3) for j in (1, 2)}
    assert {"fc: Linear", "layer1.0.conv1: Conv2d", "layer1.0.addition: add", "layer3.0.addition: add"} <= set(
        network.in_float
    )
    quantizer = network.conv1.weight_quantizer
    most = torch.load(run.parents[0] / run.name / "ckpt_latest.pth")["net"]["conv1.weight_quantizer.amax"]
    assert quantizer.amax.requires_grad and torch.equal(most, quantizer.amax.detach())
    graph = onnx.load(run / "ptq.onnx").graph
    before = next(numpy_helper.to_array(i) for i in graph.initializer if "conv1/Conv/weight_scale" in i.name) * 127
    assert not np.allclose(before, most.numpy(), rtol=1e-6)


def test_the_float_network_teaches_the_quantised_one(quantise, capfd):
    result, run = quantise("distillation=kd", "ema=True")
    assert json.loads((run / "teacher.json").read_text())["parameters"] > 0
    best = torch.load(run / "ckpt_best.pth")["net"]
    assert "conv1.weight_quantizer.amax" in best and not any(key.startswith("student.") for key in best)
    result.quantized_model.load_state_dict(best, strict=True)


def test_nothing_is_installed_while_it_runs(quantise, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"a process was started: {args}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    quantise("quantization_params.ptq_only=True")


@pytest.mark.parametrize(
    "overrides, words",
    [
        (
            ["checkpoint_params.checkpoint_path=null"],
            "starts from a trained network: set checkpoint_params.checkpoint_",
        ),
        (["architecture=resnet32_cifar", "++arch_params.depth=14"], "does not fit resnet32_cifar: .*trained as arch"),
        (["quantization_params.calib_params.num_calib_batches=0"], "num_calib_batches=0: must be an integer >= 1"),
        (["quantization_params.selective_quantizer_params.calibrator_w=histogram"], "or per_channel=False"),
        (
            ["quantization_params.selective_quantizer_params.calibrator_i=mean"],
            "unknown calibrator_i 'mean': valid: max",
        ),
        (
            ["quantization_params.selective_quantizer_params.skip_modules=[layer9]"],
            "'layer9' names no layer or addition: .*conv1",
        ),
        (["quantization_params.target=tpu"], "unknown target 'tpu': valid: onnxruntime, openvino, tensorrt"),
        (["quantization_params.calib_params.histogram_calib_method=median"], "valid: percentile, mse, entropy"),
        (["quantization_params.calib_params.percentile=0"], "percentile=0: must be a number > 0 and <= 100"),
        (["+quantization_params.bits=4"], "quantization_params has no 'bits': valid: ptq_only"),
        (["export_params.output_onnx_path=/no/where/x.onnx"], "there is no folder /no/where"),
        (["export_params.output_onnx_path=/tmp"], "/tmp is a folder: name the file"),
        (["quantization_params.selective_quantizer_params=max"], "selective_quantizer_params=max: must be keys"),
        (["quantization_params.selective_quantizer_params.skip_modules=[bn1]"], "'bn1' names no layer or addition"),
        (["training_hyperparams.finetune=True"], "finetune: leave it out"),
        (
            ["training_hyperparams.phase_callbacks=[GradientFlow]", "quantization_params.sensitivity_images=0"],
            "GradientFlow watches residual blocks of ours, and this network has none",
        ),
        (["quantization_params.selective_quantizer_params.skip_modules=5"], "skip_modules=5: must be a list"),
        (["quantization_params.selective_quantizer_params.skip_modules=[1]"], "must be a list of modules' paths"),
        (["quantization_params.selective_quantizer_params.skip_modules=['*']"], "nothing is left to quantise"),
        (["quantization_params.calib_params.percentile=True"], "percentile=True: must be a number > 0"),
        (["quantization_params.calib_params.num_calib_batches=16.0"], "num_calib_batches=16.0: must be an integer"),
        (["quantization_params.calib_params.num_calib_batches=inf"], "num_calib_batches=inf: must be an integer"),
        (["quantization_params.sensitivity_images=True"], "sensitivity_images=True: must be an integer >= 0"),
        (["multi_gpu=DDP"], "quantisation runs in one process"),
        (["distillation=at"], "compares features"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(quantise, overrides, words, tmp_path):
    with pytest.raises(SgResnetsError, match=words) as caught:
        quantise(*overrides)
    assert "\n" not in str(caught.value) and not list(tmp_path.rglob("*.onnx"))


def test_calibration_takes_training_images_as_they_are_evaluated(compose):
    from sg_resnets.runs.build import add_calibration_data

    cfg = compose(recipe=RECIPE)
    cfg.dataset_params.train_dataset_params.crop_padding = 4
    add_calibration_data(cfg)
    data = cfg.dataset_params
    assert data.calib_dataset_params == {"train": True, "max_samples": 256, "data_on": "device"}
    loading = data.calib_dataloader_params
    assert loading.batch_size == data.train_dataloader_params.batch_size and loading.shuffle is True


def test_no_calibration_data_is_one_line(quantization, trained):
    params = quantization.Params()
    with pytest.raises(SgResnetsError, match="no calibration data: the loader gave no batch"):
        quantization.calibrate(quantization.graph.insert_quantizers(trained, params), [], params)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["export", "RUN", "x.onnx", "--format", "tflite"], "--format tflite: valid: safetensors, onnx, int8"),
        (["export", "RUN", "x.tflite"], "the file's name must end in .safetensors or .onnx"),
        (["export", "RUN", "x.bin", "--format", "onnx"], "the file's name must end in .onnx"),
        (["export", "RUN", "no/where/x.onnx"], "there is no folder no/where"),
        (["benchmark", "text.onnx", "--output", "no/where.png"], "there is no folder no"),
        (["export", "RUN", "x.safetensors", "--uint8-input"], "--uint8-input is for ONNX files"),
        (["benchmark", "fixed.onnx"], "fixed.onnx takes one input of (1, 1, 28, 28)"),
        (["benchmark", "x.onnx"], "there is no x.onnx: give ONNX files"),
        (["benchmark", "text.onnx"], "text.onnx is damaged or no ONNX file"),
        (["benchmark", "report.json"], "report.json is damaged or no ONNX file"),
    ],
)
def test_bad_arguments_are_one_line(arguments, words, float_run, sg_resnets_command, tmp_path):
    (tmp_path / "text.onnx").write_text("no file of ours")
    (tmp_path / "report.json").write_text("{}")
    if "fixed.onnx" in arguments:  # another's file, whose batch is one image
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
        torch.onnx.export(network, (torch.zeros(1, 1, 28, 28),), tmp_path / "fixed.onnx", dynamo=False)
    done = sg_resnets_command(*[float_run if word == "RUN" else word for word in arguments], cwd=tmp_path)
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1
