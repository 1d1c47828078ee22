"""Lesson 2: a probe of gradients, the product of Jacobians, the variance of weights, the gradient of a skip connection,
and Euler's theorem."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.course.checks.answers import WrongAnswer, call, close, compare, number, numbers, right, tensor
from sg_resnets.utils.hooks import evaluating

Probe = Callable[[nn.Module, Sequence[nn.Module], Tensor, Tensor], Any]


def gradient_probe(probe: Probe) -> None:
    """Check `probe(network, layers, images, labels)`: the norm of dL/d(output) of each of these layers, in their order,
    L the cross-entropy.

    Raises:
        WrongAnswer: it gives something else, or leaves hooks in the network.
    """
    name = "the probe"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        parts = [nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh()) for _ in range(4)]
        network = nn.Sequential(*parts, nn.Linear(6, 3))
        images, labels = 2 * torch.randn(5, 6), torch.arange(5) % 3
        layers = list(network)[:-1]
        in_evaluation = _in_evaluation(network, images, labels)
        given = numbers(name, call(name, probe, network, layers, images, labels), len(layers))
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        if any(getattr(module, kind) for module in network.modules() for kind in hooks):
            raise WrongAnswer(f"{name} leaves its hooks in the network: each later run would call them again")
        again = call(name, probe, network, layers, images, labels)
        some = [0, 2]
        of_some = call(name, probe, network, [layers[i] for i in some], images, labels)
        if not all(module.training for module in network.modules()):
            raise WrongAnswer(f"{name} leaves the network in evaluation mode, and it was in training mode")
    outputs = [images]
    for layer in network:
        outputs.append(layer(outputs[-1].requires_grad_()))
    loss = F.cross_entropy(outputs[-1], labels)
    weights = [layer.get_parameter("0.weight") for layer in layers]

    def gradients(of: Tensor, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        return torch.autograd.grad(of, tensors, retain_graph=True)

    def norms(tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack([one.detach().double().norm() for one in tensors])

    at_outputs = gradients(loss, outputs[1:-1])
    expected = norms(at_outputs)
    compare(
        name,
        given,
        expected,
        {
            "the numbers come in the order in which backward reaches the layers, from the last to the first": (
                expected.flip(0)
            ),
            "these are gradients of the weights, not of the outputs": norms(gradients(loss, weights)),
            "these are norms of the outputs themselves, not of their gradients": norms(outputs[1:-1]),
            "these are the gradients in a network of these layers alone; `network` has more of them": norms(
                gradients(F.cross_entropy(outputs[-2], labels), outputs[1:-1])
            ),
            "these are gradients of the layers' inputs: each stands one layer too early": (
                norms(gradients(loss, outputs[:-2]))
            ),
            "these are squares of norms: a root is missing": expected**2,
            "these are means of absolute values, not norms": torch.stack(
                [one.double().abs().mean() for one in at_outputs]
            ),
            "the loss is summed over the images; cross-entropy takes their mean": expected * len(images),
            "this is the gradient of the summed logits, not of the loss": norms(
                gradients(outputs[-1].sum(), outputs[1:-1])
            ),
            "these are norms in evaluation mode, in which batch-norm computes something else": in_evaluation,
        },
        "these are not the norms of dL/d(output), L the cross-entropy of the logits",
    )
    if len(again) != len(layers) or not close(numbers(name, again, len(layers)), expected):
        raise WrongAnswer(f"{name} gives something else when it is called a second time: what does it keep?")
    given = numbers(f"asked for {len(some)} of the layers, {name}", of_some, len(some))
    if not close(given, expected[some]):
        raise WrongAnswer(f"{name}: asked for the first layer and the third, it gives the norms of others")
    right("the probe gives the gradient's norm at each layer's output, in their order, and leaves no hooks behind")


def _in_evaluation(network: nn.Sequential, images: Tensor, labels: Tensor) -> Tensor:
    """The norms that a probe of all layers but the last gives in evaluation mode."""
    with evaluating(network):
        outputs = [images]
        for layer in network:
            outputs.append(layer(outputs[-1]))
        gradients = torch.autograd.grad(F.cross_entropy(outputs[-1], labels), outputs[1:-1])
    return torch.stack([one.double().norm() for one in gradients])


def through_jacobians(through: Callable[[Sequence[Tensor], Tensor], Any]) -> None:
    """Check `through(jacobians, gradient)`: the gradient at the input, from J_1 ... J_L, each (outputs, inputs), and
    the gradient at the last output.

    Raises:
        WrongAnswer: it gives something else, or changes what it was given.
    """
    name = "the product"
    generator = torch.Generator().manual_seed(0)
    jacobians = [torch.randn(4, 4, generator=generator) for _ in range(3)]
    gradient = torch.randn(4, generator=generator)
    handed = [one.clone() for one in jacobians], gradient.clone()
    given = tensor(name, call(name, through, *handed), (4,))
    if not torch.equal(handed[1], gradient) or not all(map(torch.equal, handed[0], jacobians)):
        raise WrongAnswer(f"{name} writes into the tensors that it is given: make new ones")

    def product(matrices: Sequence[Tensor]) -> Tensor:
        """Of all, the last one applied first."""
        result = gradient
        for matrix in reversed(matrices):
            result = matrix @ result
        return result

    transposed = [matrix.T for matrix in jacobians]
    compare(
        name,
        given.detach(),
        product(transposed),
        {
            "the layers come in the wrong order: which one does the gradient meet first?": product(transposed[::-1]),
            "backwards it is not the Jacobian itself that multiplies the gradient": product(jacobians),
            "so a change of the input travels forwards; a gradient travels backwards": product(jacobians[::-1]),
            "the first layer is left out": product(transposed[1:]),
            "the last layer is left out": product(transposed[:-1]),
            "this is the last output's gradient: no layer has changed it": gradient,
        },
        "this is not what back-propagation gives",
    )
    right("a gradient goes backwards through the transposed Jacobians, the last layer's first")


def variances(he: Callable[..., Any], xavier: Callable[..., Any], default: Callable[..., Any]) -> None:
    """Check three functions of (n_in, n_out) that give the variance of a weight: He's (forward), Xavier's, and that of
    PyTorch's `nn.Linear`.

    Raises:
        WrongAnswer: one gives something else.
    """
    n_in, n_out = 200, 70
    forward, backward, both = 1 / n_in, 1 / n_out, 2 / (n_in + n_out)
    relu, root = "the ReLU's half is missing", "this is a standard deviation, not a variance"
    _variance(
        "he",
        call("he", he, n_in, n_out),
        2 * forward,
        {
            root: (2 * forward) ** 0.5,
            "this keeps the gradient; the forward condition is asked for": 2 * backward,
            relu: forward,
            f"{relu}, and the wrong side's n is used": backward,
            "the ReLU's half is on the wrong side of the equation": forward / 2,
            "this is Xavier's: no ReLU, and a compromise between both directions": both,
        },
    )
    _variance(
        "xavier",
        call("xavier", xavier, n_in, n_out),
        both,
        {
            root: both**0.5,
            "this is the forward condition alone, not the compromise": forward,
            "this is the backward condition alone, not the compromise": backward,
            "this is the mean of both conditions' variances; Glorot and Bengio average n": (forward + backward) / 2,
            "this is the square of the uniform distribution's bound, not its variance": 3 * both,
            "this asks for a variance half as large as either condition where n_in = n_out": both / 2,
            "there is no ReLU in Xavier's argument": 2 * both,
        },
    )
    _variance(
        "default",
        call("default", default, n_in, n_out),
        forward / 3,
        {
            root: (forward / 3) ** 0.5,
            "this is the bound itself, not a variance": forward**0.5,
            "this is the square of the bound, not the variance of the uniform distribution": forward,
            "the interval is from -b to b, twice as wide as b": forward / 12,
            "the bound depends on n_in, not on n_out": backward / 3,
        },
    )
    right("the three variances; PyTorch's default is a sixth of He's")


def _variance(name: str, given: Any, expected: float, mistakes: dict[str, float]) -> None:
    as_tensor = {words: torch.tensor(wrong, dtype=torch.float64) for words, wrong in mistakes.items()}
    value = torch.tensor(number(name, given), dtype=torch.float64)
    compare(name, value, torch.tensor(expected, dtype=torch.float64), as_tensor, "this is another variance")


def relu_stack(stack: Callable[[int, int, float], Any]) -> None:
    """Check `stack(depth, width, variance)`: a module of `depth` modules, each a bias-free `nn.Linear(width, width)` of
    that variance and a ReLU.

    Raises:
        WrongAnswer: it is something else.
    """
    for depth in (4, 3):
        _relu_stack(stack, depth, width=200, variance=0.03)
    right("as many layers relu(W x) as asked for, no biases, weights of the variance that is asked for")


def _relu_stack(stack: Callable[[int, int, float], Any], depth: int, width: int, variance: float) -> None:
    name = "the stack"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = call(name, stack, depth, width, variance)
    if not isinstance(network, nn.Sequential):
        raise WrongAnswer(f"{name} is a {type(network).__name__}, not an nn.Sequential of layers")
    if len(network) == 2 * depth:
        raise WrongAnswer(f"{name}: Linear and ReLU are modules of their own; a layer is one module of both")
    if len(network) != depth:
        raise WrongAnswer(f"{name} has {len(network)} layers, where depth={depth} is asked for")
    linears = [module for layer in network for module in layer.modules() if isinstance(module, nn.Linear)]
    if len(linears) != depth or any(layer.weight.shape != (width, width) for layer in linears):
        raise WrongAnswer(f"{name} needs one nn.Linear(width, width) in each layer")
    if len({id(layer) for layer in linears}) < depth:
        raise WrongAnswer(f"{name}: its layers are one layer, run {depth} times; each needs weights of its own")
    if any(layer.bias is not None and layer.bias.any() for layer in linears):
        raise WrongAnswer(f"{name}: a layer has a bias; the argument has none")
    _check_weights(name, torch.stack([layer.weight.detach() for layer in linears]), width, variance)
    x = linear = torch.randn(8, width, generator=torch.Generator().manual_seed(0))
    for place, (layer, weights) in enumerate(zip(network, linears, strict=True), 1):
        with torch.no_grad():
            given = tensor(name, call(name, layer, x.clone()), (8, width))
            linear = x @ weights.weight.T
        what = f"layer {place}'s output is not relu(W x)"
        compare(
            name,
            given,
            linear.relu(),
            {
                f"layer {place} ends without its ReLU": linear,
                f"layer {place} has its ReLU before the weights": x.relu() @ weights.weight.T,
            },
            what,
        )
        x = linear.relu()


def _check_weights(name: str, weights: Tensor, width: int, variance: float) -> None:
    measured, mean = weights.var().item(), weights.mean().item()
    if abs(mean) > 0.1 * measured**0.5:
        raise WrongAnswer(f"{name}: the weights' mean is {mean:.2g}, not 0")
    for wrong, words in {
        variance**2: "the variance was taken for the standard deviation",
        1 / (3 * width): "the weights are as PyTorch has drawn them",
        2 / width: "this is He's variance, whichever is asked for",
    }.items():
        if abs(measured / wrong - 1) < 0.05:
            raise WrongAnswer(f"{name}: {words}")
    if abs(measured / variance - 1) > 0.05:
        raise WrongAnswer(f"{name}: the weights' variance is {measured:.2g}, where {variance:g} was asked for")


def skip_gradient(function: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Any]) -> None:
    """Check `function(branch, x, gradient)`: dL/dx of y = x + branch(x), where `gradient` is dL/dy.

    Raises:
        WrongAnswer: it gives something else.
    """
    name = "the gradient"
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 5, generator=generator)
    x, gradient = torch.randn(2, 5, generator=generator)

    def branch(x: Tensor) -> Tensor:
        return (x @ first.T).tanh() @ second.T

    given = tensor(name, call(name, function, branch, x.clone(), gradient.clone()), (5,)).detach()
    jacobian = torch.func.jacrev(branch)(x)
    compare(
        name,
        given,
        gradient + jacobian.T @ gradient,
        {
            "this is dL/dy alone: what has come through the branch is missing": gradient,
            "this has come through the branch alone: what takes the shortcut is missing": jacobian.T @ gradient,
            "the two ways are joined by a product here, not by a sum": gradient * (jacobian.T @ gradient),
            "dF/dx is a matrix here; element by element it does not multiply": gradient * (1 + jacobian.sum(0)),
            "the branch's Jacobian is not transposed": gradient + jacobian @ gradient,
            "dL/dy comes twice through the shortcut": 2 * gradient + jacobian.T @ gradient,
            "the 1 of the formula is the identity: times dL/dy it is dL/dy, not 1": 1 + jacobian.T @ gradient,
            "x itself is added, and not what takes the shortcut on its way back": x + jacobian.T @ gradient,
            "the branch has the minus sign": gradient - jacobian.T @ gradient,
        },
        "this is not what back-propagation gives for y = x + F(x)",
    )
    right("dL/dx is dL/dy, and what comes back through the branch is added to it")


def weight_times_gradient(function: Callable[[nn.Module, Tensor, Tensor], Any]) -> None:
    """Check `function(network, images, labels)`: sum(w * dL/dw) of each weight of the network, L the cross-entropy.

    Raises:
        WrongAnswer: it gives something else.
    """
    name = "the function"
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        layers = [nn.Linear(6, 8, bias=False), nn.Linear(8, 9, bias=False), nn.Linear(9, 3, bias=False)]
        network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        images, labels = 3 * torch.randn(5, 6), torch.arange(5) % 3
        given, again = (numbers(name, call(name, function, network, images, labels), 3) for _ in range(2))
    weights = [layer.weight for layer in layers]
    gradients = torch.autograd.grad(F.cross_entropy(network(images), labels), weights)
    pairs = [(w.detach().double(), g.double()) for w, g in zip(weights, gradients, strict=True)]

    def each(measure: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return torch.stack([measure(*pair) for pair in pairs])

    expected = each(lambda w, g: (w * g).sum())
    compare(
        name,
        given,
        expected,
        {
            "this is the sum of the gradient: the weights are missing": each(lambda w, g: g.sum()),
            "this is a norm of the gradient, not a sum of products": each(lambda w, g: g.norm()),
            "these are products of norms, which forget the angle between w and dL/dw": each(
                lambda w, g: w.norm() * g.norm()
            ),
            "this is the mean over the weights, not the sum": each(lambda w, g: (w * g).mean()),
            "the sign of each product is lost": each(lambda w, g: (w * g).abs().sum()),
            "the loss is summed over the images; cross-entropy takes their mean": expected * len(images),
        },
        "this is not sum(w * dL/dw), weight by weight",
    )
    if not close(again, expected):
        raise WrongAnswer(f"{name}: a second call gives something else: the gradients of the first are still there")
    right("sum(w * dL/dw) of each weight")
