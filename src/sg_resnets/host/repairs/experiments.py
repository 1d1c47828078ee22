"""Runs that are resumed and evaluated by SuperGradients' own entry points, `resume_experiment` and
`evaluate_checkpoint`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from super_gradients.common.environment import cfg_utils
from super_gradients.common.environment.checkpoints_dir_utils import get_checkpoints_dir_path, get_latest_run_id
from super_gradients.training.sg_trainer.sg_trainer import Trainer

from sg_resnets.distillation.student import student_recipe
from sg_resnets.host.patching import Patch, Repair
from sg_resnets.runs.evaluate import start_from
from sg_resnets.utils.errors import SgResnetsError


def load_run_recipe(
    original: Callable[..., Any], experiment_name: str, ckpt_root_dir: str | None = None, run_id: str | None = None
) -> DictConfig:
    """Return the recipe that the run was trained with, as it is in its folder."""
    folder = get_checkpoints_dir_path(ckpt_root_dir=ckpt_root_dir, experiment_name=experiment_name, run_id=run_id)
    path = Path(folder, ".hydra", "config.yaml")
    if not path.is_file():
        raise SgResnetsError(f"{path} is missing: it was not trained from a recipe, or it is no run's folder")
    return OmegaConf.load(path)  # type: ignore[return-value]


def evaluate_named_checkpoint(
    original: Callable[..., Any],
    cls: type[Trainer],
    experiment_name: str,
    ckpt_name: str = "ckpt_latest.pth",
    ckpt_root_dir: str | None = None,
    run_id: str | None = None,
) -> Any:
    """Evaluate the checkpoint that is named."""
    run_id = run_id or get_latest_run_id(experiment_name, ckpt_root_dir)
    recipe: Any = OmegaConf.to_container(
        cfg_utils.load_experiment_cfg(experiment_name, ckpt_root_dir, run_id), resolve=True
    )
    cfg = OmegaConf.create(student_recipe(recipe))
    folder = get_checkpoints_dir_path(ckpt_root_dir=ckpt_root_dir, experiment_name=experiment_name, run_id=run_id)
    start_from(cfg, Path(folder, ckpt_name))
    return cls.evaluate_from_config(cfg)


REPAIRS = (
    Repair(
        "experiments",
        "resume_experiment and evaluate_checkpoint fail after a group override, and ignore --ckpt_name",
        [
            Patch(cfg_utils, "load_experiment_cfg", load_run_recipe),
            Patch(Trainer, "evaluate_checkpoint", evaluate_named_checkpoint),
        ],
    ),
)
