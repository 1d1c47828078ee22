"""Seven distillation losses, and the one that joins them to a task loss.

Each takes what `Distiller` returns for a batch, and the labels, and gives a scalar. Features are lists with one tensor
for each tap, (N, C, H, W). The teacher's tensors carry no gradient.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sg_resnets.distillation.distiller import DistillationOutput
from sg_resnets.utils.checks import BOOLEAN, NOT_NEGATIVE, POSITIVE, is_number
from sg_resnets.utils.errors import SgResnetsError


def _kl_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) of logits (N, K), mean over the batch."""
    return F.kl_div(F.log_softmax(student, 1), F.log_softmax(teacher, 1), reduction="batchmean", log_target=True)


class KD(nn.Module):
    """L = T^2 KL(softmax(z_t / T) || softmax(z_s / T)), z the logits (Hinton, Vinyals & Dean, 'Distilling the
    Knowledge in a Neural Network', 2015, section 2).

    Args:
        temperature: T, above 0.
        standardize: replaces z by (z - mean(z)) / std(z), over the classes of each image (Sun et al., 'Logit
            Standardization in Knowledge Distillation', 2024, section 4). A std below 0.1 is taken as 0.1.

    Raises:
        SgResnetsError: the temperature is not above 0, or standardize not True or False.
    """

    uses_taps = False

    def __init__(self, temperature: float = 4.0, standardize: bool = False) -> None:
        super().__init__()
        self.temperature = POSITIVE("KD: temperature", temperature)
        self.standardize = BOOLEAN("KD: standardize", standardize)

    def forward(self, output: DistillationOutput, target: Tensor) -> Tensor:
        student, teacher = (z / self.temperature for z in _logits(output, self.standardize))
        return self.temperature**2 * _kl_divergence(student, teacher)


def _logits(output: DistillationOutput, standardize: bool) -> tuple[Tensor, Tensor]:
    student, teacher = output.student_output, output.teacher_output
    return (_standardized(student), _standardized(teacher)) if standardize else (student, teacher)


def _standardized(logits: Tensor) -> Tensor:
    # A classifier that starts at zero has equal logits: without a floor, its gradient would have no bound.
    return (logits - logits.mean(1, keepdim=True)) / logits.std(1, keepdim=True).clamp_min(0.1)


class DKD(nn.Module):
    """L = T^2 (alpha TCKD + beta NCKD) (Zhao et al., 'Decoupled Knowledge Distillation', 2022, section 3).

    TCKD is the divergence of the two binary distributions (target class, all others), NCKD that of the distributions
    over the other classes alone. With mixed labels, (N, K), the target class is the largest. `standardize` replaces
    the logits first, as in `KD`.

    Raises:
        SgResnetsError: the temperature is not above 0, a weight below 0, or standardize not True or False.
    """

    uses_taps = False

    def __init__(
        self, alpha: float = 1.0, beta: float = 2.0, temperature: float = 4.0, standardize: bool = False
    ) -> None:
        super().__init__()
        self.alpha, self.beta = NOT_NEGATIVE("DKD: alpha", alpha), NOT_NEGATIVE("DKD: beta", beta)
        self.temperature = POSITIVE("DKD: temperature", temperature)
        self.standardize = BOOLEAN("DKD: standardize", standardize)

    def forward(self, output: DistillationOutput, target: Tensor) -> Tensor:
        target = (target if target.ndim == 1 else target.argmax(1))[:, None]
        below = torch.arange(output.student_output.shape[1] - 1, device=target.device)
        others = below + (below >= target)  # (N, K - 1), all classes but the target
        logits = [z / self.temperature for z in _logits(output, self.standardize)]
        rest = [z.gather(1, others) for z in logits]
        # softmax(z_target, logsumexp(rest)) is the binary distribution.
        binary = [
            torch.cat((z.gather(1, target), r.logsumexp(1, keepdim=True)), 1) for z, r in zip(logits, rest, strict=True)
        ]
        return self.temperature**2 * (self.alpha * _kl_divergence(*binary) + self.beta * _kl_divergence(*rest))


class DIST(nn.Module):
    """L = T^2 (beta L_inter + gamma L_intra), with 1 - Pearson's correlation of the probabilities in place of their
    divergence (Huang et al., 'Knowledge Distillation from A Stronger Teacher', 2022, section 3).

    L_inter correlates the K classes of one image, L_intra the N images of one class; both are means. Probabilities
    that deviate by less than 1 % from their mean (a classifier that starts at zero) count as if by 1 %.

    Raises:
        SgResnetsError: the temperature is not above 0, or a weight below 0.
    """

    uses_taps = False

    def __init__(self, beta: float = 2.0, gamma: float = 2.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.beta, self.gamma = NOT_NEGATIVE("DIST: beta", beta), NOT_NEGATIVE("DIST: gamma", gamma)
        self.temperature = POSITIVE("DIST: temperature", temperature)

    def forward(self, output: DistillationOutput, target: Tensor) -> Tensor:
        student, teacher = (F.softmax(z / self.temperature, 1) for z in (output.student_output, output.teacher_output))
        inter = 1 - _correlation(student, teacher).mean()
        intra = 1 - _correlation(student.T, teacher.T).mean()
        return self.temperature**2 * (self.beta * inter + self.gamma * intra)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row of `a` with that of `b`, probabilities both."""

    def standardized(rows: Tensor) -> Tensor:
        mean = rows.mean(1, keepdim=True)
        deviation = (rows - mean).square().mean(1, keepdim=True)
        return (rows - mean) / deviation.clamp_min((0.01 * mean.detach()).square()).sqrt()

    return (standardized(a) * standardized(b)).mean(1)


class MLLD(nn.Module):
    """`L = sum over T of instance T^2 KL(P_t || P_s) + batch |G_t - G_s|^2 / N + classes |C_t - C_s|^2 / K`, with the
    probabilities P = softmax(z / T), (N, K), the relations of the images G = P P', (N, N), and of the classes
    C = P' P, (K, K); `|.|^2` is the sum of squares (Jin, Wang & Lin, 'Multi-Level Logit Distillation', 2023; the scales
    are those of the authors' code, KD_ours.py). T is each of `temperature`, 2, 3, 5 and 6; N is the batch of one
    process.

    The authors show both networks two views of an image, one of them augmented strongly, and use the batch and class
    level of the other alone. Here there is one view, as the data gives it, and the default weights make L what their
    code gives for two equal views: 1 + 1/2, 1/2 and 1/2. The halves are what is left of their masks of the images and
    classes that the teacher is least sure of: the loss is averaged before it is masked, so that none is chosen, and
    the mean of a mask is one half (for odd N or K a little more). So there is no mask here.

    Batch and class level grow as N / K and (N / K)^2: the default weights are for 64 images of 100 classes.

    Args:
        temperature: above 0. 2, which Sun et al. 2024 take with standardised logits, then counts twice, as theirs does.
        standardize: as in `KD`, at the instance level alone, as in Sun et al.'s code, MLKD.py.
        instance, batch, classes: the weights of the levels, at least 0.

    Raises:
        SgResnetsError: the temperature is not above 0, a weight below 0, or standardize not True or False.
    """

    uses_taps = False

    def __init__(
        self,
        temperature: float = 4.0,
        standardize: bool = False,
        instance: float = 1.5,
        batch: float = 0.5,
        classes: float = 0.5,
    ) -> None:
        super().__init__()
        self.temperatures = (POSITIVE("MLLD: temperature", temperature), 2, 3, 5, 6)
        self.standardize = BOOLEAN("MLLD: standardize", standardize)
        self.instance, self.batch = NOT_NEGATIVE("MLLD: instance", instance), NOT_NEGATIVE("MLLD: batch", batch)
        self.classes = NOT_NEGATIVE("MLLD: classes", classes)

    def forward(self, output: DistillationOutput, target: Tensor) -> Tensor:
        student, teacher = (self._log_probabilities(z) for z in _logits(output, False))
        p_student, p_teacher = student.exp(), teacher.exp()
        if self.standardize:
            student, teacher = (self._log_probabilities(z) for z in _logits(output, True))
        divergences = F.kl_div(student, teacher, reduction="none", log_target=True).sum(2).mean(1)
        instance = sum(t**2 * divergence for t, divergence in zip(self.temperatures, divergences, strict=True))
        batch = _relational_difference(p_student, p_teacher)
        classes = _relational_difference(p_student.mT, p_teacher.mT)
        return self.instance * instance + self.batch * batch + self.classes * classes

    def _log_probabilities(self, logits: Tensor) -> Tensor:
        """(T, N, K), of logits (N, K)."""
        return F.log_softmax(torch.stack([logits / t for t in self.temperatures]), 2)


def _relational_difference(a: Tensor, b: Tensor) -> Tensor:
    """sum |a a' - b b'|^2 / n, over matrices (T, n, m)."""
    return (a @ a.mT - b @ b.mT).square().sum() / a.shape[1]


class FitNet(nn.Module):
    """L = mean((r(f_s) - f_t)^2), summed over the taps; r is a 1x1 convolution that learns with the student (Romero et
    al., 'FitNets: Hints for Thin Deep Nets', 2015, equation 3; the mean in place of half the sum, as is usual today).

    Needs `taps` with `regressor: True`, unless the features have the same number of channels.
    """

    uses_taps = True

    def forward(self, output: DistillationOutput, target: Tensor) -> Tensor:
        return _sum_over_taps(_mean_square, output)


class AT(nn.Module):
    """L = mean((q(f_s) - q(f_t))^2), summed over the taps; q is the attention map `sum_c |f_c|^p` over (H, W), of
    length 1 (Zagoruyko & Komodakis, 'Paying More Attention to Attention', 2017, equation 2; the mean in place of the
    norm, as in the authors' code)."""

    uses_taps = True

    def __init__(self, p: float = 2.0) -> None:
        super().__init__()
        self.p = POSITIVE("AT: p", p)

    def forward(self, output: DistillationOutput, target: Tensor) -> Tensor:
        return _sum_over_taps(lambda s, t: _mean_square(self._attention(s), self._attention(t)), output)

    def _attention(self, features: Tensor) -> Tensor:
        if features.ndim != 4:
            raise SgResnetsError(f"AT compares feature maps (N, C, H, W), and a tap gives {tuple(features.shape)}")
        return F.normalize(features.abs().pow(self.p).mean(1).flatten(1), dim=1)


class RKD(nn.Module):
    """L = w_d L_D + w_a L_A, summed over the taps, with Huber's loss l (Park et al., 'Relational Knowledge
    Distillation', 2019, section 3.2).

    L_D = mean l(d_s, d_t): Euclidean distances of two images' features, over their mean in the batch.
    L_A = mean l(a_s, a_t): cosines of the angles that three images form. N^3 of them: memory grows so with the batch.

    Raises:
        SgResnetsError: a weight is below 0.
    """

    uses_taps = True

    def __init__(self, distance: float = 25.0, angle: float = 50.0) -> None:
        super().__init__()
        self.distance, self.angle = NOT_NEGATIVE("RKD: distance", distance), NOT_NEGATIVE("RKD: angle", angle)

    def forward(self, output: DistillationOutput, target: Tensor) -> Tensor:
        def loss(student: Tensor, teacher: Tensor) -> Tensor:
            s, t = student.flatten(1), teacher.flatten(1)
            distance = F.smooth_l1_loss(_distances(s), _distances(t))
            return self.distance * distance + self.angle * F.smooth_l1_loss(_angles(s), _angles(t))

        return _sum_over_taps(loss, output)


def _distances(features: Tensor) -> Tensor:
    """(N, N): distances over their mean, that of an image to itself not counted."""
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    return distances / (distances.sum() / (distances > 0).sum().clamp_min(1)).clamp_min(1e-12)


def _angles(features: Tensor) -> Tensor:
    """(N, N, N): [j, i, k] is the cosine of the angle at j between i and k; 0 where two of them are one point."""
    edges = features[None] - features[:, None]
    lengths = edges.norm(dim=2, keepdim=True)
    # Where the length is 0 the gradient of edges / lengths has no bound: it must not be taken at all.
    directions = torch.where(lengths > 0, edges / torch.where(lengths > 0, lengths, 1), 0)
    return torch.bmm(directions, directions.transpose(1, 2))


def _mean_square(student: Tensor, teacher: Tensor) -> Tensor:
    if student.shape != teacher.shape:
        raise SgResnetsError(
            f"taps: the student's gives {tuple(student.shape)} and the teacher's {tuple(teacher.shape)}: choose taps "
            "of the same size; where only the channels differ, set distillation.taps.regressor=True"
        )
    return F.mse_loss(student, teacher)


def _sum_over_taps(loss: Any, output: DistillationOutput) -> Tensor:
    if not output.student_features:
        raise SgResnetsError("this method compares features: give the Distiller taps, {student: PATH, teacher: PATH}")
    pairs = zip(output.student_features, output.teacher_features, strict=True)
    return torch.stack([loss(student, teacher) for student, teacher in pairs]).sum()


METHODS = (KD, DKD, DIST, MLLD, FitNet, AT, RKD)


class DistillationLoss(nn.Module):
    """L = task_weight * task(student, labels) + weight * ramp * method(student, teacher); float32 inside, whatever
    autocast does outside.

    Args:
        task: any loss of logits and labels; in a recipe by its name: {CrossEntropyLoss: {smooth_eps: 0.1}}.
        method: one of the seven: {KD: {temperature: 4.0}}.
        weight, task_weight: at least 0.
        warmup_epochs: ramp climbs over so many epochs: 1 / n in the first, 1 from the n-th on.

    Raises:
        SgResnetsError: the method is none of the seven, or a value is wrong.
    """

    def __init__(
        self,
        task: nn.Module,
        method: str | Mapping[str, Any] | nn.Module,
        weight: float = 1.0,
        task_weight: float = 1.0,
        warmup_epochs: int = 0,
    ) -> None:
        super().__init__()
        for key, value in (("weight", weight), ("task_weight", task_weight), ("warmup_epochs", warmup_epochs)):
            NOT_NEGATIVE(f"distillation.{key}", value)
        self.task, self.method = task, _method(method)
        self.weight, self.task_weight, self.warmup_epochs = weight, task_weight, warmup_epochs
        self.epoch = warmup_epochs  # >= 1; set as training goes on

    @property
    def component_names(self) -> list[str]:
        """What is logged: the sum, then its two parts before they are weighted."""
        return ["loss", "task", type(self.method).__name__]

    def forward(self, output: DistillationOutput, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and (3,) what is logged of it."""
        with torch.autocast(output.student_output.device.type, enabled=False):
            output = DistillationOutput(*map(_at_least_float32, output))
            task = self.task(output.student_output, target)
            task = task[0] if isinstance(task, tuple) else task
            method = self.method(output, target)
            ramp = min(self.epoch / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0
            loss = self.task_weight * task + self.weight * ramp * method
        return loss, torch.stack((loss, task, method)).detach()


def _at_least_float32(tensors: Any) -> Any:
    if isinstance(tensors, Tensor):
        return tensors.to(torch.promote_types(tensors.dtype, torch.float32))
    return [_at_least_float32(tensor) for tensor in tensors]


def _method(method: str | Mapping[str, Any] | nn.Module | None) -> nn.Module:
    if isinstance(method, nn.Module):
        return method
    classes = {cls.__name__: cls for cls in METHODS}
    if isinstance(method, str) and method:
        method = {method: {}}
    if not isinstance(method, Mapping) or len(method) != 1:
        wrong = ", ".join(map(str, method)) if isinstance(method, Mapping) else method
        raise SgResnetsError(f"distillation.method: one of {', '.join(classes)}, not {wrong or 'none'}")
    ((name, params),) = method.items()
    if name not in classes:
        raise SgResnetsError(f"unknown distillation method '{name}': valid: {', '.join(classes)}")
    params = params or {}
    if not isinstance(params, Mapping):
        raise SgResnetsError(f"distillation.method.{name}={params}: must be parameters by name, such as {{p: 2.0}}")
    # A class without an __init__ of its own has nn.Module's *args and **kwargs.
    parameters = inspect.signature(classes[name]).parameters.values()
    valid = {key.name: key.default for key in parameters if key.kind is key.POSITIONAL_OR_KEYWORD}
    if unknown := set(params) - set(valid):
        raise SgResnetsError(f"{name} takes {', '.join(valid) or 'no parameters'}, not {', '.join(sorted(unknown))}")
    for key, value in params.items():
        if not (is_number(value) or isinstance(value, bool)):
            words = "True or False" if isinstance(valid[key], bool) else "a number"
            raise SgResnetsError(f"distillation.method.{name}.{key}={value}: must be {words}")
    return classes[name](**params)
