"""The checks of lesson 3: right answers of several forms, and wrong ones, each told from the others."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sg_resnets.course import checks
from sg_resnets.models import BasicBlock, Bottleneck, ResidualBlock


def pad(x, new, before=None):
    before = new // 2 if before is None else before
    return F.pad(x, (0, 0, 0, 0, before, new - before))


class Block(nn.Module):
    """A right answer; the wrong ones change a method of it."""

    def __init__(self, in_channels, channels, stride=1):
        super().__init__()
        self.new, self.stride = channels - in_channels, stride
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def branch(self, x):
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))

    def shortcut(self, x):
        return pad(x[:, :, :: self.stride, :: self.stride], self.new)

    def join(self, branch, x):
        return F.relu(branch + self.shortcut(x))

    def forward(self, x):
        return self.join(self.branch(x), x)


def changed(**methods):
    return type("Block", (Block,), methods)


def made(after):
    """A block after whose `__init__` something is done."""

    def init(self, in_channels, channels, stride=1):
        Block.__init__(self, in_channels, channels, stride)
        after(self, in_channels, channels, stride)

    return changed(__init__=init)


class Sequential(nn.Module):
    """Made in another order, an nn.Sequential, biases, modules for ReLU, in-place, zeros by concatenation."""

    def __init__(self, inside, outside, step):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1)
        self.conv1 = nn.Conv2d(inside, outside, 3, step, 1)
        self.step, self.out = step, nn.ReLU(inplace=True)

    def body(self):
        return nn.Sequential(self.conv1, self.bn1, self.out, self.conv2, self.bn2)

    def forward(self, x):
        y = self.body()(x)
        if self.step != 1:
            x = F.max_pool2d(x, 1, self.step)
            zeros = torch.zeros(len(x), (y.shape[1] - x.shape[1]) // 2, *x.shape[2:])
            x = torch.cat([zeros, x, zeros], 1)
        y += x
        return self.out(y)


def renamed(self, *args):
    self.first = self.conv1
    del self.conv1
    self.branch = lambda x: self.bn2(self.conv2(F.relu(self.bn1(self.first(x)))))


def zero_last(self, *args):
    nn.init.zeros_(self.bn2.weight)


def swapped(self, in_channels, channels, stride):
    self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)


def late_channels(self, in_channels, channels, stride):
    self.conv1 = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, bias=False)
    self.bn1 = nn.BatchNorm2d(in_channels)
    self.conv2 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)


def projection(self, in_channels, channels, stride):
    self.project = nn.Conv2d(in_channels, channels, 1, stride, bias=False)


def shared_norm(self, *args):
    self.bn2 = self.bn1


def unpadded(self, *args):
    self.conv2.padding = (0, 0)


def third(self, *args):
    self.bn3 = nn.BatchNorm2d(self.conv2.out_channels)


SHARED = {channels: nn.Conv2d(channels, channels, 3, padding=1, bias=False) for channels in (8, 16)}


def shared_layer(self, in_channels, channels, stride):
    self.conv2 = SHARED[channels]


class Fresh(nn.Module):
    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.arguments = in_channels, channels, stride

    def forward(self, x):
        return Block(*self.arguments)(x)


class Stub(nn.Module):
    def __init__(self, in_channels, channels, stride=1):
        super().__init__()

    def forward(self, x): ...


def in_place(self, x):
    x -= 1
    return Block.forward(self, x)


def norm_after_addition(self, x):
    y = F.relu(self.bn1(self.conv1(x)))
    return F.relu(self.bn2(self.conv2(y) + self.shortcut(x)))


def strided(self, x):
    return x[:, :, :: self.stride, :: self.stride]


def halved(self, x):
    return pad(F.avg_pool2d(x, self.stride), self.new)


@pytest.mark.parametrize("make", [Block, Sequential, made(zero_last)])
def test_a_block_may_be_written_in_several_ways(make):
    state = torch.get_rng_state()
    checks.block(make)
    assert torch.equal(state, torch.get_rng_state())


def test_a_bias_before_batch_norm_is_accepted_and_named(capsys):
    checks.block(Sequential)
    assert "biases do nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Stub, "owns no convolution"),
        (made(renamed), "are to be called conv1, bn1, conv2, bn2"),
        (Fresh, "owns no convolution"),
        (lambda *args: Block(*args).forward, "is a method, not an nn.Module"),
        (changed(forward=lambda self, x: None), "gives nothing back"),
        (changed(join=lambda self, branch, x: branch.relu()), r"8 channels, stride 1\): the shortcut is missing"),
        (changed(join=lambda self, branch, x: branch + self.shortcut(x)), "ReLU after the addition is missing"),
        (changed(join=lambda self, branch, x: branch.relu() + self.shortcut(x)), "stands before the addition"),
        (changed(join=lambda self, branch, x: (branch.relu() + self.shortcut(x)).relu()), "at the end of the branch"),
        (changed(join=lambda self, branch, x: (branch * self.shortcut(x)).relu()), "are multiplied"),
        (changed(join=lambda self, branch, x: (branch - self.shortcut(x)).relu()), "is subtracted"),
        (changed(join=lambda self, branch, x: (branch + self.shortcut(x).relu()).relu()), "a ReLU of its own"),
        (changed(join=lambda self, branch, x: (branch + 2 * self.shortcut(x)).relu()), "added twice"),
        (changed(join=lambda self, branch, x: (branch + self.shortcut(x)).tanh()), "not relu"),
        (
            changed(join=lambda self, branch, x: (branch + F.relu(self.bn1(self.conv1(x)))).relu()),
            "convolutions that run: 3",
        ),
        (changed(branch=lambda self, x: self.bn2(self.conv2(self.bn1(self.conv1(x))))), "between the two"),
        (changed(branch=lambda self, x: self.bn2(self.conv2(self.bn1(self.conv1(x).relu())))), "before its batch-norm"),
        (changed(branch=lambda self, x: Block.branch(self, x.relu())), "passes a ReLU before the branch"),
        (changed(branch=lambda self, x: self.conv2(F.relu(self.bn1(self.conv1(x))))), "follows one convolution only"),
        (changed(branch=lambda self, x: self.conv2(F.relu(self.conv1(x)))), "no batch-norm runs"),
        (changed(forward=norm_after_addition), "second batch-norm stands after the addition"),
        (
            changed(branch=lambda self, x: self.bn2(self.conv1(F.relu(self.bn1(self.conv1(x)))))),
            "one convolution runs twice",
        ),
        (changed(branch=lambda self, x: self.bn1(self.conv1(x))), "convolutions that run: 1;"),
        (changed(forward=in_place), "writes into its input"),
        (made(shared_norm), "share one batch-norm"),
        (made(shared_layer), "two blocks share their layers"),
        (made(third), "is made and never runs"),
        (made(unpadded), "without padding"),
        (made(swapped), "the second convolution has the stride"),
        (made(late_channels), "channels change in the second"),
        (changed(shortcut=lambda self, x: x), "ends with RuntimeError: The size of tensor"),
        (changed(shortcut=lambda self, x: x if self.stride == 1 else 0), r"16 channels, stride 2\): the shortcut is"),
        (changed(shortcut=halved), "averages pixels"),
        (changed(shortcut=lambda self, x: pad(F.max_pool2d(x, self.stride), self.new)), "largest of four"),
        (changed(shortcut=lambda self, x: pad(x[:, :, self.stride - 1 :: self.stride, self.stride - 1 :: self.stride],
                                              self.new)), "begins with the second pixel"),
        (changed(shortcut=lambda self, x: pad(x[:, :, : 6 // self.stride, : 6 // self.stride], self.new)), "a corner"),
        (changed(shortcut=lambda self, x: pad(strided(self, x), self.new, 0)), "after the others"),
        (changed(shortcut=lambda self, x: pad(strided(self, x), self.new, self.new)), "before the others"),
        (changed(shortcut=lambda self, x: strided(self, x).repeat(1, self.stride, 1, 1)), "repeat the old ones"),
    ],
)  # fmt: skip
def test_a_wrong_block_is_told_apart(make, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.block(make)


def test_a_projection_is_not_option_a():
    projected = type("Projected", (made(projection),), {"shortcut": lambda self, x: self.project(x)})
    with pytest.raises(checks.WrongAnswer, match="shortcut A has no parameters"):
        checks.block(projected)


def test_a_shortcut_that_starts_after_the_first_convolution_is_seen():
    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + y)

    with pytest.raises(checks.WrongAnswer, match="what the first convolution made of x"):
        checks.block(changed(forward=forward))


# As this library's block.


class Residual(ResidualBlock):
    def __init__(self, in_channels, channels, stride, config):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def residual(self, x):
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))


class Branch(ResidualBlock):
    def __init__(self, in_channels, channels, stride, config):
        super().__init__()
        self.__dict__["_modules"] = dict(Sequential(in_channels, channels, stride)._modules)

    def residual(self, x):
        return Sequential.body(self)(x)


def residual(function):
    return type("Residual", (Residual,), {"residual": function})


@pytest.mark.parametrize("cls", [Residual, Branch, BasicBlock])
def test_the_branch_may_be_written_in_several_ways(cls):
    checks.residual_block(cls)


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (Block, "not a subclass"),
        (Residual(8, 8, 1, None), "not a subclass"),
        (type("Own", (Residual,), {"forward": lambda self, x: x}), "write `residual` alone"),
        (type("Empty", (ResidualBlock,), {}), r"no `residual\(x\)` yet"),
        (residual(lambda self, x: None), "gives nothing back"),
        (residual(lambda self, x: Residual.residual(self, x) + (x if self.conv1.stride == (1, 1) else 0)),
         "adds it once more"),
        (residual(lambda self, x: (Residual.residual(self, x) + (x if self.conv1.stride == (1, 1) else 0)).relu()),
         "the whole block"),
        (residual(lambda self, x: Residual.residual(self, x).relu()), "ends with a ReLU"),
        (residual(lambda self, x: self.bn2(self.conv2(self.bn1(self.conv1(x))))), "between the two"),
        (residual(lambda self, x: self.bn2(self.conv2(self.bn1(self.conv1(x).relu())))), "before its batch-norm"),
        (residual(lambda self, x: Residual.residual(self, x).tanh()), "not conv, batch-norm"),
        (Bottleneck, "1x1 convolution runs|gives the shape"),
    ],
)  # fmt: skip
def test_a_wrong_branch_is_told_apart(cls, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.residual_block(cls)


# A row of blocks.


def unroll(x, blocks):
    for block in blocks:
        x = x + block.residual(x)
    return x


def collect(x, blocks):
    branches = []
    for block in blocks:
        branches.append(block.residual(x + sum(branches)))
    return x + sum(branches)


def recurse(x, blocks):
    return recurse(x + blocks[0].residual(x), blocks[1:]) if blocks else x


def sum_outputs(x, blocks):
    total = x
    for block in blocks:
        x = x + block.residual(x)
        total = total + x
    return total


def chain(x, blocks):
    for block in blocks:
        x = block.residual(x)
    return x


@pytest.mark.parametrize("function", [unroll, collect, recurse])
def test_a_row_may_be_unrolled_in_several_ways(function):
    checks.unrolled(function)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x, blocks: ..., "gives nothing back"),
        (lambda x, blocks: x + sum(block.residual(x) for block in blocks), "given the first x"),
        (lambda x, blocks: sum(block.residual(x) for block in blocks), "missing, and every"),
        (lambda x, blocks: unroll(x, blocks) - x, "the sum: x itself is missing$"),
        (lambda x, blocks: unroll(x, blocks[:-1]), "last branch is left out"),
        (lambda x, blocks: x + unroll(x, blocks) - unroll(x, blocks[:-1]), "only the last branch"),
        (chain, "are chained"),
        (lambda x, blocks: x + chain(x, blocks), "a chain of the branches"),
        (sum_outputs, "outputs are summed"),
        (lambda x, blocks: unroll(x, blocks).relu(), "no ReLU after"),
        (lambda x, blocks: 2 * unroll(x, blocks), "not x and the sum"),
    ],
)
def test_a_wrongly_unrolled_row_is_told_apart(function, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.unrolled(function)


def by_the_blocks(x, blocks):
    for block in blocks:
        x = block(x)
    return x


def into_x(x, blocks):
    for block in blocks:
        x += block.residual(x)
    return x


@pytest.mark.parametrize(
    "answer, words", [(by_the_blocks, "calls the blocks themselves"), (into_x, "writes into the x")]
)
def test_a_row_of_blocks_is_written_as_its_sum(answer, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.unrolled(answer)
