"""The checks of lesson 5: right answers of several forms, and wrong ones, each told from the others."""

import copy
import math

import pytest
import torch
from torch import nn

from sg_resnets.course import checks
from sg_resnets.diagnostics.identity import branch_responses
from sg_resnets.diagnostics.landscape import filter_normalised_direction
from sg_resnets.diagnostics.lesion import without

# What a branch adds.


def shares(network, images, measure=lambda f, s, x, y: f.norm() / s.norm(), evaluate=True, remove=True):
    found = []
    network.train(not evaluate)

    def keep(module, inputs, output):
        found.append(measure(*inputs, output).item())

    handles = [block.addition.register_forward_hook(keep) for block in network.blocks()]
    with torch.no_grad():
        network(images)
    if remove:
        for handle in handles:
            handle.remove()
    return found


def by_block(network, images):
    network.eval()
    found, x = [], network.relu(network.bn1(network.conv1(images)))
    for block in network.blocks():
        found.append(block.residual(x).norm() / block.downsample(x).norm())
        x = block(x)
    return torch.stack(found)


@pytest.mark.parametrize(
    "function", [shares, by_block, lambda net, images: [row.relative for row in branch_responses(net, images)]]
)
def test_shares_may_be_measured_with_hooks_or_without(function):
    checks.branch_shares(function)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda *args: ..., "gives nothing back"),
        (lambda *args: shares(*args, evaluate=False), "in training mode"),
        (lambda *args: shares(*args, remove=False), "a hook stays"),
        (lambda *args: shares(*args, measure=lambda f, s, x, y: s.norm() / f.norm()), "upside down"),
        (lambda *args: shares(*args, measure=lambda f, s, x, y: f.square().sum() / s.square().sum()), "squares"),
        (lambda *args: shares(*args, measure=lambda f, s, x, y: f.norm() / y.norm()), "over the sum"),
        (lambda *args: shares(*args, measure=lambda f, s, x, y: f.std() / s.std()), "standard deviations"),
        (lambda *args: shares(*args, measure=lambda f, s, x, y: f.norm() / x.norm()), "the shape changes"),
        (lambda *args: shares(*args, measure=lambda f, s, x, y: f.norm()), r"\|F\(x\)\| alone"),
        (lambda *args: shares(*args, measure=lambda f, s, x, y: s.norm()), r"\|shortcut\(x\)\| alone"),
        (lambda *args: shares(*args, measure=lambda f, s, x, y: y.norm() / s.norm()), "sum over the shortcut"),
        (lambda *args: shares(*args)[::-1], "from the last to the first"),
        (lambda *args: shares(*args)[1:], "gives 3 numbers"),
        (lambda *args: [1.0] * 4, "block by block"),
        (lambda net, images: [shares(net, images), net.fc.weight.data.zero_()][0], "weights or batch-norm statistics"),
    ],
)
def test_wrong_shares_are_told_apart(function, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.branch_shares(function)


# A block taken out.


def hooked(network, name, images, result=lambda block, x: block.relu_after(block.downsample(x)), remove=True):
    network.eval()
    handle = network.get_submodule(name).register_forward_hook(lambda block, x, y: result(block, x[0]))
    logits = network(images)
    if remove:
        handle.remove()
    return logits


class Shortcut(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return torch.relu(self.block.downsample(x))


def replaced(network, name, images, back=True):
    network.eval()
    block = network.get_submodule(name)
    network.set_submodule(name, Shortcut(block))
    logits = network(images)
    if back:
        network.set_submodule(name, block)
    return logits


def copied(network, name, images):
    network = copy.deepcopy(network).eval()
    block = network.get_submodule(name)
    block.residual = lambda x: torch.zeros(())
    return network(images)


def silenced(network, name, images, back=True):
    network.eval()
    block = network.get_submodule(name)
    block.residual = lambda x: torch.zeros(())
    logits = network(images)
    if back:
        del block.residual
    return logits


def zero_weights(network, name, images):
    network.eval()
    for parameter in network.get_submodule(name).bn2.parameters():
        parameter.data.zero_()
    return network(images)


def others(network, name, images, step):
    names = [f"layer{stage}.{place}" for stage in (1, 2) for place in (0, 1)]
    return hooked(network, names[names.index(name) + step], images)


def in_training(network, name, images):
    before = copy.deepcopy(network.state_dict())
    with without(network.train(), name):
        logits = network(images)
    network.load_state_dict(before)
    return logits


def identity(network, name, images):
    network.eval()
    block = network.get_submodule(name)
    network.set_submodule(name, nn.Identity())
    try:
        return network(images)
    finally:
        network.set_submodule(name, block)


def stage(network, name, images):
    with without(network.eval(), *(f"{name[:6]}.{place}" for place in (0, 1))):
        return network(images)


@pytest.mark.parametrize("function", [hooked, replaced, copied, silenced])
def test_a_block_may_be_taken_out_in_several_ways(function):
    checks.block_deleted(function)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda *args: ..., "gives nothing back"),
        (lambda network, name, images: network.eval()(images), "still there"),
        (lambda *args: hooked(*args, result=lambda block, x: block.relu_after(block.residual(x))), "branch stays"),
        (
            lambda *args: hooked(*args, result=lambda block, x: 0 * block(x) if 0 else 0 * block.downsample(x)),
            "both gone",
        ),
        (lambda *args: hooked(*args, result=lambda block, x: 2 * block.downsample(x)), "twice"),
        (lambda *args: others(*args, step=-1), "the one before"),
        (lambda *args: others(*args, step=1), "the one after"),
        (lambda *args: hooked(*args, remove=False), "a hook stays"),
        (lambda *args: replaced(*args, back=False), "other parts than before"),
        (lambda *args: silenced(*args, back=False), "still runs without"),
        (zero_weights, "weights or batch-norm statistics have changed"),
        (in_training, "in training mode"),
        (identity, r"without layer2.0, ends with RuntimeError"),
        (stage, "whole stage"),
        (lambda network, name, images: hooked(network, name, images).softmax(1), "not the logits"),
    ],
)
def test_a_wrong_lesion_is_told_apart(function, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.block_deleted(function)


# Paths.


def share(n, k):
    return math.comb(n, k) / 2**n


@pytest.mark.parametrize(
    "function",
    [
        share,
        lambda n, k: math.factorial(n) / math.factorial(k) / math.factorial(n - k) * 0.5**n,
        lambda n, k: torch.distributions.Binomial(n, torch.tensor(0.5).double()).log_prob(torch.tensor(k)).exp(),
    ],
)
def test_the_share_of_paths_may_be_counted_or_a_probability(function):
    checks.share_of_paths(function)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda n, k: ..., "gives nothing back"),
        (lambda n, k: math.comb(n, k), "how many such paths"),
        (lambda n, k: 1 / (n + 1), "equally frequent"),
        (lambda n, k: k / n, "not a share of the paths"),
        (lambda n, k: math.perm(n, k) / 2**n, "order in which"),
        (lambda n, k: sum(share(n, j) for j in range(k + 1)), "at most"),
        (lambda n, k: math.comb(n, k) / n**2, r"not n \* n"),
        (lambda n, k: math.comb(n, k) / math.factorial(n), "one for each order"),
        (lambda n, k: share(n, k - 1) if k else share(n, k), "may take none"),
        (lambda n, k: 2.0**-n, "one single path"),
        (lambda n, k: 2 * share(n, k), "is another number"),
        (lambda n, k: share(n, k) if k else 0.5, "through 0 of 4 branches: 0.5 is another"),
        (lambda n, k: "1/8", "a str, not a number"),
    ],
)
def test_a_wrong_share_of_paths_is_told_apart(function, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.share_of_paths(function)


def carried(norms, paths=math.comb, first=1, power=1, total=sum):
    values = [paths(len(norms), k) * norm**power for k, norm in enumerate(norms, first)]
    return [value / total(values) for value in values]


def in_tensors(norms):
    n = len(norms)
    values = torch.tensor([math.comb(n, k + 1) for k in range(n)]) * torch.tensor(norms)
    return values / values.sum()


@pytest.mark.parametrize(
    "function", [carried, in_tensors, lambda norms: carried(norms, paths=lambda n, k: math.comb(n, k) / 2**n)]
)
def test_the_gradients_shares_may_be_lists_or_tensors(function):
    checks.gradient_shares(function)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda norms: ..., "gives nothing back"),
        (lambda norms: carried(norms, paths=lambda n, k: 1), "how many paths"),
        (lambda norms: carried(norms, total=lambda values: 1), "not yet shares"),
        (lambda norms: carried(norms, total=lambda values: 2 ** len(norms)), "divided by the number of paths"),
        (lambda norms: carried(norms, first=0), "through 1 branch, not 0"),
        (lambda norms: carried(norms, paths=lambda n, k: math.comb(n - 1, k - 1)), "5 branches to choose from, not 4"),
        (lambda norms: carried(norms, power=0), "gradient of one path is missing"),
        (lambda norms: carried(norms, paths=lambda n, k: 1 / math.comb(n, k)), "divides here"),
        (lambda norms: carried(norms, power=2), "are squared"),
        (lambda norms: carried(norms)[:3], "gives 3 numbers, where 5"),
        (lambda norms: norms, "not the number of paths times"),
    ],
)
def test_wrong_shares_of_the_gradient_are_told_apart(function, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.gradient_shares(function)


# A direction.


def direction(weight, generator, dim=1, turn=lambda d: d):
    if weight.ndim == 1:
        return torch.zeros_like(weight)
    drawn = turn(torch.randn(weight.shape, generator=generator))
    length = [drawn.flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1)]
    return drawn * (length[1] / length[0]).view(-1, *[1] * (weight.ndim - 1))


def by_filter(weight, generator):
    drawn = torch.randn(weight.shape, generator=generator)
    if weight.dim() > 1:
        for filter_, like in zip(drawn, weight, strict=True):
            filter_ *= like.norm() / filter_.norm()
        return drawn
    return drawn * 0


def whole(weight, generator, length=None):
    drawn = torch.randn(weight.shape, generator=generator)
    return drawn * (length or weight.norm()) / drawn.norm()


def columns(weight, generator):
    return direction(weight.transpose(0, 1), generator).transpose(0, 1)


def unit(weight, generator):
    drawn = torch.randn(weight.shape, generator=generator)
    return drawn / drawn.flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1))


def scaled(weight, generator, power=1):
    lengths = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1))
    return torch.randn(weight.shape, generator=generator) * lengths**power


def squared(weight, generator):
    return unit(weight, generator) * weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.ndim - 1)) ** 2


def moved(weight, generator):
    step = direction(weight, generator)
    weight += step
    return step


@pytest.mark.parametrize(
    "function",
    [
        direction,
        by_filter,
        lambda w, g: direction(w, g, turn=lambda d: d * 7),
        lambda w, g: filter_normalised_direction(nn.ParameterDict({"w": nn.Parameter(w)}), g)["w"],
    ],
)
def test_a_direction_may_be_made_at_once_or_filter_by_filter(function):
    state = torch.get_rng_state()
    checks.direction(function)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda w, g: ..., "gives nothing back"),
        (whole, "the layer as a whole has the right length"),
        (lambda w, g: whole(w, g, 1.0), "as a whole has length 1"),
        (unit, "each filter has length 1"),
        (columns, "a filter is weight"),
        (scaled, "own length is not divided out"),
        (squared, "the square of the right length"),
        (lambda w, g: 0.5 * direction(w, g), "not as long as the weight's"),
        (lambda w, g: direction(w, g, turn=torch.abs), "positive and negative"),
        (lambda w, g: direction(w, g, turn=lambda d: d.abs() * w.sign()), "whatever signs"),
        (lambda w, g: w * torch.randn(w.shape, generator=g).sign(), "only the signs are random"),
        (lambda w, g: direction(w, None), "two of one seed"),
        (lambda w, g: direction(w, torch.Generator().manual_seed(0)), "where is it random"),
        (moved, "weight itself is changed"),
        (lambda w, g: direction(w, g).flatten(1), "gives the shape"),
        (lambda w, g: by_filter(w, g) if w.ndim > 1 else torch.randn(w.shape, generator=g), "vectors stay"),
    ],
)
def test_a_wrong_direction_is_told_apart(function, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.direction(function)


@pytest.mark.parametrize("dims", [-1, (2, 3)])
def test_a_filter_is_no_row_and_no_kernel(dims):
    def answer(weight, generator):
        if weight.ndim < 2:
            return torch.zeros_like(weight)
        drawn, over = torch.randn(weight.shape, generator=generator), dims if weight.ndim == 4 else 1
        return drawn / drawn.norm(dim=over, keepdim=True) * weight.norm(dim=over, keepdim=True)

    with pytest.raises(checks.WrongAnswer, match="each row or kernel"):
        checks.direction(answer)
