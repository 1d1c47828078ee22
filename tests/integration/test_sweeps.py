"""Sweeps: each job with its own shortcuts, several at a time, and ended by Ctrl-C."""

import torch
from omegaconf import OmegaConf

from support import RECIPE, SMALL_RUN


def test_a_sweep_runs_each_job_with_its_own_shortcuts(run_warm, tmp_path):
    command = ["-m", "super_gradients.train_from_recipe", "-m", RECIPE, *SMALL_RUN, "epochs=1", "lr=0.1,0.01"]
    done = run_warm(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recipes = sorted((tmp_path / "checkpoints" / "fashion_mnist_mini_resnet20_cifar").glob("RUN_*/.hydra/config.yaml"))
    rates = [
        next(line for line in path.read_text().splitlines() if line.strip().startswith("initial_lr"))
        for path in recipes
    ]
    assert [rate.split()[-1] for rate in rates] == ["0.1", "0.01"]


def test_a_sweep_runs_several_settings_at_a_time(run_python, tmp_path):
    command = ["-m", "super_gradients.train_from_recipe", "-m", RECIPE, "+debug=smoke", "training_hyperparams.seed=1,2"]
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"ckpt_root_dir={tmp_path}"]
    done = run_python(*command, *launcher, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    seeds = {
        torch.load(best)["recipe"]["training_hyperparams"]["seed"] for best in tmp_path.glob("*/RUN_*/ckpt_best.pth")
    }
    assert seeds == {1, 2}


def test_multirun_shortcuts(train, compose):
    cfg = compose("lr=0.03", "epochs=1", tiny=True)
    assert cfg.training_hyperparams.initial_lr == 0.01  # composed, as a sweep's job is, without the shortcut callback
    _, run = train("lr=0.03")
    recipe = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert recipe.training_hyperparams.initial_lr == 0.03 and recipe.training_hyperparams.max_epochs == 1
    assert torch.load(run / "ckpt_latest.pth")["epoch"] == 1


def test_interrupt_ends_a_sweep(run_warm, tmp_path):
    (tmp_path / "ctrl_c.py").write_text(
        "import signal\n"
        "from super_gradients.common.registry.registry import register_callback\n"
        "from super_gradients.training.utils.callbacks import Callback\n"
        "@register_callback('CtrlC')\n"
        "class CtrlC(Callback):\n"
        "    def on_train_batch_end(self, context):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
    )
    done = run_warm(
        "-m", "super_gradients.train_from_recipe", "-m", "--config-name=fashion_mnist_mini_resnet20", "lr=0.1,0.01",
        "+arch_params.depth=8", "plugins=[ctrl_c]", "training_hyperparams.phase_callbacks=[CtrlC]", "epochs=1",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert len(list(tmp_path.rglob("ckpt_latest.pth"))) == 1
