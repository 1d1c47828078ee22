"""The table of models: name -> configuration, exact parameters, multiply-accumulates, and where the figures are from.

CIFAR rows count 10 classes at 32x32x3, ImageNet rows 1000 classes at 224x224x3. The tests build every row and count.

Sources: He et al., 'Deep Residual Learning for Image Recognition', 2015: table 1 (ImageNet), section 4.2 and table 6
(CIFAR, shortcut A); torchvision 0.29's models of the same architecture. Figures marked 'counted' have no published
value: they are this package's own count, kept so that a change cannot pass unseen.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sg_resnets.config import CIFAR_WIDTHS, IMAGENET_WIDTHS, ResNetConfig, blocks_for_depth
from sg_resnets.errors import SgResnetsError, choices


@dataclass(frozen=True)
class ZooRow:
    """One named model: its configuration, trainable parameters, MACs at `input_size` pixels square, their source."""

    config: ResNetConfig
    parameters: int
    macs: float
    input_size: int
    source: str


def _cifar(depth: int, parameters: int, mmacs: float, source: str, **arch: Any) -> ZooRow:
    config = ResNetConfig(blocks_for_depth(depth, "cifar", "basic"), CIFAR_WIDTHS, **{"shortcut": "A", **arch})
    return ZooRow(config, parameters, mmacs * 1e6, 32, source)


def _imagenet(depth: int, parameters: int, gmacs: float, source: str, block: str = "basic", **arch: Any) -> ZooRow:
    depths = blocks_for_depth(depth, "imagenet", block)
    config = ResNetConfig(depths, IMAGENET_WIDTHS, "imagenet", block, **{"num_classes": 1000, **arch})
    return ZooRow(config, parameters, gmacs * 1e9, 224, source)


_PAPER = "He et al. 2015, section 4.2"
_PLAIN = "He et al. 2015, section 4.2, plain"
_TORCHVISION = "He et al. 2015, table 1; torchvision"
_PLAIN_IMAGENET = "He et al. 2015, table 1, plain; counted"

ZOO: dict[str, ZooRow] = {
    "resnet20_cifar": _cifar(20, 269_722, 40.55, _PAPER),
    "resnet32_cifar": _cifar(32, 464_154, 68.86, _PAPER),
    "resnet44_cifar": _cifar(44, 658_586, 97.17, _PAPER),
    "resnet56_cifar": _cifar(56, 853_018, 125.49, _PAPER),
    "resnet110_cifar": _cifar(110, 1_727_962, 252.89, _PAPER),
    "resnet1202_cifar": _cifar(1202, 19_421_274, 2829.0, _PAPER + "; MACs counted"),
    "plain20_cifar": _cifar(20, 269_722, 40.55, _PLAIN, shortcut="none"),
    "plain32_cifar": _cifar(32, 464_154, 68.86, _PLAIN, shortcut="none"),
    "plain44_cifar": _cifar(44, 658_586, 97.17, _PLAIN, shortcut="none"),
    "plain56_cifar": _cifar(56, 853_018, 125.49, _PLAIN, shortcut="none"),
    "plain110_cifar": _cifar(110, 1_727_962, 252.89, _PLAIN, shortcut="none"),
    "resnet18_v1b": _imagenet(18, 11_689_512, 1.814, _TORCHVISION),
    "resnet34_v1b": _imagenet(34, 21_797_672, 3.664, _TORCHVISION),
    "resnet50_v1b": _imagenet(50, 25_557_032, 4.089, _TORCHVISION, "bottleneck"),
    "resnet101_v1b": _imagenet(101, 44_549_160, 7.801, _TORCHVISION, "bottleneck"),
    "resnet152_v1b": _imagenet(152, 60_192_808, 11.514, _TORCHVISION, "bottleneck"),
    "plain18": _imagenet(18, 11_515_688, 1.794, _PLAIN_IMAGENET, shortcut="none"),
    "plain34": _imagenet(34, 21_623_848, 3.644, _PLAIN_IMAGENET, shortcut="none"),
}


def refuse_unknown_model(name: str, known: Iterable[str]) -> None:
    """Raise SgResnetsError if `name` is not among `known`, naming the near ones, or the depths of its family."""
    if name in known:
        return
    ours_first = [*ZOO, *sorted(str(other) for other in known if other not in ZOO)]
    family = re.fullmatch(r"(resnet|plain)(\d+)_cifar", str(name))
    if family:
        try:
            blocks_for_depth(int(family[2]), "cifar", "basic")
        except SgResnetsError as error:
            raise SgResnetsError(f"unknown model '{name}': {error}") from None
        hint = f"; for any depth of 6n + 2: architecture=resnet_custom arch_params.depth={family[2]}"
    else:
        hint = ""
    raise SgResnetsError(
        f"unknown model '{name}': {choices(str(name), ours_first)}; `sg-resnets models` lists ours{hint}"
    )
