"""How little each residual branch adds, and a deeper net that starts as a shallower one.

He et al. 2015: section 4.2 and figure 7 (standard deviation of each layer's response); section 1 (a deeper net can copy
a shallower one and make its added layers the identity).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sg_resnets.models import ResidualBlock, ResNet, named_blocks
from sg_resnets.models.config import STARTS_AT_ZERO
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hooks import evaluating, watched
from sg_resnets.utils.plots import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class BranchResponse:
    """Of the block called `name`: standard deviation of its branch's output F(x), and `|F(x)|` over `|shortcut(x)|`,
    0 where nothing is added."""

    name: str
    deviation: float
    relative: float


@torch.no_grad()
def branch_responses(network: ResNet, images: Tensor) -> list[BranchResponse]:
    """What each branch of the network adds for a batch (N, C, H, W); in evaluation mode."""
    responses = []

    def watch(path: str, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, ResidualBlock):  # of a plain net
            branch, relative = module.scale(module.se(module.residual(module.pre_activation(inputs[0])))), 0.0
        else:
            branch, relative = inputs[0], (inputs[0].norm() / inputs[1].norm()).item()
        responses.append(BranchResponse(path.removesuffix(".addition"), branch.std().item(), relative))

    blocks = named_blocks(network).items()
    paths = [name if block.downsample is None else f"{name}.addition" for name, block in blocks]
    with evaluating(network), watched(network, paths, watch):
        network(images)
    return responses


@torch.no_grad()
def deepen(network: ResNet, depths: Sequence[int]) -> ResNet:
    """A network of more blocks that computes the same in evaluation mode: the old blocks are copied, the new ones
    follow them in each stage and start with a branch of zero.

    Raises:
        SgResnetsError: fewer blocks than before, a plain net, or blocks that cannot be the identity.
    """
    config = network.config
    if len(depths) != len(config.depths) or any(new < old for new, old in zip(depths, config.depths, strict=True)):
        raise SgResnetsError(f"depths={tuple(depths)}: must have at least as many blocks as {config.depths}")
    if config.shortcut == "none":
        raise SgResnetsError("a plain net has no shortcut that could carry its input past the new blocks")
    deeper = ResNet(replace(config, depths=tuple(depths))).to(next(network.parameters())).eval()
    deeper.load_state_dict({**deeper.state_dict(), **network.state_dict()})
    for stage, (count, width) in enumerate(zip(config.depths, config.widths, strict=True), 1):
        for block in deeper.get_submodule(f"layer{stage}")[count:]:  # type: ignore[index]
            if config.scaling not in STARTS_AT_ZERO:
                block.zero_init_last()
            x = torch.rand(1, width * block.expansion, 4, 4).to(next(deeper.parameters()))
            if not torch.equal(block(x), x):
                raise SgResnetsError(
                    f"with order '{config.order}', activation '{config.activation}', shortcut '{config.shortcut}' and "
                    f"addition '{config.addition}' a block whose branch is zero does not copy its input: take relu or "
                    "a pre-activation, shortcut A, B or D, addition plain"
                )
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
