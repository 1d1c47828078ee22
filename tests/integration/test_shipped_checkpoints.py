"""The checkpoints that we ship are what their cards say."""

import hashlib

import pytest
import torch

from sg_resnets.data import in_memory as data_of
from sg_resnets.models import pretrained as weights
from support import SHIPPED


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
