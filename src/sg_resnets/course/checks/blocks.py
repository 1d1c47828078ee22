"""Lesson 3: a residual block by hand, as this library's block, and a row of blocks as one sum."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.course.checks.answers import WrongAnswer, call, compare, refuse_unpadded, right, tensor
from sg_resnets.models import ResidualBlock, ResNet
from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.shortcuts import ZeroPad
from sg_resnets.utils.hooks import watched

IN, SIZE = 8, 6  # channels and pixels of what the blocks are tried on


def block(make: Callable[[int, int, int], Any]) -> None:
    """Check a basic block with shortcut A, `make(in_channels, channels, stride)`: conv, batch-norm, ReLU, conv,
    batch-norm, the addition, ReLU.

    Raises:
        WrongAnswer: it computes something else, or its layers are not its own.
    """
    biased = False
    for channels, stride in ((IN, 1), (2 * IN, 2)):
        name = f"the block ({IN} to {channels} channels, stride {stride})"
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            module, other = (call(name, make, IN, channels, stride) for _ in range(2))
            _check_owned(name, module, other)
            _scatter(module)
            x = torch.randn(4, IN, SIZE, SIZE)
        output, layers = _run(name, module, x, (4, channels, SIZE // stride, SIZE // stride))
        first, first_norm, second, second_norm = _basic_layers(name, module, layers)
        _check_change_of_shape(name, first, second, channels, stride)
        _check_names(name, module, layers)
        biased |= first.bias is not None or second.bias is not None
        with torch.no_grad():
            y = first_norm(first(x)).relu()
            branch = second_norm(second(y))
            shortcut = ZeroPad(channels - IN, stride)(x)
            mistakes = {
                "the shortcut is missing": branch.relu(),
                "the shortcut passes a ReLU of its own": (branch + shortcut.relu()).relu(),
                "the ReLU after the addition is missing": branch + shortcut,
                "the last ReLU stands before the addition, not after it": branch.relu() + shortcut,
                "there is a ReLU before the addition, at the end of the branch": (branch.relu() + shortcut).relu(),
                "the ReLU between the two convolutions is missing": (
                    second_norm(second(first_norm(first(x)))) + shortcut
                ).relu(),
                "the first ReLU stands before its batch-norm, not after it": (
                    second_norm(second(first_norm(first(x).relu()))) + shortcut
                ).relu(),
                "the second batch-norm stands after the addition": second_norm(second(y) + shortcut).relu(),
                "the input passes a ReLU before the branch": (
                    second_norm(second(first_norm(first(x.relu())).relu())) + shortcut
                ).relu(),
                "branch and shortcut are multiplied, not added": (branch * shortcut).relu(),
                "the shortcut is subtracted": (branch - shortcut).relu(),
                "the shortcut carries what the first convolution made of x, not x": (branch + y).relu(),
                "the shortcut is added twice": (branch + 2 * shortcut).relu(),
                **{words: (branch + wrong).relu() for words, wrong in _wrong_shortcuts(x, channels, stride).items()},
            }
        compare(name, output, (branch + shortcut).relu(), mistakes, "this is not relu(F(x) + shortcut(x))")
    note = "; its convolutions' biases do nothing, as a batch-norm follows: leave them out" if biased else ""
    right(f"relu(F(x) + shortcut(x)), with the shape kept and with it changed{note}")


def _check_owned(name: str, module: Any, other: Any) -> None:
    if not isinstance(module, nn.Module):
        raise WrongAnswer(f"{name} is a {type(module).__name__}, not an nn.Module")
    if not any(isinstance(layer, nn.Conv2d) for layer in module.modules()):
        raise WrongAnswer(
            f"{name} owns no convolution: is `__init__` written? Layers are made there and set as attributes; those "
            "made in `forward` or kept in a plain list are not the block's"
        )
    if {id(one) for one in module.parameters()} & {id(one) for one in other.parameters()}:
        raise WrongAnswer(f"{name}: two blocks share their layers: each block makes its own")


@torch.no_grad()
def _scatter(module: nn.Module) -> None:
    """Draw all weights, as the network does for this library's blocks, and give batch-norms something to do in
    evaluation mode."""
    for layer in module.eval().modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            for of_unit in (layer.weight, layer.running_var):
                if of_unit is not None:
                    of_unit.uniform_(0.5, 1.5)
            for of_unit in (layer.bias, layer.running_mean):
                if of_unit is not None:
                    of_unit.normal_(0, 0.5)


def _run(name: str, module: nn.Module, x: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, list[nn.Module]]:
    """The output and, in the order they ran, the convolutions and batch-norms."""
    refuse_unpadded(name, module)
    ran: list[nn.Module] = []
    paths = [path for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    handed = x.clone()
    with torch.no_grad(), watched(module, paths, lambda path, layer, inputs, output: ran.append(layer)):
        given = tensor(name, call(name, module, handed), shape)
    if not torch.equal(handed, x):
        raise WrongAnswer(f"{name} writes into its input, which others may still need")
    return given.clone(), ran


def _basic_layers(name: str, module: nn.Module, ran: Sequence[nn.Module]) -> tuple[Any, Any, Any, Any]:
    """Convolution, batch-norm, convolution, batch-norm, in the order they ran."""
    convolutions = [layer for layer in ran if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in ran if isinstance(layer, nn.BatchNorm2d)]
    if any(layer.kernel_size == (1, 1) for layer in convolutions):
        raise WrongAnswer(f"{name}: a 1x1 convolution runs; shortcut A has no parameters, and the branch is of 3x3")
    if any(layer.kernel_size != (3, 3) for layer in convolutions):
        raise WrongAnswer(f"{name}: a convolution is not of 3x3")
    if len(convolutions) != 2:
        raise WrongAnswer(f"{name}: convolutions that run: {len(convolutions)}; a basic block has 2")
    if convolutions[0] is convolutions[1]:
        raise WrongAnswer(f"{name}: one convolution runs twice: each of the two needs weights of its own")
    if not norms:
        raise WrongAnswer(f"{name}: no batch-norm runs")
    if len(norms) == 1:
        raise WrongAnswer(f"{name}: a batch-norm follows one convolution only")
    if len(norms) > 2:
        raise WrongAnswer(f"{name}: {len(norms)} batch-norms run, where there is one for each convolution")
    if norms[0] is norms[1]:
        raise WrongAnswer(f"{name}: both convolutions share one batch-norm, whose statistics are then neither's")
    unused = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d) and layer not in ran]
    if unused:
        raise WrongAnswer(f"{name}: a {type(unused[0]).__name__} is made and never runs")
    return convolutions[0], norms[0], convolutions[1], norms[1]


def _check_change_of_shape(name: str, first: nn.Conv2d, second: nn.Conv2d, channels: int, stride: int) -> None:
    if second.stride == (stride, stride) != first.stride:
        raise WrongAnswer(f"{name}: the second convolution has the stride; in the paper the first one has")
    if first.stride != (stride, stride):
        raise WrongAnswer(f"{name}: the first convolution's stride is {first.stride[0]}, not {stride}")
    if first.out_channels != channels:
        raise WrongAnswer(f"{name}: the channels change in the second convolution; in the paper they do in the first")


def _check_names(name: str, module: nn.Module, ran: Sequence[nn.Module]) -> None:
    names = ("conv1", "bn1", "conv2", "bn2")
    if [getattr(module, one, None) for one in names] != ran:
        raise WrongAnswer(f"{name}: in the order in which they run, its layers are to be called {', '.join(names)}")


def _wrong_shortcuts(x: Tensor, channels: int, stride: int) -> dict[str, Tensor]:
    if stride == 1:
        return {}
    new, every_second = channels - x.shape[1], x[:, :, ::stride, ::stride]

    def pad(x: Tensor, before: int = new // 2) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, before, new - before))

    return {
        "the shortcut averages pixels; option A takes every second one": pad(F.avg_pool2d(x, stride)),
        "the shortcut takes the largest of four pixels; option A takes every second one": pad(F.max_pool2d(x, stride)),
        "the shortcut begins with the second pixel, not with the first": pad(x[:, :, 1::stride, 1::stride]),
        "the shortcut is a corner of the picture, not every second pixel": pad(x[:, :, : SIZE // 2, : SIZE // 2]),
        "all zero channels stand after the others; the text asks for half of them": pad(every_second, 0),
        "all zero channels stand before the others; the text asks for half of them": pad(every_second, new),
        "the new channels repeat the old ones; they are to be zero": every_second.repeat(1, 2, 1, 1),
    }


def residual_block(cls: Any) -> None:
    """Check the same block as a subclass of `ResidualBlock`: its `residual(x)` is the branch alone.

    Raises:
        WrongAnswer: it is something else.
    """
    if not (isinstance(cls, type) and issubclass(cls, ResidualBlock)):
        raise WrongAnswer("the class is not a subclass of ResidualBlock")
    if cls.forward is not ResidualBlock.forward:
        raise WrongAnswer("forward is ResidualBlock's own, which calls residual: write `residual` alone")
    if cls.residual is ResidualBlock.residual:
        raise WrongAnswer("there is no `residual(x)` yet")
    for channels, stride in ((IN, 1), (2 * IN, 2)):
        name = f"the block ({IN} to {channels} channels, stride {stride})"
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            module, other = (call(name, cls, IN, channels, stride, ResNetConfig((1,), (IN,))) for _ in range(2))
            _check_owned(name, module, other)
            _scatter(module)
            x = torch.randn(4, IN, SIZE, SIZE)
        branch = _Branch(module)
        output, layers = _run(name, branch, x, (4, channels, SIZE // stride, SIZE // stride))
        first, first_norm, second, second_norm = _basic_layers(name, module, layers)
        _check_change_of_shape(name, first, second, channels, stride)
        _check_names(name, module, layers)
        with torch.no_grad():
            expected = second_norm(second(first_norm(first(x)).relu()))
            shortcut = ZeroPad(channels - IN, stride)(x)
            mistakes = {
                "the shortcut is in it: forward adds it once more": expected + shortcut,
                "the whole block is in it, with its addition and its ReLU": (expected + shortcut).relu(),
                "the branch ends with a ReLU, which comes after the addition": expected.relu(),
                "the ReLU between the two convolutions is missing": second_norm(second(first_norm(first(x)))),
                "the ReLU stands before its batch-norm, not after it": second_norm(second(first_norm(first(x).relu()))),
            }
        compare(name, output, expected, mistakes, "this is not conv, batch-norm, ReLU, conv, batch-norm")
    right("residual(x) is F(x) alone; forward adds the shortcut and the ReLU")


class _Branch(nn.Module):
    """A block's branch as a module."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Any:
        return self.block.residual(x)


def unrolled(function: Callable[[Tensor, Sequence[Any]], Any]) -> None:
    """Check `function(x, blocks)`: what a row of blocks y = x + F(x) gives, as x and the sum of their branches, which
    `block.residual` computes.

    Raises:
        WrongAnswer: it gives something else.
    """
    name = "the sum"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = ResNet(ResNetConfig((4,), (IN,), order="full_preact"))
        _scatter(network)
        x = torch.randn(2, IN, SIZE, SIZE)
    blocks = network.blocks()[1:]
    with torch.no_grad():
        handed = x.clone()
        called: list[nn.Module] = []
        hooks = [one.register_forward_hook(lambda block, *_: called.append(block)) for one in blocks]
        given = tensor(name, call(name, function, handed, blocks), tuple(x.shape))
        for hook in hooks:
            hook.remove()
        if called:
            raise WrongAnswer(f"{name} calls the blocks themselves, which add already: their branches are asked for")
        if not torch.equal(handed, x):
            raise WrongAnswer(f"{name} writes into the x that it is given: make new tensors")
        inputs = [x]
        for one in blocks:
            inputs.append(one(inputs[-1]))
        branches = [one.residual(at) for one, at in zip(blocks, inputs, strict=False)]
        at_x = [one.residual(x) for one in blocks]
        nested = x
        for one in blocks:
            nested = one.residual(nested)
        compare(
            name,
            given,
            inputs[-1],
            {
                "every branch was given the first x; a block works on what the blocks before it have made": (
                    x + torch.stack(at_x).sum(0)
                ),
                "x itself is missing": torch.stack(branches).sum(0),
                "x itself is missing, and every branch was given the first x": torch.stack(at_x).sum(0),
                "only the last branch is added": x + branches[-1],
                "the last branch is left out": inputs[-2],
                "the branches are chained, without the additions": nested,
                "x and a chain of the branches: the blocks' own additions are missing": x + nested,
                "the blocks' outputs are summed, not their branches": torch.stack(inputs).sum(0),
                "there is no ReLU after these additions": inputs[-1].relu(),
            },
            "this is not x and the sum of the branches",
        )
    right("the row of blocks is x and a sum of branches, each at what the blocks before it have made")
