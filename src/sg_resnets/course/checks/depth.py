"""Lesson 1: a plain network of so many layers, and a step of its training."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from sg_resnets.course.checks.answers import WrongAnswer, call, close, number, refuse_unpadded, right, tensor
from sg_resnets.utils.hooks import evaluating, watched

_KINDS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
Step = Callable[[nn.Module, torch.optim.Optimizer, Tensor, Tensor], Any]


def plain_net(make: Callable[[int], nn.Module]) -> None:
    """`make(layers)` gives a network of so many layers with weights, (N, 1, 14, 14) -> (N, 10): 3x3 convolutions, each
    with its batch-norm and ReLU, and a linear layer; nothing goes around them (He et al. 2015, figure 3, middle).

    Raises:
        WrongAnswer: it does not.
    """
    with torch.random.fork_rng():
        for layers in (8, 13):
            torch.manual_seed(0)
            network = call(f"plain_net({layers})", make, layers)
            if not isinstance(network, nn.Module):
                raise WrongAnswer(f"plain_net gives {type(network).__name__}, not a network: an nn.Module")
            _plain_net(f"plain_net({layers})", network, layers)
    right("a plain network of as many layers as you ask for.")


def _plain_net(name: str, network: nn.Module, layers: int) -> None:
    pictures = torch.randn(16, 1, 14, 14)
    seen: list[tuple[nn.Module, Tensor]] = []

    def look(path: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((module, inputs[0].detach()))

    kinds = {kind: [m for m in network.modules() if isinstance(m, kind)] for kind in _KINDS}
    weighty = kinds[nn.Conv2d] + kinds[nn.Linear]
    paths = [path for path, module in network.named_modules() if isinstance(module, _KINDS)]
    with torch.no_grad(), watched(network, paths, look):
        try:
            logits = tensor(name, call(name, network.train(), pictures), (16, 10))
        except WrongAnswer as error:
            if "Kernel size" in str(error):  # PyTorch's words for maps that have become too small
                refuse_unpadded(name, network)
            raise
    times = Counter(module for module, _ in seen)
    if len(weighty) != layers:
        raise WrongAnswer(
            f"{name} has {len(weighty)} layers with weights: {len(kinds[nn.Conv2d])} convolutions and "
            f"{len(kinds[nn.Linear])} linear"
        )
    if any(count > 1 for count in times.values()):
        repeated, count = times.most_common(1)[0]
        raise WrongAnswer(
            f"{name} uses one {type(repeated).__name__} {count} times: layers that share their weights are one layer"
        )
    if len(times) < sum(map(len, kinds.values())):
        raise WrongAnswer(f"{name} has layers that its forward does not use")
    if len(kinds[nn.Linear]) != 1:
        raise WrongAnswer(f"{name} has {len(kinds[nn.Linear])} linear layers, where one gives the classes")
    if any(conv.kernel_size != (3, 3) for conv in kinds[nn.Conv2d]):
        raise WrongAnswer(f"{name} has a convolution that is not 3x3")
    if len(kinds[nn.BatchNorm2d]) != len(kinds[nn.Conv2d]):
        raise WrongAnswer(
            f"{name} has {len(kinds[nn.Conv2d])} convolutions and {len(kinds[nn.BatchNorm2d])} batch-norms: each "
            "convolution has one of its own"
        )
    later = [inputs for module, inputs in seen if isinstance(module, nn.Conv2d | nn.Linear)][1:]
    for place, inputs in enumerate(later, 2):
        if inputs.min() < 0:
            raise WrongAnswer(
                f"layer {place} of {name} gets negative values, and what comes out of a ReLU has none: is the ReLU the "
                "last of what stands before it?"
            )
    _logits(name, logits)
    if _goes_around(network, kinds[nn.BatchNorm2d], pictures):
        raise WrongAnswer(
            f"in {name} a way leads around some layers: with a batch-norm that gives zero alone, the output still "
            "depends on the picture, and a plain network has no such way"
        )
    _layers_alike(name, network, kinds[nn.Conv2d], pictures)


def _layers_alike(name: str, network: nn.Module, convs: Sequence[Any], pictures: Tensor) -> None:
    """Check what the text asks for, so that the cells after it can work with the network."""
    for kind in (nn.modules.dropout._DropoutNd, nn.modules.pooling._MaxPoolNd):
        for module in network.modules():
            if isinstance(module, kind):
                raise WrongAnswer(f"{name} has a {type(module).__name__}, which is none of a plain network's links")
    strides = [conv.stride for conv in convs]
    if strides[0] != (2, 2) or any(stride != (1, 1) for stride in strides[1:]):
        raise WrongAnswer(
            f"the strides of {name} are {', '.join(str(stride[0]) for stride in strides)}: the first convolution alone "
            "has 2, the others 1"
        )
    if not isinstance(network, nn.Sequential):
        raise WrongAnswer(
            f"{name} is a {type(network).__name__}: one nn.Sequential is asked for, which can be taken apart"
        )
    *_, average, flatten, linear = (None, None, None, *network)
    if not isinstance(linear, nn.Linear) or not isinstance(flatten, nn.Flatten):
        raise WrongAnswer(f"{name} is to end with three modules: the average, nn.Flatten and the linear layer")
    with torch.no_grad(), evaluating(network):
        maps = nn.Sequential(*list(network)[:-3])(pictures)
        averages = flatten(average(maps))
    if maps.shape[2:] != (7, 7):
        refuse_unpadded(name, network)
        raise WrongAnswer(
            f"{name} averages {maps[0, 0].numel()} numbers of each channel, where 7x7 come from the strides"
        )
    if averages.shape != maps.shape[:2] or not close(averages, maps.mean((2, 3))):
        raise WrongAnswer(f"what the linear layer of {name} gets is not each channel's average over the picture")


def _logits(name: str, given: Tensor) -> None:
    ones = torch.ones(len(given))
    if (given >= 0).all() and close(given.sum(1), ones):
        raise WrongAnswer(f"{name} gives probabilities; the loss takes the numbers before the softmax, the logits")
    if close(given.exp().sum(1), ones):
        raise WrongAnswer(f"{name} gives logarithms of probabilities; the loss takes what is before them, the logits")
    if (given >= 0).all():
        raise WrongAnswer(f"{name} gives no negative number: a logit may be any number, so nothing comes after it")


def _goes_around(network: nn.Module, norms: Sequence[nn.Module], pictures: Tensor) -> bool:
    """Whether the output depends on the picture where one of the norms gives zero alone."""
    network.eval()  # a batch's statistics would tell the pictures of it apart
    for norm in norms:
        silence = norm.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
        with torch.no_grad():
            spread = network(pictures).std(0).max().item()
        silence.remove()
        if spread > 1e-6:
            return True
    return False


def train_step(step: Step) -> None:
    """`step(network, optimizer, images, labels)` trains the network on one batch, and gives its loss.

    Raises:
        WrongAnswer: it does not.
    """
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(8, 5, generator=generator) for _ in range(2)]
    labels = torch.arange(8) % 3
    weights = 0.1 * torch.randn(3, 5, generator=generator)
    theirs, ours, piled, summed = (_linear(weights) for _ in range(4))
    optimizers = [SGD(network.parameters(), lr=0.5, momentum=0.5) for network in (theirs, ours, piled, summed)]
    modes: list[bool] = []
    theirs.register_forward_hook(lambda network, *_: modes.append(network.training))
    for batch in batches:
        loss = number("step", call("step", step, theirs, optimizers[0], batch, labels))
        expected = _step(ours, optimizers[1], batch, labels)
        if not all(modes):
            raise WrongAnswer("the network trains in evaluation mode, in which batch-norm does not use the batch")
        _step(piled, optimizers[2], batch, labels, empty=False)
        _step(summed, optimizers[3], batch, labels, reduction="sum")
        if close(theirs.weight, weights) and batch is batches[0]:
            raise WrongAnswer(
                "the weights are the same after a step as before: when the optimizer moved them, there was no gradient"
                if theirs.weight.grad is None or not theirs.weight.grad.any()
                else "the weights are the same after a step as before, though their gradient is there"
            )
        if close(theirs.weight, piled.weight) and not close(theirs.weight, ours.weight):
            raise WrongAnswer("in the second step the gradient of the first is still there, and is added to")
        if close(theirs.weight, summed.weight) and not close(theirs.weight, ours.weight):
            raise WrongAnswer("the gradient grows with the number of pictures: the loss is their sum, not their mean")
        if not optimizers[0].state:
            raise WrongAnswer("the weights move, but not by the optimizer's step, which does more than this")
        if not close(theirs.weight, ours.weight):
            raise WrongAnswer(
                "the weights move, but not along the gradient of the cross-entropy of the network's output and the "
                "labels: is something done to the output first, or the step taken twice?"
            )
        if abs(loss - expected) > 1e-4 * expected:
            raise WrongAnswer(f"the loss is {expected:.4f} before the step, and yours is {loss:.4f}")
    right("one step of gradient descent.")


def _linear(weights: Tensor) -> nn.Linear:
    network = nn.Linear(5, 3, bias=False, device="meta").to_empty(device="cpu")  # no random number is drawn
    with torch.no_grad():
        network.weight.copy_(weights)
    return network


def _step(
    network: nn.Module, optimizer: SGD, batch: Tensor, labels: Tensor, empty: bool = True, reduction: str = "mean"
) -> float:
    loss = F.cross_entropy(network(batch), labels, reduction=reduction)
    if empty:
        optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def copying(make: Callable[[int], nn.Module]) -> None:
    """`make(channels)` gives a 3x3 convolution that passes on what it gets, (N, channels, H, W).

    Raises:
        WrongAnswer: it does not.
    """
    with torch.random.fork_rng():
        for channels in (3, 16):
            torch.manual_seed(0)
            conv = call(f"copying({channels})", make, channels)
            if not isinstance(conv, nn.Conv2d):
                raise WrongAnswer(f"copying gives {type(conv).__name__}, not a convolution")
            if conv.kernel_size != (3, 3):
                raise WrongAnswer(f"copying gives a convolution of {conv.kernel_size}, not of 3x3")
            maps = torch.rand(2, channels, 5, 6)
            output = tensor(f"copying({channels})", call(f"copying({channels})", conv, maps), tuple(maps.shape))
            torch.manual_seed(0)
            if torch.equal(conv.weight, nn.Conv2d(channels, channels, 3).weight):
                raise WrongAnswer("the weights are as PyTorch has drawn them: nothing is written into them yet")
            _copies(conv, maps, output.detach())
    right("a convolution that copies its input.")


def _copies(conv: nn.Conv2d, maps: Tensor, output: Tensor) -> None:
    if close(output, maps):
        return
    if not output.any():
        raise WrongAnswer("the convolution gives zeros: all of its weights are 0")
    middle = conv.weight[:, :, 1, 1]
    if close(output, maps.sum(1, keepdim=True).expand_as(maps)):
        raise WrongAnswer("each channel of the output is the sum of all channels of the input")
    if conv.weight.count_nonzero() > middle.count_nonzero():
        raise WrongAnswer(
            "the convolution looks at a pixel's neighbours too: only the middle of its kernel may do something"
        )
    if conv.bias is not None and conv.bias.any():
        raise WrongAnswer("the convolution adds a bias to what it copies")
    raise WrongAnswer("the middle of the kernel mixes or scales the channels: each is to come from itself alone, once")
