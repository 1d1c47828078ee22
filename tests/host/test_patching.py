"""Patches: what they replace, that they can be undone, and that they were written against the code that is there."""

import inspect
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest

from sg_resnets.host.patching import Patch, Put, Rebind, Repair, install

KNOWN = Path(__file__).with_name("patched_functions.txt")


class Owner:
    def method(self, x):
        return x

    @classmethod
    def of_class(cls, x):
        return cls.__name__, x

    @staticmethod
    def static(x):
        return x


def plus_one(original, *args):
    *first, x = args
    return original(*first, x + 1)


@pytest.fixture
def owner():
    return type("Owner", (), dict(vars(Owner)))


def test_patch_wraps_methods_class_methods_and_static_methods(owner):
    with ExitStack() as undo:
        for name in ("method", "of_class", "static"):
            Patch(owner, name, plus_one).install(undo)
        assert (owner().method(1), owner.of_class(1), owner.static(1)) == (2, ("Owner", 2), 2)
    assert (owner().method(1), owner.of_class(1), owner.static(1)) == (1, ("Owner", 1), 1)


def test_patch_of_a_function_reaches_the_modules_that_imported_it_by_name(monkeypatch):
    import sys

    home, other, foreign = (ModuleType(name) for name in ("super_gradients.a", "super_gradients.b", "elsewhere"))
    home.double = lambda x: 2 * x
    other.double = foreign.double = home.double
    for module in (home, other, foreign):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with ExitStack() as undo:
        Patch(home, "double", plus_one).install(undo)
        assert [module.double(1) for module in (home, other, foreign)] == [4, 4, 2]
    assert other.double is foreign.double


def test_put_and_rebind_are_undone(monkeypatch):
    import sys

    registry, module = {"old": 1}, ModuleType("super_gradients.c")
    module.value = "before"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with ExitStack() as undo:
        Put(registry, "old", 2).install(undo)
        Put(registry, "new", 3).install(undo)
        Rebind("value", "before", "after").install(undo)
        assert registry == {"old": 2, "new": 3} and module.value == "after"
    assert registry == {"old": 1} and module.value == "before"


def test_install_undoes_all_repairs_where_one_fails(owner):
    before = dict(vars(owner))
    broken = Repair("broken", "", [Patch(owner, "missing", plus_one)])
    with pytest.raises(KeyError):
        install([Repair("good", "", [Patch(owner, "method", plus_one)]), broken])
    assert owner.method is before["method"]


def patched_functions():
    """{'module.Class.name': the first digits of the hash of SuperGradients' (or Hydra's) source}, of all patches."""
    from sg_resnets.host.installed import REPAIRS

    found = {}
    for patch in (change for repair in REPAIRS for change in repair.changes if isinstance(change, Patch)):
        function = inspect.unwrap(getattr(patch.owner, patch.name))
        owner = getattr(patch.owner, "__qualname__", "")
        name = ".".join(filter(None, (function.__module__, owner, patch.name)))
        found[name] = sha256(inspect.getsource(function).encode()).hexdigest()[:12]
    return found


def test_what_is_patched_is_what_was_read(host):
    """A patch is written against a function's code; a new release may change it: read it again, then write its hash."""
    known = dict(line.split() for line in KNOWN.read_text().splitlines())
    assert patched_functions() == known
