"""The sweep of learning rates, step by step."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import SGD

from sg_resnets.training.lr_range import growing_rates

RATES = growing_rates(1e-4, 1, 30)


@pytest.fixture
def start(host):
    """start(initial_lr, rates of the groups) -> the sweep, and the context that the Trainer would give it."""
    from sg_resnets.host.lr_finder import RateSweep

    def make(initial_lr, rates):
        optimizer = SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates], lr=0.1)
        context = SimpleNamespace(optimizer=optimizer, loss=torch.tensor(2.5))
        sweep = RateSweep(RATES)
        sweep.asked = initial_lr
        sweep.on_training_start(context)
        return sweep, context

    return make


def step(sweep, context, *losses):
    """One step of the optimiser, of as many batches as losses; the rates that it takes."""
    for loss in losses:
        context.loss = torch.tensor(loss)
        sweep.on_train_batch_backward_end(context)
    sweep.on_train_batch_gradient_step_start(context)
    rates = [group["lr"] for group in context.optimizer.param_groups]
    sweep.on_train_batch_gradient_step_end(context)
    return rates


def test_groups_keep_the_ratios_of_their_rates(start):
    sweep, context = start({"default": 0.01, "fc": 0.1, "conv1": 0.0}, [0.01, 0.1, 0.0])
    for rate in RATES[:-1]:
        assert step(sweep, context, 2.5) == pytest.approx([0.1 * rate, rate, 0.0])
    assert sweep.override(0.5) == "lr={default:0.05,fc:0.5,conv1:0.0}"


def test_a_group_without_parameters_of_its_own_does_not_count(start):
    sweep, _ = start({"default": 0.1, "fc": 0.01, "conv1": 0.001}, [0.01, 0.001])
    assert sweep.override(0.5) == "lr={default:5.0,fc:0.5,conv1:0.05}"


def test_one_rate_is_one_number(start):
    sweep, _ = start(0.1, [0.1])
    assert sweep.override(0.03456) == "lr=0.035"


def test_a_step_of_several_batches_has_one_rate_and_the_mean_of_their_losses(start):
    sweep, context = start(0.1, [0.1])
    rates = [step(sweep, context, 2.0, 3.0), step(sweep, context, 1.0, 2.0)]
    assert rates == [pytest.approx([RATES[0]]), pytest.approx([RATES[1]])] and sweep.losses == [2.5, 1.5]


@pytest.mark.parametrize("last", [float("nan"), float("inf"), 99.0])
def test_it_ends_when_the_loss_explodes_or_is_nan_or_infinite(start, last):
    from sg_resnets.host.lr_finder import SweepOver

    sweep, context = start(0.1, [0.1])
    for _ in range(25):
        step(sweep, context, 2.5)
    with pytest.raises(SweepOver):
        step(sweep, context, last)
    curve = sweep.curve
    assert curve.diverges and curve.losses[:25] == [2.5] * 25 and torch.tensor(curve.losses).isfinite().all()


def test_it_ends_with_the_last_rate(start):
    from sg_resnets.host.lr_finder import SweepOver

    sweep, context = start(0.1, [0.1])
    for _ in RATES[:-1]:
        step(sweep, context, 2.5)
    with pytest.raises(SweepOver):
        step(sweep, context, 2.5)
    assert sweep.curve.rates == RATES and not sweep.curve.diverges
