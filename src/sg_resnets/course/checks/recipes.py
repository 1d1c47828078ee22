"""Lesson 4: the schedule of a rate, a recipe of one's own, and curves that are read."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sg_resnets.course.checks.answers import WrongAnswer, call, number, right
from sg_resnets.runs.new_recipe import composed
from sg_resnets.runs.recipes import SHORTCUTS
from sg_resnets.utils.errors import one_line, similar

ASKED = {  # of the recipe that a student writes, on top of BASE
    "architecture": "plain20_cifar",
    "training_hyperparams.max_epochs": 3,
    "training_hyperparams.initial_lr": 0.02,
    "dataset_params.train_dataloader_params.batch_size": 32,
    "experiment_name": "mine",
}
BASE = "course_fashion_mnist_14px"


def schedule(rate: Callable[[int, int, int, float], Any]) -> None:
    """`rate(step, warmup, steps, highest)`: from 0 at step 0 in a straight line to the highest at step `warmup`, then
    half a cosine down to 0 at step `steps` (Loshchilov & Hutter 2017, equation 5, without restarts).

    Raises:
        WrongAnswer: it is not that.
    """
    for warmup, steps, highest in ((10, 110, 0.1), (100, 200, 2.0)):

        def at(step: int, warmup: int = warmup, steps: int = steps, highest: float = highest) -> float:
            return number("rate", call("rate", rate, step, warmup, steps, highest))

        middle = (warmup + steps) // 2
        for step, wanted, why in (
            (0, 0.0, "it starts at 0"),
            (warmup // 2, highest / 2, "half-way through the warm-up it is half the highest"),
            (warmup, highest, "at the end of the warm-up it is the highest"),
            (middle, highest / 2, "half-way between the warm-up and the end it is half the highest"),
            (steps, 0.0, "at the end it is 0"),
            ((warmup + middle) // 2, highest * (2 + 2**0.5) / 4, "the way down is half a cosine, not a straight line"),
        ):
            if not math.isclose(at(step), wanted, abs_tol=1e-6 * highest):
                raise WrongAnswer(f"rate({step}, {warmup}, {steps}, {highest:g}) is {at(step):.4g}: {why}")
    right("a warm-up, and half a cosine.")


def recipe(file: str) -> None:
    """A recipe on top of `course_fashion_mnist_14px` that asks for what `ASKED` says, and changes nothing else.

    Raises:
        WrongAnswer: it is not that.
    """
    path = Path(file)
    if not path.is_file():
        raise WrongAnswer(f"there is no {file}: run the cell that writes it")
    lines = [line for each in path.read_text().splitlines() if (line := each.partition("#")[0].strip())]
    if lines[:1] == ["..."] or "..." in lines[:-1]:  # the last may be YAML's end
        raise WrongAnswer(f"{file} is not written yet")
    try:
        written = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:  # PyYAML's, and OmegaConf's own
        raise WrongAnswer(f"{file} is no YAML: {one_line(error)}") from None
    if dotted := [key for key in _all_keys(written) if "." in key]:
        raise WrongAnswer(f"{file}: {dotted[0]} is one key with dots in it: in a file each dot is an indentation")
    if not isinstance(written, dict):
        raise WrongAnswer(f"{file} holds no `key: value`")
    defaults = written.get("defaults")
    if not isinstance(defaults, list) or BASE not in defaults:
        raise WrongAnswer(f"{file} does not stand on {BASE}: its `defaults` are {defaults}")
    if "_self_" in defaults and defaults.index("_self_") < defaults.index(BASE):
        raise WrongAnswer(
            f"what {file} says is overruled: of the `defaults` the later one wins, and _self_ is this file"
        )
    try:
        mine, base = _keys(composed(path.stem, path.parent)), _keys(composed(BASE))
    except Exception as error:  # Hydra and OmegaConf have many
        raise WrongAnswer(f"{file} cannot be put together: {one_line(error)}") from None
    for short, long in SHORTCUTS.items():
        if mine.get(short) is not None:
            mine[long] = mine.pop(short)
    for key in mine.keys() - base.keys() - ASKED.keys():
        last = key.rpartition(".")[2]
        of_this_name = [each for each in (*ASKED, *base) if each.rpartition(".")[2] == last]
        near = of_this_name or similar(key, [*base, *SHORTCUTS], 1, cutoff=0.8)
        raise WrongAnswer(
            f"{BASE} has no key {key}, so nothing would read it" + (f"; it has {near[0]}" if near else "")
        )
    for key, value in mine.items():
        if key in ASKED and (value != ASKED[key] or type(value) is not type(ASKED[key])):
            raise WrongAnswer(f"{key} is {value!r}, and {ASKED[key]!r} is asked for")
        if key not in ASKED and key not in SHORTCUTS and value != base[key]:
            raise WrongAnswer(f"{key} is {value!r}, and was {base[key]!r}: that was not asked for")
    right("a recipe that changes five things, and nothing else.")


def _all_keys(node: Any) -> list[str]:
    """The keys of a mapping and of those within it."""
    return (
        [found for key, value in node.items() for found in (str(key), *_all_keys(value))]
        if isinstance(node, dict)
        else []
    )


def _keys(config: Any) -> dict[str, Any]:
    """Each value of a recipe by its dotted key, interpolations as they are written."""
    found: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            found[prefix] = node

    walk("", OmegaConf.to_container(config, resolve=False))
    return found


CURVES = {
    "one": ("rate too small", "its training loss: is it low at the end, and does it still fall?"),
    "two": ("overfits", "the two accuracies at the end, and the distance between them"),
    "three": ("rate too large", "the loss of the first epoch beside log(10), which guessing has"),
}


def curves(answers: Mapping[str, str]) -> None:
    """What is wrong with each of the three runs of the lesson.

    Raises:
        WrongAnswer: one of them is read wrongly.
    """
    if not isinstance(answers, Mapping):
        raise WrongAnswer(f'answers is a {type(answers).__name__}, not a dictionary: "one": "...", and so on')
    for name, (diagnosis, look) in CURVES.items():
        valid = [each for each, _ in CURVES.values()]
        if name not in answers:
            raise WrongAnswer(f"answers has no key {name!r}: one, two and three are asked")
        if answers.get(name) not in valid:
            raise WrongAnswer(f"{name} is {answers.get(name)!r}: answer one of {', '.join(sorted(valid))}")
        if answers[name] != diagnosis:
            raise WrongAnswer(f"curve {name} is something else than '{answers[name]}': look at {look}")
    right("that is how each of them went wrong.")
