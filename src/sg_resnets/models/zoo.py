"""The table of models: name -> configuration, exact parameters, multiply-accumulates, and where the figures are from.

CIFAR rows count 10 classes at 32x32x3, ImageNet rows 1000 classes at 224x224x3. The tests build every row and count.

`paper` names the source of the architecture. Where timm has the same network, `timm` is its name there: parameters and
multiply-accumulates are compared with it, and its weights can be loaded.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sg_resnets.models.config import CIFAR_WIDTHS, IMAGENET_WIDTHS, TWO_LAYERS, ResNetConfig, blocks_for_depth
from sg_resnets.utils.errors import SgResnetsError, choices

Arch = dict[str, Any]


@dataclass(frozen=True)
class ZooRow:
    """One named model: its configuration, trainable parameters, MACs at `input_size` pixels square, paper, twin."""

    config: ResNetConfig
    parameters: int
    macs: float
    input_size: int
    paper: str
    timm: str = ""


def _cifar(depth: int, parameters: int, mmacs: float, paper: str, block: str = "basic", **arch: Any) -> ZooRow:
    config = ResNetConfig(blocks_for_depth(depth, "cifar", block), block=block, **{"shortcut": "A", **arch})
    return ZooRow(config, parameters, mmacs * 1e6, 32, paper)


def _wide(depth: int, k: int, parameters: int, mmacs: float) -> ZooRow:
    """WRN-depth-k: depth counts the three projections too, hence 6n + 4."""
    widths = tuple(k * width for width in CIFAR_WIDTHS)
    paper = "Zagoruyko & Komodakis 2016, table 1"
    return _cifar(depth - 2, parameters, mmacs, paper, widths=widths, stem_width=16, shortcut="B", **_V2)


def _imagenet(depth: int, parameters: int, gmacs: float, paper: str, timm: str = "", **arch: Any) -> ZooRow:
    block = arch.pop("block", "basic" if depth in TWO_LAYERS else "bottleneck")
    depths = blocks_for_depth(depth, "imagenet", block)
    arch = {"widths": IMAGENET_WIDTHS, "stem": "imagenet", "num_classes": 1000, **arch}
    return ZooRow(ResNetConfig(depths, block=block, **arch), parameters, gmacs * 1e9, 224, paper, timm)


def _res2net(depth: int, width: int, scale: int, parameters: int, gmacs: float) -> ZooRow:
    timm = f"res2net{depth}_{width}w_{scale}s"
    return _imagenet(depth, parameters, gmacs, _RES2, timm, block="res2net", width_per_group=width, splits=scale)


_HE2015 = "He et al. 2015, section 4.2"
_PLAIN = "He et al. 2015, section 4.2, plain"
_HE2016 = "He et al. 2016, section 4"
_XIE = "Xie et al. 2017, section 5"
_TABLE1 = "He et al. 2015, table 1"
_FB = "He et al. 2015, table 1; stride in the 3x3: Gross & Wilber 2016"
_TRICKS = "He et al. 2018, Bag of Tricks, figure 2"
_TIMM = "Wightman, timm"
_SE = "Hu et al. 2018, table 1"
_ECA = "Wang et al. 2020, section 3"
_CBAM = "Woo et al. 2018, section 3"
_BLUR = "Zhang 2019, section 3.2"
_RS = "Bello et al. 2021, section 4.2"
_WIDE = "Zagoruyko & Komodakis 2016, table 8"
_SK = "Li et al. 2019, section 3"
_RES2 = "Gao et al. 2019, section 3"
_RESNEST = "Zhang et al. 2020, section 3"
_V1C: Arch = {"stem": "deep"}
_V1D: Arch = {"stem": "deep", "shortcut": "D"}
_V1S: Arch = {"stem": "deep", "stem_width": 128}
_V1T: Arch = {"stem": "tiered", "shortcut": "D"}
_V2: Arch = {"order": "full_preact"}
_SCALED_RS: Arch = {"stem": "rs", "shortcut": "D", "attention": "se", "reduction": 4}
_SPLIT: Arch = {**_V1D, "block": "resnest", "splits": 2, "subsample": "average"}
_WIDE_KD: Arch = {"widths": (64, 128, 256), "stem_width": 32, "shortcut": "B"}
_UNNORMED: Arch = {"norm": "none"}
_STRIDE_1X1: Arch = {"stride_in": "1x1"}

ZOO: dict[str, ZooRow] = {
    "resnet20_cifar": _cifar(20, 269_722, 40.55, _HE2015),
    "resnet32_cifar": _cifar(32, 464_154, 68.86, _HE2015),
    "resnet44_cifar": _cifar(44, 658_586, 97.17, _HE2015),
    "resnet56_cifar": _cifar(56, 853_018, 125.49, _HE2015),
    "resnet110_cifar": _cifar(110, 1_727_962, 252.89, _HE2015),
    "resnet1202_cifar": _cifar(1202, 19_421_274, 2829.2, _HE2015),
    "plain20_cifar": _cifar(20, 269_722, 40.55, _PLAIN, shortcut="none"),
    "plain32_cifar": _cifar(32, 464_154, 68.86, _PLAIN, shortcut="none"),
    "plain44_cifar": _cifar(44, 658_586, 97.17, _PLAIN, shortcut="none"),
    "plain56_cifar": _cifar(56, 853_018, 125.49, _PLAIN, shortcut="none"),
    "plain110_cifar": _cifar(110, 1_727_962, 252.89, _PLAIN, shortcut="none"),
    "preact_resnet20_cifar": _cifar(20, 269_722, 40.55, _HE2016, **_V2),
    "preact_resnet56_cifar": _cifar(56, 853_018, 125.49, _HE2016, **_V2),
    "preact_resnet110_cifar": _cifar(110, 1_727_962, 252.89, _HE2016, **_V2),
    "preact_resnet164_cifar": _cifar(
        164, 1_703_258, 244.50, _HE2016, "bottleneck", shortcut="B", stride_in="1x1", **_V2
    ),
    "preact_resnet1001_cifar": _cifar(
        1001, 10_327_706, 1487.8, _HE2016, "bottleneck", shortcut="B", stride_in="1x1", **_V2
    ),
    "wrn16_1_cifar": _wide(16, 1, 175_066, 26.66),
    "wrn16_2_cifar": _wide(16, 2, 691_674, 101.11),
    "wrn16_4_cifar": _wide(16, 4, 2_748_890, 392.61),
    "wrn16_8_cifar": _wide(16, 8, 10_961_370, 1548.1),
    "wrn40_1_cifar": _wide(40, 1, 563_930, 83.28),
    "wrn40_2_cifar": _wide(40, 2, 2_243_546, 327.60),
    "wrn40_4_cifar": _wide(40, 4, 8_949_210, 1298.6),
    "wrn28_10_cifar": _wide(28, 10, 36_479_194, 5243.3),
    "resnext29_8x64d_cifar": _cifar(
        29, 34_426_698, 5387.3, _XIE, "bottleneck", widths=(64, 128, 256), shortcut="B", groups=8
    ),
    "resnext29_16x64d_cifar": _cifar(
        29, 68_155_210, 10688.9, _XIE, "bottleneck", widths=(64, 128, 256), shortcut="B", groups=16
    ),
    "seresnet20_cifar": _cifar(20, 275_506, 40.56, _SE, attention="se"),
    "seresnet56_cifar": _cifar(56, 870_370, 125.50, _SE, attention="se"),
    "seresnet110_cifar": _cifar(110, 1_762_666, 252.92, _SE, attention="se"),
    "ecaresnet56_cifar": _cifar(56, 853_099, 125.49, _ECA, attention="eca"),
    "cbam_resnet56_cifar": _cifar(56, 862_837, 126.68, _CBAM, attention="cbam"),
    "stochastic_depth_resnet110_cifar": _cifar(110, 1_727_962, 252.89, "Huang et al. 2016, section 4", drop_path=0.5),
    "rezero_resnet56_cifar": _cifar(56, 853_045, 125.49, "Bachlechner et al. 2020, section 3", scaling="rezero"),
    "rezero_resnet110_cifar": _cifar(110, 1_728_016, 252.89, "Bachlechner et al. 2020, section 3", scaling="rezero"),
    "skipinit_resnet56_cifar": _cifar(
        56, 851_013, 125.49, "De & Smith 2020, section 4", scaling="skipinit", **_UNNORMED
    ),
    "skipinit_resnet110_cifar": _cifar(
        110, 1_723_968, 252.89, "De & Smith 2020, section 4", scaling="skipinit", **_UNNORMED
    ),
    "fixup_resnet56_cifar": _cifar(56, 849_092, 125.49, "Zhang et al. 2019, section 3", scaling="fixup", **_UNNORMED),
    "fixup_resnet110_cifar": _cifar(
        110, 1_720_139, 252.89, "Zhang et al. 2019, section 3", scaling="fixup", **_UNNORMED
    ),
    "resnet8x4_cifar": _cifar(8, 1_210_410, 177.05, "Tian et al. 2020, appendix", **_WIDE_KD),
    "resnet32x4_cifar": _cifar(32, 7_410_730, 1083.0, "Tian et al. 2020, appendix", **_WIDE_KD),
    "resnet18_v1": _imagenet(18, 11_689_512, 1.814, _TABLE1, "resnet18"),
    "resnet34_v1": _imagenet(34, 21_797_672, 3.664, _TABLE1, "resnet34"),
    "resnet50_v1": _imagenet(50, 25_557_032, 3.858, _TABLE1, **_STRIDE_1X1),
    "resnet101_v1": _imagenet(101, 44_549_160, 7.570, _TABLE1, **_STRIDE_1X1),
    "resnet152_v1": _imagenet(152, 60_192_808, 11.282, _TABLE1, **_STRIDE_1X1),
    "resnet18_v1b": _imagenet(18, 11_689_512, 1.814, _TABLE1, "resnet18"),
    "resnet26_v1b": _imagenet(26, 15_995_176, 2.342, _TIMM, "resnet26"),
    "resnet34_v1b": _imagenet(34, 21_797_672, 3.664, _TABLE1, "resnet34"),
    "resnet50_v1b": _imagenet(50, 25_557_032, 4.089, _FB, "resnet50"),
    "resnet101_v1b": _imagenet(101, 44_549_160, 7.801, _FB, "resnet101"),
    "resnet152_v1b": _imagenet(152, 60_192_808, 11.514, _FB, "resnet152"),
    "resnet200_v1b": _imagenet(200, 64_673_832, 15.007, _FB, "resnet200"),
    "resnet50_v1c": _imagenet(50, 25_576_264, 4.329, _TRICKS, "resnet50c", **_V1C),
    "resnet101_v1c": _imagenet(101, 44_568_392, 8.041, _TRICKS, "resnet101c", **_V1C),
    "resnet152_v1c": _imagenet(152, 60_212_040, 11.753, _TRICKS, "resnet152c", **_V1C),
    "resnet18_v1d": _imagenet(18, 11_708_744, 2.054, _TRICKS, "resnet18d", **_V1D),
    "resnet26_v1d": _imagenet(26, 16_014_408, 2.582, _TRICKS, "resnet26d", **_V1D),
    "resnet34_v1d": _imagenet(34, 21_816_904, 3.903, _TRICKS, "resnet34d", **_V1D),
    "resnet50_v1d": _imagenet(50, 25_576_264, 4.329, _TRICKS, "resnet50d", **_V1D),
    "resnet101_v1d": _imagenet(101, 44_568_392, 8.041, _TRICKS, "resnet101d", **_V1D),
    "resnet152_v1d": _imagenet(152, 60_212_040, 11.753, _TRICKS, "resnet152d", **_V1D),
    "resnet200_v1d": _imagenet(200, 64_693_064, 15.247, _TRICKS, "resnet200d", **_V1D),
    "resnet50_v1s": _imagenet(50, 25_680_808, 5.444, "Zhang, GluonCV", "resnet50s", **_V1S),
    "resnet101_v1s": _imagenet(101, 44_672_936, 9.157, "Zhang, GluonCV", "resnet101s", **_V1S),
    "resnet152_v1s": _imagenet(152, 60_316_584, 12.869, "Zhang, GluonCV", "resnet152s", **_V1S),
    "resnet14_v1t": _imagenet(14, 10_081_632, 1.677, _TIMM, "resnet14t", **_V1T),
    "resnet26_v1t": _imagenet(26, 16_011_872, 2.550, _TIMM, "resnet26t", **_V1T),
    "resnet50_v1t": _imagenet(50, 25_573_728, 4.297, _TIMM, "resnet50t", **_V1T),
    "resnet18_v2": _imagenet(18, 11_687_720, 1.814, _HE2016, "resnetv2_18", **_V2),
    "resnet34_v2": _imagenet(34, 21_795_880, 3.664, _HE2016, "resnetv2_34", **_V2),
    "resnet50_v2": _imagenet(50, 25_549_352, 4.089, _HE2016, "resnetv2_50", **_V2),
    "resnet101_v2": _imagenet(101, 44_541_480, 7.801, _HE2016, "resnetv2_101", **_V2),
    "resnet152_v2": _imagenet(152, 60_185_128, 11.514, _HE2016, "resnetv2_152", **_V2),
    "plain18": _imagenet(18, 11_515_688, 1.795, "He et al. 2015, table 1, plain", shortcut="none"),
    "plain34": _imagenet(34, 21_623_848, 3.644, "He et al. 2015, table 1, plain", shortcut="none"),
    "seresnet18_v1b": _imagenet(18, 11_779_624, 1.814, _SE, "seresnet18", attention="se"),
    "seresnet34_v1b": _imagenet(34, 21_960_416, 3.664, _SE, "seresnet34", attention="se"),
    "seresnet50_v1b": _imagenet(50, 28_088_024, 4.092, _SE, "seresnet50", attention="se"),
    "seresnet101_v1b": _imagenet(101, 49_326_872, 7.806, _SE, "seresnet101", attention="se"),
    "seresnet152_v1b": _imagenet(152, 66_821_848, 11.520, _SE, "seresnet152", attention="se"),
    "seresnet152_v1d": _imagenet(152, 66_841_080, 11.760, _SE, "seresnet152d", attention="se", **_V1D),
    "seresnext50_32x4d_v1b": _imagenet(
        50, 27_559_896, 4.233, _SE, "seresnext50_32x4d", attention="se", groups=32, width_per_group=4
    ),
    "seresnext101_32x4d_v1b": _imagenet(
        101, 48_955_416, 7.975, _SE, "seresnext101_32x4d", attention="se", groups=32, width_per_group=4
    ),
    "seresnext101_32x8d_v1b": _imagenet(
        101, 93_569_048, 16.419, _SE, "seresnext101_32x8d", attention="se", groups=32, width_per_group=8
    ),
    "ecaresnet26_v1t": _imagenet(26, 16_011_916, 2.550, _ECA, "ecaresnet26t", attention="eca", **_V1T),
    "ecaresnet50_v1t": _imagenet(50, 25_573_814, 4.297, _ECA, "ecaresnet50t", attention="eca", **_V1T),
    "ecaresnet50_v1d": _imagenet(50, 25_576_350, 4.329, _ECA, "ecaresnet50d", attention="eca", **_V1D),
    "ecaresnet101_v1d": _imagenet(101, 44_568_563, 8.041, _ECA, "ecaresnet101d", attention="eca", **_V1D),
    "cbam_resnet18_v1b": _imagenet(18, 11_779_392, 1.815, _CBAM, attention="cbam"),
    "cbam_resnet34_v1b": _imagenet(34, 21_960_468, 3.665, _CBAM, attention="cbam"),
    "cbam_resnet50_v1b": _imagenet(50, 28_089_624, 4.096, _CBAM, attention="cbam"),
    "cbam_resnet101_v1b": _imagenet(101, 49_330_172, 7.813, _CBAM, attention="cbam"),
    "resnetblur18_v1b": _imagenet(18, 11_689_512, 2.338, _BLUR, "resnetblur18", subsample="blur"),
    "resnetblur50_v1b": _imagenet(50, 25_557_032, 5.133, _BLUR, "resnetblur50", subsample="blur"),
    "resnetblur50_v1d": _imagenet(50, 25_576_264, 5.373, _BLUR, "resnetblur50d", subsample="blur", **_V1D),
    "resnetblur101_v1d": _imagenet(101, 44_568_392, 9.085, _BLUR, "resnetblur101d", subsample="blur", **_V1D),
    "resnet_rs50": _imagenet(50, 35_691_912, 4.454, _RS, "resnetrs50", **_SCALED_RS),
    "resnet_rs101": _imagenet(101, 63_618_696, 8.176, _RS, "resnetrs101", **_SCALED_RS),
    "resnet_rs152": _imagenet(152, 86_621_576, 11.895, _RS, "resnetrs152", **_SCALED_RS),
    "resnet_rs200": _imagenet(200, 93_209_992, 15.391, _RS, "resnetrs200", **_SCALED_RS),
    "resnext50_32x4d_v1b": _imagenet(50, 25_028_904, 4.230, _XIE, "resnext50_32x4d", groups=32, width_per_group=4),
    "resnext50_32x4d_v1d": _imagenet(
        50, 25_048_136, 4.470, _XIE, "resnext50d_32x4d", groups=32, width_per_group=4, **_V1D
    ),
    "resnext101_32x4d_v1b": _imagenet(101, 44_177_704, 7.970, _XIE, "resnext101_32x4d", groups=32, width_per_group=4),
    "resnext101_32x8d_v1b": _imagenet(101, 88_791_336, 16.414, _XIE, "resnext101_32x8d", groups=32, width_per_group=8),
    "resnext101_64x4d_v1b": _imagenet(101, 83_455_272, 15.460, _XIE, "resnext101_64x4d", groups=64, width_per_group=4),
    "wide_resnet50_2_v1b": _imagenet(50, 68_883_240, 11.398, _WIDE, "wide_resnet50_2", width_per_group=128),
    "wide_resnet101_2_v1b": _imagenet(101, 126_886_696, 22.753, _WIDE, "wide_resnet101_2", width_per_group=128),
    "skresnet18": _imagenet(18, 11_958_056, 1.814, _SK, "skresnet18", block="sk_basic"),
    "skresnet34": _imagenet(34, 22_282_376, 3.664, _SK, "skresnet34", block="sk_basic"),
    "skresnet50": _imagenet(50, 25_803_160, 4.089, _SK, "skresnet50", block="sk_bottleneck"),
    "skresnext50_32x4d": _imagenet(
        50, 27_479_784, 4.463, _SK, "skresnext50_32x4d", block="sk_bottleneck", groups=32, width_per_group=4
    ),
    "res2net50_26w_4s": _res2net(50, 26, 4, 25_699_120, 4.255),
    "res2net50_26w_6s": _res2net(50, 26, 6, 37_051_448, 6.296),
    "res2net50_26w_8s": _res2net(50, 26, 8, 48_403_776, 8.336),
    "res2net50_48w_2s": _res2net(50, 48, 2, 25_287_304, 4.160),
    "res2net50_14w_8s": _res2net(50, 14, 8, 25_059_816, 4.179),
    "res2net101_26w_4s": _res2net(101, 26, 4, 45_206_688, 8.067),
    "resnest14": _imagenet(14, 10_611_688, 2.749, _RESNEST, "resnest14d", **_SPLIT),
    "resnest26": _imagenet(26, 17_069_448, 3.623, _RESNEST, "resnest26d", **_SPLIT),
    "resnest50": _imagenet(50, 27_483_240, 5.371, _RESNEST, "resnest50d", **_SPLIT),
    "resnest101": _imagenet(101, 48_275_016, 10.201, _RESNEST, "resnest101e", stem_width=128, **_SPLIT),
}


CUSTOM = "custom_resnet"  # any combination of `arch_params`, over resnet20_cifar


def refuse_unknown_model(name: str, known: Iterable[str]) -> None:
    """Raise SgResnetsError if `name` is not among `known`, naming the near ones, or the depths of its family."""
    if name in known:
        return
    ours_first = [*ZOO, *sorted(str(other) for other in known if other not in ZOO)]
    meant = [ours for ours, row in ZOO.items() if row.timm == name]
    meant += [ours for ours in ZOO if ours.startswith(f"{name}_") and ours not in meant]
    if meant:
        raise SgResnetsError(
            f"unknown model '{name}': did you mean {' or '.join(meant)}? `sg-resnets models` lists ours"
        )
    family = re.fullmatch(r"(resnet|plain)(\d+)_cifar", str(name))
    if family:
        try:
            blocks_for_depth(int(family[2]), "cifar", "basic")
        except SgResnetsError as error:
            raise SgResnetsError(f"unknown model '{name}': {error}") from None
        hint = f"; for any depth of 6n + 2: architecture={CUSTOM} arch_params.depth={family[2]}"
    else:
        hint = ""
    raise SgResnetsError(
        f"unknown model '{name}': {choices(str(name), ours_first)}; `sg-resnets models` lists ours{hint}"
    )
