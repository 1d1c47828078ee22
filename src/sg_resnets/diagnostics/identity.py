"""How little each residual branch adds, and a deeper net that starts as a shallower one.

He et al. 2015: section 4.2 and figure 7 (standard deviation of each layer's response); section 1 (a deeper net can copy
a shallower one and make its added layers the identity).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sg_resnets.models import ResidualBlock, ResNet, named_blocks
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COPIES_ITS_INPUT = ("original", "relu_before_addition", "relu_only_preact", "full_preact")


@dataclass(frozen=True)
class BranchResponse:
    """Of the block called `name`: standard deviation of its branch's output F(x), and |F(x)| over |shortcut(x)|, 0
    where nothing is added."""

    name: str
    deviation: float
    relative: float


@torch.no_grad()
def branch_responses(network: ResNet, images: Tensor) -> list[BranchResponse]:
    """What each branch of the network adds for a batch (N, C, H, W); in evaluation mode."""
    was_training, responses, handles = network.training, [], []

    def watch(name: str, block: ResidualBlock) -> Any:
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            if block.downsample is None:
                x = block.pre_activation(inputs[0])
                responses.append(BranchResponse(name, block.scale(block.se(block.residual(x))).std().item(), 0.0))
            else:
                branch, shortcut = inputs[:2]
                relative = (branch.norm() / shortcut.norm()).item()
                responses.append(BranchResponse(name, branch.std().item(), relative))

        return hook

    for name, block in named_blocks(network).items():
        watched = block if block.downsample is None else block.addition
        handles.append(watched.register_forward_hook(watch(name, block)))
    try:
        network.eval()(images)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return responses


@torch.no_grad()
def deepen(network: ResNet, depths: Sequence[int]) -> ResNet:
    """A network of more blocks that computes the same: the old blocks are copied, the new ones follow them in each
    stage and start with a branch of zero.

    Raises:
        SgResnetsError: fewer blocks than before, a plain net, or an order whose blocks cannot be the identity.
    """
    config = network.config
    if len(depths) != len(config.depths) or any(new < old for new, old in zip(depths, config.depths, strict=True)):
        raise SgResnetsError(f"depths={tuple(depths)}: must have at least as many blocks as {config.depths}")
    if config.shortcut == "none":
        raise SgResnetsError("a plain net has no shortcut that could carry its input past the new blocks")
    if config.order not in _COPIES_ITS_INPUT:
        raise SgResnetsError(f"order '{config.order}': a block without branch does not copy its input")
    deeper = ResNet(replace(config, depths=tuple(depths)))
    deeper.load_state_dict({**deeper.state_dict(), **network.state_dict()})
    old = named_blocks(network)
    for name, block in named_blocks(deeper).items():
        if name not in old:
            block.zero_init_last()
    return deeper.train(network.training)


def draw_responses(responses: Mapping[str, Sequence[BranchResponse]], title: str) -> "Figure":
    """Return a figure: by block, the deviation of the branch's response (figure 7), and its size over that of what
    the shortcut carries; a plain net has no shortcut. Untrained networks are dashed."""
    figure = new_figure(8, 3.6, title)
    panels = {"deviation": "standard deviation of F(x)", "relative": "|F(x)| over |shortcut(x)|"}
    left, right = figure.subplots(1, 2)
    for axes, (key, words) in zip((left, right), panels.items(), strict=True):
        networks = list(dict.fromkeys(label.removesuffix(", untrained") for label in responses))
        for label, rows in responses.items():
            colour = COLOURS[networks.index(label.removesuffix(", untrained")) % len(COLOURS)]
            values = [getattr(row, key) for row in rows]
            if any(values):
                style = "--" if "untrained" in label else "-"
                axes.plot(range(1, len(values) + 1), values, style, color=colour, label=label, marker=".")
        axes.set(xlabel="block (1 is nearest the image)", ylabel=words, ylim=(0, None))
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    return figure
