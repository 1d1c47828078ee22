"""Writes the parts of README.md and docs/ that are made from data: `python docs/tables.py`. With `--check` it writes
nothing, and exits 1 if a file is not up to date."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from sg_resnets.models.zoo import ZOO
from sg_resnets.runs.recipes import describe_result, read_results

ROOT = Path(__file__).parents[1]
# A name's family, its depth (and width, cardinality, ...), the family again: resnet 50 _v1d, wrn 28_10 _cifar.
NAME = re.compile(r"(.*?[a-z_])(\d+(?:_\w+?)??)(x4)?(_cifar|_v\d\w?)?")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:], ""])


def recipes() -> str:
    """Return a row for each recipe that was measured: the first of its rows in results.csv."""
    measured = {row["recipe"]: row for row in reversed(read_results()) if row["mean"]}
    rows = []
    for name, row in sorted(measured.items()):
        setting = row["note"].split(";")[0]
        with_setting = f"<br>`{setting}`" if re.fullmatch(r"[\w.]+=\w+", setting) else ""
        reaches = describe_result({**row, "minutes": "", "hardware": "", "note": ""})
        rows.append((f"`{name}`{with_setting}", reaches, row["minutes"]))
    return table(("recipe", "reaches", "minutes"), rows)


def measurements() -> str:
    """Return a row for each measurement."""
    rows = []
    for row in (row for row in read_results() if row["mean"]):
        reaches = describe_result({**row, "minutes": "", "hardware": "", "note": ""})
        rows.append(
            (f"`{row['recipe']}`", reaches, row["minutes"], "; ".join(filter(None, (row["note"], row["hardware"]))))
        )
    return table(("recipe", "reaches", "minutes", "settings, hardware"), rows)


def not_measured() -> str:
    """Return a row for each recipe that is still to be measured."""
    rows = [(f"`{row['recipe']}`", row["note"]) for row in read_results() if not row["mean"]]
    return table(("recipe", "why not, and what is published"), rows)


def short(number: float) -> str:
    """Return a number with three digits."""
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"


def models() -> str:
    """Return a row for each family of the zoo; its depths, parameters and multiply-accumulates are in one order."""
    families: dict[tuple[str, str], dict[str, str]] = {}
    for name in ZOO:
        match = NAME.fullmatch(name)
        assert match, f"{name}: of no family"
        before, depth, width, after = (part or "" for part in match.groups())
        families.setdefault((before, width + after), {})[depth] = name
    rows = []
    for (before, after), members in families.items():
        depths = next(iter(members)) if len(members) == 1 else f"{{{','.join(members)}}}"
        zoo = [ZOO[name] for name in members.values()]
        parameters = ", ".join(short(row.parameters / 1e6) for row in zoo)
        macs = ", ".join(short(row.macs / 1e9) for row in zoo)
        papers = "<br>".join(dict.fromkeys(row.paper for row in zoo))
        timm = ", ".join(dict.fromkeys(f"`{row.timm}`" for row in zoo if row.timm))
        rows.append((f"`{before}{depths}{after}`", parameters, macs, papers, timm))
    return table(("name", "parameters, millions", "GMACs", "paper", "in timm"), rows)


def main() -> None:
    """Write what is between the markers, or check it."""
    stale = []
    for file, part, text in (
        ("README.md", "recipes", recipes()),
        ("docs/results.md", "measurements", measurements()),
        ("docs/results.md", "not measured", not_measured()),
        ("docs/models.md", "models", models()),
    ):
        begin, end = f"<!-- {part}: made by docs/tables.py -->\n", "<!-- end -->"
        start, _, rest = (ROOT / file).read_text(encoding="utf-8").partition(begin)
        old, closing, tail = rest.partition(end)
        if not closing:
            sys.exit(f"{file} has no part that begins with {begin.strip()} and ends with {end}")
        if old != text:
            stale.append(file)
            if "--check" not in sys.argv:
                (ROOT / file).write_text(start + begin + text + closing + tail, encoding="utf-8")
    if stale:
        files = ", ".join(dict.fromkeys(stale))
        print(("not up to date, run docs/tables.py: " if "--check" in sys.argv else "written: ") + files)
        sys.exit("--check" in sys.argv)


if __name__ == "__main__":
    main()
