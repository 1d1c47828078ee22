"""The lessons as students get them."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = spec_from_file_location("students", ROOT / "notebooks/students.py")
students = module_from_spec(SPEC)
SPEC.loader.exec_module(students)


def code(*cells):
    return {"cells": [{"cell_type": "code", "source": cell, "outputs": [1]} for cell in cells]}


def test_what_students_get_follows_from_the_solved_lessons():
    """Else: python notebooks/students.py"""
    stale = [str(path) for path, content in students.written().items() if path.read_text() != content]
    assert stale == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_students_lesson_holds_no_solution_and_no_output(path):
    for cell in json.loads(path.read_text())["cells"]:
        assert "### " not in "".join(cell["source"]) or cell["cell_type"] == "markdown"
        assert not cell.get("outputs")


def test_a_solution_is_left_out_at_its_indentation():
    notebook = code("def f(x):\n    ### solution\n    y = x\n    return y\n    ### end\n\nprint(f(1))")
    (cell,) = students.student(notebook)["cells"]
    assert "".join(cell["source"]) == "def f(x):\n    ...  # your turn\n\nprint(f(1))" and cell["outputs"] == []


def test_two_solutions_of_a_cell_are_two_holes():
    notebook = code("### solution\na = 1\n### end\nb = 2\n### solution\nc = 3\n### end")
    assert "".join(students.student(notebook)["cells"][0]["source"]) == (
        "a = ...  # your turn\nb = 2\nc = ...  # your turn"
    )


def test_a_name_belongs_to_the_heading_of_the_first_cell_that_makes_it():
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": "# Title\ntext"},
            {"cell_type": "code", "source": "import torch.nn as nn\nfrom a import b\nfor i in x: pass"},
            {"cell_type": "markdown", "source": "## Block\n# not a title`"},
            {
                "cell_type": "code",
                "source": "class Block:\n    y = 1\n%time z, w = [q for q in b], 2\n!ls {nn}\nnn = v = 3",
            },
        ]
    }
    found = students.headings(notebook)
    assert {"nn", "b", "i"} <= {name for name, place in found.items() if place == "'Title'"}
    assert "Block" in found and "v" in found and not {"y", "q"} & found.keys()


def test_the_first_cell_of_code_installs_what_is_missing_and_is_written_once():
    made = students.solved(
        students.solved({"cells": [{"cell_type": "markdown", "source": "# T"}, *code("a = 1")["cells"]]})
    )
    assert [cell["cell_type"] for cell in made["cells"]] == ["markdown", "code", "code"]
    compile("".join(made["cells"][1]["source"]).replace("%pip", "#"), "cell", "exec")
    assert made["cells"][2]["source"] == "a = 1"
