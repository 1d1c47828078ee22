"""Runs that others start from: a teacher to be distilled, a float network to be quantised."""

from pathlib import Path

import pytest
import torch

from support import KD_RECIPE, QAT_RECIPE, TINY


@pytest.fixture(scope="session")
def teacher(host, tmp_path_factory):
    """The checkpoint of a small teacher, trained for three epochs."""
    from super_gradients import init_trainer
    from super_gradients.common.environment.cfg_utils import load_recipe

    init_trainer()
    folder = tmp_path_factory.mktemp("teacher")
    overrides = [f"ckpt_root_dir={folder}", "epochs=3", "batch_size=64", "lr=0.05", "+arch_params.depth=8"]
    overrides += [
        f"+dataset_params.{split}_dataset_params.max_samples={n}" for split, n in (("train", 1024), ("val", 256))
    ]
    host.Trainer.train_from_config(load_recipe("fashion_mnist_mini_resnet20", overrides=overrides))
    return next(folder.glob("*/RUN_*/ckpt_best.pth"))


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


@pytest.fixture(scope="session")
def float_run(host, tmp_path_factory):
    """The folder of a small float network's run."""
    from super_gradients import Trainer, init_trainer
    from super_gradients.common.environment.cfg_utils import load_recipe

    init_trainer()
    root = tmp_path_factory.mktemp("float")
    torch.set_num_threads(1)
    Trainer.train_from_config(load_recipe("fashion_mnist_mini_resnet20", overrides=[*TINY, f"ckpt_root_dir={root}"]))
    return next(root.glob("*/RUN_*"))


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
