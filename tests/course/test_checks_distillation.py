"""Lesson 6's checks, on what students write."""

import pytest
import torch
import torch.nn.functional as F

from sg_resnets.course import checks
from sg_resnets.course.checks import WrongAnswer


def p(z, T, dim=1):
    return torch.softmax(z / T, dim)


def log_p(z, T, dim=1):
    return torch.log_softmax(z / T, dim)


def stable(z, T):
    z = z / T
    e = torch.exp(z - z.max(dim=1, keepdim=True).values)
    return e / e.sum(1, keepdim=True)


def in_place(z, T):
    z /= T
    return z.softmax(1)


SOFTMAX_RIGHT = {
    "by hand": stable,
    "library": p,
    "logarithm": lambda z, T: (z / T - torch.logsumexp(z / T, 1, keepdim=True)).exp(),
    "numpy-like": lambda z, T: torch.stack([F.softmax(row / T, 0) for row in z]),
}
SOFTMAX_WRONG = {
    "not written": (lambda z, T: ..., "gives nothing back"),
    "over images": (lambda z, T: p(z, T, 0), "over the images"),
    "times T": (lambda z, T: torch.softmax(z * T, 1), "multiplies by the temperature"),
    "no T": (lambda z, T: torch.softmax(z, 1), "leaves the temperature out"),
    "T last": (lambda z, T: torch.softmax(z, 1) / T, "divides the probabilities"),
    "no sum": (lambda z, T: (z / T).exp(), "not divided by their sum"),
    "no sum, stable": (lambda z, T: (z / T - (z / T).amax(1, keepdim=True)).exp(), "largest of each row is 1"),
    "logs": (log_p, "logarithms"),
    "whole batch": (lambda z, T: (z / T).exp() / (z / T).exp().sum(), "over the whole batch"),
    "overflow": (lambda z, T: (z / T).exp() / (z / T).exp().sum(1, keepdim=True), "exp\\(3000\\) is infinite"),
    "maximum over T late": (
        lambda z, T: torch.softmax(z / T, 1) * torch.where(z.max() > 999, (z.max() / T - z.max()).exp(), 1.0),
        "at logits of 3,000 and T = 4",
    ),
    "one maximum": (
        lambda z, T: (z / T - (z / T).max()).exp() / (z / T - (z / T).max()).exp().sum(1, keepdim=True),
        "one number for the whole batch",
    ),
    "keepdim": (lambda z, T: (z / T).exp() / (z / T).exp().sum(1), "RuntimeError: .*size of tensor"),
    "in place": (in_place, "changes the logits"),
    "argmax": (lambda z, T: z.argmax(1), r"shape \(6,\)"),
}


@pytest.mark.parametrize("answer", SOFTMAX_RIGHT.values(), ids=SOFTMAX_RIGHT)
def test_right_softmax(answer, capsys):
    state = torch.random.get_rng_state()
    checks.softmax(answer)
    assert capsys.readouterr().out.startswith("Right: ")
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(("answer", "words"), SOFTMAX_WRONG.values(), ids=SOFTMAX_WRONG)
def test_wrong_softmax(answer, words):
    with pytest.raises(WrongAnswer, match=words):
        checks.softmax(answer)


def by_autograd(s, t, T):
    s = s.requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(F.kl_div(log_p(s, T), p(t, T), reduction="sum"), s)[0]


GRADIENT_RIGHT = {
    "formula": lambda s, t, T: (p(s, T) - p(t, T)) / T,
    "other order": lambda s, t, T: -(1 / T) * (p(t, T) - log_p(s, T).exp()),
    "autograd": by_autograd,
}
GRADIENT_WRONG = {
    "sign": (lambda s, t, T: (p(t, T) - p(s, T)) / T, "sign is wrong"),
    "no 1/T": (lambda s, t, T: p(s, T) - p(t, T), "inner derivative of z / T brings is missing"),
    "times T": (lambda s, t, T: T * (p(s, T) - p(t, T)), "here it is T"),
    "twice": (lambda s, t, T: (p(s, T) - p(t, T)) / T**2, "taken twice"),
    "cold": (lambda s, t, T: (p(s, 1) - p(t, 1)) / T, "at temperature 1"),
    "no T": (lambda s, t, T: p(s, 1) - p(t, 1), "in neither"),
    "logits": (lambda s, t, T: (s - t) / T, "difference of the logits"),
    "mean": (lambda s, t, T: (p(s, T) - p(t, T)) / T / len(s), "mean over the batch"),
    "T^2": (lambda s, t, T: (p(s, T) - p(t, T)) * T, "here it is T"),
    "not written": (lambda s, t, T: None, "gives nothing back"),
    "other": (lambda s, t, T: p(s, T) * p(t, T), "finite difference"),
}


@pytest.mark.parametrize("answer", GRADIENT_RIGHT.values(), ids=GRADIENT_RIGHT)
def test_right_gradient(answer):
    checks.kd_gradient(answer)


@pytest.mark.parametrize(("answer", "words"), GRADIENT_WRONG.values(), ids=GRADIENT_WRONG)
def test_wrong_gradient(answer, words):
    with pytest.raises(WrongAnswer, match=words):
        checks.kd_gradient(answer)


def kl(s, t, T, reduction="batchmean"):
    return F.kl_div(log_p(s, T), p(t.detach(), T), reduction=reduction)


LOSS_RIGHT = {
    "kl_div": lambda s, t, T: T**2 * kl(s, t, T),
    "log_target": lambda s, t, T: (
        T * T * F.kl_div(log_p(s, T), log_p(t.detach(), T), reduction="none", log_target=True).sum(1).mean()
    ),
    "by hand": lambda s, t, T: (
        (p(t.detach(), T) * (log_p(t.detach(), T) - log_p(s, T))).sum(1).mul(T).mul(T).sum() / len(s)
    ),
    "difference of entropies": lambda s, t, T: (
        T**2
        * (
            F.cross_entropy(s / T, p(t.detach(), T))
            + (p(t.detach(), T) * log_p(t.detach(), T)).nan_to_num().sum(1).mean()
        )
    ),
}
LOSS_WRONG = {
    "no T^2": (lambda s, t, T: kl(s, t, T), r"factor T\^2 is missing$"),
    "T": (lambda s, t, T: T * kl(s, t, T), "factor is T,"),
    "mean": (lambda s, t, T: T**2 * kl(s, t, T, "mean"), "K times too small"),
    "mean, no T^2": (lambda s, t, T: kl(s, t, T, "mean"), "T\\^2 is missing, and the mean"),
    "sum": (lambda s, t, T: T**2 * kl(s, t, T, "sum"), "sum over the images"),
    "each image": (lambda s, t, T: T**2 * kl(s, t, T, "none").sum(1), "one number for each image:"),
    "each class": (lambda s, t, T: T**2 * kl(s, t, T, "none"), "each image and class"),
    "no log": (
        lambda s, t, T: T**2 * F.kl_div(p(s, T), p(t, T), reduction="batchmean"),
        "takes the logarithm of the student",
    ),
    "no log, mean": (lambda s, t, T: F.kl_div(p(s, T), p(t, T), reduction="mean"), "takes the logarithm"),
    "swapped": (lambda s, t, T: T**2 * kl(t, s, T), "swapped"),
    "over images": (
        lambda s, t, T: T**2 * F.kl_div(log_p(s, T, 0), p(t, T, 0), reduction="batchmean"),
        "over the images, not",
    ),
    "not softened": (lambda s, t, T: T**2 * kl(s, t, 1), "the logits are not divided"),
    "teacher not softened": (
        lambda s, t, T: T**2 * F.kl_div(log_p(s, T), p(t, 1), reduction="batchmean"),
        "teacher's logits are not divided",
    ),
    "student not softened": (
        lambda s, t, T: T**2 * F.kl_div(log_p(s, 1), p(t, T), reduction="batchmean"),
        "student's logits are not divided",
    ),
    "cross-entropy": (lambda s, t, T: T**2 * F.cross_entropy(s / T, p(t, T)), "cross-entropy"),
    "sign": (lambda s, t, T: -(T**2) * kl(s, t, T), "sign is wrong"),
    "teacher learns": (
        lambda s, t, T: T**2 * F.kl_div(log_p(s, T), p(t, T), reduction="batchmean"),
        "flows into the teacher",
    ),
    "student cut off": (
        lambda s, t, T: T**2 * F.kl_div(log_p(s.detach(), T), p(t, T), reduction="batchmean"),
        "no gradient reaches the student",
    ),
    "item": (lambda s, t, T: (T**2 * kl(s, t, T)).item(), "could not learn"),
    "unstable": (
        lambda s, t, T: T**2 * (p(t.detach(), T) * (p(t.detach(), T).log() - p(s, T).log())).sum(1).mean(),
        "1,000",
    ),
    "not written": (lambda s, t, T: ..., "gives nothing back"),
    "in place": (lambda s, t, T: T**2 * kl(s, t.data.add_(1), T), "writes into the logits"),
    "other": (lambda s, t, T: ((s - t.detach()) ** 2).mean(), "gives [0-9.]+ where"),
}


@pytest.mark.parametrize("answer", LOSS_RIGHT.values(), ids=LOSS_RIGHT)
def test_right_loss(answer):
    checks.kd_loss(answer)


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize(("answer", "words"), LOSS_WRONG.values(), ids=LOSS_WRONG)
def test_wrong_loss(answer, words):
    with pytest.raises(WrongAnswer, match=words):
        checks.kd_loss(answer)
