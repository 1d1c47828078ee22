"""Names for the parts of a network, so that a recipe can ask for one and a user's module can add one."""

from collections.abc import Callable
from typing import Any

from sg_resnets.utils.errors import SgResnetsError, choices


class Registry(dict[str, Any]):
    """Parts of one kind by name; a wrong name is answered with the valid ones."""

    base: type = object  # of which all parts are subclasses; object asks nothing, for functions

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(self, name: str) -> Callable[[Any], Any]:
        """A decorator that adds a part under `name`; a name that is taken by another part is refused. The same part
        defined once more, as a notebook's cell does, takes its own place.

        Raises:
            SgResnetsError: no name is given; or by the decorator, the name is taken, or the part is of another kind.
        """
        if not isinstance(name, str):
            raise SgResnetsError(f'a {self.kind} needs a name: write @register_{self.kind}("name")')

        def add(part: Any) -> Any:
            taken = self.get(name, part)
            if (taken.__module__, taken.__qualname__) != (part.__module__, part.__qualname__):
                raise SgResnetsError(
                    f"the {self.kind} '{name}' exists already ({self[name].__module__}): choose another name"
                )
            if self.base is not object and not (isinstance(part, type) and issubclass(part, self.base)):
                raise SgResnetsError(f"the {self.kind} '{name}' must be a subclass of {self.base.__name__}")
            self[name] = part
            return part

        return add

    def __missing__(self, name: str) -> Any:
        raise SgResnetsError(f"unknown {self.kind} '{name}': {choices(str(name), list(self))}")


BLOCKS = Registry("block")
