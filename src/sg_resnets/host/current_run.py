"""The recipe that is being trained now: what a run remembers, and what it leaves for the command that started it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf


@dataclass
class CurrentRun:
    """One call of `train_from_config`, or of its siblings.

    Attributes:
        composed: the recipe with its interpolations, so that what is overridden later reaches what is derived from it.
        recipe: the same, resolved, as plain containers.
        objective: the best value of the watched metric, for whom it may concern: Hydra's optimising sweepers.
        folder: the run's, in the process that writes into it.
        class_names: of its data, once that is there.
        loaded: the networks that checkpoints were loaded into, each with the file and what that says of its images.
    """

    composed: DictConfig
    recipe: dict[str, Any]
    objective: float | None = None
    folder: Path | None = None
    class_names: Sequence[str] = ()
    loaded: list[tuple[Any, str, Mapping[str, Any]]] = field(default_factory=list)


def as_data(value: Any) -> Any:
    """Return what YAML and a checkpoint can hold of a recipe that Python code has filled: an enum's value, numpy's
    number as Python's, a path's text, of any other object its repr."""
    if isinstance(value, Mapping):
        return {key: as_data(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_data(each) for each in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or type(value) in (str, int, float, bool) else str(value)


_current: ContextVar[CurrentRun | None] = ContextVar("current_run", default=None)


def current_run() -> CurrentRun | None:
    """Return the run that goes on; None where a network is trained without a recipe."""
    return _current.get()


@contextmanager
def running(recipe: DictConfig) -> Iterator[CurrentRun]:
    """While open, `recipe` is the one that is trained."""
    composed, resolved = (as_data(OmegaConf.to_container(recipe, resolve=resolve)) for resolve in (False, True))
    token = _current.set(CurrentRun(OmegaConf.create(composed), resolved))
    try:
        yield _current.get()  # type: ignore[misc]
    finally:
        _current.reset(token)
