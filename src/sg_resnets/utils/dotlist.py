"""Arguments of the form key=value, with dotted keys and values in YAML."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sg_resnets.utils.errors import SgResnetsError, one_line

if TYPE_CHECKING:
    from omegaconf import DictConfig


def parse_dotlist(arguments: Iterable[str], kind: str, example: str) -> "DictConfig":
    """Return what the arguments say; `kind` is what a message calls one of them.

    Raises:
        SgResnetsError: one is not of the form, its value is no YAML, or a key is given twice.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    parsed = OmegaConf.create()
    keys: set[str] = set()
    for argument in arguments:
        key, _, value = argument.partition("=")
        if not key or not value.strip():
            raise SgResnetsError(f"'{argument}' is no {kind}: write key=value, such as {example}")
        if key in keys:
            raise SgResnetsError(f"'{argument}': {key} is given twice: give it once; several values are a list, [a,b]")
        keys.add(key)
        try:
            parsed.merge_with_dotlist([argument])
        except (YAMLError, OmegaConfBaseException) as error:
            raise SgResnetsError(f"'{argument}' cannot be read: {one_line(error)}") from None
    return parsed
