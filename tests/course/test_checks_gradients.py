"""The checks of lesson 2: right answers of several forms, and wrong ones, each told from the others."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sg_resnets.course import checks

# Probes.


def forward_hooks(network, layers, images, labels, loss=F.cross_entropy, of=lambda m, x, y: y, measure=torch.norm):
    seen = []
    handles = [layer.register_forward_hook(lambda m, x, y: seen.append(of(m, x[0], y))) for layer in layers]
    result = loss(network(images.requires_grad_()), labels)
    for handle in handles:
        handle.remove()
    return [measure(gradient) for gradient in torch.autograd.grad(result, seen)]


def retained(network, layers, images, labels):
    outputs = []

    def keep(module, inputs, output):
        output.retain_grad()
        outputs.append(output)

    handles = [layer.register_forward_hook(keep) for layer in layers]
    F.cross_entropy(network(images), labels).backward()
    [handle.remove() for handle in handles]
    return torch.stack([output.grad.norm() for output in outputs])


def backward_hooks(network, layers, images, labels, turn=True, remove=True):
    norms = []
    handles = [
        layer.register_full_backward_hook(lambda m, before, after: norms.append(after[0].norm().item()))
        for layer in layers
    ]
    F.cross_entropy(network(images), labels).backward()
    if remove:
        for handle in handles:
            handle.remove()
    return norms[::-1] if turn else norms


def outputs_alone(network, layers, images, labels):
    return forward_hooks(network, layers, images, labels) and [
        torch.tensor(1.0) * y.norm() for y in _outputs(layers, images)
    ]


def _outputs(layers, x):
    return [x := layer(x) for layer in layers]


def evaluated(network, *others):
    norms = forward_hooks(network.eval(), *others)
    network.train()
    return norms


def the_first_ones(network, layers, images, labels):
    return forward_hooks(network, list(network)[: len(layers)], images, labels)


def these_alone(network, layers, images, labels):
    outputs = _outputs(layers, images)
    return [gradient.norm() for gradient in torch.autograd.grad(F.cross_entropy(outputs[-1], labels), outputs)]


def squared_sum(gradient):
    return gradient.square().sum()


def whole_network(network, layers, images, labels):
    return forward_hooks(network, list(network), images, labels)


KEPT = []


def keeps(network, layers, images, labels):
    KEPT.extend(retained(network, layers, images, labels).tolist())
    return KEPT


@pytest.mark.parametrize("probe", [forward_hooks, retained, backward_hooks])
def test_a_probe_may_hook_forwards_or_backwards(probe, capsys):
    checks.gradient_probe(probe)
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (lambda *args: ..., "is its `return` written"),
        (lambda network, layers, images, labels: network(layers), "ends with AttributeError|ends with TypeError"),
        (lambda *args: backward_hooks(*args, turn=False), "from the last to the first"),
        (lambda *args: backward_hooks(*args, remove=False), "leaves its hooks"),
        (lambda *args: forward_hooks(*args, of=lambda m, x, y: m[0].weight), "gradients of the weights"),
        (lambda *args: forward_hooks(*args, of=lambda m, x, y: x), "one layer too early"),
        (lambda *args: forward_hooks(*args, measure=squared_sum), "a root is missing"),
        (lambda *args: forward_hooks(*args, measure=lambda g: g.abs().mean()), "absolute values"),
        (
            lambda *args: forward_hooks(*args, loss=lambda z, y: F.cross_entropy(z, y, reduction="sum")),
            "summed over the images",
        ),
        (lambda *args: forward_hooks(*args, loss=lambda z, y: z.sum()), "summed logits"),
        (outputs_alone, "norms of the outputs themselves"),
        (whole_network, "gives 5 numbers, where 4 are needed"),
        (keeps, "a second time"),
        (lambda network, *others: forward_hooks(network.eval(), *others), "leaves the network in evaluation mode"),
        (evaluated, "norms in evaluation mode"),
        (these_alone, "in a network of these layers alone"),
        (the_first_ones, "asked for the first layer and the third"),
    ],
)
def test_a_wrong_probe_is_told_what_it_measures(probe, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.gradient_probe(probe)


# Products of Jacobians.


def backwards(jacobians, gradient):
    for jacobian in reversed(jacobians):
        gradient = jacobian.T @ gradient
    return gradient


def in_place(jacobians, gradient):
    gradient.copy_(backwards(jacobians, gradient))
    return gradient


@pytest.mark.parametrize(
    "through",
    [
        backwards,
        lambda jacobians, gradient: torch.linalg.multi_dot([j.T for j in jacobians]) @ gradient,
        lambda jacobians, gradient: gradient @ torch.linalg.multi_dot(jacobians[::-1]),
    ],
)
def test_the_product_may_be_taken_from_either_end(through):
    checks.through_jacobians(through)


@pytest.mark.parametrize(
    ("through", "words"),
    [
        (lambda jacobians, gradient: None, "is its `return` written"),
        (lambda jacobians, gradient: backwards(jacobians[::-1], gradient), "wrong order"),
        (lambda jacobians, gradient: backwards([j.T for j in jacobians], gradient), "not the Jacobian itself"),
        (lambda jacobians, gradient: backwards([j.T for j in jacobians[::-1]], gradient), "travels forwards"),
        (lambda jacobians, gradient: backwards(jacobians[1:], gradient), "first layer is left out"),
        (lambda jacobians, gradient: backwards(jacobians[:-1], gradient), "last layer is left out"),
        (lambda jacobians, gradient: gradient, "no layer has changed it"),
        (lambda jacobians, gradient: torch.linalg.multi_dot(jacobians), r"the shape \(4, 4\)"),
        (lambda jacobians, gradient: gradient * sum(jacobians).sum(0), "not what back-propagation gives"),
        (in_place, "writes into"),
    ],
)
def test_a_wrong_product_is_told_apart(through, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.through_jacobians(through)


# Variances.


def he(n_in, n_out):
    return 2 / n_in


def xavier(n_in, n_out):
    return 2 / (n_in + n_out)


def default(n_in, n_out):
    return 1 / (3 * n_in)


@pytest.mark.parametrize(
    "answers",
    [
        (he, xavier, default),
        (lambda a, b: torch.tensor(2 / a), lambda a, b: 1 / ((a + b) / 2), lambda a, b: (1 / math.sqrt(a)) ** 2 / 3),
        (lambda a, b: math.sqrt(2 / a) ** 2, lambda a, b: 6 / (a + b) / 3, lambda a, b: (2 / a**0.5) ** 2 / 12),
    ],
)
def test_variances_are_numbers_however_written(answers):
    checks.variances(*answers)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((lambda a, b: ..., xavier, default), "he gives nothing back"),
        ((lambda a, b: math.sqrt(2 / a), xavier, default), "he: this is a standard deviation"),
        ((lambda a, b: 2 / b, xavier, default), "forward condition is asked for"),
        ((lambda a, b: 1 / a, xavier, default), "he: the ReLU's half is missing"),
        ((lambda a, b: 1 / (2 * a), xavier, default), "wrong side of the equation"),
        ((xavier, xavier, default), "this is Xavier's"),
        ((he, lambda a, b: 1 / a, default), "xavier: this is the forward condition alone"),
        ((he, lambda a, b: 1 / b, default), "backward condition alone"),
        ((he, lambda a, b: (1 / a + 1 / b) / 2, default), "average n"),
        ((he, lambda a, b: 6 / (a + b), default), "square of the uniform"),
        ((he, lambda a, b: 1 / (a + b), default), "half as large"),
        ((he, xavier, lambda a, b: 1 / a), "default: this is the square of the bound"),
        ((he, xavier, lambda a, b: a**-0.5), "the bound itself"),
        ((he, xavier, lambda a, b: 1 / (12 * a)), "twice as wide"),
        ((he, xavier, lambda a, b: 1 / (3 * b)), "depends on n_in"),
        ((he, xavier, lambda a, b: 7.0), "another variance"),
        ((he, xavier, lambda a, b: a / 0), "default ends with ZeroDivisionError"),
    ],
)
def test_a_wrong_variance_is_told_apart(answers, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.variances(*answers)


# The stack.


def layer(width, variance, bias=False):
    linear = nn.Linear(width, width, bias=bias)
    nn.init.normal_(linear.weight, std=variance**0.5)
    return nn.Sequential(linear, nn.ReLU())


def stack(depth, width, variance):
    return nn.Sequential(*(layer(width, variance) for _ in range(depth)))


class Layer(nn.Module):
    def __init__(self, width, variance):
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            self.linear.weight.uniform_(-1, 1).mul_((3 * variance) ** 0.5)

    def forward(self, x):
        return F.relu(self.linear(x))


def zero_bias(depth, width, variance):
    layers = [layer(width, variance, bias=True) for _ in range(depth)]
    for each in layers:
        nn.init.zeros_(each[0].bias)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("answer", [stack, zero_bias, lambda d, w, v: nn.Sequential(*[Layer(w, v) for _ in range(d)])])
def test_a_stack_may_be_of_sequentials_or_of_modules(answer):
    state = torch.get_rng_state()
    checks.relu_stack(answer)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda d, w, v: ..., "gives nothing back"),
        (lambda d, w, v: [layer(w, v)] * d, "is a list"),
        (lambda d, w, v: nn.ModuleList(stack(d, w, v)), "is a ModuleList, not an nn.Sequential"),
        (lambda d, w, v: nn.Sequential(*[layer(w, v)] * d), "its layers are one layer"),
        (lambda d, w, v: stack(d + 1, w, v), "has 5 layers"),
        (lambda d, w, v: stack(4, w, v), "has 4 layers, where depth=3"),
        (lambda d, w, v: nn.Sequential(*[part for one in stack(d, w, v) for part in one]), "modules of their own"),
        (lambda d, w, v: stack(d, w + 1, v), r"one nn.Linear\(width, width\)"),
        (lambda d, w, v: nn.Sequential(*[layer(w, v, bias=True) for _ in range(d)]), "has a bias"),
        (lambda d, w, v: stack(d, w, v**2), "taken for the standard deviation"),
        (lambda d, w, v: stack(d, w, 2 / w), "He's variance"),
        (lambda d, w, v: stack(d, w, 2 * v), "the weights' variance is 0.06"),
        (lambda d, w, v: nn.Sequential(*[nn.Sequential(nn.Linear(w, w, bias=False), nn.ReLU()) for _ in range(d)]),
         "as PyTorch has drawn them"),
        (lambda d, w, v: nn.Sequential(*[one[0] for one in stack(d, w, v)]), "layer 1 ends without its ReLU"),
        (lambda d, w, v: nn.Sequential(*stack(d, w, v)[:-1], stack(1, w, v)[0][0]), "layer 4 ends without"),
        (lambda d, w, v: nn.Sequential(*[one[::-1] for one in stack(d, w, v)]), "before the weights"),
        (lambda d, w, v: nn.Sequential(*[nn.Sequential(one[0], nn.Tanh()) for one in stack(d, w, v)]), "not relu"),
    ],
)  # fmt: skip
def test_a_wrong_stack_is_told_apart(answer, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.relu_stack(answer)


def test_weights_that_are_not_centred_are_seen():
    def answer(depth, width, variance):
        network = stack(depth, width, variance)
        for one in network:
            nn.init.uniform_(one[0].weight)
        return network

    with pytest.raises(checks.WrongAnswer, match=r"mean is 0.5, not 0"):
        checks.relu_stack(answer)


# The skip connection.


def pulled_back(branch, x, gradient):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(branch(x), x, gradient)[0]


def jacobian(branch, x):
    return torch.autograd.functional.jacobian(branch, x)


@pytest.mark.parametrize(
    "answer",
    [
        lambda f, x, g: g + pulled_back(f, x, g),
        lambda f, x, g: (torch.eye(len(x)) + jacobian(f, x)).T @ g,
        lambda f, x, g: torch.func.vjp(f, x)[1](g)[0] + g,
        lambda f, x, g: pulled_back(lambda x: x + f(x), x, g),
    ],
)
def test_the_skip_connections_gradient_may_be_a_pullback_or_a_matrix(answer):
    checks.skip_gradient(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda f, x, g: ..., "gives nothing back"),
        (lambda f, x, g: g, "through the branch is missing"),
        (lambda f, x, g: pulled_back(f, x, g), "takes the shortcut is missing"),
        (lambda f, x, g: g * pulled_back(f, x, g), "a product here"),
        (lambda f, x, g: g * (1 + pulled_back(f, x, torch.ones(5))), "is a matrix here"),
        (lambda f, x, g: g + jacobian(f, x) @ g, "not transposed"),
        (lambda f, x, g: 2 * g + pulled_back(f, x, g), "twice through the shortcut"),
        (lambda f, x, g: x + pulled_back(f, x, g), "x itself is added"),
        (lambda f, x, g: g - pulled_back(f, x, g), "minus sign"),
        (lambda f, x, g: 1 + pulled_back(f, x, g), "the 1 of the formula is the identity"),
        (lambda f, x, g: g + 3 * pulled_back(f, x, g), "not what back-propagation gives"),
        (lambda f, x, g: torch.eye(5) + jacobian(f, x), r"shape \(5, 5\)"),
    ],
)
def test_a_wrong_gradient_of_a_skip_connection_is_told_apart(answer, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.skip_gradient(answer)


# Euler's theorem.


def by_grad(network, images, labels, measure=lambda w, g: (w * g).sum(), reduction="mean"):
    weights = list(network.parameters())
    loss = F.cross_entropy(network(images), labels, reduction=reduction)
    return [measure(w.detach(), g) for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)]


def by_backward(network, images, labels, clear=True):
    if clear:
        network.zero_grad()
    F.cross_entropy(network(images), labels).backward()
    return torch.stack([(w * w.grad).sum() for w in network.parameters()])


@pytest.mark.parametrize(
    "answer",
    [by_grad, by_backward, lambda *args: by_grad(*args, measure=lambda w, g: (w.flatten() @ g.flatten()).item())],
)
def test_the_sums_may_come_from_grad_or_backward(answer):
    checks.weight_times_gradient(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda *args: ..., "gives nothing back"),
        (lambda *args: by_grad(*args, measure=lambda w, g: g.sum()), "weights are missing"),
        (lambda *args: by_grad(*args, measure=lambda w, g: g.norm()), "a norm of the gradient"),
        (lambda *args: by_grad(*args, measure=lambda w, g: w.norm() * g.norm()), "forget the angle"),
        (lambda *args: by_grad(*args, measure=lambda w, g: (w * g).mean()), "the mean over the weights"),
        (lambda *args: by_grad(*args, measure=lambda w, g: (w * g).abs().sum()), "sign of each product"),
        (lambda *args: by_grad(*args, reduction="sum"), "summed over the images"),
        (lambda *args: by_backward(*args, clear=False), "gradients of the first"),
        (lambda *args: sum(by_grad(*args)), "where 3 numbers are needed"),
        (lambda *args: by_grad(*args, measure=lambda w, g: w * g), "not a number"),
        (lambda *args: [1, 2, 3], "not sum"),
    ],
)
def test_wrong_sums_are_told_apart(answer, words):
    with pytest.raises(checks.WrongAnswer, match=words):
        checks.weight_times_gradient(answer)


def test_a_guess_is_one_of_the_answers(capsys):
    checks.guess("yes", "yes", "no")
    assert "yes" in capsys.readouterr().out
    with pytest.raises(checks.WrongAnswer, match=r"Ellipsis.*'yes', 'no'"):
        checks.guess(..., "yes", "no")
