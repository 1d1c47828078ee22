"""The notebooks import what there is."""

import ast
import importlib
import json

import pytest

from support import ROOT


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_imports_what_there_is(notebook, host):
    """They are run by `make notebooks` alone, which takes half an hour."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    code = ["".join(line for line in cell["source"] if not line.startswith(("!", "%"))) for cell in cells]
    nodes = [node for text in code for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in nodes if node.module.startswith("sg_resnets")]
    assert ours
    for node in ours:
        module = importlib.import_module(node.module)
        assert [name.name for name in node.names if not hasattr(module, name.name)] == []
