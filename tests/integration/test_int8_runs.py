"""INT8 recipes calibrate, fine-tune, export and report."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from omegaconf import OmegaConf
from onnx import numpy_helper

from sg_resnets.runs.checkpoints import read
from sg_resnets.utils.errors import SgResnetsError
from support import GREY_8, QAT_RECIPE


def test_a_run_calibrates_fine_tunes_exports_and_reports(quantise, capfd, sg_resnets_command):
    result, run = quantise()
    printed = capfd.readouterr().out
    assert {"fp32.onnx", "ptq.onnx", "qat.onnx", "report.png", "ckpt_best.pth", "ckpt_latest.pth", "curves.png"} <= {
        path.name for path in run.iterdir()
    }
    assert result.output_onnx_path == str(run / "qat.onnx") and 0 <= result.valid_metrics_dict["Accuracy"] <= 1
    report = json.loads((run / "report.json").read_text())
    in_each = {runtime: [] for runtime in dict.fromkeys(file["runtime"] for file in report["files"])}
    for file in report["files"]:
        in_each[file["runtime"]].append((file["kind"], file["computes_in"]))
    assert next(iter(in_each)) == "ONNX Runtime" and in_each["ONNX Runtime"][0] == ("fp32", "float32")
    assert all([kind for kind, _ in files] == ["fp32", "ptq", "qat"] for files in in_each.values())
    assert all(precision.startswith("int8") for files in in_each.values() for _, precision in files[1:])
    assert "the fastest here for 1 at a time, on one thread: " in printed
    for file in report["files"]:
        assert file["agreement"] >= 0.9 and file["bytes"] == (run / file["name"]).stat().st_size
        assert set(file["milliseconds"]) == {"1", "32"} and str(round(file["accuracy"], 4)) in printed
    layers = [one["layer"] for one in report["sensitivity"]]
    assert sorted(layers) == sorted(set(layers)) and {"conv1", "layer2.0.conv2", "fc"} <= set(layers)
    assert "times as fast" in printed and layers[0] in printed and "left in float32: 0" in printed
    weights = torch.load(run / "ckpt_latest.pth")["net"]
    assert "conv1.weight_quantizer.amax" in weights
    done = sg_resnets_command("evaluate", run, cwd=run)
    assert done.returncode == 0 and "resnet20_cifar, quantised" in done.stdout, done.stderr
    best = max(float(line.split(",")[4]) for line in (run / "curves.csv").read_text().splitlines()[1:])
    assert f"{best:.4f}" in done.stdout


def test_ptq_only_stops_after_calibration_and_its_checkpoint_is_whole(quantise, sg_resnets_command, tmp_path):
    result, run = quantise("quantization_params.ptq_only=True", f"export_params.output_onnx_path={tmp_path / 'a.onnx'}")
    assert {path.name for path in run.iterdir()} == {
        "fp32.onnx",
        "ptq.onnx",
        "report.json",
        "report.png",
        "ckpt_best.pth",
    }
    assert (tmp_path / "a.onnx").read_bytes() == (run / "ptq.onnx").read_bytes()
    assert result.output_onnx_path == str(tmp_path / "a.onnx")
    state = torch.load(run / "ckpt_best.pth", weights_only=True)
    assert state["recipe"]["quantization_params"]["ptq_only"] and "layer1.0.conv1.weight_quantizer.amax" in state["net"]
    for path, own in ((run, "ptq"), (run / "ckpt_best.pth", "ptq")):
        done = sg_resnets_command("export", path, tmp_path / f"{own}.onnx", "--format", "int8", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        exported, mine = (onnx.load(p).graph for p in (tmp_path / f"{own}.onnx", run / "ptq.onnx"))
        assert exported.initializer == mine.initializer and exported.node == mine.node


def test_a_checkpoint_keeps_the_watched_metric_and_the_recipe_as_it_was_given(quantise):
    metrics = "training_hyperparams.valid_metrics_list=[Top5,Accuracy]"
    _, run = quantise("quantization_params.ptq_only=True", metrics, "distillation=kd")
    state = torch.load(run / "ckpt_best.pth", weights_only=True)
    report = json.loads((run / "report.json").read_text())
    assert state["acc"] == pytest.approx(report["files"][1]["accuracy_in_pytorch"], abs=1e-6)
    assert "calib_dataset_params" not in state["recipe"]["dataset_params"]  # it is derived anew when the run goes on
    assert state["recipe"]["training_hyperparams"]["loss"] == "CrossEntropyLoss"


def test_the_trainers_network_and_plain_recipes_are_taken_as_by_the_host(host, compose, float_run, tmp_path):
    from super_gradients import Trainer
    from super_gradients.training import models

    cfg = compose(
        f"ckpt_root_dir={tmp_path}", f"checkpoint_params.checkpoint_path={float_run}",
        "quantization_params.ptq_only=True", "quantization_params.sensitivity_images=0", recipe=QAT_RECIPE,
    )  # fmt: skip
    assert Trainer.quantize_from_config(OmegaConf.to_container(cfg)).output_onnx_path.endswith("ptq.onnx")
    trainer = Trainer("none", ckpt_root_dir=str(tmp_path))
    with pytest.raises(SgResnetsError, match="there is no network to quantise: give model="):
        trainer.ptq(model=None, valid_loader=[])
    with pytest.raises(SgResnetsError, match="give training_params, as for"):
        trainer.qat(model=torch.nn.Conv2d(1, 1, 1), train_loader=[], valid_loader=[])
    quantised = next(tmp_path.glob("qat_*/RUN_*/ckpt_best.pth"))
    with pytest.raises(ValueError, match="holds a quantised network: give the float one"):
        models.get(
            "resnet20_cifar",
            arch_params={**GREY_8, "widths": [8, 16, 32]},
            num_classes=10,
            checkpoint_path=str(quantised),
        )


def test_a_killed_fine_tuning_resumed_ends_as_one_that_was_not(quantise, compose, host, tmp_path):
    from sg_resnets.runs.resume import resume_run

    settings = ("epochs=2", "lr=0.01", "quantization_params.sensitivity_images=0", "ema=True")
    _, whole = quantise(*settings, "experiment_name=whole")
    expected = torch.load(whole / "ckpt_latest.pth")["ema_net"]
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Killed(Callback):
        already = False

        def on_train_batch_end(self, context):
            if context.epoch == 1 and not Killed.already:
                Killed.already = True
                raise RuntimeError("killed")

    CALLBACKS["Killed"] = Killed
    with pytest.raises(RuntimeError, match="killed"):
        quantise(*settings, "experiment_name=cut", "training_hyperparams.phase_callbacks=[Killed,TrainingCurves]")
    (cut,) = (tmp_path / "cut").glob("RUN_*")
    assert torch.load(cut / "ckpt_latest.pth")["epoch"] == 1
    resume_run(cut, [])
    found = torch.load(cut / "ckpt_latest.pth")
    assert found["epoch"] == 2 and (cut / "qat.onnx").is_file()
    assert all(torch.equal(expected[key], value) for key, value in found["ema_net"].items())


def test_a_signal_ends_the_fine_tuning_and_what_would_follow(quantise, tmp_path, host):
    from super_gradients.common.registry.registry import CALLBACKS
    from super_gradients.training.utils.callbacks import Callback

    class Ended(Callback):
        def on_train_batch_end(self, context):
            signal.raise_signal(signal.SIGTERM)

    CALLBACKS["Ended"] = Ended
    with pytest.raises(SystemExit, match="143"):
        quantise("epochs=2", "experiment_name=cut", "training_hyperparams.phase_callbacks=[Ended]")
    del CALLBACKS["Ended"]
    (cut,) = (tmp_path / "cut").glob("RUN_*")
    assert read(cut / "ckpt_latest.pth")["progress"]["batch"] == 1 and not list(cut.glob("*.onnx"))


def test_max_drop_keeps_layers_in_float32_through_fine_tuning_resuming_and_evaluating(
    quantise, monkeypatch, capfd, sg_resnets_command, tmp_path
):
    from sg_resnets.quantization import sensitivity
    from sg_resnets.runs.resume import resume_run

    def accuracy(network, loader):
        return 90.0 if len(getattr(network, "in_float", "float32")) >= 2 else 80.0

    monkeypatch.setattr(sensitivity, "accuracy", accuracy)
    _, run = quantise("quantization_params.max_drop=0.5", "epochs=2", "lr=0.01")
    printed = capfd.readouterr().out
    report = json.loads((run / "report.json").read_text())
    kept = report["kept_by_max_drop"]
    assert len(kept) == 2 and f"loses 0.00 points with {', '.join(kept)} in float32, 10.00 with all layers" in printed
    kinds = ["fp32", "ptq_all", "ptq", "qat"]
    assert [file["kind"] for file in report["files"]][:4] == kinds
    assert sorted(kept) == sorted(name.rpartition(": ")[0] for name in report["in_float"])
    state = read(run / "ckpt_latest.pth")
    given = state["recipe"]["quantization_params"]["selective_quantizer_params"]["skip_modules"]
    assert given == kept and not {f"{layer}.weight_quantizer.amax" for layer in kept} & set(state["net"])
    done = sg_resnets_command("evaluate", run, cwd=run)
    assert done.returncode == 0 and "resnet20_cifar, quantised" in done.stdout, done.stderr
    # Another machine would rank the layers differently: what goes on is the network that was trained.
    monkeypatch.setattr(sensitivity, "sensitivity", None)
    resume_run(run, ["epochs=3"])
    assert read(run / "ckpt_latest.pth")["epoch"] == 3
    quantise("quantization_params.max_drop=0.5", "epochs=4", "lr=0.01", "training_hyperparams.resume=True")
    assert read(run / "ckpt_latest.pth")["epoch"] == 4
    assert json.loads((run / "report.json").read_text())["kept_by_max_drop"] == kept
    done = sg_resnets_command("export", run, tmp_path / "a.onnx", "--format", "int8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_run_does_not_go_on_with_other_quantisers(quantise):
    _, run = quantise("epochs=1")
    before = (run / "ckpt_latest.pth").read_bytes()
    other = "quantization_params.selective_quantizer_params.skip_modules=[fc]"
    with pytest.raises(SgResnetsError, match=r"the run that is resumed has other quantisers \(fc.weight_quantizer\): "):
        quantise(other, "epochs=2", "training_hyperparams.resume=True")
    assert (run / "ckpt_latest.pth").read_bytes() == before


def test_learnt_ranges_move_and_skipped_modules_stay_float(quantise):
    result, run = quantise(
        "quantization_params.selective_quantizer_params.learn_amax=True",
        "quantization_params.selective_quantizer_params.skip_modules=[fc,layer1.*,layer3.0.addition]",
        "quantization_params.calib_params.verbose=True",
        "lr=0.1",
    )
    network = result.quantized_model
    quantised = {name.rpartition(".")[0] for name, _ in network.named_modules() if name.endswith("weight_quantizer")}
    assert quantised == {"conv1"} | {f"layer{i}.0.conv{j}" for i in (2, 3) for j in (1, 2)}
    assert {"fc: Linear", "layer1.0.conv1: Conv2d", "layer1.0.addition: add", "layer3.0.addition: add"} <= set(
        network.in_float
    )
    quantizer = network.conv1.weight_quantizer
    most = torch.load(run.parents[0] / run.name / "ckpt_latest.pth")["net"]["conv1.weight_quantizer.amax"]
    assert quantizer.amax.requires_grad and torch.equal(most, quantizer.amax.detach())
    graph = onnx.load(run / "ptq.onnx").graph
    before = next(numpy_helper.to_array(i) for i in graph.initializer if "conv1/Conv/weight_scale" in i.name) * 127
    assert not np.allclose(before, most.numpy(), rtol=1e-6)


def test_the_float_network_teaches_the_quantised_one(quantise, capfd):
    result, run = quantise("distillation=kd", "ema=True")
    assert json.loads((run / "teacher.json").read_text())["parameters"] > 0
    best = torch.load(run / "ckpt_best.pth")["net"]
    assert "conv1.weight_quantizer.amax" in best and not any(key.startswith("student.") for key in best)
    result.quantized_model.load_state_dict(best, strict=True)


def test_nothing_is_installed_while_it_runs(quantise, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"a process was started: {args}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    quantise("quantization_params.ptq_only=True")


def test_int8(train, host, tmp_path):
    """The host's own Python interface quantises, without pip and without `pytorch_quantization`."""
    from super_gradients.training import dataloaders

    network, _ = train()
    params = {"dataset": "fashion_mnist_mini", "batch_size": 50, "collate_fn": "whole_batch"}
    loader = dataloaders.get(dataset_params={"train": False, "max_samples": 100}, dataloader_params=params)
    trainer = host.Trainer("int8", ckpt_root_dir=str(tmp_path))
    from super_gradients.training.metrics import Accuracy

    result = trainer.ptq(model=network, valid_loader=loader, valid_metrics_list=[Accuracy()])
    assert Path(result.output_onnx_path).name == "ptq.onnx" and Path(result.output_onnx_path).is_file()
    assert 0 <= result.valid_metrics_dict["Accuracy"] <= 1 and "pytorch_quantization" not in sys.modules
