"""Each method of distillation against its paper's equations, image by image, in float64."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sg_resnets.distillation import losses
from sg_resnets.utils.errors import SgResnetsError

N, K = 6, 5


def reference_softmax(logits, temperature=1.0):
    powers = [math.e ** (z / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def reference_kl(p, q):
    return sum(pi * torch.log(pi / qi) for pi, qi in zip(p, q, strict=True))


def reference_kd(student, teacher, target, temperature=3.0):
    each = [
        reference_kl(reference_softmax(t, temperature), reference_softmax(s, temperature))
        for s, t in zip(student, teacher, strict=True)
    ]
    return temperature**2 * sum(each) / len(student)


def reference_z_scores(batch):
    def z_scores(logits):
        mean = sum(logits) / len(logits)
        return [(z - mean) / torch.sqrt(sum((z - mean) ** 2 for z in logits) / (len(logits) - 1)) for z in logits]

    return [z_scores(logits) for logits in batch]


def standardized(reference):
    return lambda student, teacher, target: reference(reference_z_scores(student), reference_z_scores(teacher), target)


def reference_dkd(student, teacher, target, alpha=0.7, beta=3.0, temperature=4.0):
    total = 0.0
    for s, t, label in zip(student, teacher, target, strict=True):
        p, q = reference_softmax(t, temperature), reference_softmax(s, temperature)
        total += alpha * reference_kl([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        others = [k for k in range(K) if k != label]
        total += beta * reference_kl([p[k] / (1 - p[label]) for k in others], [q[k] / (1 - q[label]) for k in others])
    return temperature**2 * total / len(student)


def reference_relations(rows, others):
    """The sum of squares of what two matrices of inner products differ in, over their rows."""

    def inner(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    n = range(len(rows))
    return sum((inner(rows[i], rows[j]) - inner(others[i], others[j])) ** 2 for i in n for j in n) / len(rows)


def reference_mlld(student, teacher, target, temperature=3.5, instance=0.7, batch=0.4, classes=0.2, standardize=False):
    total = 0.0
    for t in (temperature, 2, 3, 5, 6):
        q, p = ([reference_softmax(z, t) for z in logits] for logits in (student, teacher))
        kd = standardized(partial(reference_kd, temperature=t)) if standardize else partial(reference_kd, temperature=t)
        total += instance * kd(student, teacher, target)
        total += batch * reference_relations(q, p)
        total += classes * reference_relations(*([[row[k] for row in m] for k in range(len(m[0]))] for m in (q, p)))
    return total


def reference_dist(student, teacher, target, beta=1.5, gamma=0.5, temperature=2.0):
    q, p = (
        torch.stack([torch.stack(reference_softmax(z, temperature)) for z in logits]) for logits in (student, teacher)
    )

    def pearson(a, b):
        a, b = a - a.sum() / len(a), b - b.sum() / len(b)
        return (a * b).sum() / torch.sqrt((a**2).sum() * (b**2).sum())

    inter = sum(1 - pearson(q[i], p[i]) for i in range(N)) / N
    intra = sum(1 - pearson(q[:, k], p[:, k]) for k in range(K)) / K
    return temperature**2 * (beta * inter + gamma * intra)


def reference_fitnet(student, teacher, target):
    return sum(((s - t) ** 2).sum() / s.numel() for s, t in zip(student, teacher, strict=True))


def reference_at(student, teacher, target, p=2.0):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        maps = [sum(f[:, c].abs() ** p for c in range(f.shape[1])) for f in (s, t)]
        for a, b in zip(*maps, strict=True):
            difference = a / torch.sqrt((a**2).sum()) - b / torch.sqrt((b**2).sum())
            total += (difference**2).sum() / (difference.numel() * N)
    return total


def reference_rkd(student, teacher, target, distance=2.0, angle=3.0):
    def huber(a, b):
        return 0.5 * (a - b) ** 2 if abs(a - b) <= 1 else abs(a - b) - 0.5

    total = 0.0
    for features in zip(student, teacher, strict=True):
        distances, angles = [], []
        for f in (f.flatten(1) for f in features):
            d = {(i, j): torch.sqrt(((f[i] - f[j]) ** 2).sum()) for i in range(N) for j in range(N) if i != j}
            mean = sum(d.values()) / len(d)
            distances.append({pair: value / mean for pair, value in d.items()})
            angles.append(
                {
                    (i, j, k): ((f[i] - f[j]) * (f[k] - f[j])).sum() / (d[i, j] * d[k, j])
                    for i in range(N)
                    for j in range(N)
                    for k in range(N)
                    if i != j and k != j
                }
            )
        total += distance * sum(huber(distances[0][p], distances[1][p]) for p in distances[0]) / N**2
        total += angle * sum(huber(angles[0][p], angles[1][p]) for p in angles[0]) / N**3
    return total


MLLD = {"temperature": 3.5, "instance": 0.7, "batch": 0.4, "classes": 0.2}
LOGITS = (
    ("KD", {"temperature": 3.0}, reference_kd),
    ("KD", {"temperature": 2.0, "standardize": True}, standardized(partial(reference_kd, temperature=2.0))),
    ("DKD", {"alpha": 0.7, "beta": 3.0, "temperature": 4.0}, reference_dkd),
    ("DKD", {"alpha": 0.7, "beta": 3.0, "temperature": 4.0, "standardize": True}, standardized(reference_dkd)),
    ("MLLD", MLLD, reference_mlld),
    ("MLLD", {**MLLD, "standardize": True}, partial(reference_mlld, standardize=True)),
    ("DIST", {"beta": 1.5, "gamma": 0.5, "temperature": 2.0}, reference_dist),
)


FEATURES = (
    ("FitNet", {}, reference_fitnet),
    ("AT", {}, reference_at),
    ("AT", {"p": 1.5}, reference_at),
    ("RKD", {"distance": 2.0, "angle": 3.0}, reference_rkd),
)


@pytest.mark.parametrize(
    ("name", "params", "reference", "n"),
    [(*row, n) for row in LOGITS for n in (N, 1) if (row[0], n) != ("DIST", 1)],  # one image correlates with none
)
def test_losses_of_logits_equal_the_papers_equations(name, params, reference, n):
    student, teacher = (3 * torch.randn(n, K, dtype=torch.float64) for _ in range(2))
    target = torch.randint(K, (n,))
    ours, theirs = student.clone().requires_grad_(), student.clone().requires_grad_()
    loss = getattr(losses, name)(**params)(losses.DistillationOutput(ours, teacher), target)
    expected = reference(theirs, teacher, target)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "params", "reference"), FEATURES)
def test_losses_of_features_equal_the_papers_equations(name, params, reference):
    student, teacher = ([torch.randn(N, 3, s, s, dtype=torch.float64) for s in (4, 2)] for _ in range(2))
    logits = torch.randn(N, K, dtype=torch.float64)
    ours, theirs = ([f.clone().requires_grad_() for f in student] for _ in range(2))
    output = losses.DistillationOutput(logits, logits, ours, teacher)
    loss = getattr(losses, name)(**params)(output, torch.zeros(N, dtype=torch.long))
    expected = (reference if name != "AT" else lambda s, t, y: reference(s, t, y, **params))(theirs, teacher, None)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    loss.backward()
    expected.backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-9)


def test_dkd_weighs_kd_apart():
    """KD = TCKD + (1 - p_target) NCKD (Zhao et al. 2022, section 3): with one image, beta = 1 - p_target gives KD."""
    student, teacher, target = torch.randn(1, K), torch.randn(1, K), torch.tensor([2])
    output = losses.DistillationOutput(student, teacher)
    beta = 1 - F.softmax(teacher / 4, 1)[0, 2].item()
    dkd = losses.DKD(alpha=1.0, beta=beta, temperature=4.0)(output, target)
    torch.testing.assert_close(dkd, losses.KD(temperature=4.0)(output, target))


@pytest.mark.parametrize("standardize", [False, True])
def test_the_target_class_of_mixed_labels_is_the_largest_for_dkd(standardize):
    student, teacher = (3 * torch.randn(N, K, dtype=torch.float64) for _ in range(2))
    mixed = 0.7 * torch.eye(K)[[0, 1, 2, 3, 4, 0]] + 0.3 * torch.eye(K)[[4, 3, 2, 1, 0, 2]]
    loss = losses.DKD(0.7, 3.0, 4.0, standardize)(losses.DistillationOutput(student, teacher), mixed)
    reference = standardized(reference_dkd) if standardize else reference_dkd
    torch.testing.assert_close(loss, reference(student, teacher, [0, 1, 2, 3, 4, 0]), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("temperature", "standardize"), [(4.0, False), (2.0, True)])
def test_mlld_is_what_its_authors_compute_of_two_equal_views(temperature, standardize):
    """Jin et al.'s KD_ours.py, and MLKD.py of Sun et al. 2024: a mean over the teacher's least certain images and
    classes of what was summed up before."""
    weak_student, weak_teacher = strong_student, strong_teacher = [
        3 * torch.randn(N, 8, dtype=torch.float64) for _ in range(2)
    ]
    probabilities = F.softmax(weak_teacher, 1).numpy()
    images, classes = (
        np.mean(confidence <= np.percentile(confidence, 50))
        for confidence in (probabilities.max(1), probabilities.sum(0))
    )
    only = {"temperature": temperature, "instance": 0, "batch": 0, "classes": 0, "standardize": standardize}
    expected = (
        images * reference_mlld(weak_student, weak_teacher, None, **{**only, "instance": 1})
        + reference_mlld(strong_student, strong_teacher, None, **{**only, "instance": 1})
        + images * reference_mlld(weak_student, weak_teacher, None, **{**only, "batch": 1})
        + classes * reference_mlld(weak_student, weak_teacher, None, **{**only, "classes": 1})
    )
    loss = losses.MLLD(temperature, standardize)(losses.DistillationOutput(weak_student, weak_teacher), None)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("name", "params"), [(name, params) for name, params, _ in LOGITS if name != "DIST"] + [("MLLD", {})]
)
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_equal_logits_have_a_bounded_gradient(name, params, value):
    student = torch.full((N, K), value, requires_grad=True)
    output = losses.DistillationOutput(student, 10 * torch.randn(N, K))
    getattr(losses, name)(**params)(output, torch.zeros(N, dtype=torch.long)).backward()
    assert 0 < student.grad.abs().max() < 100


@pytest.mark.parametrize("name", ["KD", "DKD", "DIST", "MLLD", "FitNet", "AT", "RKD"])
def test_a_student_like_its_teacher_has_nothing_to_learn(name):
    logits, features = torch.randn(N, K), [torch.randn(N, 3, 4, 4)]
    student = [f.clone().requires_grad_() for f in (logits, *features)]
    output = losses.DistillationOutput(student[0], logits, student[1:], features)
    loss = getattr(losses, name)()(output, torch.zeros(N, dtype=torch.long))
    assert abs(loss.item()) < 1e-5
    loss.backward()
    assert all(s.grad is None or s.grad.abs().max() < 1e-4 for s in student)


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        (losses.KD, {"standardize": "no"}, "standardize='no': must be True or False"),
        (losses.DKD, {"beta": -1}, "beta=-1: must be a number >= 0"),
        (losses.DKD, {"standardize": 1}, "standardize=1: must be True or False"),
        (losses.DIST, {"gamma": -1}, "gamma=-1: must be a number >= 0"),
        (losses.MLLD, {"temperature": 0}, "temperature=0: must be a number > 0"),
        (losses.MLLD, {"standardize": None}, "standardize=None: must be True or False"),
        (losses.MLLD, {"batch": -1}, "batch=-1: must be a number >= 0"),
        (losses.RKD, {"distance": -3}, "distance=-3: must be a number >= 0"),
    ],
)
def test_what_a_method_cannot_mean_is_refused_in_python_too(method, params, words):
    with pytest.raises(SgResnetsError, match=f"{method.__name__}: {words}"):
        method(**params)


@pytest.mark.parametrize("name", ["FitNet", "AT", "RKD"])
def test_features_are_compared_where_there_are_some(name):
    with pytest.raises(SgResnetsError, match="give the Distiller taps"):
        getattr(losses, name)()(losses.DistillationOutput(torch.randn(N, K), torch.randn(N, K)), None)


@pytest.mark.parametrize(("name", "one", "other"), [("FitNet", (16, 3, 3), (1, 3, 3)), ("AT", (4, 3, 3), (4, 1, 1))])
def test_features_of_other_sizes_are_not_broadcast(name, one, other):
    features = [torch.randn(N, *one)], [torch.randn(N, *other)]
    with pytest.raises(SgResnetsError, match=r"choose taps of the same size; .* set distillation.taps.regressor=True"):
        getattr(losses, name)()(losses.DistillationOutput(torch.randn(N, K), torch.randn(N, K), *features), None)


def test_rkd_of_images_that_look_the_same_to_the_student_has_finite_gradients():
    student, teacher = torch.randn(N, 8), torch.randn(N, 8)
    student[1] = student[0]
    student.requires_grad_()
    losses.RKD()(losses.DistillationOutput(teacher, teacher, [student], [teacher]), None).backward()
    assert student.grad.abs().max() < 1e3
    same = torch.ones(N, 8, requires_grad=True)
    losses.RKD()(losses.DistillationOutput(teacher, teacher, [same], [teacher]), None).backward()
    assert same.grad.isfinite().all()
