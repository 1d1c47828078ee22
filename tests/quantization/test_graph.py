"""Folding, and where the quantisers stand in the graph."""

import copy
from collections import Counter

import pytest
import torch
from torch.nn.utils import prune

from sg_resnets.export.runtimes import load
from sg_resnets.models.scaling import Scale
from sg_resnets.quantization import graph
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.utils.errors import SgResnetsError

# PyTorch 2.6 cannot trace `torch.cat` of a sequence that is known at run time alone.
TRACES_ANY_SEQUENCE = not torch.__version__.startswith("2.6.")


def test_folding_changes_no_output_and_leaves_no_batch_norm(trained, images_and_labels):
    folded = graph.fold(trained)
    with torch.no_grad():
        torch.testing.assert_close(
            folded(images_and_labels[0][:100]), trained(images_and_labels[0][:100]), rtol=1e-4, atol=1e-5
        )
    kinds = Counter(type(module).__name__ for module in folded.modules())
    assert kinds["BatchNorm2d"] == 0 and kinds["Conv2d"] == 19 and trained.bn1.num_batches_tracked > 0


def test_a_network_that_cannot_be_traced_is_refused_in_a_line():
    class Deciding(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(SgResnetsError, match="Deciding cannot be quantised: its forward decides by the values"):
        graph.fold(Deciding())


def test_a_module_may_be_called_by_keyword(train_batches):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = torch.nn.Conv2d(1, 4, 3, bias=False), torch.nn.BatchNorm2d(4)

        def forward(self, x):
            return self.bn(input=self.conv(input=x)).mean((2, 3))

    network = graph.insert_quantizers(Net(), params := QuantizationParams())
    calibrate(network, train_batches[:1], params)
    assert network.conv.weight_quantizer.amax.shape == (4,) and not hasattr(network, "bn")


def test_a_convolution_that_is_called_twice_is_not_folded_twice():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn1, self.bn2 = torch.nn.Conv2d(2, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
            self.bn1.running_var.fill_(4.0)

        def forward(self, x):
            return self.bn2(self.conv(self.bn1(self.conv(x))))

    network, images = Twice().eval(), torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(graph.fold(network)(images), network(images))


@pytest.mark.gpu
def test_quantisers_live_on_the_networks_device(trained, train_batches):
    params = QuantizationParams()
    network = graph.insert_quantizers(copy.deepcopy(trained).cuda(), params)
    calibrate(network, train_batches, params)
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"cuda"}
    assert network(train_batches[0][0].cuda()).isfinite().all()


def test_quantisers_are_made_on_the_networks_device():
    from sg_resnets.models import ResNet
    from sg_resnets.models.zoo import ZOO

    network = ResNet(ZOO["resnet20_cifar"].config).to("meta")
    quantised = graph.insert_quantizers(network, QuantizationParams())
    assert {tensor.device.type for tensor in [*quantised.parameters(), *quantised.buffers()]} == {"meta"}


class Small(torch.nn.Module):
    """A convolution with batch-norm, what is put between, and another convolution."""

    def __init__(self, between=torch.relu, norm=torch.nn.BatchNorm2d):
        super().__init__()
        self.conv, self.bn, self.between = torch.nn.Conv2d(1, 4, 3, padding=1), norm(4), between
        self.next, self.fc = torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.Linear(4, 10)
        if getattr(self.bn, "running_var", None) is not None:
            self.bn.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.fc(self.next(self.between(self.bn(self.conv(x)))).mean((2, 3)))


IMAGES = torch.linspace(-2, 2, 8 * 64).view(8, 1, 8, 8)


@pytest.mark.parametrize(
    "between, zero_point",
    [
        (lambda y: torch.relu(y) + 0.5, 0),
        (lambda y: 0.5 + torch.relu(y), 0),
        (lambda y: torch.relu(y) + -0.5, 128),
        (lambda y: torch.add(torch.relu(y), torch.relu(-y), alpha=-1), 128),
        (lambda y: torch.relu(y).add(torch.relu(-y), alpha=-1), 128),
        (lambda y: torch.add(input=torch.relu(y), other=y), 128),
        (lambda y: torch.add(torch.relu(y), other=torch.relu(-y)), 0),
        (lambda y: torch.nn.functional.pad(torch.relu(y), (1, 1, 1, 1), value=-5.0), 128),
        (lambda y: torch.nn.functional.pad(torch.relu(y), (1, 1, 1, 1), "constant", -5.0), 128),
        (lambda y: torch.nn.functional.pad(torch.relu(y), (1, 1, 1, 1)), 0),
        (lambda y: torch.cat([torch.relu(y).chunk(2, 1)[::-1][0], torch.relu(y)[:, :2]], 1), 0),
        *([(lambda y: torch.cat(torch.relu(y).chunk(2, 1)[::-1], 1), 0)] if TRACES_ANY_SEQUENCE else []),
        (lambda y: torch.cat(tensors=[torch.relu(y)[:, :2], y[:, 2:]], dim=1), 128),
        (lambda y: torch.mean(input=torch.relu(y), dim=1, keepdim=True).expand(-1, 4, -1, -1), 128),  # not known
    ],
)
def test_a_range_is_without_negatives_only_where_that_is_known(between, zero_point):
    network = Small(between).eval()
    quantised = graph.insert_quantizers(network, params := QuantizationParams(calibrator_i="max"))
    calibrate(quantised, [IMAGES], params)
    (node,) = [node for node in quantised.graph.nodes if node.target == "next"]
    assert quantised.get_submodule(node.args[0].target).zero_point == zero_point
    torch.testing.assert_close(quantised(IMAGES), network(IMAGES), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("target, in_steps", [("openvino", ("uint8", "int8")), ("tensorrt", ("int8", "int8"))])
def test_where_additions_are_fused_pooling_reads_integers(target, in_steps):
    layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(4, 4, 1)]
    network = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    quantised = graph.insert_quantizers(network.eval(), params := QuantizationParams(calibrator_i="max", target=target))
    calibrate(quantised, [IMAGES], params)
    read_by = {str(node.target): node.args[0] for node in quantised.graph.nodes if node.op == "call_module"}
    before = [quantised.get_submodule(read_by[name].target) for name in ("2", "4")]
    assert tuple("int8" if quantizer.low < 0 else "uint8" for quantizer in before) == in_steps
    assert all(quantizer.zero_point == 0 for quantizer in before) and read_by["3"].args[0].target == "2"
    torch.testing.assert_close(quantised(IMAGES), network(IMAGES), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize(
    "between",
    [
        torch.nn.functional.silu,
        torch.nn.GELU(),
        torch.nn.GELU("tanh"),
        lambda y: torch.nn.functional.silu(y) + torch.relu(y),
    ],
)
def test_silu_and_gelu_use_all_steps(between, learn, write):
    network = Small(between).eval()
    torch.nn.init.constant_(network.bn.weight, 4.0)
    quantised = graph.insert_quantizers(network, params := QuantizationParams(calibrator_i="max", learn_amax=learn))
    calibrate(quantised, [IMAGES], params)
    (node,) = [node for node in quantised.graph.nodes if node.target == "next"]
    quantizer = quantised.get_submodule(node.args[0].target)
    with torch.no_grad():
        values = network.between(network.bn(network.conv(IMAGES)))
        rounded = quantizer(values)
        steps = (rounded / quantizer.scale()).round() + int(quantizer.zero())
        assert steps.min() <= 1 and steps.max() == 255
        torch.testing.assert_close(rounded, values, rtol=0, atol=0.51 * quantizer.scale().item())
        assert quantizer.scale() < 1.2 * (values.max() - values.min()) / 255
        expected = quantised(IMAGES)
    logits = load(write(quantised, shape=(1, 8, 8)))(IMAGES.numpy())
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0.02, atol=0.02)


def hooked(path):
    network = Small()
    network.get_submodule(path).register_forward_hook(lambda module, inputs, output: 2 * output)
    return network


def tied():
    network = Small(norm=lambda channels: Scale(torch.full((channels, 1, 1), 0.5)))
    network.conv = torch.nn.Conv2d(4, 4, 3, padding=1)
    network.conv.weight = network.next.weight
    return network


@pytest.mark.parametrize(
    "make",
    [
        lambda: hooked("conv"),
        lambda: hooked("bn"),
        lambda: Small(norm=lambda channels: torch.nn.BatchNorm2d(channels, affine=False)),
        lambda: Small(norm=lambda channels: torch.nn.BatchNorm2d(channels, track_running_stats=False)),
        tied,
    ],
)
def test_folding_leaves_what_it_cannot_merge(make):
    network = make().eval()
    images = IMAGES.expand(-1, network.conv.in_channels, -1, -1)
    torch.testing.assert_close(graph.fold(network)(images), network(images))


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize(
    "compute", [lambda conv: prune.l1_unstructured(conv, "weight", 0.5), torch.nn.utils.weight_norm]
)
def test_weights_that_are_computed_are_refused_in_a_line(compute):
    network = Small()
    compute(network.conv)
    with pytest.raises(SgResnetsError, match=r"^conv.weight is computed before each run, by pruning or weight norm"):
        graph.fold(network)


def test_fine_tuning_runs_without_dropout_of_any_kind():
    network = graph.insert_quantizers(Small(torch.nn.Dropout2d(0.5)).eval(), params := QuantizationParams())
    calibrate(network, [IMAGES], params)
    assert torch.equal(network.train()(IMAGES), network(IMAGES))
