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
    """Parse each; a path that the grammar cannot read, or takes for several values, is put in quotes."""
    found = []
    for override in overrides:
        key, _, value = override.partition("=")
        try:
            (parsed,) = original(self, [override])
        except HydraException:
            (parsed,) = original(self, [in_quotes(override)])
        else:
            if parsed.is_sweep_override() and os.sep in value and os.path.exists(value):
                (parsed,) = original(self, [f"{key}={quoted(value)}"])
        found.append(parsed)
    return found


def in_quotes(override: str) -> str:
    """Return KEY=VALUE, which the grammar cannot read, with the value in quotes, if it is a path that exists, or one
    below the home folder.

    Raises:
        CompactHydraException: it is no such path.
    """
    key, sign, value = override.partition("=")
    if not sign or not re.fullmatch(r"[+~]*[\w./@:$-]+", key, re.ASCII):
        raise CompactHydraException(
            f"'{override}' is no override: write KEY=VALUE, such as epochs=3; a key has letters, digits and dots"
        )
    path = os.path.expanduser(value)
    if os.path.exists(path) or (path != value and "," not in value):
        return f"{key}={quoted(path)}"
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
