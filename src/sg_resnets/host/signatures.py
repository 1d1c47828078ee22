"""What the signature of a class says of the parameters that a recipe gives it."""

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from sg_resnets.utils.checks import is_integer, is_number
from sg_resnets.utils.errors import choices, similar


def mistakes(key: str, name: str, params: Mapping[str, Any], cls: Any, filled: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a line for each parameter that `cls` does not take, of another type than it says, or that it needs.

    Args:
        key: where the recipe has the parameters.
        name: of the class, in the recipe.
        filled: parameters that it gets anyway.
    """
    signature = parameters_of(cls).values()
    named = {one.name: one for one in signature if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
    unknown = [each for each in unknown_parameters(cls, params) if each not in filled]
    valid = [*named, *(each for each in filled if each not in named and each != "optimizer")]
    for each in unknown:
        yield f"{key}: {name} takes no {each}: {choices(each, valid)}; leave it out with '~{key}.{each}'"
    for each, value in params.items():
        if each in named and not fits(value, named[each].annotation):
            yield f"{key}.{each}={value!r}: {name} takes {words(named[each].annotation)}"
    needed = [one.name for one in named.values() if one.default is one.empty]
    missing = [each for each in needed if not (each in params or each in filled or similar(each, unknown))]
    if missing:
        yield f"{key}: {name} needs {', '.join(missing)}: add +{key}.{missing[0]}=VALUE"


def unknown_parameters(cls: Any, params: Mapping[str, Any]) -> list[str]:
    """Return the names of those that `cls` does not take."""
    signature = parameters_of(cls)
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.values()):
        return []
    return [str(key) for key in params if key not in signature]


def parameters_of(cls: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class or function; of one that has no signature to be read, any."""
    try:
        return inspect.signature(cls).parameters
    except (ValueError, TypeError):
        return {"kwargs": inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)}


_PLAIN = {bool: "True or False", int: "an integer", float: "a number", str: "text", type(None): "null"}


def fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value is of the type that an annotation says; one that says no plain type fits all, and null
    leaves it to the class."""
    types_ = _alternatives(annotation)
    if types_ is None or value is None or type(value) not in _PLAIN:
        return True
    if is_integer(value) or (isinstance(value, float) and value.is_integer()):
        return int in types_ or float in types_
    return type(value) in types_ or (float in types_ and is_number(value))


def words(annotation: Any) -> str:
    """Return what an annotation says, in words."""
    return " or ".join(_PLAIN[kind] for kind in _alternatives(annotation) or ())


def _alternatives(annotation: Any) -> tuple[type, ...] | None:
    """The plain types that an annotation says; None where it says others too."""
    if isinstance(annotation, str):  # of a module with `from __future__ import annotations`
        try:
            annotation = eval(annotation, vars(typing) | {"__builtins__": {kind.__name__: kind for kind in _PLAIN}})
        except (NameError, TypeError, AttributeError):
            return None
    if annotation is None:
        return (type(None),)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [_alternatives(each) for each in typing.get_args(annotation)]
        return None if None in parts else tuple(kind for part in parts for kind in part or ())
    return (annotation,) if annotation in _PLAIN else None
