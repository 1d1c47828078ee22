"""Makes SuperGradients usable the moment it is imported, by whichever program imports it.

It announces itself, redirects the console and checks its (outdated) pins while it is being imported, and its own entry
points compose recipes before any plugin of theirs could run. So a finder waits for `super_gradients`, quiets the
import, and calls `activate` when it is complete. The finder is installed by importing `sg_resnets`, which the wheel's
`sg_resnets.pth` does at interpreter start (a millisecond; SG_RESNETS_AT_STARTUP=0 switches it off); without that file
the Hydra plugin activates.
"""

import os
import sys

TYPE_CHECKING = False  # for type checkers it is True; the import of typing takes longer than all of this
if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "super_gradients"
HOST_VERSION = "3.7.1"
INSTALL = f"pip install --no-deps super-gradients=={HOST_VERSION} data-gradients==0.3.2"
_problem: BaseException | None = None


class HostFinder:
    """Stands first in `sys.meta_path` until SuperGradients is imported; asking where it is does not import it.

    One of our modules may be what imports it. It can be registered only when it is whole itself, so its end is waited
    for too.
    """

    def __init__(self) -> None:
        self.running = 0

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Return the module's spec, of SuperGradients and of our modules one that activates at the end."""
        if name != HOST and not name.startswith("sg_resnets."):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)  # type: ignore[arg-type]
        spec = next(filter(None, specs), None)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: object) -> None:
            self.running += 1
            try:
                _quietly(run, module) if name == HOST else run(module)  # type: ignore[arg-type]
            finally:
                self.running -= 1
            if not self.running and is_complete() and self in sys.meta_path:
                activate()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _quietly(run: "Callable[[object], None]", module: object) -> None:
    from sg_resnets.host.deferred_imports import deferred_imports
    from sg_resnets.host.quiet_import import quiet_import

    with quiet_import(), deferred_imports():
        run(module)


def is_imported() -> bool:
    """Whether this program uses SuperGradients, be it half-imported."""
    return HOST in sys.modules


def is_complete() -> bool:
    """Whether SuperGradients is imported to its end; it is half-imported while one of its modules composes a recipe."""
    return hasattr(sys.modules.get(HOST), "__all__")


def watch() -> None:
    """Activate now if SuperGradients is imported, else when it has been."""
    if is_complete():
        activate()
    elif not is_imported() and not any(isinstance(finder, HostFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, HostFinder())  # type: ignore[arg-type]


def activate() -> None:
    """Repair SuperGradients and register everything of ours in it; the second time nothing happens.

    A failure of ours leaves it as it was for its own recipes: it is shown once, with what to do.
    """
    global _problem
    if _problem is not None or getattr(sys.modules[HOST], "_sg_resnets_active", False):
        return
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, HostFinder)]
    try:
        _refuse_other_versions()
        from sg_resnets.host.installed import REPAIRS
        from sg_resnets.host.patching import install

        without = switched_off([repair.name for repair in REPAIRS])
        install(repair for repair in REPAIRS if repair.name not in without)
        sys.modules[HOST]._sg_resnets_active = True  # type: ignore[attr-defined]
    except Exception as problem:
        _problem = problem
        print(
            f"sg-resnets: not active, its models and recipes will be missing ({type(problem).__name__}: {problem}). "
            "Run `sg-resnets doctor` to see why; super_gradients itself goes on.",
            file=sys.stderr,
        )


def _refuse_other_versions() -> None:
    from sg_resnets.utils.errors import SgResnetsError

    version = sys.modules[HOST].__version__
    if version != HOST_VERSION:
        raise SgResnetsError(f"super-gradients {version} is installed but {HOST_VERSION} is needed: {INSTALL}")


def switched_off(names: list[str]) -> set[str]:
    """Return which of the repairs' names SG_RESNETS_WITHOUT gives, with blanks or commas between them.

    Raises:
        SgResnetsError: it gives a name that none of them has.
    """
    from sg_resnets.utils.errors import SgResnetsError, choices

    asked = set(os.environ.get("SG_RESNETS_WITHOUT", "").replace(",", " ").split())
    for unknown in sorted(asked.difference(names)):
        raise SgResnetsError(f"SG_RESNETS_WITHOUT={unknown}: there is no such repair; {choices(unknown, names)}")
    return asked


def problem() -> BaseException | None:
    """Return why the activation failed, if it did."""
    return _problem
