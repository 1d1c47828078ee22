"""Checks of the epilogue: what a block does with its branch, its norm and its shortcut (Xiong et al. 2020, figure 1;
Bachlechner et al. 2021, equation 1)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sg_resnets.course.checks.answers import WrongAnswer, call, close, recognise, right, tensor

Function = Callable[[Tensor], Tensor]


def residual_rules(
    pre_norm: Callable[[Tensor, Function, Function], Tensor],
    post_norm: Callable[[Tensor, Function, Function], Tensor],
    rezero: Callable[[Tensor, Function, Tensor], Tensor],
) -> None:
    """Check three rules for x (N, D): `pre_norm(x, branch, norm)`, `post_norm(x, branch, norm)` and
    `rezero(x, branch, alpha)`, alpha ().

    Raises:
        WrongAnswer: what is wrong.
    """
    generator = torch.Generator().manual_seed(0)
    x, matrix = torch.randn(4, 3, generator=generator) + 1, torch.randn(3, 3, generator=generator)

    def branch(x: Tensor) -> Tensor:
        return torch.tanh(x @ matrix)

    def norm(x: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(x, x.shape[1:])

    pre, post, nothing = x + branch(norm(x)), norm(x + branch(x)), x + branch(x)
    _check("pre_norm", pre_norm, (x, branch, norm), pre, {
        "this is the rule of post-norm": post,
        "the shortcut takes the normalised x; then the norms of all blocks lie on the way from end to end": norm(x)
        + branch(norm(x)),
        "the shortcut is missing": branch(norm(x)),
        "the norm is missing": nothing,
        "the norm comes after the branch, not before it": x + norm(branch(x)),
        "x is normalised and added, and the branch gets x as it is": norm(x) + branch(x),
    })  # fmt: skip
    _check("post_norm", post_norm, (x, branch, norm), post, {
        "this is the rule of pre-norm": pre,
        "the shortcut is missing": norm(branch(x)),
        "the norm is missing": nothing,
        "the norm is of the branch alone: the sum is what it takes": x + norm(branch(x)),
        "the norm is of x alone: the sum is what it takes": norm(x) + branch(x),
        "there are two norms": norm(x + branch(norm(x))),
    })  # fmt: skip
    alpha = torch.tensor(0.3)
    _check("rezero", rezero, (x, branch, alpha), x + alpha * branch(x), {
        "the shortcut is missing": alpha * branch(x),
        "alpha is missing": nothing,
        "alpha is on the shortcut; a block with alpha = 0 then gives its branch alone": alpha * x + branch(x),
        "alpha is on the sum; a block with alpha = 0 then gives 0": alpha * nothing,
        "alpha goes into the branch, whose output at 0 need not be 0": x + branch(alpha * x),
        "this is a gate, which takes from x what it gives to the branch (a highway network's rule)": alpha * branch(x)
        + (1 - alpha) * x,
    })  # fmt: skip
    alpha.requires_grad_()
    given = tensor("rezero", call("rezero", rezero, x.clone(), branch, alpha), (4, 3))
    if not given.requires_grad or torch.autograd.grad(given.sum(), alpha, allow_unused=True)[0] is None:
        raise WrongAnswer("rezero: no gradient reaches alpha, which is to be learnt")
    right("three rules, alike but for where the norm is and what weighs the branch.")


def _check(name: str, rule: Any, arguments: tuple[Any, ...], expected: Tensor, mistakes: dict[str, Tensor]) -> None:
    x = arguments[0].clone()
    given = tensor(name, call(name, rule, x, *arguments[1:]), (4, 3))
    if not torch.equal(x, arguments[0]):
        raise WrongAnswer(f"{name} changes the x that it is given: the shortcut of another block may need it")
    if not close(given, expected):
        recognise(given, {f"{name}: {words}": result for words, result in mistakes.items()})
        raise WrongAnswer(f"{name} gives something else than x, its branch and {'alpha' if 'zero' in name else 'norm'}")
