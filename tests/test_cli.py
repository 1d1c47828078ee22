"""The `sg-resnets` command, as far as it trains nothing."""

import pytest

from sg_resnets.models.zoo import ZOO
from support import SCRIPT


@pytest.mark.parametrize(
    "args, shown", [(["models"], list(ZOO)), (["recipes"], ["fashion_mnist_mini_resnet20"]), (["--help"], ["evaluate"])]
)
def test_lists_are_answered_without_torch_or_the_host(run_python, tmp_path, args, shown):
    done = run_python(SCRIPT, *args, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0 and all(name in done.stdout for name in shown)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "typer" in imported and not imported & {"torch", "super_gradients", "hydra", "numpy"}


def test_models_shows_exact_figures_and_filters(command):
    _, out, _ = command("models", "--filter", "v1b")
    row = next(line.split() for line in out.splitlines() if line.startswith("resnet50_v1b"))
    assert row[1:4] == ["25,557,032", "4.089", "224x224x3"] and "cifar" not in out


def test_doctor_says_what_there_is_and_fails_where_nothing_can_train(command, monkeypatch):
    code, out, _ = command("doctor")
    assert code == 0 and out.rstrip().endswith("ready to train")
    for words in (
        "super-gradients     3.7.1",
        "average_best_models    average_best_models, the default, ends",
        "fashion_mnist_mini  embedded",
        "cuda",
    ):
        assert words in out
    from importlib import metadata

    from sg_resnets.host import doctor

    def missing(name):
        if name == "super-gradients":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(doctor, "version", missing)
    code, out, _ = command("doctor")
    assert code == 1 and "pip install --no-deps super-gradients==3.7.1" in out


def test_a_missing_host_is_one_line(run_python, tmp_path):
    code = (
        "import sys; sys.modules['super_gradients'] = None; sys.argv = ['x', 'evaluate', 'y']\n"
        "from sg_resnets.cli import main; main()"
    )
    done = run_python("-c", code, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "pip install --no-deps super-gradients==3.7.1 data-gradients==0.3.2" in done.stderr


@pytest.mark.parametrize(
    "params, words",
    [
        (["depths=[1,2"], "'depths=[1,2' cannot be read: "),
        (["depth=20", "depth=56"], "'depth=56': depth is given twice"),
        (["=56"], "'=56' is no arch_param: write key=value, such as depth=56"),
        (["depth="], "'depth=' is no arch_param: write key=value, such as depth=56"),
    ],
)
def test_arch_params_that_cannot_be_read_are_one_line(command, params, words):
    code, _, error = command("summary", "custom_resnet", *params)
    assert code == 1 and words in error and "\n" not in error


@pytest.mark.parametrize(
    "args, words",
    [
        (["degradatoin"], "unknown experiment 'degradatoin': did you mean degradation"),
        (["lesion", "--budget", "0"], "--budget=0.0: must be a number > 0"),
    ],
)
def test_a_wrong_experiment_is_one_line(sg_resnets_command, tmp_path, args, words):
    done = sg_resnets_command("experiment", *args, cwd=tmp_path)
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "experiments").exists()


def test_a_tilde_is_the_home_folder_in_options_too(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code, *_ = command("draw", "resnet20_cifar", "--output=~/net.svg")
    assert code == 0 and (tmp_path / "net.svg").exists() and not (tmp_path / "~").exists()


def test_the_command_runs_as_a_module_too(run_python, tmp_path):
    done = run_python("-m", "sg_resnets.cli", "models", "--filter", "resnet20_cifar", cwd=tmp_path)
    assert done.returncode == 0 and "resnet20_cifar" in done.stdout
