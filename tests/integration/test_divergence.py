"""A loss that becomes NaN: the run ends, or goes back to its last checkpoint with half the rate."""

import pytest
import torch
from torch import nn

from sg_resnets.runs.checkpoints import read

ROLLBACK = "training_hyperparams.on_divergence=rollback"


@pytest.fixture
def breaks(host):
    """breaks(n, m, ...): the loss is NaN at the n-th, m-th ... step, counted through all attempts. It returns the
    rates of all steps."""
    from super_gradients.common.registry.registry import CALLBACKS, LOSSES
    from super_gradients.training.utils.callbacks import Callback

    class Breaking(nn.CrossEntropyLoss):
        at, seen = (), 0

        def forward(self, outputs, labels):
            loss = super().forward(outputs, labels)
            if torch.is_grad_enabled():
                Breaking.seen += 1
                loss = loss * float("nan") if Breaking.seen in Breaking.at else loss
            return loss

    class Rates(Callback):
        def __init__(self):
            pass

        def on_train_batch_gradient_step_start(self, context):
            rates.append(context.optimizer.param_groups[0]["lr"])

    rates = []

    def at(*numbers):
        nonlocal rates
        Breaking.at, Breaking.seen, rates = numbers, 0, []
        return rates

    LOSSES["Breaking"], CALLBACKS["Rates"] = Breaking, Rates
    yield at
    del LOSSES["Breaking"], CALLBACKS["Rates"]


# 4 batches an epoch.
SETTINGS = [
    "epochs=3", "lr=0.04", "training_hyperparams.loss=Breaking", "~training_hyperparams.criterion_params.smooth_eps",
    "training_hyperparams.lr_warmup_epochs=0", "training_hyperparams.phase_callbacks=[TrainingCurves,Rates]",
]  # fmt: skip
CONSTANT = "training_hyperparams.lr_mode={StepLR: {step_size: 100, gamma: 0.1, phase: TRAIN_EPOCH_END}}"


@pytest.mark.parametrize("schedule", [[], [CONSTANT]])
def test_it_goes_back_to_the_epoch_before_with_half_the_rate(schedule, breaks, train, tmp_path, capfd):
    rates = breaks(6)
    _, run = train(*SETTINGS, ROLLBACK, *schedule)
    first, again = rates[:5], rates[5:]
    assert len(again) == 8 and again[0] == pytest.approx(first[4] / 2)
    assert "the loss is nan at step 2 of epoch 2" in (said := capfd.readouterr().err)
    assert "back to the last checkpoint, with 0.5 of the rate (1 of at most 3 rollbacks)" in said
    assert [*tmp_path.glob("*/RUN_*")] == [run]
    latest = read(run / "ckpt_latest.pth")
    assert latest["epoch"] == 3 and latest["progress"]["rollbacks"] == 1
    assert [line.split(",")[0] for line in (run / "curves.csv").read_text().split()] == ["epoch", "1", "2", "3"]


def test_before_the_first_checkpoint_it_begins_anew_from_the_same_network(breaks, train):
    rates = breaks(3)
    _, run = train(*SETTINGS, ROLLBACK, "+training_hyperparams.save_ckpt_epoch_list=[1]")
    assert len(rates) == 2 + 12 and rates[2] == pytest.approx(rates[0] / 2)
    breaks()
    _, other = train(*SETTINGS, "lr=0.02", "experiment_name=other", "+training_hyperparams.save_ckpt_epoch_list=[1]")
    one, two = (read(each / "ckpt_epoch_1.pth")["net"] for each in (run, other))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_within_an_epoch_it_goes_on_where_it_was_saved(breaks, train):
    rates = breaks(4)
    train(*SETTINGS, ROLLBACK, "training_hyperparams.save_every=2steps")
    assert len(rates) == 3 + 10
    broken, again = rates[:3], rates[3:]
    whole = breaks()
    train(*SETTINGS, "experiment_name=whole")
    assert broken == whole[:3] and again == pytest.approx([rate / 2 for rate in whole[2:]])


def test_after_three_times_it_ends(breaks, train):
    rates = breaks(5, 6, 7, 8)
    with pytest.raises(ValueError, match=r"^the loss is nan at step 1 of epoch 2, .* rolled back 3 times, to no avail"):
        train(*SETTINGS, ROLLBACK)
    assert len(rates) == 4


def test_a_resumed_run_keeps_its_rate_unless_it_is_given_another(breaks, train):
    rates = breaks(6)
    train(*SETTINGS, ROLLBACK, CONSTANT)
    rates = breaks()
    train(*SETTINGS, ROLLBACK, CONSTANT, "resume=True", "epochs=4")
    assert rates == [pytest.approx(0.02)] * 4
    rates = breaks()
    train(*SETTINGS, ROLLBACK, "resume=True", "epochs=5", "lr=0.01", "training_hyperparams.cosine_final_lr_ratio=1.0")
    assert rates == [pytest.approx(0.01)] * 4


def test_two_rollbacks_quarter_the_rate(breaks, train):
    rates = breaks(6, 9)
    train(*SETTINGS, ROLLBACK, CONSTANT)
    assert [round(rate, 9) for rate in rates] == [0.04] * 5 + [0.02] * 2 + [0.01] * 8


@pytest.fixture
def broken_weights(host, monkeypatch):
    """broken_weights(n): after the n-th step the first layer's weights are NaN."""
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Break(Callback):
        at = seen = 0

        def on_train_batch_end(self, context):
            Break.seen += 1
            if Break.seen == Break.at:
                next(iter(context.net.parameters())).data.fill_(float("nan"))

    def at(number):
        Break.at, Break.seen = number, 0

    monkeypatch.setitem(CALLBACKS, "Break", Break)
    return at


BREAK = "training_hyperparams.phase_callbacks=[TrainingCurves,Break]"


def test_weights_that_a_quantiser_hides_end_the_run_too(broken_weights, quantise):
    broken_weights(6)
    with pytest.raises(
        ValueError, match=r"^weights of \S+ are NaN or infinite at step 4 of epoch 2: .*good checkpoint"
    ):
        quantise("epochs=3", BREAK)


def test_broken_weights_are_never_saved(broken_weights, train, monkeypatch, host):
    """Within an epoch, too, where the loss would have told one step later."""
    broken_weights(6)
    with pytest.raises(
        ValueError, match=r"^weights of \S+ are NaN or infinite at step 2 of epoch 2: .*good checkpoint"
    ):
        train("epochs=3", BREAK, "training_hyperparams.save_every=2steps")
    broken_weights(6)
    _, run = train("epochs=3", BREAK, ROLLBACK, "training_hyperparams.save_every=2steps", "experiment_name=back")
    latest = read(run / "ckpt_latest.pth")
    assert latest["epoch"] == 3 and latest["progress"]["rollbacks"] == 1
    assert all(value.isfinite().all() for value in latest["net"].values() if value.is_floating_point())


def test_a_buffer_that_is_infinite_by_intent_ends_no_run(host, train, monkeypatch):
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Mask(Callback):
        def on_training_start(self, context):
            context.net.register_buffer("mask", torch.tensor(float("-inf")), persistent=False)

    monkeypatch.setitem(CALLBACKS, "Mask", Mask)
    _, run = train("epochs=2", "training_hyperparams.phase_callbacks=[Mask]")
    assert read(run / "ckpt_latest.pth")["epoch"] == 2


def test_a_quantisation_is_rolled_back(broken_weights, quantise):
    broken_weights(6)
    _, run = quantise("epochs=3", BREAK, ROLLBACK)
    latest = read(run / "ckpt_latest.pth")
    assert latest["epoch"] == 3 and latest["progress"]["rollbacks"] == 1
    assert all(value.isfinite().all() for value in latest["net"].values() if value.is_floating_point())


def test_a_distillation_is_rolled_back(broken_weights, distil):
    broken_weights(6)
    run = distil("epochs=3", BREAK, ROLLBACK)
    assert read(run / "ckpt_latest.pth")["progress"]["rollbacks"] == 1


def test_otherwise_the_run_ends(breaks, train):
    breaks(6)
    with pytest.raises(ValueError, match=r"the loss is nan at step 2 of epoch 2, .* last good checkpoint is .*latest"):
        train(*SETTINGS)


@pytest.mark.parametrize(
    "setting, message",
    [
        ("training_hyperparams.on_divergence=back", "on_divergence='back': must be one of stop, rollback"),
        ("training_hyperparams.save_model=False", "on_divergence=rollback needs checkpoints"),
    ],
)
def test_what_cannot_be_rolled_back_is_refused(setting, message, train):
    with pytest.raises(ValueError, match=message):
        train(ROLLBACK, setting)


def test_early_stop_is_left_alone(breaks, train, capfd):
    breaks(6)
    stop = "training_hyperparams.phase_callbacks=[{EarlyStop: {phase: TRAIN_EPOCH_END, monitor: Breaking, mode: min}}]"
    train(*SETTINGS, stop)
    assert "rollback" not in capfd.readouterr().err
