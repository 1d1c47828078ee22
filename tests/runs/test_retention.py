"""Which epochs' checkpoints are kept."""

import os

import pytest

from sg_resnets.runs.find import LATEST
from sg_resnets.runs.retention import Kept

FIGURES = [0.1, 0.5, 0.9, 0.7, 0.8, 0.6]  # of epochs 1 to 6


@pytest.mark.parametrize(
    "asked, left",
    [
        ({}, []),
        ({"last": 2}, [5, 6]),
        ({"best": 2}, [3, 5]),
        ({"best": 2, "greater_is_better": False}, [1, 2]),
        ({"every": 3}, [3, 6]),
        ({"last": 1, "best": 1, "every": 4}, [3, 4, 6]),
    ],
)
def test_only_what_is_asked_for_is_left(asked, left, tmp_path):
    kept = Kept(**asked)
    for epoch, figure in enumerate(FIGURES, 1):
        (tmp_path / "new").write_text(f"epoch {epoch}")
        os.replace(tmp_path / "new", tmp_path / LATEST)
        kept.add(epoch, figure)
        kept.settle(tmp_path, epoch)
    files = {path.name: path.read_text() for path in tmp_path.glob("ckpt_kept_*")}
    assert files == {f"ckpt_kept_epoch_{epoch}.pth": f"epoch {epoch}" for epoch in left}


def test_an_epoch_that_is_trained_again_counts_once():
    kept = Kept(best=1)
    for epoch, figure in ((1, 0.5), (2, 0.9), (2, 0.4)):
        kept.add(epoch, figure)
    assert kept.figures == {1: 0.5} or kept.figures == {2: 0.4}


def test_where_there_are_no_links_files_are_copied(tmp_path, monkeypatch):
    def no_links(*args):
        raise OSError

    monkeypatch.setattr(os, "link", no_links)
    (tmp_path / LATEST).write_text("epoch 1")
    kept = Kept(last=1)
    kept.add(1, 0.5)
    kept.settle(tmp_path, 1)
    assert (tmp_path / "ckpt_kept_epoch_1.pth").read_text() == (tmp_path / LATEST).read_text() == "epoch 1"
