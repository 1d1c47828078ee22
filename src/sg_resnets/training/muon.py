"""Muon, an optimiser with which a few epochs go further than with SGD."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sg_resnets.utils.checks import BELOW_ONE, BOOLEAN, NOT_NEGATIVE, Check

# Jordan et al. 2024: so many steps of this quintic bring singular values of 0.01 to 1 to between 0.7 and 1.2.
STEPS, QUINTIC = 5, (3.4445, -4.7750, 2.0315)
CHECKS = {
    "lr": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "momentum": BELOW_ONE,
    "nesterov": BOOLEAN,
    "betas": Check(lambda value: isinstance(value, Sequence) and len(value) == 2, "two numbers, such as [0.9, 0.95]"),
    "eps": NOT_NEGATIVE,
}


class Muon(Optimizer):
    """Momentum whose matrices are orthogonalised (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon);
    vectors, which are batch-norm's parameters and biases, take the steps of AdamW.

    A convolution's weight is the matrix (C_out, C_in k k). Where its momentum, an average, is U S V^T by its singular
    values, it moves along U V^T: all directions alike. This times 0.2 sqrt(the longer side) has entries as large as
    AdamW's steps (Liu et al. 2025, 'Muon is scalable for LLM training', section 2.2), so that one `lr` and one
    decoupled `weight_decay` serve both. `momentum` and `nesterov` are of matrices, `betas` and `eps` of vectors.

    PyTorch's Muon takes no convolutions. timm's works in bfloat16, which a CPU without AVX512-BF16 is slow in.

    Raises:
        SgResnetsError: a momentum or beta is not in [0, 1), or lr, weight decay or eps is below 0, in a group too.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        of_matrices = {"momentum": momentum, "nesterov": nesterov}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **of_matrices, "betas": betas, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        group = {**self.defaults, **param_group}
        for key, check in CHECKS.items():
            check(f"Muon: {key}", group[key])
        for i, beta in enumerate(group["betas"]):
            BELOW_ONE(f"Muon: betas[{i}]", beta)
        super().add_param_group({**group, "betas": tuple(group["betas"])})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            by_shape, vectors = defaultdict(list), []
            for weight in weights:
                if weight.ndim > 1 and weight[0].numel() > 1:  # LayerScale's (C, 1, 1) is a vector
                    by_shape[weight.shape, weight.device].append(weight)
                else:
                    vectors.append(weight)
            if vectors:
                self._step_of_adam(vectors, group["lr"], group["betas"], group["eps"])
            for same in by_shape.values():
                self._step_of_matrices(same, group["lr"], group["momentum"], group["nesterov"])
        return loss

    def _step_of_adam(self, weights: list[Tensor], lr: float | Tensor, betas: tuple[float, float], eps: float) -> None:
        for weight in weights:
            state = self.state[weight]
            if not state:
                state.update(step=0, exp_avg=torch.zeros_like(weight), exp_avg_sq=torch.zeros_like(weight))
            state["step"] = _one_more(state["step"], weight.device)
        states, gradients = [self.state[weight] for weight in weights], gradients_of(weights)
        averages, squares = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq"))
        torch._foreach_lerp_(averages, gradients, 1 - betas[0])
        torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - betas[1])
        moves = torch._foreach_div(averages, [1 - betas[0] ** state["step"] for state in states])
        sizes = torch._foreach_div(squares, [1 - betas[1] ** state["step"] for state in states])
        torch._foreach_sqrt_(sizes)
        torch._foreach_add_(sizes, eps)
        torch._foreach_div_(moves, sizes)
        torch._foreach_mul_(moves, lr)
        torch._foreach_sub_(weights, moves)

    def _step_of_matrices(self, same: list[Tensor], lr: float | Tensor, momentum: float, nesterov: bool) -> None:
        """One step for all weights of one shape."""
        for weight in same:
            if not self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        gradients, averages = gradients_of(same), [self.state[each]["momentum_buffer"] for each in same]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        directions = torch._foreach_lerp(gradients, averages, momentum) if nesterov else averages
        many = torch.stack([channels_last(direction) for direction in directions])
        steps = orthogonal(many.flatten(2))
        steps *= lr * 0.2 * math.sqrt(max(steps.shape[1:]))
        torch._foreach_sub_([channels_last(weight) for weight in same], steps.view(many.shape).unbind())


def _one_more(steps: int | Tensor, device: torch.device) -> int | Tensor:
    """The number of steps, on a GPU as a tensor in its place there, so that a recorded step counts."""
    if device.type == "cpu":
        return int(steps) + 1
    return torch.as_tensor(steps, dtype=torch.float32, device=device).add_(1)


def gradients_of(weights: list[Tensor]) -> list[Tensor]:
    """Those of the weights that have one."""
    return [gradient for weight in weights if (gradient := weight.grad) is not None]


def channels_last(weight: Tensor) -> Tensor:
    """A view (C_out, k, k, C_in), as such weights lie in memory; the order of a matrix's columns changes no U V^T."""
    return weight.movedim(1, -1)


def orthogonal(matrices: Tensor) -> Tensor:
    """About U V^T of each matrix U S V^T of a batch (B, rows, columns), by Newton and Schulz's iteration.

    Each step multiplies X by p(X X^T), a polynomial, and X X^T by p on both sides: so the steps are of the smaller
    square alone, and X is multiplied once, at the end.
    """
    x = matrices.to(torch.promote_types(matrices.dtype, torch.float32))  # bfloat16 has too few digits for squares
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    square = x @ x.mT
    whole = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand_as(square)
    a, b, c = QUINTIC
    for _ in range(STEPS):
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        whole = polynomial @ whole
        square = polynomial @ square @ polynomial
    x = whole @ x
    return (x.mT if tall else x).to(matrices.dtype)
