"""The lessons as a student gets them, from the solved ones: python notebooks/students.py

solved/*.ipynb are written and run; what stands there between the lines `### solution` and `### end` is a student's turn
in *.ipynb; of a line `name = value` the name is left. Both get the first cell, which installs what is missing (on
Colab), and the headings under which each name is made go to the checks, which say which cell is to be run first.
"""

import ast
import json
import re
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HEADINGS = HERE.parent / "src/sg_resnets/course/checks/headings.json"
SOLUTION = re.compile(r"^( *)### solution\n(?:( *\w+ = )[^\n]*\n|.*?^) *### end$", re.MULTILINE | re.DOTALL)
INSTALL = """\
# Where sg-resnets is installed this does nothing{}.
from importlib.util import find_spec

if find_spec("sg_resnets") is None:
    {}"""
PIP = """%pip install --quiet "sg-resnets @ git+{}"
    %pip install --quiet --no-deps super-gradients==3.7.1 data-gradients==0.3.2"""
NO_ADDRESS = 'raise SystemExit("sg-resnets is not installed here: its file docs/install.md says how")'


def install_cell() -> str:
    """The first cell of code. The project's address is `urls.Repository` in pyproject.toml, and stands there alone."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    address = project.get("urls", {}).get("Repository")
    if not address:
        return INSTALL.format("", NO_ADDRESS)
    return INSTALL.format("; elsewhere, as on Colab, it takes two minutes", PIP.format(address))


def solved(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with today's first cell of code, and without what differs from run to run."""
    notebook = deepcopy(notebook)
    cells = notebook["cells"]
    place = next(i for i, cell in enumerate(cells) if cell["cell_type"] == "code")
    if "find_spec" not in "".join(cells[place]["source"]):
        cells.insert(place, {"id": "install", "cell_type": "code", "execution_count": None, "outputs": []})
    cells[place]["source"] = install_cell().splitlines(keepends=True)
    for cell in notebook["cells"]:
        tags = ["solution"] if SOLUTION.search("".join(cell["source"])) else []
        cell["metadata"] = {"tags": tags} if tags else {}
    return notebook


def student(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without solutions and outputs."""
    notebook = deepcopy(notebook)
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        if cell["cell_type"] == "code":
            source = SOLUTION.sub(lambda found: f"{found[2] or found[1]}...  # your turn", "".join(cell["source"]))
            cell |= {"source": source.splitlines(keepends=True), "outputs": [], "execution_count": None}
    return notebook


def headings(notebook: dict[str, Any]) -> dict[str, str]:
    """The names that the notebook makes, and the heading under which it first does."""
    found: dict[str, str] = {}
    heading = "the first heading"
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            titles = re.findall(r"^#+ (.*)$", source, re.MULTILINE)
            heading = f"'{titles[-1]}'" if titles else heading
        elif not source.startswith("%%"):
            code = re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.MULTILINE)
            for name in made(ast.parse(code)):
                found.setdefault(name, heading)
    return dict(sorted(found.items()))


def made(code: ast.Module) -> set[str]:
    """The names that a cell makes, those in its functions and classes apart."""
    names: set[str] = set()
    waiting: list[ast.AST] = list(code.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
        elif not isinstance(node, ast.Lambda | ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            waiting += ast.iter_child_nodes(node)
    return names - {"_"}


def text(thing: Any, indent: int = 1) -> str:
    return json.dumps(thing, indent=indent, ensure_ascii=False) + "\n"


def written() -> dict[Path, str]:
    """Each file that follows from the solved lessons, and what is to stand in it."""
    files, of_lesson = {}, {}
    for path in sorted((HERE / "solved").glob("*.ipynb")):
        notebook = solved(json.loads(path.read_text()))
        files[path] = text(notebook)
        files[HERE / path.name] = text(student(notebook))
        of_lesson[path.name.partition("_")[0]] = headings(notebook)
    return files | {HEADINGS: text(of_lesson)}


if __name__ == "__main__":
    for path, content in written().items():
        path.write_text(content)
