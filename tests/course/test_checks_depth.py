"""What the checks of lesson 1 take, and what they say of answers that are wrong."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sg_resnets.course import checks
from sg_resnets.course.setups import untrained


def unit(channels_in, channels, stride=1, bias=False):
    return [nn.Conv2d(channels_in, channels, 3, stride, 1, bias=bias), nn.BatchNorm2d(channels), nn.ReLU()]


def body(layers, channels=4):
    parts = unit(1, channels, 2)
    for _ in range(layers - 2):
        parts += unit(channels, channels)
    return parts


def head(channels=4):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def sequence(layers):
    return nn.Sequential(*body(layers), *head())


class Functional(nn.Module):
    def __init__(self, layers, shortcut=False, after=lambda y: y):
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv2d(6 if i else 1, 6, 3, 1 if i else 2, padding=1) for i in range(layers - 1)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(6) for _ in self.convs])
        self.fc = nn.Linear(6, 10)
        self.shortcut, self.after = shortcut, after

    def forward(self, x):
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = F.relu(norm(conv(x)))
            x = x + y if self.shortcut and i else y
        return self.after(self.fc(x.mean((2, 3))))


def blocks(layers):
    """Nested, ReLU in place, with biases, wider and wider."""
    parts = [nn.Sequential(nn.Conv2d(3 + i if i else 1, 4 + i, 3, 1 if i else 2, padding=1), nn.BatchNorm2d(4 + i),
             nn.ReLU(inplace=True)) for i in range(layers - 1)]  # fmt: skip
    return nn.Sequential(*parts, *head(layers + 2))


def named(layers):
    """With names, and an average by hand."""
    parts = {f"{i}": part for i, part in enumerate(body(layers))}
    return nn.Sequential(OrderedDict(**parts, pool=nn.AvgPool2d(7), flat=nn.Flatten(), classes=nn.Linear(4, 10)))


@pytest.mark.parametrize("make", [sequence, named, blocks])
def test_plain_networks_are_right(make, capsys):
    before = torch.get_rng_state()
    checks.plain_net(make)
    assert capsys.readouterr().out.startswith("Right: ") and torch.equal(before, torch.get_rng_state())


def repeated(layers):
    return nn.Sequential(*unit(1, 4), *unit(4, 4) * (layers - 2), *head())


def norm_shared(layers):
    norm, relu = nn.BatchNorm2d(4), nn.ReLU()
    convs = [nn.Conv2d(1 if i == 0 else 4, 4, 3, padding=1) for i in range(layers - 1)]
    return nn.Sequential(*[part for conv in convs for part in (conv, norm, relu)], *head())


def without_kind(kind):
    return lambda layers: nn.Sequential(*[part for part in body(layers) if not isinstance(part, kind)], *head())


class Unused(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.used, self.unused = sequence(layers - 1), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.used(x)


def relu_before_norm(layers):
    parts = body(layers)
    return nn.Sequential(*[parts[i + j] for i in range(0, len(parts), 3) for j in (0, 2, 1)], *head())


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda layers: ..., "gives nothing back"),
        (lambda layers: None, "gives nothing back"),
        (body, "gives list, not a network"),
        (lambda layers: nn.Sequential(*body(layers), nn.Linear(4, 10)), "ends with RuntimeError: mat1 and mat2"),
        (lambda layers: sequence(layers + 1), "plain_net(8) has 9 layers with weights: 8 convolutions and 1 linear"),
        (lambda layers: sequence(8), "plain_net(13) has 8 layers"),
        (repeated, "has 3 layers with weights"),
        (norm_shared, "uses one BatchNorm2d 7 times"),
        (Unused, "layers that its forward does not use"),
        (Functional, "is a Functional: one nn.Sequential is asked for"),
        (lambda layers: nn.Sequential(*body(layers), nn.MaxPool2d(2), *head()), "has a MaxPool2d"),
        (lambda layers: nn.Sequential(*body(layers), nn.Dropout(), *head()), "has a Dropout"),
        (lambda layers: nn.Sequential(*unit(1, 4), *[part for _ in range(layers - 2) for part in unit(4, 4, 2)],
         *head()), "the strides of plain_net(8) are 1, 2, 2, 2, 2, 2, 2: the first"),
        (lambda layers: nn.Sequential(*body(layers), nn.AdaptiveMaxPool2d(1), *head()[1:]), "each channel's average"),
        (lambda layers: nn.Sequential(*body(layers), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10)),
         "each channel's average"),
        (lambda layers: nn.Sequential(nn.Conv2d(1, 4, 3, 2), *body(layers)[1:], *head()), "without padding loses"),
        (lambda layers: nn.Sequential(*body(layers)[:3], *[part for _ in range(layers - 2) for part in
         (nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())], *head()), "without padding loses"),
        (lambda layers: nn.Sequential(*body(layers), nn.Sequential(*head())), "is to end with three modules"),
        (lambda layers: nn.Sequential(*body(layers), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), *head()[1:]),
         "averages"),
        (lambda layers: nn.Sequential(nn.Conv2d(3, 4, 3), *body(layers)[1:], *head()), "to have 3 channels"),
        (lambda layers: nn.Sequential(sequence(layers)), "is to end with three modules"),
        (without_kind(nn.BatchNorm2d), "7 convolutions and 0 batch-norms"),
        (without_kind(nn.ReLU), "layer 2 of plain_net(8) gets negative values"),
        (relu_before_norm, "layer 2 of plain_net(8) gets negative values"),
        (lambda layers: nn.Sequential(sequence(layers), nn.Softmax(1)), "gives probabilities"),
        (lambda layers: Functional(layers, after=lambda y: y.log_softmax(1)), "logarithms of probabilities"),
        (lambda layers: Functional(layers, after=F.relu), "no negative number"),
        (lambda layers: Functional(layers, shortcut=True), "a way leads around some layers"),
        (lambda layers: Functional(layers, after=lambda y: y[:, :9]), "the shape (16, 9), where (16, 10) is needed"),
        (lambda layers: nn.Sequential(*body(layers - 1), *head()[:2], nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10)),
         "has 2 linear layers"),
        (lambda layers: nn.Sequential(*unit(1, 4), *[part for _ in range(layers - 2) for part in
         (nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())], *head()), "a convolution that is not 3x3"),
    ],
)  # fmt: skip
def test_what_is_no_plain_network_is_told(make, words):
    with pytest.raises(checks.WrongAnswer) as wrong:
        checks.plain_net(make)
    assert words in str(wrong.value) and "\n" not in str(wrong.value)


def step(network, optimizer, images, labels):
    loss = F.cross_entropy(network(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def step_emptied_last(network, optimizer, images, labels):
    loss = nn.CrossEntropyLoss()(network(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def step_by_hand(network, optimizer, images, labels):
    network.zero_grad()
    loss = -network(images).log_softmax(1)[range(len(labels)), labels].mean()
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize("answer", [step, step_emptied_last, step_by_hand])
def test_steps_are_right(answer, capsys):
    before = torch.get_rng_state()
    checks.train_step(answer)
    assert capsys.readouterr().out.startswith("Right: ") and torch.equal(before, torch.get_rng_state())


def variant(*lines):
    code = "\n".join(f"    {line}" for line in lines)
    space = {"F": F, "torch": torch}
    exec(f"def step(network, optimizer, images, labels):\n{code}", space)
    return space["step"]


LOSS, EMPTY, BACK, STEP = (
    "loss = F.cross_entropy(network(images), labels)", "optimizer.zero_grad()", "loss.backward()", "optimizer.step()",
)  # fmt: skip


@pytest.mark.parametrize(
    "lines, words",
    [
        (["..."], "gives nothing back"),
        (["network.eval()", LOSS, EMPTY, BACK, STEP, "return loss"], "in evaluation mode"),
        (
            [
                LOSS,
                EMPTY,
                BACK,
                "with torch.no_grad():",
                "  for p in network.parameters(): p -= 0.5 * p.grad",
                "return loss",
            ],
            "not by the optimizer's step",
        ),
        (
            [
                LOSS,
                EMPTY,
                BACK,
                "with torch.no_grad():",
                "  network.weight -= 0.1 * network.weight.grad",
                "return loss",
            ],
            "not by the optimizer's step",
        ),
        ([LOSS, EMPTY, BACK, STEP], "gives nothing back"),
        ([LOSS, BACK, STEP, "return loss"], "the gradient of the first is still there"),
        ([LOSS, EMPTY, STEP, "return loss"], "there was no gradient"),
        ([LOSS, BACK, EMPTY, STEP, "return loss"], "there was no gradient"),
        ([LOSS, EMPTY, BACK, "return loss"], "though their gradient is there"),
        ([LOSS.replace("labels)", "labels, reduction='sum')"), EMPTY, BACK, STEP, "return loss"], "not their mean"),
        ([LOSS.replace("(images)", "(images).softmax(1)"), EMPTY, BACK, STEP, "return loss"], "done to the output"),
        ([LOSS, EMPTY, BACK, STEP, STEP, "return loss"], "or the step taken twice"),
        ([LOSS, EMPTY, BACK, STEP, LOSS, "return loss"], "before the step, and yours is"),
        ([LOSS, EMPTY, BACK, STEP, "return network(images)"], "gives a Tensor, not a number"),
        (["loss = F.cross_entropy(labels, network(images))", "return loss"], "ends with"),
    ],
)
def test_what_is_no_step_is_told(lines, words):
    with pytest.raises(checks.WrongAnswer) as wrong:
        checks.train_step(variant(*lines))
    assert words in str(wrong.value) and "\n" not in str(wrong.value)


def test_a_guess_is_one_of_the_answers(capsys):
    checks.guess("a", "a", "b")
    assert "Your guess: a." in capsys.readouterr().out
    with pytest.raises(checks.WrongAnswer, match="choose one of 'a', 'b'"):
        checks.guess(..., "a", "b")
    with pytest.raises(checks.WrongAnswer, match="choose one of 'a', 'b'"):
        checks.guess(torch.ones(2), "a", "b")


def copying(fill):
    def make(channels):
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        with torch.no_grad():
            fill(conv.weight)
        return conv

    return make


def loop(weight):
    weight.zero_()
    for channel in range(len(weight)):
        weight[channel, channel, 1, 1] = 1


def eye(weight):
    weight.zero_()[:, :, 1, 1] = torch.eye(len(weight))


@pytest.mark.parametrize("fill", [loop, eye, nn.init.dirac_])
def test_copying_convolutions_are_right(fill, capsys):
    checks.copying(copying(fill))
    assert capsys.readouterr().out.startswith("Right: ")


def middle(value):
    def fill(weight):
        weight.zero_()[:, :, 1, 1] = value

    return fill


@pytest.mark.parametrize(
    "make, words",
    [
        (copying(lambda weight: ...), "nothing is written into them yet"),
        (copying(nn.init.xavier_normal_), "looks at a pixel's neighbours too"),
        (lambda channels: nn.Conv2d(channels, channels, 1), "a convolution of (1, 1), not of 3x3"),
        (copying(lambda weight: weight.zero_()), "all of its weights are 0"),
        (copying(middle(1)), "the sum of all channels"),
        (copying(lambda weight: weight.fill_(1)), "looks at a pixel's neighbours"),
        (copying(lambda weight: eye(weight) or weight.mul_(0.5)), "mixes or scales the channels"),
        (copying(lambda weight: weight.copy_(weight.flip(0))), "looks at a pixel's neighbours"),
        (lambda channels: ..., "gives nothing back"),
        (lambda channels: nn.Identity(), "gives Identity, not a convolution"),
        (
            lambda channels: nn.init.dirac_(nn.Conv2d(channels, channels, 3, padding=1, bias=False).weight),
            "gives Parameter",
        ),
        (lambda channels: nn.Conv2d(channels, channels, 3), "the shape (2, 3, 3, 4), where (2, 3, 5, 6) is needed"),
    ],
)
def test_what_does_not_copy_is_told(make, words):
    with pytest.raises(checks.WrongAnswer) as wrong:
        checks.copying(make)
    assert words in str(wrong.value) and "\n" not in str(wrong.value)


class Partly(nn.Module):
    """Plain but for one convolution, which something goes around."""

    def __init__(self, layers):
        super().__init__()
        self.body = nn.ModuleList([nn.Sequential(*unit(1 if i == 0 else 4, 4)) for i in range(layers - 1)])
        self.head = nn.Sequential(*head())

    def forward(self, x):
        for i, part in enumerate(self.body):
            x = part(x) + (x if i == 1 else 0)
        return self.head(x)


def test_the_line_that_is_told_is_the_students():
    def answer(channels):
        mine = torch.ones(channels, channels)
        return untrained(mine)

    with pytest.raises(checks.WrongAnswer, match="at `return untrained"):
        checks.copying(answer)


def test_a_way_around_any_layer_is_found():
    with pytest.raises(checks.WrongAnswer, match="a way leads around some layers"):
        checks.plain_net(Partly)


def test_batch_norms_need_no_weights_of_their_own(capsys):
    checks.plain_net(
        lambda layers: nn.Sequential(
            *[nn.BatchNorm2d(4, affine=False) if isinstance(part, nn.BatchNorm2d) else part for part in body(layers)],
            *head(),
        )
    )
    assert capsys.readouterr().out.startswith("Right: ")
