"""Each claim holds for figures that show it, and not for those of a run that misses one of its thresholds."""

import pytest

from sg_resnets.course import claims

PLAIN, RESIDUAL, NO_NORM = "plain, batch-norm", "residual, batch-norm", "plain, no norm"
HOLDS = {
    "degradation": ({"plain": -0.30, "resnet": 0.01},),
    "gradients": ({PLAIN: 400.0, RESIDUAL: 3.0}, {PLAIN: 300.0, RESIDUAL: 2.0, NO_NORM: 0.001}),
    "shattered": ({"plain-8": 0.6, "plain-56": 0.1, "resnet-56": 0.4},),
    "identity": ({"resnet56": 0.3, "resnet20": 0.5}, 1e-6),
    "lesion": ({"resnet56": 0.03, "resnet20": 0.10, "plain20": 0.75},),
    "landscape": ({"resnet-56": 0.05, "plain-56": 0.40},),
    "shortcuts": ({"original": 0.86, "addition scaled": 0.74, "addition shortcut_gate": 0.86},),
}
# One figure changed: the claim no longer holds.
MISSED = [
    ("degradation", 0, "plain", -0.019),
    ("degradation", 0, "resnet", -0.011),
    ("gradients", 0, RESIDUAL, 21.0),
    ("gradients", 1, RESIDUAL, 16.0),
    ("gradients", 1, NO_NORM, 0.11),
    ("shattered", 0, "plain-8", 0.09),
    ("shattered", 0, "resnet-56", 0.1),
    ("identity", 0, "resnet56", 0.5),
    ("identity", 0, "resnet20", 1.01),
    ("lesion", 0, "resnet56", 0.11),
    ("lesion", 0, "resnet20", 0.38),
    ("lesion", 0, "plain20", 0.39),
    ("landscape", 0, "resnet-56", 0.2),
    ("shortcuts", 0, "addition scaled", 0.87),
]


@pytest.mark.parametrize("name", HOLDS)
def test_a_claim_holds_for_figures_that_show_it(name):
    assert getattr(claims, name)(*HOLDS[name])


@pytest.mark.parametrize("name, place, key, value", MISSED)
def test_a_claim_does_not_hold_where_one_figure_misses_its_threshold(name, place, key, value):
    figures = list(HOLDS[name])
    figures[place] = {**figures[place], key: value}
    assert not getattr(claims, name)(*figures)


def test_the_identity_claim_asks_for_equal_logits():
    assert not claims.identity(HOLDS["identity"][0], 2e-5)


def test_every_experiment_has_its_claim():
    from sg_resnets.course.experiments import EXPERIMENTS

    assert set(EXPERIMENTS) == set(HOLDS)
