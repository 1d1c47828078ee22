"""Repairs as a table: which call of SuperGradients is replaced by which function of ours, and back if one of them
fails.

Why not a subclass of `Trainer`: SuperGradients builds `Trainer(...)` by its global name, so the name would have to be
rebound; but `KDTrainer` calls `super(KDTrainer, self)` by its own global name (kd_trainer.py, `train`), which recurses
without end once that name is bound to a subclass.
"""

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

HOST = "super_gradients"
_ABSENT = object()


@dataclass(frozen=True)
class Patch:
    """Calls of `owner.name` go to `wrapper(original, *args, **kwargs)`; a method's self, or cls, is the first of args.

    A function of a module is replaced in all modules of SuperGradients that have imported it by name.
    """

    owner: type | ModuleType
    name: str
    wrapper: Callable[..., Any]

    def install(self, undo: ExitStack) -> None:
        """Replace the call; `undo` puts the original back."""
        stored = vars(self.owner)[self.name]
        kind = type(stored) if isinstance(stored, classmethod | staticmethod) else None
        original = stored.__func__ if kind else stored

        @functools.wraps(original)
        def patched(*args: Any, **kwargs: Any) -> Any:
            return self.wrapper(original, *args, **kwargs)

        replacement = kind(patched) if kind else patched
        if isinstance(self.owner, type):
            setattr(self.owner, self.name, replacement)
            undo.callback(setattr, self.owner, self.name, stored)
        else:
            rebind(self.name, stored, replacement, undo)


@dataclass(frozen=True)
class Put:
    """An attribute of a module or class, or an entry of a registry, that gets another value."""

    holder: type | ModuleType | MutableMapping[str, Any]
    name: str
    value: Any

    def install(self, undo: ExitStack) -> None:
        """Set the value; `undo` puts the former one back."""
        if isinstance(self.holder, MutableMapping):
            before = self.holder.get(self.name, _ABSENT)
            self.holder[self.name] = self.value
            if before is _ABSENT:
                undo.callback(self.holder.pop, self.name, None)
            else:
                undo.callback(self.holder.__setitem__, self.name, before)
        else:
            before = getattr(self.holder, self.name, _ABSENT)
            setattr(self.holder, self.name, self.value)
            if before is _ABSENT:
                undo.callback(delattr, self.holder, self.name)
            else:
                undo.callback(setattr, self.holder, self.name, before)


@dataclass(frozen=True)
class Rebind:
    """A name that several modules of SuperGradients have imported, and that stands for another value in all of them."""

    name: str
    original: Any
    value: Any

    def install(self, undo: ExitStack) -> None:
        """Replace the value everywhere; `undo` puts the original back."""
        rebind(self.name, self.original, self.value, undo)


@dataclass(frozen=True)
class WhenImported:
    """An attribute of a module that is imported later, if at all: it is set then."""

    module: str
    name: str
    value: Any

    def install(self, undo: ExitStack) -> None:
        """Set the value, or wait for the module; `undo` ends the wait, or puts the former value back."""
        if self.module in sys.modules:
            return Put(sys.modules[self.module], self.name, self.value).install(undo)
        sys.meta_path.insert(0, self)
        undo.callback(self._end)

    def _end(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the module's spec, with a loader that sets the value when the module is whole."""
        if name != self.module:
            return None
        self._end()
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                setattr(module, self.name, self.value)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


Change = Patch | Put | Rebind | WhenImported


@dataclass(frozen=True)
class Repair:
    """What SuperGradients 3.7.1 does wrong or lacks, in a sentence that `sg-resnets doctor` prints, and what mends
    it."""

    name: str
    fault: str
    changes: Sequence[Change]

    def install(self, undo: ExitStack) -> None:
        """Make all changes."""
        for change in self.changes:
            change.install(undo)


def rebind(name: str, original: Any, replacement: Any, undo: ExitStack) -> None:
    """Put `replacement` wherever a module of SuperGradients holds `original` under `name`."""
    for module in [module for key, module in list(sys.modules.items()) if key.split(".")[0] == HOST]:
        if module is not None and vars(module).get(name) is original:
            setattr(module, name, replacement)
            undo.callback(setattr, module, name, original)


def install(repairs: Iterable[Repair]) -> None:
    """Install all repairs, or none: what is done is undone where one of them fails."""
    with ExitStack() as undo:
        for repair in repairs:
            repair.install(undo)
        undo.pop_all()
