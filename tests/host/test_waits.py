"""What is said of a training's wait for its batches."""

import time

import pytest
from torch.utils.data import DataLoader


@pytest.fixture
def waits(host):
    from sg_resnets.host.waits import Waits

    return Waits()


def test_both_times_add_up(waits):
    def slow():
        for number in range(3):
            time.sleep(0.02)
            yield number

    start = time.perf_counter()
    for _ in waits.timed(slow()):
        time.sleep(0.01)
    taken = time.perf_counter() - start
    assert 0.06 <= waits.waited < 0.06 + (taken - 0.09) + 1e-3 and waits.worked >= 0.03
    assert waits.waited + waits.worked == pytest.approx(taken, rel=0.05)


def test_what_to_change_is_said_where_it_is_much(waits, picture_folder, monkeypatch):
    from sg_resnets.data.folder_loader import FolderLoader
    from sg_resnets.data.image_folder import ImageFolderImages
    from sg_resnets.host import waits as module

    monkeypatch.setattr(module, "cpu_cores", lambda: 8)
    data = ImageFolderImages(str(picture_folder))
    assert waits.line(None) == ""  # nothing was trained
    waits.waited, waits.worked = 1.0, 99.0
    assert waits.line(FolderLoader(data)) == "Training has waited 1.0% of its time for batches (1.0 s)"
    waits.waited = 33.0
    said = waits.line(FolderLoader(data, num_workers=2))
    assert said.startswith("Training has waited 25.0% of its time for batches (33.0 s): ")
    assert all(words in said for words in ("cache=disk", "num_workers=8", "persistent_workers=True"))
    assert "cache" not in waits.line(DataLoader([1, 2], num_workers=0))
    waits.waited, waits.worked = 0.1, 0.1
    assert waits.line(FolderLoader(data)) == "Training has waited 50.0% of its time for batches (0.1 s)"
