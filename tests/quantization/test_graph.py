"""Folding, and where the quantisers stand in the graph."""

import copy
from collections import Counter

import pytest
import torch

from sg_resnets.quantization import graph
from sg_resnets.quantization.calibrate import calibrate
from sg_resnets.quantization.params import QuantizationParams
from sg_resnets.utils.errors import SgResnetsError


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
