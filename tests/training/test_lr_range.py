"""The learning rate range test on problems whose answer is known."""

import pytest
import torch

from sg_resnets.training.lr_range import RateCurve, diverges, growing_rates
from sg_resnets.utils.errors import SgResnetsError


def descend(rates, curvature):
    """The losses of gradient descent on 0.5 curvature |w|^2 + 1, one for each rate: it diverges above 2 / curvature."""
    weights, losses = torch.ones(10, dtype=torch.double), []
    for rate in rates:
        losses.append(1 + 0.5 * curvature * float(weights @ weights))
        if diverges(losses, len(rates)):
            break
        weights = weights - rate * curvature * weights
    return losses


@pytest.mark.parametrize("curvature", [0.5, 10, 300])
def test_the_suggested_rate_descends_a_quadratic_and_thirty_times_as_much_leaves_it(curvature):
    rates = growing_rates(1e-5, 100, 200)
    losses = descend(rates, curvature)
    assert len(losses) < 200
    rate = RateCurve(rates[: len(losses)], losses, diverges=True).suggest()
    assert descend([rate] * 300, curvature)[-1] == pytest.approx(1, abs=0.01)
    first, *_, last = descend([30 * rate] * 300, curvature)
    assert last > 2 * first


def curve_of(*losses):
    return RateCurve(growing_rates(1e-5, 10, len(losses)), losses)


FLAT = [2.5, 2.4, 2.6, 2.3, 2.5, 2.6, 2.4] * 10
FALL = [2.5 - 0.05 * i for i in range(30)]


@pytest.mark.parametrize(
    "losses, words",
    [
        (FLAT, "the loss hardly falls between 1e-05 and 10, from 2.47 to 2.44, which"),
        ([*FLAT, *FALL], "the loss still falls at the last rate: give an --end above 10"),
    ],
)
def test_a_curve_that_suggests_nothing_says_why(losses, words):
    with pytest.raises(SgResnetsError, match=words):
        curve_of(*losses).suggest()


def test_noise_at_the_lowest_loss_does_not_move_the_suggestion():
    """Between two curves whose minimum is a decade apart on a plateau."""
    plateau = [1.0] * 60
    rates = {
        curve_of(*[2.5] * 60, *FALL, *plateau[:place], 0.9, *plateau[place:], *[9.0] * 5).suggest()
        for place in (10, 50)
    }
    assert max(rates) == min(rates)


def test_a_curve_that_ends_at_once_is_refused():
    with pytest.raises(SgResnetsError, match="diverged after 3 steps, too few to suggest a rate: give a lower --start"):
        curve_of(*[2.5] * 20) and RateCurve([1, 2, 3], [2.5, 3.0, 80.0], diverges=True)


@pytest.mark.parametrize(
    "arguments, words",
    [((1e-5, 10, 19), "--steps=19: must be an integer >= 20"), ((0, 10, 50), "--start=0: must be a number > 0"),
     ((1, 0.1, 50), "--start 1 --end 0.1: the rate grows")],
)  # fmt: skip
def test_rates_that_cannot_grow_are_refused(arguments, words):
    with pytest.raises(SgResnetsError, match=words):
        growing_rates(*arguments)


def test_the_loss_diverges_at_four_times_its_minimum_or_above_its_beginning_after_a_fall():
    start = [2.4, 2.6] * 5
    assert not diverges([*start, *[2.3] * 5, *[2.8] * 5], 100)  # noise
    assert not diverges([*start, *[1.0] * 20, *[2.6] * 5], 100)
    assert diverges([*start, *[1.0] * 20, *[2.6] * 40, 4.0], 100)
    assert not diverges([*start, 40.0], 100) and diverges([*start, 100.0], 100)


def test_a_curve_of_few_noisy_batches_does_not_diverge_at_its_beginning():
    assert not diverges([0.89, 0.84, 0.3, 1.52], 30)
