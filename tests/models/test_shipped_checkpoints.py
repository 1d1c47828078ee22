"""The checkpoints that we ship: what their cards say, and their use for other classes and channels."""

import hashlib

import pytest
import torch

from sg_resnets.data import in_memory as data_of
from sg_resnets.models import pretrained as weights

SHIPPED = sorted(weights.pretrained_path().glob("*.safetensors"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_checkpoint_is_what_its_card_says(path, get):
    from sg_resnets.diagnostics.lesion import accuracy
    from sg_resnets.utils import safetensors as safetensors_file

    name, kind, _ = path.name.split(".")
    card = path.with_suffix(".md").read_text()
    state = safetensors_file.read(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card and f"{state['acc']:.4f}" in card
    assert f"seed {state['recipe']['training_hyperparams']['seed']}" in card and kind in weights.available(name)
    network = get(name, num_classes=10, pretrained_weights=kind).eval()
    assert torch.equal(network.fc.weight, state["net"]["fc.weight"])
    data = data_of("fashion_mnist_mini", train=False)
    found = accuracy(network, *data.__getitems__(range(len(data))))
    assert f"{found:.4f}" in card and found > 0.9


def test_shipped_checkpoints_are_small_and_fit_other_classes_and_channels(get):
    assert SHIPPED and sum(path.stat().st_size for path in SHIPPED) < 10e6
    network = get("resnet56_cifar", num_classes=7, pretrained_weights="fashion_mnist", arch_params={"in_channels": 3})
    grey = torch.randn(2, 1, 28, 28)
    reference = get("resnet56_cifar", num_classes=10, pretrained_weights="fashion_mnist").eval()
    assert network.fc.out_features == 7
    outputs = []
    for net, images in ((network, grey.repeat(1, 3, 1, 1)), (reference, grey)):
        net.fc = torch.nn.Identity()
        outputs.append(net.eval()(images))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
