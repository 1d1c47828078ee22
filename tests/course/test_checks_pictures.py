"""What the checks of lesson 8 take, and what they say of answers that are wrong."""

import random

import numpy as np
import pytest
import torch

from sg_resnets.course import checks


def told(check, answer):
    with pytest.raises(checks.WrongAnswer) as wrong:
        check(answer)
    assert "\n" not in str(wrong.value)
    return str(wrong.value)


def by_class(files, classes):
    groups = {}
    for file, name in zip(files, classes, strict=True):
        groups.setdefault(name, []).append(file)
    return groups


def split(files, classes, fraction, seed):
    drawn, train, val = random.Random(seed), [], []
    for group in by_class(files, classes).values():
        group = drawn.sample(group, len(group))
        count = round(fraction * len(group))
        val += group[:count]
        train += group[count:]
    return train, val


def split_by_sets(files, classes, fraction, seed):
    val = set()
    for name in dict.fromkeys(classes):
        group = [file for file, of in zip(files, classes, strict=True) if of == name]
        val |= set(random.Random(f"{seed}{name}").sample(group, int(fraction * len(group) + 0.5)))
    return [file for file in files if file not in val], sorted(val)


def split_by_torch(files, classes, fraction, seed):
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
    groups = by_class([files[i] for i in order], [classes[i] for i in order])
    val = [file for group in groups.values() for file in group[: round(fraction * len(group))]]
    return [[file for file in files if file not in val], val]


def split_all_alike(files, classes, fraction, seed):
    files = random.Random(seed).sample(files, len(files))
    count = round(fraction * len(files))
    return files[count:], files[:count]


@pytest.mark.parametrize("answer", [split, split_by_sets, split_by_torch])
def test_divisions_are_right(answer, capsys):
    checks.split(answer)
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda *args: ..., "gives nothing back"),
        (lambda *args: split(*args)[0], "something else than two lists"),
        (lambda files, *args: (files, split(files, *args)[1]), "files are in both parts"),
        (lambda *args: (split(*args)[0][1:], split(*args)[1]), "of 70 files 55 are for training and 14"),
        (lambda *args: split(*args)[::-1], "the larger part is for validation"),
        (split_all_alike, "where a fifth is asked"),
        (
            lambda files, classes, fraction, seed: split(files, classes, fraction, random.random()),
            "the same seed gives",
        ),
        (lambda files, classes, fraction, seed: split(files, classes, fraction, 0), "another seed gives the same"),
        (lambda files, classes, fraction, seed: (files[14:], files[:14]), "14 of the 40 pictures of class boot"),
    ],
)
def test_what_is_no_good_division_is_told(answer, words):
    assert words in told(checks.split, answer)


def to_float(pictures):
    return pictures / 255


RIGHT_STATISTICS = [
    lambda x: (to_float(x).mean((0, 2, 3)), to_float(x).std((0, 2, 3))),
    lambda x: tuple(f(x.float().transpose(0, 1).flatten(1), dim=1) / 255 for f in (torch.mean, torch.std)),
    lambda x: [to_float(x).mean((0, 2, 3)), to_float(x).var((0, 2, 3), correction=0).sqrt()],
]


@pytest.mark.parametrize("answer", RIGHT_STATISTICS)
def test_means_and_deviations_are_right(answer, capsys):
    checks.statistics(answer)
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x: ..., "gives nothing back"),
        (lambda x: x.mean((0, 2, 3)), "ends with RuntimeError"),
        (lambda x: to_float(x).mean((0, 2, 3)), "something else than a mean and"),
        (lambda x: (x.float().mean((0, 2, 3)), x.float().std((0, 2, 3))), "pixels from 0 to 255"),
        (lambda x: (to_float(x).mean(), to_float(x).std()), "one number for each of the 3 channels"),
        (lambda x: (to_float(x).mean((0, 2, 3)), to_float(x).std()), "gives the shape ()"),
        (lambda x: (to_float(x).mean((0, 2, 3)), to_float(x).std((2, 3)).mean(0)), "differ from one another"),
        (lambda x: (to_float(x).mean((0, 2, 3)), to_float(x).var((0, 2, 3))), "that is the variance"),
        (lambda x: (to_float(x).std((0, 2, 3)), to_float(x).mean((0, 2, 3))), "the two are swapped"),
        (lambda x: ((x / 256).mean((0, 2, 3)), (x / 256).std((0, 2, 3))), "here 256 would"),
        (lambda x: (to_float(x)[0].mean((1, 2)), to_float(x).std((0, 2, 3))), "not that over all pictures"),
    ],
)
def test_what_are_no_means_and_deviations_is_told(answer, words):
    assert words in told(checks.statistics, answer)


@pytest.mark.parametrize(
    "answer",
    [
        lambda counts: [sum(counts) / (len(counts) * count) for count in counts],
        lambda counts: torch.tensor(counts).float().reciprocal() * sum(counts) / len(counts),
        lambda counts: torch.tensor(counts).double().mean() / torch.tensor(counts),
    ],
)
def test_weights_of_classes_are_right(answer, capsys):
    checks.class_weights(answer)
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda counts: ..., "gives nothing back"),
        (lambda counts: counts, "most of weighs most"),
        (lambda counts: [1 / count for count in counts], "the mean weight of a picture is 0.03"),
        (lambda counts: [sum(counts) / count for count in counts], "the mean weight of a picture is 3"),
        (lambda counts: [(1 / count) ** 0.5 for count in counts], "weighs 1.41 times as much"),
        (lambda counts: [sum(counts) / count for count in counts][:2], "the shape (2,), where (3,) is needed"),
        (lambda counts: [sum(counts) / 0 for count in counts], "ends with ZeroDivisionError"),
    ],
)
def test_what_are_no_balanced_weights_is_told(answer, words):
    assert words in told(checks.class_weights, answer)


def recalls(predicted, labels, classes):
    return [(predicted[labels == each] == each).float().mean() for each in classes]


def accuracy(predicted, labels):
    return (predicted == labels).float().mean()


def judge_by_matrix(predicted, labels):
    matrix = torch.zeros(4, 4)
    for given, label in zip(predicted, labels, strict=True):
        matrix[label, given] += 1
    rows = matrix.sum(1)
    return matrix.trace() / matrix.sum(), (matrix.diag()[rows > 0] / rows[rows > 0]).mean()


def judge_in_python(predicted, labels):
    pairs = list(zip(predicted.tolist(), labels.tolist(), strict=True))
    of_class = {k: [given == k for given, label in pairs if label == k] for _, k in pairs}
    return sum(a == b for a, b in pairs) / len(pairs), sum(sum(v) / len(v) for v in of_class.values()) / len(of_class)


@pytest.mark.parametrize(
    "answer",
    [lambda p, y: (accuracy(p, y), torch.stack(recalls(p, y, y.unique())).mean()), judge_by_matrix, judge_in_python],
)
def test_judgements_are_right(answer, capsys):
    checks.accuracy_and_macro_recall(answer)
    assert capsys.readouterr().out.startswith("Right: ")


def precision(predicted, labels):
    return torch.stack([(labels[predicted == each] == each).float().mean() for each in predicted.unique()]).mean()


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda p, y: None, "gives nothing back"),
        (lambda p, y: accuracy(p, y), "something else than two numbers"),
        (lambda p, y: (accuracy(p, y), accuracy(p, y)), "that is the accuracy again"),
        (lambda p, y: (accuracy(p, y), precision(p, y)), "mean precision"),
        (lambda p, y: (accuracy(p, y), sum(recalls(p, y, [0, 1, 3])) / 4), "has no recall"),
        (lambda p, y: (accuracy(p, y), sum(recalls(p, y, [0, 1])) / 2), "counts with 0"),
        (
            lambda p, y: (accuracy(p, y), sum(recalls(p, y, range(4))) / 4),
            "the macro-recall is NaN: of 4 classes one has no picture",
        ),
        (lambda p, y: (accuracy(p, y), torch.tensor(recalls(p, y, [0, 1, 3]))), "judge gives a Tensor"),
        (lambda p, y: (accuracy(p, y), np.float32("nan")), "the macro-recall is NaN"),
        (lambda p, y: ((p == y).sum(), 0.4), "of 20 pictures 16 are right, and the accuracy is 16"),
    ],
)
def test_what_is_no_judgement_is_told(answer, words):
    assert words in told(checks.accuracy_and_macro_recall, answer)


def as_arrays(predicted, labels):
    return torch.stack(
        [accuracy(predicted, labels), torch.stack(recalls(predicted, labels, labels.unique())).mean()]
    ).numpy()


def over_both(predicted, labels):
    classes = set(labels.tolist()) | set(predicted.tolist())
    return accuracy(predicted, labels), sum(recalls(predicted, labels, classes & set(labels.tolist()))) / len(classes)


def takes_away(files, classes, fraction, seed):
    train, val = split(files, classes, fraction, seed)
    for file in val:
        files.remove(file)
    return train, val


def test_two_numbers_may_come_as_an_array(capsys):
    checks.accuracy_and_macro_recall(as_arrays)
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(
    "check, answer, words",
    [
        ("accuracy_and_macro_recall", over_both, "has no recall"),
        ("split", takes_away, "changes the list of files"),
        ("split", lambda files, classes, fraction, seed: split(files, classes, 0.2, seed), "of fraction 0.5 14 of 70"),
        (
            "split",
            lambda files, classes, fraction, seed: (random.Random(seed).shuffle(files), files[:14]),
            "changes the",
        ),
        ("split", lambda files, classes, fraction, seed: (5, 6), "something else than two lists of files"),
        ("class_weights", lambda counts: [sum(counts) / (3 * count) for count in counts], "is 3 written somewhere"),
        ("class_weights", lambda counts: dict(enumerate(counts)), "that is no list of numbers"),
        ("statistics", lambda x: (None, None), "that is no list of numbers"),
    ],
)
def test_what_once_passed_or_ended_in_a_traceback_is_told(check, answer, words):
    assert words in told(getattr(checks, check), answer)
