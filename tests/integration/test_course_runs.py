"""The course's experiments at a tiny size, without the training and with it."""

import csv
from pathlib import Path

import pytest

from sg_resnets.course import experiments
from sg_resnets.course.setups import COURSE, Setup, Trained, load_images, untrained
from sg_resnets.diagnostics.shattered import calibrated
from sg_resnets.utils.errors import SgResnetsError

TINY_SETUP = Setup(COURSE.recipe, {**COURSE.arch_params, "widths": [4, 4, 8]}, COURSE.dataset, 14, 600, 1)


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_every_experiment_runs_end_to_end_and_says_what_it_showed(name, tmp_path, host, monkeypatch):
    from matplotlib.image import imread

    from sg_resnets.course import claims
    from sg_resnets.runs.curves import EpochRecord

    def train_nothing(jobs, folder):  # the training itself is SuperGradients', and is tested below
        assert all(job.setup is TINY_SETUP for job in jobs)
        record = EpochRecord(1, 2.0, 0.3 + 0.1 * len(jobs), 2.0, 0.3, 1.0, 1.0)
        images, _ = load_images(TINY_SETUP, train=True, count=100)
        nets = [calibrated(untrained(job.architecture, job.seed, TINY_SETUP), images) for job in jobs]
        return [Trained(network, [record]) for network in nets]

    monkeypatch.setattr(experiments, "train_all", train_nothing)
    monkeypatch.setattr(
        experiments, "load_images", lambda setup, train=False, count=None: load_images(setup, train, 60)
    )
    for holds, verdict in ((True, "This run supports it."), (False, "This run does not support it.")):
        monkeypatch.setattr(claims, name, lambda *figures, holds=holds: holds)
        finding = experiments.run_experiment(name, 0.001, tmp_path / name, TINY_SETUP)
        lines = (tmp_path / name / f"{name}.md").read_text().splitlines()
        assert lines[0] == f"# {name}" and finding.claim in lines[1] and lines[-1] == verdict
    with open(tmp_path / name / f"{name}.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(finding.rows) > 3
    picture = imread(tmp_path / name / f"{name}.png")
    assert picture.shape[1] > 600 and picture[..., :3].std() > 0.05  # something is drawn


def test_an_experiment_looks_at_networks_that_are_trained_already(tmp_path, monkeypatch):
    """And trains none."""
    monkeypatch.setattr(experiments, "train_all", None)
    monkeypatch.setattr(
        experiments, "load_images", lambda setup, train=False, count=None: load_images(setup, train, 60)
    )
    networks = {name: untrained(f"{name}_cifar", setup=TINY_SETUP) for name in ("plain20", "resnet20", "resnet56")}
    finding = experiments.run_experiment("lesion", 5, tmp_path, TINY_SETUP, networks)
    assert {row["network"] for row in finding.rows} == set(networks) and "(1 seed)" in finding.figures
    with pytest.raises(SgResnetsError, match="networks has no plain56: this experiment looks at plain56, resnet56"):
        experiments.run_experiment("landscape", 5, tmp_path, TINY_SETUP, networks)
    with pytest.raises(SgResnetsError, match="'shortcuts' trains its own networks: identity, lesion, landscape"):
        experiments.run_experiment("shortcuts", 5, tmp_path, TINY_SETUP, networks)


def test_the_command_trains_and_prints_the_paragraph(sg_resnets_command, tmp_path):
    """The real thing, once: two processes train with the host's Trainer."""
    code = (
        "from pathlib import Path\n"
        "from sg_resnets.course import setups\n"
        "setup = setups.Setup(setups.COURSE.recipe, {'in_channels': 1}, 'fashion_mnist_mini', 14, 600, 1)\n"
        "small = ('arch_params.widths=[4,4,8]', 'dataset_params.train_dataset_params.max_samples=600')\n"
        "jobs = [setups.Job(f'{kind}20_cifar', 3, small, setup=setup) for kind in ('plain', 'resnet')]\n"
        "if __name__ == '__main__':\n"
        "    for network, records in setups.train_all(jobs, Path('runs')):\n"
        "        print(network.config.shortcut, network.config.widths, len(records), records[0].train_accuracy > 0)\n"
    )
    import subprocess
    import sys

    (tmp_path / "small.py").write_text(code)
    done = subprocess.run([sys.executable, "small.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines() == ["none (4, 4, 8) 1 True", "A (4, 4, 8) 1 True"], done.stderr[-2000:]
    runs = sorted(path.name for path in Path(tmp_path, "runs").iterdir())
    assert len(runs) == 2 and all("seed_3" in name or "seed" in name for name in runs)
