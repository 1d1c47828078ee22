"""What the checks of lesson 4 take, and what they say of answers that are wrong."""

import math

import pytest

from sg_resnets.course import checks


def told(check, answer):
    with pytest.raises(checks.WrongAnswer) as wrong:
        check(answer)
    assert "\n" not in str(wrong.value)
    return str(wrong.value)


def rate(step, warmup, steps, highest):
    if step < warmup:
        return highest * step / warmup
    return highest * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def half_angle(step, warmup, steps, highest):
    share = (step - warmup) / (steps - warmup)
    return highest * (step / warmup if share < 0 else math.cos(math.pi / 2 * share) ** 2)


def by_numpy(step, warmup, steps, highest):
    import numpy as np

    down = (1 + np.cos(np.linspace(0, np.pi, steps - warmup + 1))) / 2
    return float(highest * np.concatenate([np.arange(warmup) / warmup, down])[step])


@pytest.mark.parametrize("answer", [rate, half_angle, by_numpy])
def test_schedules_are_right(answer, capsys):
    checks.schedule(answer)
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda *args: ..., "gives nothing back"),
        (lambda step, warmup, steps, highest: [highest], "gives a list, not a number"),
        (lambda step, warmup, steps, highest: rate(step + warmup, warmup, steps + warmup, highest), "it starts at 0"),
        (lambda step, warmup, steps, highest: rate(step, warmup, steps, highest) / 2, "half the highest"),
        (lambda step, warmup, steps, highest: highest * (step // warmup if step < warmup else 1), "half-way through"),
        (lambda step, warmup, steps, highest: rate(step, warmup, steps + warmup, highest), "half-way between the"),
        (lambda step, warmup, steps, highest: rate(step, warmup, steps, highest) if step < warmup
         else highest * (1 - (step - warmup) / (steps - warmup)), "not a straight line"),
        (lambda step, warmup, steps, highest: rate(step, warmup, steps, highest) if step < warmup
         else highest * math.cos(math.pi * (step - warmup) / (steps - warmup)), "it is half the highest"),
        (lambda step, warmup, steps, highest: highest * (1 + math.cos(math.pi * step / steps)) / 2, "it starts at 0"),
    ],
)  # fmt: skip
def test_what_is_no_such_schedule_is_told(answer, words):
    assert words in told(checks.schedule, answer)


TOP = "defaults:\n  - course_fashion_mnist_14px\n  - _self_\n"
NESTED = TOP + (
    "architecture: plain20_cifar\nexperiment_name: mine\ntraining_hyperparams:\n  max_epochs: 3\n  initial_lr: 0.02\n"
    "dataset_params:\n  train_dataloader_params:\n    batch_size: 32\n"
)
SHORT = TOP + "architecture: plain20_cifar\nexperiment_name: mine\nepochs: 3\nlr: 0.02\nbatch_size: 32\n"
MIXED = SHORT.replace("lr: 0.02", "training_hyperparams: {initial_lr: 2e-2}").replace("  - _self_\n", "")


@pytest.fixture
def write(tmp_path, host):
    def file(text):
        (tmp_path / "my_recipe.yaml").write_text(text)
        return str(tmp_path / "my_recipe.yaml")

    return file


@pytest.mark.parametrize("text", [NESTED, SHORT, MIXED])
def test_recipes_are_right(write, text, capsys):
    checks.recipe(write(text))
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(
    "text, words",
    [
        ("...  # your turn\n", "is not written yet"),
        ("...  # your turn\n" + SHORT, "is not written yet"),
        ("- a\n- b", "holds no `key: value`"),
        (SHORT.replace("lr: 0.02", "lr 0.02"), "is no YAML"),
        (SHORT.replace("  -", "\t-"), "is no YAML"),
        (SHORT.removeprefix(TOP), "does not stand on course_fashion_mnist_14px: its `defaults` are None"),
        (SHORT.replace("  - course_fashion_mnist_14px\n  - _self_", "  - _self_\n  - course_fashion_mnist_14px"),
         "is overruled"),
        (SHORT.replace("  - _self_", "  - none\n  - _self_"), "cannot be put together"),
        (SHORT.replace("lr: 0.02", "learning_rate: 0.02"), "has no key learning_rate"),
        (NESTED.replace("initial_lr", "lr"), "has no key training_hyperparams.lr, so nothing would read it"),
        (SHORT.replace("lr: 0.02", "lr: '0.02'"), "initial_lr is '0.02', and 0.02 is asked for"),
        (SHORT.replace("lr: 0.02", "lr: 0.2"), "initial_lr is 0.2, and 0.02 is asked for"),
        (SHORT.replace("batch_size: 32\n", ""), "batch_size is"),
        (SHORT + "seed: 3\n", "has no key seed"),
        (TOP + "training_hyperparams.max_epochs: 3\n", "is one key with dots in it"),
        (SHORT.replace("batch_size: 32\n", "dataset_params:\n  batch_size: 32\n"),
         "it has dataset_params.train_dataloader_params.batch_size"),
        (SHORT + "training_hyperparams: {seed: 3}\n", "that was not asked for"),
    ],
)  # fmt: skip
def test_what_is_another_recipe_is_told(write, text, words):
    assert words in told(checks.recipe, write(text))


def test_a_recipe_that_is_not_written_yet_is_told(tmp_path):
    assert "run the cell that writes it" in told(checks.recipe, str(tmp_path / "my_recipe.yaml"))


RIGHT = {"one": "rate too small", "two": "overfits", "three": "rate too large"}


def test_the_curves_read_rightly_are_right(capsys):
    for answers in (RIGHT, dict(reversed(RIGHT.items())), {**RIGHT, "four": "fine"}):
        checks.curves(answers)
    assert capsys.readouterr().out.count("Right: ") == 3


@pytest.mark.parametrize(
    "answers, words",
    [
        (..., "answers is a ellipsis, not a dictionary"),
        ({}, "answers has no key 'one'"),
        ({"one": ...}, "one is Ellipsis: answer one of overfits, rate too large, rate too small"),
        ({**RIGHT, "one": "overfits"}, "look at its training loss"),
        ({**RIGHT, "two": "rate too small"}, "the distance between them"),
        ({**RIGHT, "three": "overfits"}, "the loss of the first epoch"),
        ({**RIGHT, "three": "bad luck"}, "three is 'bad luck'"),
    ],
)
def test_curves_read_wrongly_are_told(answers, words):
    assert words in told(checks.curves, answers)


@pytest.mark.slow
def test_a_recipe_is_checked_where_super_gradients_is_not_imported_yet(run_python, write, tmp_path):
    done = run_python("-c", f"from sg_resnets.course import checks; checks.recipe({write(SHORT)!r})", cwd=tmp_path)
    assert done.stdout.startswith("Right: "), done.stderr
