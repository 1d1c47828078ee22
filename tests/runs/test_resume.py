"""Resuming and exporting, as far as their arguments go, and evaluating what has left its machine."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from sg_resnets.utils.errors import SgResnetsError
from support import QAT_RECIPE


@pytest.fixture
def run(compose, tmp_path):
    """The folder of a run of one epoch, of two."""
    run = tmp_path / "experiment" / "RUN_1"
    (run / ".hydra").mkdir(parents=True)
    OmegaConf.save(compose("epochs=2"), run / ".hydra" / "config.yaml")
    torch.save({"epoch": 1, "net": {}}, run / "ckpt_latest.pth")
    return run


@pytest.fixture
def resumed(host, monkeypatch):
    """resumed(path, overrides...) -> the recipe that would be trained."""
    from sg_resnets.runs.resume import resume_run

    def resume(path, *overrides):
        recipes = []
        monkeypatch.setattr(host.Trainer, "train_from_config", recipes.append)
        resume_run(path, overrides)
        return recipes[0]

    return resume


@pytest.mark.parametrize("folder, path", [(".", "."), ("..", "RUN_1"), ("..", "."), (".", "ckpt_latest.pth")])
def test_a_run_is_resumed_from_inside_its_folders(run, resumed, monkeypatch, folder, path):
    monkeypatch.chdir(run / folder)
    recipe = resumed(Path(path))
    assert recipe.ckpt_root_dir == str(run.parent.parent)
    assert (recipe.experiment_name, recipe.training_hyperparams.run_id) == ("experiment", "RUN_1")


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["epochs=[1"], r"'epochs=\[1' cannot be read: "),
        (["epochs=3", "epochs=4"], "epochs is given twice"),
        (["epochs"], "'epochs' overrides nothing"),
    ],
)
def test_overrides_that_cannot_be_read_are_one_line(run, resumed, overrides, words):
    with pytest.raises(SgResnetsError, match=words) as error:
        resumed(run, *overrides)
    assert "\n" not in str(error.value)


def test_a_run_keeps_its_quantisers(compose, resumed, tmp_path):
    run = tmp_path / "experiment" / "RUN_1"
    (run / ".hydra").mkdir(parents=True)
    OmegaConf.save(compose("epochs=2", recipe=QAT_RECIPE), run / ".hydra" / "config.yaml")
    torch.save({"epoch": 1, "net": {}}, run / "ckpt_latest.pth")
    with pytest.raises(SgResnetsError, match=r"'quantization_params.target=openvino': a run goes on with its own quan"):
        resumed(run, "quantization_params.target=openvino")
    assert resumed(run, "quantization_params.sensitivity_images=8").quantization_params.sensitivity_images == 8


@pytest.mark.parametrize(
    "quantization, words",
    [
        (["target"], "'target' is no quantization parameter: write key=value, such as target=openvino"),
        (["percentile=[1"], r"'percentile=\[1' cannot be read"),
        (["skip_modules=conv1", "skip_modules=fc"], r"skip_modules is given twice: .* are a list, \[a,b\]"),
    ],
)
def test_quantization_parameters_that_cannot_be_read_are_one_line(compose, tmp_path, quantization, words):
    from sg_resnets.runs.export import export_onnx

    torch.save({"net": {}, "recipe": OmegaConf.to_container(compose(), resolve=True)}, tmp_path / "x.pth")
    with pytest.raises(SgResnetsError, match=words):
        export_onnx(tmp_path / "x.pth", tmp_path / "x.onnx", True, quantization=quantization)


def test_a_checkpoint_that_left_its_machine_is_evaluated_and_nothing_is_made(host, compose, tmp_path, monkeypatch):
    from sg_resnets.runs.evaluate import evaluate_checkpoint

    recipe = OmegaConf.to_container(compose(), resolve=True)
    network = host.training.models.get("resnet20_cifar", num_classes=10, arch_params=dict(recipe["arch_params"]))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for there in ("/proc/alice/checkpoints", "./checkpoints"):
        torch.save(
            {"net": network.state_dict(), "recipe": {**recipe, "ckpt_root_dir": there}, "epoch": 1}, tmp_path / "x.pth"
        )
        assert dict(evaluate_checkpoint(tmp_path / "x.pth", []))["model"] == "resnet20_cifar"
        assert not list((tmp_path / "here").iterdir())
