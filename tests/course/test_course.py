"""The course's images, its budget of time, and its notebooks."""

import ast
import importlib
import json
import pickle
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from sg_resnets.course import setups
from sg_resnets.course.experiments import Budget
from sg_resnets.course.setups import COURSE, Job, load_images, train_all
from sg_resnets.utils.errors import SgResnetsError
from support import ROOT


def test_the_course_sees_14_pixels_of_the_same_pictures(batch):
    images, labels = batch
    assert images.shape == (64, 1, 14, 14) and labels.bincount().min() >= 6
    assert load_images(COURSE)[0].shape == (2000, 1, 14, 14) and load_images(COURSE, train=True)[0].shape[0] == 6000


def test_a_budget_buys_seeds():
    assert list(Budget(0.0).seeds(5)) == [0]
    assert list(Budget(10.0).seeds(3)) == [0, 1, 2]


def test_each_job_has_its_own_folder_and_its_own_figures(host, tmp_path):
    """However alike two jobs are: here they differ in the setup alone."""
    small = ("+arch_params.depth=8", "batch_size=128")
    jobs = [Job("resnet20_cifar", 0, small, replace(COURSE, epochs=epochs, samples=256)) for epochs in (2, 1)]
    assert [len(setups._train(job, str(tmp_path))[2]) for job in jobs] == [2, 1]
    runs = list(tmp_path.glob("*/RUN_*/.hydra/config.yaml"))
    assert len(runs) == 2
    assert {OmegaConf.load(run).dataset_params.train_dataset_params.max_samples for run in runs} == {256}
    with pytest.raises(SgResnetsError, match="lr=-1") as error:
        setups._train(Job("resnet20_cifar", 0, ("lr=-1",)), str(tmp_path))
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_a_worker_that_ends_is_a_line_and_the_next_call_has_another(tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text(
        "import os\n"
        "def train(job, folder):\n"
        "    if job == 'end': os._exit(1)\n"
        "    from support import SMALL, ResNet\n"
        "    return SMALL, ResNet(SMALL).state_dict(), [job]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(setups, "_train", importlib.import_module("worker").train)
    with pytest.raises(SgResnetsError, match=r"a process ended before its network was trained: .*__main__"):
        train_all(["end"], tmp_path)
    assert [trained.records for trained in train_all(["go on"], tmp_path)] == [["go on"]]


@pytest.mark.slow
def test_a_script_that_trains_as_it_is_imported_is_told_what_to_do(run_python, tmp_path):
    (tmp_path / "script.py").write_text(
        "from pathlib import Path\n"
        "from sg_resnets.course.setups import Job, train_all\n"
        "train_all([Job('resnet20_cifar')], Path('runs'))\n"
    )
    done = run_python("script.py", cwd=tmp_path)
    assert done.returncode == 1 and "if __name__ ==" in done.stderr.splitlines()[-1]
    assert "BrokenProcessPool" not in done.stderr and "bootstrapping" not in done.stderr


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks/solved").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_imports_what_there_is(notebook, host):
    """They are run by `make notebooks` alone, which takes half an hour."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    cells = [cell for cell in cells if not "".join(cell["source"]).startswith("%%writefile")]
    code = ["".join(line for line in cell["source"] if not line.startswith(("!", "%"))) for cell in cells]
    nodes = [node for text in code for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in nodes if node.module.startswith("sg_resnets")]
    assert ours
    for node in ours:
        module = importlib.import_module(node.module)
        missing = [name.name for name in node.names if not hasattr(module, name.name)]
        for name in missing:  # a module, or an error that names it
            importlib.import_module(f"{node.module}.{name}")
