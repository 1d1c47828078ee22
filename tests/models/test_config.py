"""Configurations that make no network are refused in a line that names the choices."""

import pytest

from sg_resnets.models import ResNet
from sg_resnets.models.zoo import ZOO
from sg_resnets.utils.errors import SgResnetsError
from support import SMALL


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"block": "botleneck"}, "unknown block 'botleneck': did you mean bottleneck"),
        ({"shortcut": "E"}, "unknown shortcut 'E': valid: A, B, C, D, none"),
        ({"stem": "mnist"}, "unknown stem 'mnist': valid: cifar, imagenet"),
        ({"depth": 21}, "depth 21: a CIFAR net of basic blocks has 6n . 2 layers; nearest: 20 and 26"),
        ({"depth": 21, "block": "bottleneck"}, "nearest: 20 and 29"),
        ({"shorcut": "A"}, "arch_params has no 'shorcut': did you mean shortcut"),
        ({"drop_path": 1.0}, "drop_path=1.0: must be a number >= 0 and < 1"),
        ({"drop_path": 0.1, "shortcut": "none"}, "drop_path needs a shortcut"),
        ({"depths": [1, 2]}, "must have one entry for each stage"),
        ({"widths": [0, 1, 2]}, r"widths\[0\]=0: must be an integer >= 1"),
        ({"widths": 16}, "widths=16: must be a list with an integer for each stage"),
        ({"depths": []}, r"depths=\[\]: must be a list"),
        ({"stem_width": 0}, "stem_width=0: must be an integer >= 1"),
        ({"groups": True}, "groups=True: must be an integer >= 1"),
        ({"gate_bias": "x"}, "gate_bias='x': must be a number"),
        ({"num_classes": 0}, "num_classes=0: must be an integer >= 1"),
        ({"depth": "deep"}, "depth='deep': must be an integer >= 1"),
        ({"stride_in": "5x5"}, "unknown stride_in '5x5': valid: 1x1, 3x3"),
        ({"order": "preact"}, "unknown order 'preact': did you mean full_preact"),
        ({"attention": "cbma"}, "unknown attention 'cbma': did you mean cbam"),
        ({"scaling": "fixup"}, "'fixup' takes the place of batch-norm: set norm: none"),
        ({"scaling": "skipinit"}, "'skipinit' takes the place of batch-norm"),
        ({"scaling": "fixup", "norm": "none", "order": "full_preact"}, "fixup is defined for the original order only"),
        ({"scaling": "rezero", "zero_init_residual": True}, "two zeros in a row never learn"),
        ({"scaling": "rezero", "shortcut": "none"}, "scaling 'rezero' needs a shortcut"),
        ({"zero_init_residual": True, "shortcut": "none"}, "would start, and stay, at zero"),
        ({"addition": "scaled", "shortcut": "none"}, "addition 'scaled' needs a shortcut"),
        ({"order": "bn_after_addition", "norm": "none"}, "needs norm: batch"),
        ({"block": "resnest", "order": "full_preact"}, "block 'resnest' is defined in the original order only"),
        ({"block": "sk_basic", "norm": "none"}, "block 'sk_basic' holds batch-norms"),
        ({"groups": 4}, "block 'basic' has no groups"),
        ({"stride_in": "1x1"}, "needs block: bottleneck"),
        ({"splits": 4}, "needs block: res2net"),
        ({"block": "res2net", "dropout": 0.1}, "no dropout and no blur"),
        ({"attention": "cbam", "norm": "none"}, "attention 'cbam' holds batch-norms"),
        ({"block": "bottleneck", "width_per_group": 1}, "width_per_group=1 leaves no channel of widths=\\(4,"),
        ({"stem": "deep", "stem_width": 1}, "stem 'deep' of 1 channels"),
        ({"block": "sk_basic", "stem_width": 15}, "stem_width=15 must be even"),
        ({"zero_init_residual": "false"}, "zero_init_residual='false': must be True or False"),
        ({"stem": "mine", "depth": 20}, "depth=20: for stem 'mine' give depths"),
        ({"block": "pooled", "depth": 20}, "depth=20: for block 'pooled' give depths"),
        ({"block": "pooled", "order": "full_preact"}, "block 'pooled' has no order=full_preact"),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_choices(wrong, words):
    with pytest.raises(SgResnetsError, match=words) as error:
        ResNet(SMALL.override(**wrong))
    assert "\n" not in str(error.value)


def test_an_imagenet_depth_that_does_not_exist_names_those_that_do():
    with pytest.raises(SgResnetsError, match="these depths: 14, 26, 50, 101, 152, 200"):
        ZOO["resnet50_v1b"].config.override(depth=56)


@pytest.mark.parametrize(
    "ignored, words",
    [
        ({"block": "sk_bottleneck", "widths": [5, 10, 20]}, r"must be even"),
        ({"block": "sk_bottleneck", "widths": [16, 32, 64], "width_per_group": 50}, r"must be even"),
        ({"block": "resnest", "splits": 3}, "splits=3 must divide width_per_group / 64 of widths"),
        ({"block": "resnest", "groups": 3}, "groups=3 must divide its attention's channels"),
        ({"reduction": 4}, "reduction=4 needs attention: se or cbam"),
        ({"gate_bias": 3.0, "addition": "scaled"}, "gate_bias=3.0 needs addition: exclusive_gate or shortcut_gate"),
    ],
)
def test_what_divides_nothing_or_means_nothing_is_refused(ignored, words):
    with pytest.raises(SgResnetsError, match=words):
        ResNet(SMALL.override(**ignored))
