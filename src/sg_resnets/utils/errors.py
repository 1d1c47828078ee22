"""The exceptions of this package: mistakes that the user can mend."""

from collections.abc import Iterable


class SgResnetsError(ValueError):
    """A mistake that the user can mend; the message is one line: what is wrong, the valid choices, what to do."""


class MissingFileError(SgResnetsError, FileNotFoundError):
    """A file that is not there, for those too who catch Python's own error."""


class MisfitError(SgResnetsError, RuntimeError):
    """Weights that do not fit a network, for those too who catch PyTorch's error."""


class LoaderError(SgResnetsError, RuntimeError):
    """A loader whose worker has died, for those too who catch PyTorch's error."""


class SeveralMistakes(SgResnetsError):
    """Mistakes in one thing, a line each."""

    @classmethod
    def of(cls, what: str, found: Iterable[str]) -> SgResnetsError:
        """Return the error for what was found, of one mistake its line alone."""
        lines = list(dict.fromkeys(map(one_line, found)))
        if len(lines) == 1:
            return SgResnetsError(lines[0])
        return cls("\n".join([f"{len(lines)} mistakes in {what}:", *(f"- {line}" for line in lines)]))


def choices(wrong: str, valid: Iterable[str], limit: int = 12) -> str:
    """Return what a message says of the valid choices: the most similar names, then the first `limit` of all."""
    listed = list(valid)
    near = similar(wrong, listed)
    shown = ", ".join(listed[:limit]) + (f", ... ({len(listed)} in all)" if len(listed) > limit else "")
    return (f"did you mean {' or '.join(near)}? " if near else "") + f"valid: {shown}"


def similar(wrong: str, valid: Iterable[str], count: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return the names that `wrong` may be a misspelling of, the most similar first; `cutoff` is difflib's ratio."""
    from difflib import get_close_matches

    return get_close_matches(wrong, list(valid), n=count, cutoff=cutoff)


def shown(error: Exception) -> str:
    """Return an error's message as it is shown: one line, or of several mistakes one each."""
    return str(error) if isinstance(error, SeveralMistakes) else one_line(error)


def one_line(text: object) -> str:
    """Return the text without line breaks and repeated blanks."""
    return " ".join(str(text).split())
