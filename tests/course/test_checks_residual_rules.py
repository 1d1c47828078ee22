"""The epilogue's checks, on what students write."""

import pytest
import torch

from sg_resnets.course import checks
from sg_resnets.course.checks import WrongAnswer


def pre(x, branch, norm):
    return x + branch(norm(x))


def post(x, branch, norm):
    return norm(x + branch(x))


def rezero(x, branch, alpha):
    return x + alpha * branch(x)


def changed(x, branch, norm):
    x += branch(norm(x))
    return x


RIGHT = {
    "formula": (pre, post, rezero),
    "other order": (
        lambda x, f, n: f(n(x)) + x,
        lambda x, f, n: n(f(x) + x),
        lambda x, f, a: torch.addcmul(x, a, f(x)),
    ),
    "steps": (
        lambda x, branch, norm: torch.add(x, branch(norm(x))),
        lambda x, branch, norm: norm(torch.stack([x, branch(x)]).sum(0)),
        lambda x, branch, alpha: x + branch(x) * alpha,
    ),
}
WRONG = {
    "not written": ((pre, post, lambda x, f, a: ...), "rezero gives nothing back"),
    "pre is post": ((post, post, rezero), "pre_norm: this is the rule of post-norm"),
    "post is pre": ((pre, pre, rezero), "post_norm: this is the rule of pre-norm"),
    "alpha's number": ((pre, post, lambda x, f, a: x + a.item() * f(x)), "no gradient reaches alpha"),
    "alpha cut off": ((pre, post, lambda x, f, a: x + a.detach() * f(x)), "no gradient reaches alpha"),
    "pre, no shortcut": ((lambda x, f, n: f(n(x)), post, rezero), "pre_norm: the shortcut is missing"),
    "pre, norm on the shortcut": ((lambda x, f, n: n(x) + f(n(x)), post, rezero), "takes the normalised x"),
    "pre, norm late": ((lambda x, f, n: x + n(f(x)), post, rezero), "after the branch"),
    "pre, no norm": ((lambda x, f, n: x + f(x), post, rezero), "pre_norm: the norm is missing"),
    "pre, norm of the shortcut alone": ((lambda x, f, n: n(x) + f(x), post, rezero), "gets x as it is"),
    "pre, in place": ((changed, post, rezero), "changes the x"),
    "post, of the branch": ((pre, lambda x, f, n: x + n(f(x)), rezero), "of the branch alone"),
    "post, of x": ((pre, lambda x, f, n: n(x) + f(x), rezero), "of x alone"),
    "post, no shortcut": ((pre, lambda x, f, n: n(f(x)), rezero), "post_norm: the shortcut"),
    "post, two": ((pre, lambda x, f, n: n(x + f(n(x))), rezero), "two norms"),
    "rezero, no shortcut": ((pre, post, lambda x, f, a: a * f(x)), "rezero: the shortcut"),
    "rezero, no alpha": ((pre, post, lambda x, f, a: x + f(x)), "alpha is missing"),
    "rezero, alpha on x": ((pre, post, lambda x, f, a: a * x + f(x)), "on the shortcut"),
    "rezero, alpha on the sum": ((pre, post, lambda x, f, a: a * (x + f(x))), "on the sum"),
    "rezero, alpha inside": ((pre, post, lambda x, f, a: x + f(a * x)), "into the branch"),
    "rezero, gate": ((pre, post, lambda x, f, a: a * f(x) + (1 - a) * x), "gate"),
    "other": ((pre, post, lambda x, f, a: 2 * x), "something else than x, its branch and alpha"),
}


@pytest.mark.parametrize("answers", RIGHT.values(), ids=RIGHT)
def test_right_rules(answers, capsys):
    state = torch.random.get_rng_state()
    checks.residual_rules(*answers)
    assert capsys.readouterr().out.startswith("Right: ")
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(("answers", "words"), WRONG.values(), ids=WRONG)
def test_wrong_rules(answers, words):
    with pytest.raises(WrongAnswer, match=words):
        checks.residual_rules(*answers)
