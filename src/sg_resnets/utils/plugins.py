"""The user's own modules, which register blocks, callbacks and the like when they are imported."""

import os
import sys
from collections.abc import Iterable
from importlib import import_module

from sg_resnets.utils.checks import Check
from sg_resnets.utils.errors import SgResnetsError

MODULE = Check(
    lambda value: isinstance(value, str) and all(value.split(".")), "the name of a module, such as my_blocks"
)


def import_plugins(modules: Iterable[str]) -> None:
    """Import modules that are installed, or stand in the current folder; without any, nothing is looked up there.

    Raises:
        SgResnetsError: there is no such module, or this is no module's name.
    """
    folder = os.getcwd()
    for module in modules:
        MODULE("plugins", module)
        if folder not in sys.path:
            sys.path.append(folder)  # at the end: a file of the folder never stands in for an installed module
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):  # one that the user's module imports
                raise
            raise SgResnetsError(
                f"plugins: there is no module '{module}': it is neither in {folder}, nor installed"
            ) from None
