"""The course's images, its budget of time, and its notebooks."""

import ast
import importlib
import json

import pytest

from sg_resnets.course.experiments import Budget
from sg_resnets.course.setups import COURSE, load_images
from support import ROOT


def test_the_course_sees_14_pixels_of_the_same_pictures(batch):
    images, labels = batch
    assert images.shape == (64, 1, 14, 14) and labels.bincount().min() >= 6
    assert load_images(COURSE)[0].shape == (2000, 1, 14, 14) and load_images(COURSE, train=True)[0].shape[0] == 6000


def test_a_budget_buys_seeds():
    assert list(Budget(0.0).seeds(5)) == [0]
    assert list(Budget(10.0).seeds(3)) == [0, 1, 2]


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
