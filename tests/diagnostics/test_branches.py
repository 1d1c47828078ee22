"""What branches and shortcuts carry: responses, identities, deleted and swapped blocks, paths."""

import pytest
import torch
import torch.nn.functional as F

from sg_resnets.course.setups import untrained
from sg_resnets.diagnostics.identity import branch_responses, deepen
from sg_resnets.diagnostics.lesion import accuracy, draw_paths, lesion, path_gradients, swapped, without
from sg_resnets.diagnostics.shattered import calibrated
from sg_resnets.utils.errors import SgResnetsError


def test_responses_are_those_of_the_branches(batch):
    network = calibrated(untrained("resnet20_cifar"), batch[0])
    responses = branch_responses(network, batch[0])
    x = network.relu(network.bn1(network.conv1(batch[0])))
    branch = network.layer1[0].residual(x)
    assert responses[0].deviation == pytest.approx(branch.std().item(), rel=1e-4)
    assert responses[0].relative == pytest.approx((branch.norm() / x.norm()).item(), rel=1e-4)
    plain = branch_responses(calibrated(untrained("plain20_cifar"), batch[0]), batch[0])
    assert len(plain) == 9 and plain[0].relative == 0 and plain[0].deviation > 0


@pytest.mark.parametrize("arch", [{}, {"order": "full_preact"}, {"shortcut": "B", "attention": "se"}])
def test_a_deeper_net_starts_as_the_shallower_one_and_trains_on(batch, arch):
    """He et al. 2015, section 1, the solution by construction."""
    network = calibrated(untrained("resnet20_cifar", **arch), batch[0])
    deeper = deepen(network, (9, 9, 9))
    assert len(deeper.blocks()) == 27
    torch.testing.assert_close(deeper(batch[0]), network(batch[0]), rtol=1e-6, atol=1e-6)
    F.cross_entropy(deeper.train()(batch[0]), batch[1]).backward()
    last = deeper.layer3[8].conv2 if arch.get("order") else deeper.layer3[8].bn2
    assert last.weight.grad.abs().sum() > 0


def test_deepen_says_what_cannot_be(batch):
    for network, depths, words in (
        (untrained("resnet20_cifar"), (2, 3, 3), "at least as many blocks as .3, 3, 3."),
        (untrained("plain20_cifar"), (9, 9, 9), "a plain net has no shortcut"),
        (untrained("resnet20_cifar", order="bn_after_addition"), (9, 9, 9), "does not copy its input"),
    ):
        with pytest.raises(SgResnetsError, match=words):
            deepen(network, depths)


@pytest.mark.parametrize("architecture", ["resnet20_cifar", "plain20_cifar", "preact_resnet20_cifar"])
def test_a_deleted_block_is_its_shortcut_and_comes_back(batch, architecture):
    network = calibrated(untrained(architecture), batch[0])
    before, x = network(batch[0]), torch.randn(2, 8, 14, 14)
    with without(network, "layer1.1"):
        unchanged = x.clone()
        kept = network.layer1[1](x)
        assert torch.equal(x, unchanged)
        assert torch.equal(kept, x if "preact" in architecture else torch.relu(x))
        assert not torch.equal(network(batch[0]), before)
    with without(network, "layer2.0"):  # changes the shape: every second pixel, zero channels
        changed = network.layer2[0](x)
        assert changed.shape == (2, 16, 7, 7) and changed[:, :4].abs().sum() == 0
    assert torch.equal(network(batch[0]), before)
    with pytest.raises(SgResnetsError, match="the network has no block 'layer9': it has layer1"):
        without(network, "layer9")


def test_lesion_counts_each_block_and_swapping_changes_places(batch):
    network = calibrated(untrained("resnet20_cifar"), batch[0])
    accuracies = lesion(network, *batch)
    assert list(accuracies) == ["none"] + [f"layer{i}.{j}" for i in (1, 2, 3) for j in (0, 1, 2)]
    assert accuracies["none"] == accuracy(network, *batch)
    first, second = network.layer2[1], network.layer2[2]
    with swapped(network, "layer2.1", "layer2.2"):
        assert network.layer2[1] is second and network.layer2[2] is first
    assert network.layer2[1] is first
    for pair in (("layer2.0", "layer2.1"), ("layer1.1", "layer2.1")):
        with pytest.raises(SgResnetsError, match="cannot be swapped"), swapped(network, *pair):
            pass


def test_the_longest_path_is_the_net_without_shortcuts_and_long_paths_carry_less(batch):
    images, labels = batch
    network = calibrated(untrained("resnet20_cifar"), images)
    paths = path_gradients(network, images, labels, repeats=2)
    assert [length for length, _ in paths] == list(range(1, 10))
    x = images.clone().requires_grad_()
    y = network.relu(network.bn1(network.conv1(x)))
    for block in network.blocks():
        y = torch.relu(block.residual(y))
    assert "Of 9 branches most paths take 4 or 5;" in draw_paths(paths).get_suptitle()
    (gradient,) = torch.autograd.grad(F.cross_entropy(network.fc(y.mean((2, 3))), labels), x)
    assert paths[-1][1] == pytest.approx(gradient.norm().item(), rel=1e-3)
    with pytest.raises(SgResnetsError, match="one path only"):
        path_gradients(untrained("plain20_cifar"), images, labels)
