"""Lesson 8: a folder of pictures is divided, normalised and weighed, and its network judged."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sg_resnets.course.checks.answers import WrongAnswer, as_tensor, call, close, number, pair, right, tensor


def split(divide: Callable[[list[str], list[str], float, int], Any]) -> None:
    """`divide(files, classes, fraction, seed)` gives (training files, validation files): `fraction` of each class,
    drawn at random, is for validation.

    Raises:
        WrongAnswer: it does not.
    """
    counts = {"boot": 40, "shirt": 20, "bag": 10}
    classes = [name for name, count in counts.items() for _ in range(count)]
    files = [f"{name}/{number:02d}.png" for name, count in counts.items() for number in range(count)]

    def parts(seed: int, fraction: float = 0.2) -> tuple[list[str], list[str]]:
        handed = list(files)
        given = call("split", divide, handed, list(classes), fraction, seed)
        if handed != files:
            raise WrongAnswer("split changes the list of files that it is given: make new ones")
        parts = pair("split", given, "two lists of files")
        if not all(isinstance(part, list | tuple | set) and set(map(type, part)) <= {str} for part in parts):
            raise WrongAnswer("split gives something else than two lists of files, of the names that it was given")
        return list(parts[0]), list(parts[1])

    train, val = parts(0)
    if both := set(train) & set(val):
        raise WrongAnswer(f"{len(both)} files are in both parts: a network would be tested on what it has learnt")
    if len(train) + len(val) != len(files) or {*train, *val} != set(files):
        raise WrongAnswer(f"of {len(files)} files {len(train)} are for training and {len(val)} for validation")
    if len(train) < len(val):
        raise WrongAnswer("the larger part is for validation: is the order of the two turned round?")
    found = Counter(file.partition("/")[0] for file in val)
    for name, count in counts.items():
        if found[name] != count // 5:
            raise WrongAnswer(
                f"{found[name]} of the {count} pictures of class {name} are for validation, where a fifth is asked"
            )
    if len(parts(0, 0.5)[1]) != len(files) // 2:
        raise WrongAnswer(f"of fraction 0.5 {len(parts(0, 0.5)[1])} of {len(files)} pictures are for validation")
    if parts(0)[1] != val:
        raise WrongAnswer("the same seed gives another division: it could not be repeated")
    if set(parts(1)[1]) == set(val):
        raise WrongAnswer("another seed gives the same division: is it drawn at random?")
    right("a fifth of each class is put aside, the same for the same seed.")


def statistics(measure: Callable[[Tensor], Any]) -> None:
    """`measure(pictures)` gives mean and standard deviation of each channel, (C,) each, of pixels from 0 to 1;
    `pictures` are bytes, (N, C, H, W).

    Raises:
        WrongAnswer: it does not.
    """
    generator = torch.Generator().manual_seed(0)
    levels = torch.tensor([40.0, 120, 200]).view(1, 3, 1, 1) + 50 * torch.randn(6, 1, 1, 1, generator=generator)
    pictures = (levels + 20 * torch.randn(6, 3, 8, 9, generator=generator)).clamp(0, 255).byte()
    given = pair("statistics", call("statistics", measure, pictures), "a mean and a standard deviation")
    pixels = pictures.double() / 255
    wanted = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    mean, std = (as_tensor("statistics", each) for each in given)
    if tuple(mean.shape) != (3,):
        raise WrongAnswer(f"the mean has the shape {tuple(mean.shape)}: one number for each of the 3 channels is asked")
    mean, std = mean.double(), tensor("the standard deviation", std, (3,)).double()
    if close(mean, wanted[1], 1e-2) and close(std, wanted[0], 1e-3):
        raise WrongAnswer("the two are swapped: first the mean is asked")
    if close(mean, wanted[0] * 255 / 256, 1e-4):
        raise WrongAnswer("the largest byte is 255, and is to become 1: here 256 would")
    if close(mean, 255 * wanted[0], 1e-3):
        raise WrongAnswer("the mean is that of pixels from 0 to 255; the network gets them from 0 to 1")
    if not close(mean, wanted[0], 1e-3):
        raise WrongAnswer("the mean of a channel is not that over all pictures and pixels")
    if close(std, pixels.std((2, 3)).mean(0), 1e-3):
        raise WrongAnswer(
            "that is the mean of the pictures' deviations: how the pictures differ from one another is left out"
        )
    if close(std, wanted[1] ** 2, 1e-3):
        raise WrongAnswer("that is the variance, of which the standard deviation is the square root")
    if not close(std, wanted[1], 1e-2):  # divided by n or n - 1
        raise WrongAnswer("the standard deviation of a channel is not that over all pictures and pixels")
    right("mean and standard deviation of each channel.")


def class_weights(weigh: Callable[[Sequence[int]], Any]) -> None:
    """`weigh(counts)` gives a weight for each class: N / (K N_k), of N pictures in K classes, N_k of class k. A class
    that is half as large weighs twice as much, and the mean weight of a picture is 1.

    Raises:
        WrongAnswer: it does not.
    """
    counts = [60, 30, 10]
    given = tensor("class_weights", as_tensor("class_weights", call("class_weights", weigh, counts)), (3,)).double()
    wanted = torch.tensor([100 / (3 * count) for count in counts]).double()
    if given[0] > given[2]:
        raise WrongAnswer("the class that there is most of weighs most")
    if not close(given / given[0], wanted / wanted[0]):
        raise WrongAnswer(
            f"a class of 30 weighs {given[1] / given[0]:.2f} times as much as one of 60, where 2 is asked"
        )
    if not close(given, wanted):
        mean = float(given @ torch.tensor(counts).double() / 100)
        raise WrongAnswer(f"the mean weight of a picture is {mean:.4g}, not 1: are N, K and N_k all in it?")
    if not close(as_tensor("class_weights", call("class_weights", weigh, [7, 7])).double(), torch.ones(2).double()):
        raise WrongAnswer("of two classes of the same size each weighs something else than 1: is 3 written somewhere?")
    right("rare classes weigh as much in all as frequent ones.")


def accuracy_and_macro_recall(judge: Callable[[Tensor, Tensor], Any]) -> None:
    """`judge(predicted, labels)` gives (accuracy, macro-recall), of classes (N,): the share of the pictures that are
    right, and the mean over the classes of that share.

    Raises:
        WrongAnswer: it does not.
    """
    labels = torch.tensor([0] * 16 + [1] * 3 + [3])
    predicted = torch.tensor([0] * 15 + [2] + [1, 0, 0] + [0])
    one, other = pair("judge", call("judge", judge, predicted, labels), "two numbers")
    is_one = isinstance(other, float | np.floating) or (isinstance(other, Tensor) and other.numel() == 1)
    if is_one and other != other:
        raise WrongAnswer("the macro-recall is NaN: of 4 classes one has no picture here, and 0 / 0 pictures are right")
    accuracy, recall = number("judge", one), number("judge", other)
    if abs(accuracy - 16 / 20) > 1e-4:
        raise WrongAnswer(f"of 20 pictures 16 are right, and the accuracy is {accuracy:.4g}")
    of_class = torch.tensor([15 / 16, 1 / 3, 0.0])
    if any(abs(recall - (15 / 18 + 1) / count) < 1e-4 for count in (2, 3, 4)):
        raise WrongAnswer(
            "that is the mean precision: of what is called a class, how much is of it; recall asks the other way"
        )
    if abs(recall - float(of_class.sum()) / 4) < 1e-4:
        raise WrongAnswer("a class that there is no picture of has no recall: it is left out of the mean")
    if abs(recall - float(of_class[:2].mean())) < 1e-4:
        raise WrongAnswer("a class of which no picture is right counts with 0, and must not be left out")
    if abs(recall - 16 / 20) < 1e-4:
        raise WrongAnswer("that is the accuracy again: each class counts once in the mean, however few pictures it has")
    if abs(recall - float(of_class.mean())) > 1e-4:
        raise WrongAnswer(
            f"the macro-recall of a made-up example is {float(of_class.mean()):.4f}, and yours is {recall:.4f}"
        )
    right("two numbers, of which the second does not hide a rare class.")
