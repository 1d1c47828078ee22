"""Which Python objects a recipe may name, when it is another's: what it says is then data, and not code to be run.

Hydra builds whatever stands under `_target_`, and SuperGradients' `${class:NAME}` imports it. The `sg-resnets` command
takes names of the packages below alone; `python -m super_gradients.train_from_recipe` takes all, as it always did.
"""

import pydoc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sg_resnets.utils.errors import SgResnetsError

PACKAGES = ("sg_resnets", "super_gradients", "torch", "torchvision", "torchmetrics", "timm")
_refused: ContextVar[bool] = ContextVar("refused", default=False)


@contextmanager
def refusing(refuse: bool = True) -> Iterator[None]:
    """While open, recipes may name what is known alone; with False, anything again."""
    token = _refused.set(refuse)
    try:
        yield
    finally:
        _refused.reset(token)


def is_refused() -> bool:
    """Whether recipes may name what is known alone."""
    return _refused.get()


def refuse_foreign_code(recipe: Any, modules: Iterable[str] = ()) -> None:
    """Refuse a recipe that has something built which is neither of the known packages nor of `modules`.

    Raises:
        SgResnetsError: names it.
    """
    for key, name in targets(recipe):
        refuse_name(f"{key}={name}", name, modules)


def refuse_name(where: str, name: str, modules: Iterable[str] = ()) -> None:
    """Refuse one name, which a recipe has at `where`.

    Raises:
        SgResnetsError: it is of another package.
    """
    if not is_known(str(name), modules):
        raise SgResnetsError(
            f"{where}: a recipe that may be another's builds what is of {', '.join(PACKAGES)} alone: if you trust it, "
            "`sg-resnets train`, `find-lr` and `resume` take --allow-code, the other commands --plugin MODULE"
        )


def targets(part: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, name) of all that a recipe has built."""
    if isinstance(part, Mapping):
        for name, each in part.items():
            inner = f"{key}.{name}" if key else str(name)
            if name == "_target_":
                yield inner, each
            else:
                yield from targets(each, inner)
    elif isinstance(part, list | tuple):
        for number, each in enumerate(part):
            yield from targets(each, f"{key}.{number}")


def is_known(name: str, modules: Iterable[str] = ()) -> bool:
    """Whether a name stands for a class of one of the packages, for a function of one but torch, which has some that
    run code, or for anything of `modules`."""
    if any(f"{name}.".startswith(f"{module}.") for module in modules):
        return True
    if name.partition(".")[0] not in PACKAGES:
        return False
    try:
        found = pydoc.locate(name)
    except pydoc.ErrorDuringImport:
        return False
    if found is None:
        return True  # Hydra says that there is none
    defined_in = getattr(found, "__module__", None) or ""
    is_of_torch = defined_in.partition(".")[0] == "torch" and not f"{defined_in}.".startswith("torch.nn.")
    return defined_in.partition(".")[0] in PACKAGES and (isinstance(found, type) or not is_of_torch)
