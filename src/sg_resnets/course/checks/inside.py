"""Lesson 5: what a branch adds, a block taken out, paths through a residual network, a direction among the weights."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sg_resnets.course.checks.answers import WrongAnswer, call, close, compare, number, numbers, right, tensor
from sg_resnets.diagnostics.lesion import without
from sg_resnets.models import ResNet, named_blocks
from sg_resnets.models.config import ResNetConfig
from sg_resnets.utils.hooks import watched


def _network() -> tuple[ResNet, Tensor]:
    """A small network with shortcut A whose batch-norms all do something, in training mode, and images for it."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = ResNet(ResNetConfig((2, 2), (4, 8), shortcut="A", in_channels=1))
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
                    layer.weight.uniform_(0.5, 1.5)
                    layer.bias.normal_(0, 0.3)
                    layer.running_mean.normal_(0, 0.3)
        return network, torch.randn(6, 1, 8, 8)


def _check_unchanged(name: str, network: ResNet, before: ResNet) -> None:
    """That nothing but the mode, training or evaluation, is another one."""
    if list(dict(network.named_modules())) != list(dict(before.named_modules())):
        raise WrongAnswer(f"{name}: afterwards the network has other parts than before")
    if any(module._forward_hooks or module._forward_pre_hooks for module in network.modules()):
        raise WrongAnswer(f"{name}: a hook stays in the network, and each later run calls it again")
    state = network.state_dict()
    if any(not torch.equal(state[key], value) for key, value in before.state_dict().items()):
        raise WrongAnswer(f"{name}: the network's weights or batch-norm statistics have changed")


def branch_shares(function: Callable[[ResNet, Tensor], Any]) -> None:
    """Check `function(network, images)`: the norm of F(x) over that of shortcut(x), block by block, in evaluation mode.

    Raises:
        WrongAnswer: it gives something else, or leaves the network changed.
    """
    name = "the function"
    network, images = _network()
    before = copy.deepcopy(network)
    given = numbers(name, call(name, function, network, images), 4)
    evaluated = _additions(copy.deepcopy(before).eval(), images)

    def each(measure: Callable[[Tensor, Tensor, Tensor], Tensor], parts: Any = evaluated) -> Tensor:
        return torch.stack([measure(*one).double() for one in parts])

    def share(branch: Tensor, shortcut: Tensor, x: Tensor) -> Tensor:
        return branch.norm() / shortcut.norm()

    expected = each(share)
    compare(
        name,
        given,
        expected,
        {
            "this is in training mode, where batch-norm uses the batch's own statistics": each(
                share, _additions(copy.deepcopy(before), images)
            ),
            "these are |shortcut(x)| over |F(x)|, upside down": 1 / expected,
            "these are squares: a root is missing": expected**2,
            "this is F(x) over the sum, not over what flows past it": each(lambda f, s, x: f.norm() / (f + s).norm()),
            "these are standard deviations, which forget the mean": each(lambda f, s, x: f.std() / s.std()),
            "where the shape changes, x itself is not what flows past the branch": each(
                lambda f, s, x: f.norm() / x.norm()
            ),
            "this is |F(x)| alone": each(lambda f, s, x: f.norm()),
            "this is |shortcut(x)| alone": each(lambda f, s, x: s.norm()),
            "this is the sum over the shortcut, not the branch": each(lambda f, s, x: (f + s).norm() / s.norm()),
            "the blocks come from the last to the first": expected.flip(0),
        },
        "this is not |F(x)| over |shortcut(x)|, block by block",
    )
    _check_unchanged(name, network, before)
    right("|F(x)| over |shortcut(x)| of each block")


@torch.no_grad()
def _additions(network: ResNet, images: Tensor) -> list[tuple[Tensor, ...]]:
    """(branch, shortcut, x) of each block."""
    seen: list[tuple[Tensor, ...]] = []

    def keep(path: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(tuple(one.clone() for one in inputs))

    with watched(network, [f"{name}.addition" for name in named_blocks(network)], keep):
        network(images)
    return seen


def block_deleted(function: Callable[[ResNet, str, Tensor], Any]) -> None:
    """Check `function(network, name, images)`: the logits, in evaluation mode, without the branch of the block of that
    name.

    Raises:
        WrongAnswer: it gives something else, or leaves the network changed.
    """
    network, images = _network()
    before = copy.deepcopy(network)
    fresh = copy.deepcopy(network).eval()
    for block in ("layer1.1", "layer2.0"):
        name = f"the function, without {block},"
        given = tensor(name, call(name, function, network, block, images), (len(images), 10)).detach()
        blocks = list(named_blocks(fresh))
        place = blocks.index(block)
        compare(
            name,
            given,
            _logits(fresh, images, _deleted, [block]),
            {
                "the block is still there": _logits(fresh, images, _deleted, []),
                "the shortcut is gone and the branch stays": _logits(fresh, images, _branch_alone, [block]),
                "shortcut and branch are both gone; the shortcut stays": _logits(fresh, images, _zeros, [block]),
                "the shortcut is there twice": _logits(fresh, images, _doubled, [block]),
                "another block is gone, the one before": _logits(fresh, images, _deleted, [blocks[place - 1]]),
                "another block is gone, the one after": _logits(fresh, images, _deleted, [blocks[place + 1]]),
                "the whole stage is gone": _logits(fresh, images, _deleted, [n for n in blocks if n[:6] == block[:6]]),
                "this is in training mode, where batch-norm uses the batch's own statistics": _logits(
                    copy.deepcopy(before), images, _deleted, [block]
                ),
            },
            "these are not the logits of the network without that branch",
        )
        _check_unchanged(name, network, before)
        with torch.no_grad():
            if not close(copy.deepcopy(network).eval()(images), fresh(images)):
                raise WrongAnswer(f"{name}: afterwards the network still runs without the block")
    right("the block's shortcut stays, its branch is gone, and the network is as it was")


@torch.no_grad()
def _logits(network: ResNet, images: Tensor, replace: Callable[..., Tensor], blocks: Iterable[str]) -> Tensor:
    """The network's logits if `replace(block, input)` is what these blocks give."""
    if replace is _deleted:
        with without(network, *blocks):
            return network(images)
    with watched(network, blocks, lambda path, block, inputs, output: replace(block, inputs[0])):
        return network(images)


def _deleted(block: Any, x: Tensor) -> Tensor:
    return block.relu_after(block.downsample(x).clone())


def _branch_alone(block: Any, x: Tensor) -> Tensor:
    return block.relu_after(block.residual(x))


def _zeros(block: Any, x: Tensor) -> Tensor:
    return torch.zeros_like(block.downsample(x))


def _doubled(block: Any, x: Tensor) -> Tensor:
    return 2 * _deleted(block, x)


def share_of_paths(function: Callable[[int, int], Any]) -> None:
    """Check `function(n, k)`: the share, of all paths through n blocks, of those that take exactly k branches.

    Raises:
        WrongAnswer: it gives something else.
    """
    for n, k in ((10, 3), (27, 12), (4, 0)):
        name = f"the share of paths through {k} of {n} branches"
        paths = math.comb(n, k)
        value = number(name, call(name, function, n, k))
        mistakes = {
            "this is how many such paths there are, not their share": paths,
            "each block is either taken or not; all lengths are not equally frequent": 1 / (n + 1),
            "the length is not a share of the paths": k / n,
            "the order in which branches are chosen does not matter": math.perm(n, k) / 2**n,
            "this is the share of paths through so many branches at most": sum(math.comb(n, j) for j in range(k + 1))
            / 2**n,
            "all paths together are not n * n": paths / n**2,
            "all paths together are one for each choice at each block, not one for each order": paths
            / math.factorial(n),
            "this counts from one branch on; a path may take none": math.comb(n, k - 1) / 2**n if k else -1,
            "this is the share of one single path": 1 / 2**n if paths > 1 else -1,
        }
        compare(
            name,
            torch.tensor(value, dtype=torch.float64),
            torch.tensor(paths / 2**n, dtype=torch.float64),
            {words: torch.tensor(wrong, dtype=torch.float64) for words, wrong in mistakes.items()},
            f"{value:g} is another number",
        )
    right("of 2^n paths, so many take k branches")


def gradient_shares(function: Callable[[Sequence[float]], Any]) -> None:
    """Check `function(norms)`: which share of the gradient the paths of each length carry, where `norms` are the
    gradient's norms on one path through 1, 2, ..., n branches.

    Raises:
        WrongAnswer: it gives something else.
    """
    name = "the function"
    norms = [3.0, 2.0, 0.7, 0.2, 0.01]
    n = len(norms)
    one_path = torch.tensor(norms, dtype=torch.float64)
    paths = torch.tensor([math.comb(n, k) for k in range(1, n + 1)], dtype=torch.float64)
    shifted = torch.tensor([math.comb(n, k) for k in range(n)], dtype=torch.float64)
    inside = torch.tensor([math.comb(n - 1, k) for k in range(n)], dtype=torch.float64)

    def shares(values: Tensor) -> Tensor:
        return values / values.sum()

    compare(
        name,
        numbers(name, call(name, function, list(norms)), n),
        shares(paths * one_path),
        {
            "how many paths there are of each length is missing": shares(one_path),
            "these are sums over the paths, not yet shares of the whole": paths * one_path,
            "these are sums over the paths, divided by the number of paths, not by the sum of all": paths
            * one_path
            / 2**n,
            "the first norm is that of paths through 1 branch, not 0": shares(shifted * one_path),
            f"there are {n} branches to choose from, not {n - 1}": shares(inside * one_path),
            "the gradient of one path is missing": shares(paths),
            "a number of paths divides here, where it multiplies": shares(one_path / paths),
            "the norms are squared": shares(paths * one_path**2),
        },
        "this is not the number of paths times the gradient of one, as a share of the whole",
    )
    right("the shares of the gradient by length of path")


def direction(function: Callable[[Tensor, torch.Generator], Any]) -> None:
    """Check `function(weight, generator)`: a random direction whose filters, the rows `weight[i]`, are as long as the
    weight's own; zero for a vector.

    Raises:
        WrongAnswer: it gives something else, changes the weight, or does not draw from the generator.
    """
    fill = torch.Generator().manual_seed(0)
    for shape in ((6, 5, 3, 3), (7, 20)):
        name = f"the direction of a weight of shape {shape}"
        scales = torch.linspace(0.2, 2, shape[0]).view(-1, *[1] * (len(shape) - 1))
        weight = scales * torch.randn(shape, generator=fill)
        handed = weight.clone()

        def draw(seed: int, name: str = name, handed: Tensor = handed, shape: tuple[int, ...] = shape) -> Tensor:
            return tensor(name, call(name, function, handed, torch.Generator().manual_seed(seed)), shape).detach()

        with torch.random.fork_rng([]):
            drawn, again, other = draw(1), draw(1), draw(2)
        if not torch.equal(handed, weight):
            raise WrongAnswer(f"{name}: the weight itself is changed")
        if not close(drawn, again):
            raise WrongAnswer(f"{name} is not drawn from the generator: two of one seed give two directions")
        if close(drawn, other):
            raise WrongAnswer(f"{name} is the same for another seed: where is it random?")
        _check_lengths(name, drawn, weight)
    vector = torch.randn(9, generator=fill)
    name = "the direction of a bias or a batch-norm"
    if tensor(name, call(name, function, vector, torch.Generator().manual_seed(1)), (9,)).any():
        raise WrongAnswer(f"{name} is not zero: vectors stay where they are")
    right("a random direction; each filter is as long as the weight's, and vectors stay where they are")


def _check_lengths(name: str, drawn: Tensor, weight: Tensor) -> None:
    lengths, wanted = drawn.flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1)
    cells = weight[0].numel() ** 0.5

    def alike(one: Tensor, other: Tensor, within: float = 1e-3) -> bool:
        return bool(((one / other - 1).abs() < within).all())

    if close(drawn.abs(), weight.abs()):
        raise WrongAnswer(f"{name}: only the signs are random")
    if (drawn >= 0).all() or (drawn / weight >= 0).all():
        raise WrongAnswer(f"{name}: a direction has positive and negative numbers, whatever signs the weight has")
    if drawn.ndim == 4 and any(alike(drawn.norm(dim=dims), weight.norm(dim=dims)) for dims in (-1, (2, 3))):
        raise WrongAnswer(f"{name}: each row or kernel has the weight's length; a filter is all of weight[i]")
    if alike(lengths, wanted):
        return
    if alike(lengths, torch.ones_like(lengths)):
        raise WrongAnswer(f"{name}: each filter has length 1, not the length of the weight's filter")
    if alike(drawn.transpose(0, 1).flatten(1).norm(dim=1), weight.transpose(0, 1).flatten(1).norm(dim=1)):
        raise WrongAnswer(f"{name}: the slices weight[:, j] have the right length; a filter is weight[i]")
    if alike(drawn.norm(), weight.norm()):
        raise WrongAnswer(f"{name}: the layer as a whole has the right length, its filters have not")
    if alike(drawn.norm(), torch.ones(1)):
        raise WrongAnswer(f"{name}: the layer as a whole has length 1")
    if alike(lengths, wanted**2):
        raise WrongAnswer(f"{name}: the filters have the square of the right length")
    if alike(lengths / cells, wanted, 0.6):
        raise WrongAnswer(f"{name}: the random filter's own length is not divided out")
    raise WrongAnswer(f"{name}: its filters are not as long as the weight's")
