"""A run must be resumed and evaluated with the recipe that it was trained with.

The host composes the run's `.hydra/config.yaml` again, with the overrides on top, which fails after a group
override (ConfigCompositionException: Could not override ...); copies `.hydra` from the experiment's folder, which a
sweep does not write; and `evaluate_checkpoint --ckpt_name=X` evaluates ckpt_latest whatever X is. Here the
recipe itself is written into the run's folder and into each checkpoint (`recipe`), and
read back as it is.
"""

import copy
from pathlib import Path
from typing import Any

FAULT = "resume_experiment and evaluate_checkpoint fail after a group override, and ignore --ckpt_name"

_current: Any = None  # the recipe that is being trained, as plain containers
_composed: Any = None  # the same with its interpolations, so that what is overridden reaches what is derived from it


def present() -> bool:
    import inspect

    from super_gradients.common.environment import cfg_utils

    return "overrides_cfg" in inspect.getsource(cfg_utils.load_experiment_cfg)


def with_recipe(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's contents with the recipe that is being trained, unless it has one."""
    return state if _current is None else {"recipe": _current, **state}


def repair() -> None:
    from omegaconf import OmegaConf, open_dict
    from super_gradients.common.environment import cfg_utils
    from super_gradients.common.environment.checkpoints_dir_utils import get_checkpoints_dir_path, get_latest_run_id
    from super_gradients.common.sg_loggers.base_sg_logger import BaseSGLogger
    from super_gradients.training.sg_trainer.sg_trainer import Trainer

    from sg_resnets.compat.patching import wrap_function, wrap_method, wrap_recipe_entries
    from sg_resnets.distillation.student import student_recipe
    from sg_resnets.errors import SgResnetsError

    def remember(original):
        def run(cls, cfg, *args, **kwargs):
            global _current, _composed
            outer = _current, _composed
            _composed = copy.deepcopy(OmegaConf.create(cfg))
            _current = OmegaConf.to_container(_composed, resolve=True)
            try:
                return original(cls, cfg, *args, **kwargs)
            finally:
                _current, _composed = outer

        return run

    def write_to_folder(original):
        def _setup_dir(self):
            original(self)
            if _current is not None:
                path = Path(self._local_dir, ".hydra", "config.yaml")
                path.parent.mkdir(parents=True, exist_ok=True)
                OmegaConf.save(_composed, path)

        return _setup_dir

    def write_to_checkpoint(original):
        def add_checkpoint(self, tag, state_dict, global_step=None):
            return original(self, tag, with_recipe(state_dict), global_step)

        return add_checkpoint

    def read(original):
        def load_experiment_cfg(experiment_name, ckpt_root_dir=None, run_id=None):
            folder = get_checkpoints_dir_path(
                ckpt_root_dir=ckpt_root_dir, experiment_name=experiment_name, run_id=run_id
            )
            path = Path(folder, ".hydra", "config.yaml")
            if not path.is_file():
                raise SgResnetsError(f"{path} is missing: it was not trained from a recipe, or it is no run's folder")
            return OmegaConf.load(path)

        return load_experiment_cfg

    def evaluate_named(original):
        def evaluate_checkpoint(cls, experiment_name, ckpt_name="ckpt_latest.pth", ckpt_root_dir=None, run_id=None):
            run_id = run_id or get_latest_run_id(experiment_name, ckpt_root_dir)
            cfg = cfg_utils.load_experiment_cfg(experiment_name, ckpt_root_dir, run_id)
            recipe: Any = OmegaConf.to_container(cfg, resolve=True)
            cfg = OmegaConf.create(student_recipe(recipe))
            folder = get_checkpoints_dir_path(
                ckpt_root_dir=ckpt_root_dir, experiment_name=experiment_name, run_id=run_id
            )
            with open_dict(cfg):
                cfg.checkpoint_params.checkpoint_path = str(Path(folder, ckpt_name))
            return cls.evaluate_from_config(cfg)

        return evaluate_checkpoint

    wrap_recipe_entries(remember)
    wrap_method(BaseSGLogger, "_setup_dir", write_to_folder)
    wrap_method(BaseSGLogger, "add_checkpoint", write_to_checkpoint)
    wrap_function(cfg_utils, "load_experiment_cfg", read)
    wrap_method(Trainer, "evaluate_checkpoint", evaluate_named)
