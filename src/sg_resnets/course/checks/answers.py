"""What every check is made of. A wrong answer is one line: what is wrong with it, not how it is done right."""

import json
import math
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from numbers import Real
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sg_resnets.utils.errors import SgResnetsError, one_line

_PYTHONS_AND_OURS = (sysconfig.get_path("stdlib"), str(files("sg_resnets")))


class WrongAnswer(SgResnetsError):
    """What is wrong with what a student wrote. A notebook shows the line alone."""

    def _render_traceback_(self) -> list[str]:  # IPython's way to be asked
        return [f"Not yet: {self}"]


def right(what: str) -> None:
    """Say that an answer is right, and what it is."""
    print(f"Right: {what}")


def guess(given: Any, *options: Any) -> None:
    """Take down a guess, right or wrong: the end of the lesson comes back to it.

    Raises:
        WrongAnswer: it is none of the options.
    """
    if isinstance(given, bool) or not isinstance(given, str | int | float) or given not in options:
        raise WrongAnswer(f"guess is {given!r}: choose one of {', '.join(map(repr, options))}")
    print(f"Your guess: {given}.")


def call(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Return what a student's function gives.

    Raises:
        WrongAnswer: it raises; the line of theirs at which it does is said. Or it is not written yet.
    """
    try:
        given = function(*args)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame.line for frame in frames if frame.line and _is_theirs(frame.filename)]
        at = f", at `{one_line(theirs[-1])}`" if theirs else ""
        raise WrongAnswer(f"{name} ends with {type(error).__name__}: {one_line(error)}{at}") from None
    if given is None or given is Ellipsis:
        raise WrongAnswer(f"{name} gives nothing back: is its `return` written?")
    return given


def _is_theirs(file: str) -> bool:
    """Whether code is a student's: not Python's, not installed, not this library's."""
    return not (file.startswith(_PYTHONS_AND_OURS) or re.search("(site|dist)-packages", file))


def tensor(name: str, given: Any, shape: tuple[int, ...]) -> Tensor:
    """Return what was given, a tensor of that shape with no NaN in it.

    Raises:
        WrongAnswer: it is none.
    """
    if not isinstance(given, Tensor):
        raise WrongAnswer(f"{name} gives {_a(given)}, not a tensor")
    if tuple(given.shape) != shape:
        raise WrongAnswer(f"{name} gives the shape {tuple(given.shape)}, where {shape} is needed")
    if given.dtype is torch.bool:
        raise WrongAnswer(f"{name} gives True and False, not numbers")
    if not given.isfinite().all():
        raise WrongAnswer(f"{name} gives NaN or infinity")
    return given


def number(name: str, given: Any) -> float:
    """Return what was given, a number, which may be a tensor's only one.

    Raises:
        WrongAnswer: it is none.
    """
    if isinstance(given, Tensor | np.ndarray | np.generic) and np.prod(given.shape) == 1:
        given = given.item()
    if isinstance(given, bool) or not isinstance(given, Real):
        raise WrongAnswer(f"{name} gives {_a(given)}, not a number")
    if not math.isfinite(given):
        raise WrongAnswer(f"{name} gives {given}")
    return float(given)


def numbers(name: str, given: Any, count: int) -> Tensor:
    """Return what was given, `count` numbers in a list, a tuple or a tensor, as a tensor (count,) in float64.

    Raises:
        WrongAnswer: it is none.
    """
    if (
        not isinstance(given, Sequence | Tensor | np.ndarray)
        or isinstance(given, str)
        or (isinstance(given, Tensor | np.ndarray) and not given.ndim)
    ):
        raise WrongAnswer(f"{name} gives {_a(given)}, where {count} numbers are needed")
    if len(given) != count:
        raise WrongAnswer(f"{name} gives {len(given)} numbers, where {count} are needed")
    return tensor(name, torch.tensor([number(name, one) for one in given], dtype=torch.float64), (count,))


def refuse_unpadded(name: str, module: nn.Module) -> None:
    """Refuse a module with a 3x3 convolution that makes its maps smaller.

    Raises:
        WrongAnswer: it has one.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.padding in ((0, 0), "valid"):
            raise WrongAnswer(f"{name}: a 3x3 convolution without padding loses the border of the picture")


def compare(name: str, given: Tensor, right: Tensor, mistakes: Mapping[str, Tensor], otherwise: str) -> None:
    """Accept what was given if it is the right tensor, but for rounding.

    Raises:
        WrongAnswer: it is not. If it is what one of the `mistakes` gives, the words of that mistake are said, else
            `otherwise`.
    """
    if close(given, right):
        return
    recognise(given, {f"{name}: {words}": wrong for words, wrong in mistakes.items()})
    raise WrongAnswer(f"{name}: {otherwise}")


def recognise(given: Tensor, mistakes: Mapping[str, Tensor]) -> None:
    """Say which mistake gives what was given; keys are what is wrong, values what comes of it.

    Raises:
        WrongAnswer: one of them does.
    """
    for words, wrong in mistakes.items():
        if wrong.shape == given.shape and close(given.double(), wrong.double()):
            raise WrongAnswer(words)


def pair(name: str, given: Any, what: str) -> tuple[Any, Any]:
    """Return the two things that were given.

    Raises:
        WrongAnswer: there are not two of them.
    """
    try:
        one, other = given
    except (TypeError, ValueError):
        raise WrongAnswer(f"{name} gives something else than {what}") from None
    return one, other


def as_tensor(name: str, given: Any) -> Tensor:
    """Return the numbers that were given, in a list, a tuple, an array or a tensor, as a tensor.

    Raises:
        WrongAnswer: they are none.
    """
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise WrongAnswer(f"{name} gives {_a(given)} that is no list of numbers") from None


def close(one: Tensor, other: Tensor, within: float = 1e-4) -> bool:
    """Whether two tensors of one shape are the same but for rounding: to `within` of the larger one's largest value."""
    scale = max(one.abs().max().item(), other.abs().max().item(), 1e-12)
    return (one - other).abs().max().item() <= within * scale


def _a(thing: Any) -> str:
    kind = type(thing).__name__
    return f"a{'n' * (kind[0] in 'aeiouAEIOU')} {kind}"


def begin(lesson: int) -> None:
    """The first line of a lesson: from here on a name that is not there yet is answered with the heading of its cell.
    Outside of a notebook nothing happens."""
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return
    headings = json.loads(files("sg_resnets.course.checks").joinpath("headings.json").read_text())[str(lesson)]

    def answer(
        shell: Any, kind: type[BaseException], error: BaseException, trace: TracebackType, tb_offset: int | None = None
    ) -> None:
        line = (traceback.extract_tb(trace)[-1].line or "").strip()
        if isinstance(error, NameError) and re.fullmatch(rf"guess\s*=\s*{error.name}\b.*", line):
            error = WrongAnswer(f'guess is a word, so in quotes: "{error.name}"')
        elif isinstance(error, NameError) and (place := headings.get(error.name)):
            error = WrongAnswer(f"there is no {error.name}: first run the cells from the top down to {place}")
        shell.showtraceback((type(error), error, trace), tb_offset=tb_offset)

    shell.set_custom_exc((NameError,), answer)
