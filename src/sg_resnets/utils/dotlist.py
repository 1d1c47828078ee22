"""Arguments of the form key=value, with dotted keys and values in YAML, mappings as Hydra has them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sg_resnets.utils.errors import SgResnetsError, one_line

if TYPE_CHECKING:
    from omegaconf import DictConfig


def parse_dotlist(arguments: Iterable[str], kind: str, example: str) -> "DictConfig":
    """Return what the arguments say; `kind` is what a message calls one of them.

    Raises:
        SgResnetsError: one is not of the form, its value cannot be read, or a key is given twice.
    """
    from hydra.errors import HydraException
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
            if value.lstrip().startswith("{"):
                OmegaConf.update(parsed, key, _mapping(argument))
            else:
                parsed.merge_with_dotlist([argument])
        except (YAMLError, OmegaConfBaseException, HydraException) as error:
            raise SgResnetsError(f"'{argument}' cannot be read: {one_line(error)}") from None
    return parsed


def _mapping(argument: str) -> Any:
    """The value of an argument as a recipe's command has it: {a:1} too, which YAML takes for a name."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(argument).value()
