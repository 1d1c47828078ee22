"""What the tests share: the repaired host, and our recipes made small enough to train in a second."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

# A net of 8 layers on 256 images: real recipes, real data, a second an epoch.
TINY = [
    "epochs=1",
    "batch_size=64",
    "+arch_params.depth=8",
    "+arch_params.widths=[4,8,16]",
    "training_hyperparams.mixed_precision=False",
    "+dataset_params.train_dataset_params.max_samples=256",
    "+dataset_params.val_dataset_params.max_samples=100",
]


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def host():
    """super_gradients, imported and repaired."""
    import super_gradients

    return super_gradients


@pytest.fixture
def compose(host):
    """compose(recipe, overrides...) -> the recipe as the host's entry point would see it, in its small form."""
    from super_gradients import init_trainer
    from super_gradients.common.environment.cfg_utils import load_recipe

    init_trainer()

    def make(*overrides, recipe="fashion_mnist_mini_resnet20", tiny=True):
        return load_recipe(recipe, overrides=[*(TINY if tiny else []), *overrides])

    return make


@pytest.fixture
def train(compose, tmp_path, host):
    """train(overrides...) -> (network, run folder): trains the small recipe through the host's `train_from_config`."""

    def run(*overrides, **kwargs):
        if not any(override.startswith("ckpt_root_dir=") for override in overrides):
            overrides = (f"ckpt_root_dir={tmp_path}", *overrides)
        cfg = compose(*overrides, **kwargs)
        network, _ = host.Trainer.train_from_config(cfg)
        return network, sorted(Path(cfg.ckpt_root_dir, cfg.experiment_name).glob("RUN_*"))[-1]

    return run


@pytest.fixture
def run_python():
    """run_python(*args, cwd=...) -> CompletedProcess of a fresh interpreter, as a user starts it."""

    def run(*args, cwd, **env):
        return subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **env},
        )

    return run


@pytest.fixture
def sg_resnets_command(run_python):
    """sg_resnets_command("models", ...) -> CompletedProcess of the command."""
    script = Path(sys.executable).with_name("sg-resnets")

    def run(*args, cwd, **env):
        return run_python(script, *args, cwd=cwd, **env)

    return run
