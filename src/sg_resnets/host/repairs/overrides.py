"""Overrides on the command line whose value Hydra's grammar cannot read: paths, most of them."""

import os
import re
import shlex
from collections.abc import Callable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import CompactHydraException, HydraException

from sg_resnets.host.patching import Patch, Repair


def parse_paths(original: Callable[..., Any], self: OverridesParser, overrides: list[str]) -> Any:
    """Parse, once the paths are in quotes."""
    return original(self, [readable(self, override) for override in overrides])


def readable(parser: OverridesParser, override: str) -> str:
    """Return KEY=VALUE as the grammar reads it: a value that it cannot read is put in quotes if it is a path that
    exists, or one below the home folder.

    Raises:
        CompactHydraException: it cannot be read, and is no such path.
    """
    key, sign, value = override.partition("=")
    path = os.path.expanduser(value)
    try:
        if not parser.parse_rule(override, "override").is_sweep_override() or os.sep not in value:
            return override
        error = None
    except HydraException as wrong:
        error = wrong
    is_key = re.fullmatch(r"[+~]*[\w./@:$-]+", key, re.ASCII)
    if not sign or not is_key:
        raise CompactHydraException(
            f"'{override}' is no override: write KEY=VALUE, such as epochs=3; a key has letters, digits and dots"
        )
    if os.path.exists(path) or (path != value and "," not in value):
        return f"{key}={quoted(path)}"
    if error is None:
        return override
    if value[:1] in "[{":
        raise CompactHydraException(
            f"{override}: a text in it that is more than letters and digits must be in quotes, such as "
            f"""'{key}=["a b", "c=d"]'"""
        )
    written = f"{key}={quoted(value)}"
    raise CompactHydraException(
        f"{override}: this value must be in quotes, {written}; as one types it in a shell: {shlex.quote(written)}"
    )


def quoted(text: str) -> str:
    """Return the text in quotes, with those inside it escaped."""
    return QuotedString(text, Quote.double).with_quotes()


REPAIRS = (
    Repair(
        "overrides",
        "a path with accents, brackets, = or ~ in an override is answered with an error of the lexer's",
        [Patch(OverridesParser, "parse_overrides", parse_paths)],
    ),
)
