"""Distillation and quantisation in their small form."""

from pathlib import Path

import pytest

from support import KD_RECIPE, QAT_RECIPE


@pytest.fixture
def distil(compose, tmp_path, host, teacher):
    """distil(overrides...) -> the run's folder: the shipped recipe, made small."""

    def run(*overrides):
        cfg = compose(
            f"ckpt_root_dir={tmp_path}",
            "teacher_architecture=resnet20_cifar",
            "+teacher_arch_params.depth=8",
            "+student_arch_params.depth=8",
            "student_arch_params.widths=[4,8,16]",
            "teacher_checkpoint_params.pretrained_weights=null",
            f"teacher_checkpoint_params.checkpoint_path={teacher}",
            "+dataset_params.train_dataset_params.max_samples=256",
            "+dataset_params.val_dataset_params.max_samples=100",
            "batch_size=64",
            *(() if any(o.startswith("epochs=") for o in overrides) else ("epochs=1",)),
            "lr=0.02",
            *overrides,
            recipe=KD_RECIPE,
            tiny=False,
        )
        host.KDTrainer.train_from_config(cfg)
        return sorted(Path(cfg.ckpt_root_dir, cfg.experiment_name).glob("RUN_*"))[-1]

    return run


@pytest.fixture(scope="module")
def calibrated(trained, train_batches):
    """calibrated(**params) -> the shipped ResNet-20 after calibration; each is made once."""
    from sg_resnets.quantization.calibrate import calibrate
    from sg_resnets.quantization.graph import insert_quantizers
    from sg_resnets.quantization.params import QuantizationParams

    made = {}

    def make(**given):
        key = str(sorted(given.items()))
        if key not in made:
            params = QuantizationParams(**given)
            network = insert_quantizers(trained, params)
            calibrate(network, train_batches, params)
            made[key] = network
        return made[key]

    return make


@pytest.fixture
def short_timings(monkeypatch):
    """A report times each file once, and not for as long as a figure that can be told others."""
    from sg_resnets.export import benchmark as onnx_benchmark

    monkeypatch.setattr(onnx_benchmark, "ROUND_SECONDS", 0.0)


@pytest.fixture
def quantise(compose, host, float_run, tmp_path, short_timings):
    """quantise(overrides...) -> (result, run folder): the small net through SuperGradients' `quantize_from_config`."""

    def run(*overrides, tiny=True):
        given = [f"ckpt_root_dir={tmp_path}", f"checkpoint_params.checkpoint_path={float_run}"]
        cfg = compose(*given, "quantization_params.sensitivity_images=16", *overrides, recipe=QAT_RECIPE, tiny=tiny)
        result = host.Trainer.quantize_from_config(cfg)
        return result, sorted(Path(cfg.ckpt_root_dir, cfg.experiment_name).glob("RUN_*"))[-1]

    return run
