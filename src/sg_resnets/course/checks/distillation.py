"""Checks of lesson 6: softmax at a temperature, the loss of Hinton et al. 2015 (section 2), and its gradient."""

from collections.abc import Callable

import torch
from torch import Tensor

from sg_resnets.course.checks.answers import WrongAnswer, call, close, number, recognise, right, tensor
from sg_resnets.distillation.distiller import DistillationOutput
from sg_resnets.distillation.losses import KD

N, K, T = 6, 5, 3.0  # no two of N, K, T, T^2 and their products are alike, so that a factor says where it is from


def softmax(function: Callable[[Tensor, float], Tensor]) -> None:
    """Check `softmax(logits (N, K), temperature)`: the probabilities of each row, (N, K), of any finite logits.

    Raises:
        WrongAnswer: what is wrong.
    """
    z, _ = _logits()
    given_logits = z.clone()
    p = tensor("softmax", call("softmax", function, given_logits, T), (N, K))
    if not torch.equal(given_logits, z):
        raise WrongAnswer("softmax changes the logits that it is given: work on a new tensor")
    if not close(p, torch.softmax(z / T, 1)):
        exponentials = (z / T).exp()
        of_columns, of_all = torch.softmax(z / T, 0), exponentials / exponentials.sum()
        mistakes = {
            "softmax sums to 1 down the columns: over the images, not over the classes of one image": of_columns,
            "softmax sums to 1 over the whole batch, not over the classes of one image": of_all,
            "softmax multiplies by the temperature: a high one then sharpens": torch.softmax(z * T, 1),
            "softmax leaves the temperature out": torch.softmax(z, 1),
            "the temperature is to act on the logits; here it divides the probabilities": torch.softmax(z, 1) / T,
            "softmax gives logarithms of probabilities": torch.log_softmax(z / T, 1),
            "the exponentials are not divided by their sum": exponentials,
            "nothing is divided by the sum: the largest of each row is 1": (z / T - (z / T).amax(1, True)).exp(),
        }
        recognise(p, mistakes)
        sums = p.sum(1)
        if not close(sums, torch.ones(N)):
            raise WrongAnswer(f"the probabilities of an image sum to {sums[0]:.3f}, not to 1")
        raise WrongAnswer("the rows sum to 1, but they are not exp(z / T) over its sum")
    large = torch.tensor([[3000.0, 2000.0, -3000.0]])
    for temperature in (1.0, 4.0, 0.5):
        if not _same(call("softmax", function, large, temperature), torch.softmax(large / temperature, 1)):
            raise WrongAnswer(
                f"at logits of 3,000 and T = {temperature:g} softmax gives NaN, 0 or a wrong number: exp(3000) is "
                "infinite in float32"
            )
    rows = torch.tensor([[3000.0, 2000.0], [-3000.0, -3001.0]])
    if not _same(call("softmax", function, rows, 1.0), torch.softmax(rows, 1)):
        raise WrongAnswer(
            "of two rows, one near 3,000 and one near -3,000, the lower one is lost: what is subtracted is one number "
            "for the whole batch"
        )
    right("softmax over the classes, at any temperature, and for logits of any size.")


def kd_gradient(function: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Check `kd_gradient(student (N, K), teacher (N, K), temperature)`: the gradient of KL(p_t || p_s) of each image
    with respect to the student's logits, (N, K), without the factor T^2 and without a mean over the images.

    Raises:
        WrongAnswer: what is wrong.
    """
    student, teacher = _logits()
    given = tensor("kd_gradient", call("kd_gradient", function, student.clone(), teacher.clone(), T), (N, K))
    p_s, p_t = (torch.softmax(z / T, 1) for z in (student, teacher))
    cold = torch.softmax(student, 1) - torch.softmax(teacher, 1)
    expected = (p_s - p_t) / T
    if not close(given, expected):
        recognise(
            given,
            {
                "the sign is wrong: a step against this gradient takes the student away from its teacher": -expected,
                "the factor that the inner derivative of z / T brings is missing": p_s - p_t,
                "the inner derivative of z / T is 1 / T; here it is T": (p_s - p_t) * T,
                "the inner derivative of z / T is taken twice": expected / T,
                "the probabilities are those at temperature 1": cold / T,
                "the temperature is in neither the probabilities nor in front": cold,
                "the difference of the logits is taken, not that of the probabilities": (student - teacher) / T,
                "this is the gradient of the mean over the batch; asked is that of each image": expected / N,
            },
        )
        raise WrongAnswer(
            f"at T = 3 the gradient of one logit is {given[0, 0]:.4f}, where a finite difference of KL gives "
            f"{expected[0, 0]:.4f}"
        )
    right("this is the gradient of KL(teacher || student) with respect to the student's logits.")


def kd_loss(function: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Check `kd_loss(student (N, K), teacher (N, K), temperature)`: T^2 KL(p_t || p_s), summed over the classes, mean
    over the batch; its gradient reaches the student alone.

    Raises:
        WrongAnswer: what is wrong.
    """
    student, teacher = (z.requires_grad_() for z in _logits())
    before = student.detach().clone(), teacher.detach().clone()
    with torch.enable_grad():
        loss = call("kd_loss", function, student, teacher, T)
    if not all(map(torch.equal, before, (student, teacher))):
        raise WrongAnswer("kd_loss writes into the logits that it is given: make new tensors")
    if isinstance(loss, Tensor) and loss.ndim:
        what = {(N,): "one number for each image", (N, K): "one number for each image and class"}
        raise WrongAnswer(
            f"kd_loss gives {what.get(tuple(loss.shape), f'the shape {tuple(loss.shape)}')}: asked is one number, "
            "the sum over the classes and then the mean over the images"
        )
    value, expected = torch.tensor(number("kd_loss", loss)), _library(student, teacher, T).detach()
    if not value.isfinite():
        raise WrongAnswer("kd_loss gives NaN or infinity")
    if not close(value, expected):
        _recognise_loss(value, expected, student.detach(), teacher.detach())
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise WrongAnswer("no gradient comes from this number: the student could not learn from it")
    to_student, to_teacher = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
    if to_student is None:
        raise WrongAnswer("no gradient reaches the student's logits: it is cut off, or it flows into the teacher alone")
    if to_teacher is not None and to_teacher.abs().max() > 0:
        raise WrongAnswer("a gradient flows into the teacher's logits: the teacher would learn from its student")
    large_s, large_t = 1000 * student.detach(), 1000 * teacher.detach()
    if not _same(call("kd_loss", function, large_s, large_t, 1.0), _library(large_s, large_t, 1.0)):
        raise WrongAnswer(
            "at logits of 1,000 kd_loss gives NaN, infinity or a wrong number: the logarithm is taken of a probability "
            "that has become 0"
        )
    right("T^2 KL(teacher || student), the library's own loss to the last digits, and no gradient into the teacher.")


def _recognise_loss(value: Tensor, expected: Tensor, student: Tensor, teacher: Tensor) -> None:
    """Raise what is wrong with a loss that is not the expected one."""
    squared, mean = "the factor T^2 is missing", "the mean is over images and classes, so it is K times too small"
    factors = {
        squared: 1 / T**2,
        "the factor is T, where it has to make up for T^2": 1 / T,
        f"{mean}: the sum over the classes is KL": 1 / K,
        f"{squared}, and {mean}": 1 / K / T**2,
        "the sum over the images is taken, not their mean": N,
        f"{squared}, and the sum over the images is taken, not their mean": N / T**2,
        "the sign is wrong: the loss falls as the student leaves its teacher": -1,
    }
    recognise(value, {words: factor * expected for words, factor in factors.items()})
    s, t = student / T, teacher / T
    p_s, p_t, log_s, log_t = s.softmax(1), t.softmax(1), s.log_softmax(1), t.log_softmax(1)
    cold_s, cold_t, cold_log_t = student.log_softmax(1), teacher.softmax(1), teacher.log_softmax(1)
    of_images = t.softmax(0) * (t.log_softmax(0) - s.log_softmax(0))
    causes = {
        "KL takes the logarithm of the student's probabilities; here it gets the probabilities": p_t * (log_t - p_s),
        "the two are swapped: this is KL(student || teacher)": p_s * (log_s - log_t),
        "the softmax is over the images, not over the classes": of_images,
        "the logits are not divided by the temperature": cold_t * (cold_log_t - cold_s),
        "the teacher's logits are not divided by the temperature": cold_t * (cold_log_t - log_s),
        "the student's logits are not divided by the temperature": p_t * (log_t - cold_s),
        "this is the cross-entropy, not KL: where student and teacher agree it is not 0": -p_t * log_s,
    }
    for words, terms in causes.items():  # each also with a T^2 or a mean that is wrong: one thing at a time is said
        for factor in (T**2, 1, T, T**2 / K, 1 / K, N * T**2, N):
            recognise(value, {words: factor * terms.sum() / N})
    raise WrongAnswer(f"kd_loss gives {value:.4f} where T^2 KL(teacher || student) is {expected:.4f}")


def _logits() -> tuple[Tensor, Tensor]:
    """Of a student and a teacher, (N, K)."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, N, K, generator=generator)
    return student, teacher


def _library(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    labels = torch.zeros(len(student), dtype=torch.long)
    return KD(temperature)(DistillationOutput(student, teacher.detach()), labels)


def _same(given: object, expected: Tensor) -> bool:
    fits = isinstance(given, Tensor) and given.shape == expected.shape and bool(given.isfinite().all())
    return fits and close(given, expected)  # type: ignore[arg-type]
