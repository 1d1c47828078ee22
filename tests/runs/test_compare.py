"""Runs beside each other: which are one row, what their labels tell apart, and a picture that can be read."""

import json

import pytest
import torch

from sg_resnets.runs import compare
from sg_resnets.runs.curves import EpochRecord, write_curves
from sg_resnets.utils.errors import SgResnetsError


@pytest.fixture
def a_run(tmp_path):
    """a_run(folder, accuracies, teacher=..., **recipe): a run's folder with what compare reads."""

    def make(folder, accuracies, teacher=None, seed=0, **recipe):
        run = tmp_path / folder
        run.mkdir(parents=True)
        records = [EpochRecord(i, 1.0, 0.5, 1.0, a, 10.0 * i, 100.0) for i, a in enumerate(accuracies, 1)]
        write_curves(records, run / "curves.csv")
        net = {"fc.weight": torch.zeros(10, 3), "bn.running_mean": torch.zeros(7)}
        recipe = {"architecture": "tiny", "training_hyperparams": {"seed": seed}, "ckpt_root_dir": folder, **recipe}
        torch.save({"net": net, "recipe": recipe}, run / "ckpt_best.pth")
        if teacher:
            (run / "teacher.json").write_text(json.dumps({"parameters": 999, "Accuracy": teacher}))
        return run

    return make


def test_runs_that_differ_in_the_seed_alone_are_one_row(a_run, tmp_path):
    a_run("alone/RUN_1", [0.5, 0.6, 0.5], seed=1)
    a_run("alone/RUN_2", [0.5, 0.8, 0.7], seed=2)
    a_run("kd/RUN_1", [0.9], teacher=0.95, teacher_architecture="big")
    alone, kd, teacher = compare.compare([tmp_path / "alone", tmp_path / "kd"])
    assert (alone.label, list(alone.final), list(alone.best)) == ("alone", [0.5, 0.7], [0.6, 0.8])
    assert alone.parameters == 30 and list(alone.seconds) == [30.0, 30.0]
    assert (kd.label, teacher.label, teacher.parameters, list(teacher.final)) == ("kd", "teacher big", 999, [0.95])
    _, first, second, third = compare.table([alone, kd, teacher])
    assert "60.00 +- 14.14" in first and "70.00 +- 14.14" in first and "30 s" in first and " 2 " in first
    assert "90.00" in second and "+-" not in second and "999" in third and "95.00" in third
    figure = compare.draw_comparison([alone, kd, teacher])
    assert "kd" in figure.get_suptitle() and len(figure.axes[1].lines) == 2


def test_other_settings_in_one_folder_are_told_apart_by_what_differs(a_run, tmp_path):
    for i, rate in enumerate((0.1, 0.2)):
        a_run(f"sweep/RUN_{i}", [0.5], lr=rate, deep={"other": rate})
    assert [row.label for row in compare.compare([tmp_path / "sweep"])] == ["sweep lr=0.1", "sweep lr=0.2"]
    assert [row.label for row in compare.compare([tmp_path / "sweep" / "RUN_1"])] == ["sweep"]


def test_the_seeds_of_an_experiment_given_run_by_run_are_one_row(a_run, tmp_path):
    runs = [a_run(f"exp/RUN_{seed}", [accuracy], seed=seed) for seed, accuracy in enumerate((0.5, 0.7))]
    (row,) = compare.compare([*runs, tmp_path / "exp", tmp_path / "exp" / ".." / "exp"])
    assert (row.label, list(row.final)) == ("exp", [0.5, 0.7])
    first, second = (a_run(f"sweep/RUN_{i}", [0.5], lr=i) for i in range(2))
    rows = compare.compare([first, second])
    assert [row.label for row in rows] == ["sweep lr=0", "sweep lr=1"]
    assert [len(axes.lines) for axes in compare.draw_comparison(rows).axes] == [2, 2]


def test_an_experiment_for_each_seed_is_one_row_and_one_for_each_version_of_the_code_is_not(a_run, tmp_path):
    for seed in range(3):
        a_run(f"seed_{seed}/RUN_1", [0.5], seed=seed)
    (row,) = compare.compare(sorted(tmp_path.glob("seed_*")))
    assert (row.label, len(row.final)) == ("seed_0 and 2 more", 3)
    a_run("before/RUN_1", [0.5], lr=1)
    a_run("after/RUN_1", [0.6], lr=1)
    rows = compare.compare([tmp_path / "before", tmp_path / "after"])
    assert [(row.label, list(row.final)) for row in rows] == [("before", [0.5]), ("after", [0.6])]
    a_run("old/before/RUN_1", [0.5], lr=1)
    rows = compare.compare([tmp_path / "before", tmp_path / "old" / "before"])
    assert [row.label for row in rows] == [f"before folder={tmp_path}/{path}" for path in ("before", "old/before")]


def test_of_a_run_that_was_repeated_the_latest_counts(a_run, tmp_path):
    later, other = a_run("exp/RUN_2", [0.6], seed=1), a_run("exp/RUN_3", [0.8], seed=2)
    earlier = a_run("exp/RUN_1", [0.5], seed=1)
    for paths in ([tmp_path / "exp"], [other, later, earlier]):
        (row,) = compare.compare(paths)
        assert sorted(row.final) == [0.6, 0.8]
    (row,) = compare.compare([earlier, later])
    assert "+-" not in list(compare.table([row]))[1]


def test_runs_without_a_recipe_are_not_taken_for_one(a_run, tmp_path):
    for i in range(2):
        run = a_run(f"python/RUN_{i}", [0.5])
        state = torch.load(run / "ckpt_best.pth")
        torch.save({"net": state["net"]}, run / "ckpt_best.pth")
    assert [row.label for row in compare.compare([tmp_path / "python"])] == [f"python run=RUN_{i}" for i in range(2)]


def test_smoke_runs_are_marked(a_run, tmp_path):
    a_run("exp/RUN_1", [0.9])
    a_run("exp/RUN_2", [0.1], smoke=True, teacher=0.1, teacher_architecture="big")
    labels = [row.label for row in compare.compare([tmp_path / "exp"])]
    assert labels == ["exp", "exp (smoke)", "teacher big (smoke)"]


@pytest.mark.parametrize(
    "contents",
    ["", "epoch,train_loss,train_accuracy\n", "epoch,loss\n1,0.5\n", "\x00\x01", b"\xff\xfe\xff", "epoch\none\n"],
)
def test_curves_that_cannot_be_read_are_named(a_run, tmp_path, contents):
    file = a_run("exp/RUN_1", [0.5]) / "curves.csv"
    file.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    with pytest.raises(SgResnetsError, match=f"{file} holds no curves"):
        compare.compare([tmp_path / "exp"])


LONG = f" {'long' * 30} [" + "much,longer " * 12 + "]"


@pytest.mark.parametrize(
    ("count", "words", "epochs"), [(1, "", 1), (1, LONG, 5), (7, "", 5), (12, LONG, 5), (30, LONG, 1)]
)
def test_the_picture_is_legible_whatever_the_labels(count, words, epochs):
    curves = [EpochRecord(i, 1.0, 0.5, 1.0, 0.5, 1.0, 1.0) for i in range(1, epochs + 1)]
    rows = [compare.Row(f"exp lr={i}{words}", "tiny", 1, [0.5], [0.5], [1.0], [curves]) for i in range(count)]
    figure = compare.draw_comparison(rows)
    figure.draw_without_rendering()
    (legend,), panels = figure.legends, figure.axes
    for panel in panels:
        assert panel.get_window_extent().width > 250 and panel.get_window_extent().height > 180
        assert panel.get_tightbbox().y0 >= legend.get_window_extent().y1
        looks = {(line.get_color(), line.get_marker()) for line in panel.lines}  # of a single epoch only the dot shows
        assert len(looks) == min(count, 24)
        low, high = panel.get_xlim()
        assert all(tick == int(tick) for tick in panel.get_xticks() if low <= tick <= high)
    (title,) = (text for text in figure.texts if text.get_text() == figure.get_suptitle())
    for text in (legend, title):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    shown = [text.get_text() for text in legend.get_texts()]
    assert len(shown) == count and (count == 1 or shown == [f"lr={i}" for i in range(count)])


@pytest.mark.parametrize("learn", [False, True])
def test_a_quantised_run_has_as_many_parameters_as_evaluate_says(a_run, tmp_path, learn):
    weights = {"conv.weight": torch.zeros(4, 1, 3, 3), "conv.bias": torch.zeros(4)}
    ranges = {"conv.weight_quantizer.amax": torch.zeros(4), "addition.quantizer.amax": torch.tensor(1.0)}
    run = a_run("qat/RUN_1", [0.5], quantization_params={"selective_quantizer_params": {"learn_amax": learn}})
    state = torch.load(run / "ckpt_best.pth")
    torch.save({**state, "net": {**weights, **ranges}}, run / "ckpt_best.pth")
    assert compare.compare([run])[0].parameters == 40 + 5 * learn
