"""How a repair takes hold of the host: functions are wrapped wherever the host holds them."""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from sg_resnets.host import HOST


def wrap_function(module: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put `make(original)` in the place of a function, also in the host's modules that imported it by name."""
    original = getattr(module, name)
    replace_everywhere(name, original, functools.wraps(original)(make(original)))


def replace_everywhere(name: str, original: Any, replacement: Any) -> None:
    """Put `replacement` wherever a module of the host holds `original` under `name`."""
    for holder in [module for key, module in list(sys.modules.items()) if key.split(".")[0] == HOST]:
        if holder is not None and vars(holder).get(name) is original:
            setattr(holder, name, replacement)


def wrap_method(cls: type, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put `make(original)` in the place of a method or class method; `original` takes self or cls first in both."""
    original = vars(cls)[name]
    if isinstance(original, classmethod):
        setattr(cls, name, classmethod(functools.wraps(original.__func__)(make(original.__func__))))
    else:
        setattr(cls, name, functools.wraps(original)(make(original)))


def wrap_recipe_entries(make: Callable[[Callable[..., Any]], Callable[..., Any]], training_only: bool = False) -> None:
    """Wrap what the host's entry points call with a recipe: `original(cls, cfg, ...)`."""
    for cls, name in recipe_entries():
        if not (training_only and name == "evaluate_from_config"):
            wrap_method(cls, name, make)


def recipe_entries() -> Iterator[tuple[type, str]]:
    """The class methods that take a recipe."""
    from super_gradients.training.kd_trainer.kd_trainer import KDTrainer
    from super_gradients.training.sg_trainer.sg_trainer import Trainer

    for cls in (Trainer, KDTrainer):
        for name in ("train_from_config", "evaluate_from_config", "quantize_from_config"):
            if name in vars(cls):
                yield cls, name
