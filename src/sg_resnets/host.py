"""Makes SuperGradients usable the moment it is imported, by whichever program imports it.

The host announces itself, redirects the console and checks its (outdated) pins while it is being imported, and its own
entry points compose recipes before any plugin of theirs could run. So a finder waits for `super_gradients`, quiets the
import, and calls `activate` when it is complete. The finder is installed by importing `sg_resnets`, which the wheel's
`sg_resnets.pth` does at interpreter start (a millisecond); without that file the Hydra plugin does it.
"""

import sys
from collections.abc import Callable

HOST = "super_gradients"
HOST_VERSION = "3.7.1"
INSTALL = f"pip install --no-deps super-gradients=={HOST_VERSION} data-gradients==0.3.2"
_problem: BaseException | None = None


class _HostFinder:
    """Stands first in `sys.meta_path` until the host is imported; asking where the host is does not import it.

    One of our modules may be what imports the host. It can be registered only when it is whole itself, so its end is
    waited for too.
    """

    def __init__(self) -> None:
        self.running = 0

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if name != HOST and not name.startswith("sg_resnets."):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)  # type: ignore[arg-type]
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
                sys.meta_path.remove(self)  # type: ignore[arg-type]
                activate()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _quietly(run: Callable[[object], None], module: object) -> None:
    from sg_resnets.compat.quiet_import import quiet_import

    with quiet_import():
        run(module)


def is_imported() -> bool:
    """Whether this program uses the host, be it half-imported."""
    return HOST in sys.modules


def is_complete() -> bool:
    """Whether the host is imported to its end; it is half-imported while one of its own modules composes a recipe."""
    return hasattr(sys.modules.get(HOST), "__all__")


def watch() -> None:
    """Activate now if the host is imported, else when it has been."""
    if is_complete():
        activate()
    elif not is_imported() and not any(isinstance(finder, _HostFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _HostFinder())  # type: ignore[arg-type]


def activate() -> None:
    """Repair the host and register everything of ours in it; the second time nothing happens.

    A failure of ours leaves the host as it was for its own recipes: it is shown once, with what to do.
    """
    global _problem
    if _problem is not None or getattr(sys.modules[HOST], "_sg_resnets_active", False):
        return
    try:
        from sg_resnets import compat, registration

        compat.apply()
        registration.register()
        sys.modules[HOST]._sg_resnets_active = True  # type: ignore[attr-defined]
    except Exception as problem:
        _problem = problem
        print(
            f"sg-resnets: not active, its models and recipes will be missing ({type(problem).__name__}: {problem}). "
            "Run `sg-resnets doctor` to see why; super_gradients itself goes on.",
            file=sys.stderr,
        )


def problem() -> BaseException | None:
    """Why the activation failed, if it did."""
    return _problem
