"""How the gradient's size changes from the last layer to the first: vanishing, exploding, or even.

He et al. 2015, section 1; Glorot & Bengio, 'Understanding the difficulty of training deep feedforward neural networks'
(2010), figure 7. A block's gradient is that of the weights of its branch's convolutions.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.models import ResNet, named_blocks
from sg_resnets.utils.hooks import watched
from sg_resnets.utils.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class BlockGradient:
    """L2 norms of the loss's gradient at the block called `name`: with respect to the weights of its convolutions, and,
    where it was looked at, to its output."""

    name: str
    weights: float
    output: float | None = None


def block_weights(network: nn.Module) -> dict[str, list[Tensor]]:
    """The convolutions' weights in the branch of each residual block, from the first block to the last."""
    blocks = named_blocks(network).items()
    return {name: [layer.weight for layer in block.branch_layers(nn.Conv2d)] for name, block in blocks}


@torch.enable_grad()
def gradient_flow(network: ResNet, images: Tensor, labels: Tensor) -> list[BlockGradient]:
    """The gradient of each block for one batch (N, C, H, W), (N,), in training mode, that of frozen weights too. The
    network itself is not changed, neither its gradients nor its batch-norm statistics; nor is the random state. Of a
    block that runs several times the last output counts."""
    network = copy.deepcopy(network).train().requires_grad_()
    blocks = block_weights(network)
    outputs: dict[str, Tensor] = {}

    def keep(name: str, block: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[name] = output

    with watched(network, blocks, keep), torch.random.fork_rng([images.device] if images.is_cuda else []):
        loss = F.cross_entropy(network(images), labels)
    tensors = [outputs[name] for name in blocks] + [weight for weights in blocks.values() for weight in weights]
    gradients = iter(torch.autograd.grad(loss, tensors))
    at_output = [_norm([next(gradients)]) for _ in blocks]
    at_weights = [_norm([next(gradients) for _ in weights]) for weights in blocks.values()]
    norms = zip(blocks, torch.stack(at_weights).tolist(), torch.stack(at_output).tolist(), strict=True)
    return [BlockGradient(*norm) for norm in norms]


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    """In float64: the squares of what has vanished would be 0."""
    return torch.nn.utils.get_total_norm([tensor.double() for tensor in tensors])


def first_to_last(flow: Sequence[BlockGradient], of: str = "weights") -> float:
    """The first block's gradient over the last one's, `of` its "weights" or its "output": above 1 it explodes on its
    way back, below 1 it vanishes; nan where all is 0.

    Without normalisation the weights hardly show it: in a net of convolutions and relu without biases, sum(w * dL/dw)
    is the same for every layer, whatever happens to the outputs' gradient.
    """
    first, last = getattr(flow[0], of), getattr(flow[-1], of)
    return first / last if last else float("inf") if first else float("nan")


def draw_gradient_flow(flows: Mapping[str, Sequence[BlockGradient]], title: str) -> "Figure":
    """Return a figure: gradient norm (log scale) by block, a line for each network; with respect to the weights,
    and to the outputs where it is known. A gradient that has underflowed to 0 ends its line."""
    watched = next(iter(flows.values()))[0].output is not None
    kinds = {"weights": "weights", "output": "outputs"} if watched else {"weights": "weights"}
    figure = new_figure(3 + 3.6 * len(kinds), 3.8, title)
    for axes, (key, words) in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds.items(), strict=True):
        for (label, flow), colour in zip(flows.items(), COLOURS * len(flows), strict=False):
            norms = [getattr(block, key) or float("nan") for block in flow]
            axes.plot(range(1, len(flow) + 1), norms, color=colour, label=label, marker=".")
        axes.set(xlabel="block (1 is nearest the image)", ylabel=f"gradient of the {words} (L2 norm)", yscale="log")
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
