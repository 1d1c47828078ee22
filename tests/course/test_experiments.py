"""The course's experiments at a tiny size, without the training itself."""

import csv

import pytest

from sg_resnets.course import experiments
from sg_resnets.course.experiments import Budget
from sg_resnets.course.setups import COURSE, Setup, Trained, load_images, untrained
from sg_resnets.diagnostics.shattered import calibrated

TINY_SETUP = Setup(COURSE.recipe, {**COURSE.arch_params, "widths": [4, 4, 8]}, COURSE.dataset, 14, 600, 1)


def test_the_course_sees_14_pixels_of_the_same_pictures(batch):
    images, labels = batch
    assert images.shape == (64, 1, 14, 14) and labels.bincount().min() >= 6
    assert load_images(COURSE)[0].shape == (2000, 1, 14, 14) and load_images(COURSE, train=True)[0].shape[0] == 6000


def test_a_budget_buys_seeds():
    assert list(Budget(0.0).seeds(5)) == [0]
    assert list(Budget(10.0).seeds(3)) == [0, 1, 2]


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
