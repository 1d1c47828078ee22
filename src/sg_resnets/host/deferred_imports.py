"""SuperGradients imports at its start what most runs never use: data profiling with seaborn and scipy, pyplot, onnxsim
with sympy; a quarter of the time that its import takes (12.0 s, and 9.2 s without them, on two AMD EPYC cores).

While it is imported, names out of these packages are stand-ins, each of which becomes the real one when it is first
used: called, asked for an attribute, given to isinstance, or subclassed.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

DEFERRED = ("data_gradients", "matplotlib.pyplot", "onnxsim")


class Name:
    """A name that a module has imported, before anything was asked of it."""

    def __init__(self, module: str, name: str) -> None:
        self._imported = module, name

    def _real(self) -> Any:
        module, name = self._imported
        return getattr(load(module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_imported":  # what typing, copy and inspect ask for
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, self._real())

    def __subclasscheck__(self, kind: type) -> bool:
        return issubclass(kind, self._real())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self._real(),)

    def __repr__(self) -> str:
        return ".".join(self._imported)


class StandIn(ModuleType):
    """A module that is imported when something is asked of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return (
            Name(self.__name__, name) if sys.modules.get(self.__name__) is self else getattr(load(self.__name__), name)
        )


class StandInFinder:
    """Stands first in `sys.meta_path` while SuperGradients is imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return a stand-in's spec for the packages that are deferred, if they are installed."""
        if not any(f"{name}.".startswith(f"{each}.") for each in DEFERRED) or not PathFinder.find_spec(top(name)):
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the stand-in."""
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


def top(name: str) -> str:
    """Return the package that a module is of."""
    return name.partition(".")[0]


@contextmanager
def deferred_imports() -> Iterator[None]:
    """What is imported meanwhile gets stand-ins for the packages in `DEFERRED` that nothing has imported yet."""
    finder = StandInFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        remove_stand_ins()


def remove_stand_ins() -> None:
    """From here on the deferred packages are imported as any other."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, StandInFinder)]
    for name, module in list(sys.modules.items()):
        if type(module) is StandIn:  # other lazy modules import themselves when they are asked for their class
            del sys.modules[name]
            package, _, attribute = name.rpartition(".")
            vars(sys.modules.get(package, module)).pop(attribute, None)


def load(name: str) -> ModuleType:
    """Return the real module."""
    if type(sys.modules.get(name)) is StandIn:
        remove_stand_ins()  # SuperGradients uses it while it is imported
    return importlib.import_module(name)


def real_of(value: Any) -> Any:
    """Return what a stand-in stands for; any other value as it is."""
    if type(value) is Name:
        return value._real()
    return load(value.__name__) if type(value) is StandIn else value
