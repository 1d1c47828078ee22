"""What happens to a recipe before anything is built or written: values that cannot be meant are refused, and the user's
modules that it names (`plugins: [my_module]`) are imported, so that their blocks are registered."""

import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from omegaconf import OmegaConf

from sg_resnets.distillation.student import is_distillation
from sg_resnets.errors import SgResnetsError


def _whole(least: int) -> Any:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _rate(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, int | float) and not isinstance(value, bool) and value >= 0)


# The shortcut, the key that it stands for, what is allowed, in words.
_CHECKS = (
    ("epochs", "training_hyperparams.max_epochs", _whole(1), "a whole number from 1 on"),
    ("lr", "training_hyperparams.initial_lr", _rate, "a number from 0 on, such as 0.1"),
    ("batch_size", "dataset_params.train_dataloader_params.batch_size", _whole(1), "a whole number from 1 on"),
    ("val_batch_size", "dataset_params.val_dataloader_params.batch_size", _whole(1), "a whole number from 1 on"),
    ("num_workers", "dataset_params.train_dataloader_params.num_workers", _whole(0), "a whole number from 0 on"),
    ("ema", "training_hyperparams.ema", lambda value: isinstance(value, bool), "True or False"),
    ("resume", "training_hyperparams.resume", lambda value: isinstance(value, bool), "True or False"),
    (None, "training_hyperparams.seed", _whole(0), "a whole number from 0 on"),
)


def prepare(cfg: Any) -> None:
    """Check the recipe's values, then import its plugins; an absent or null key is left alone.

    Raises:
        SgResnetsError: a value that its key does not take, or a plugin that cannot be found.
    """
    recipe = cfg if OmegaConf.is_config(cfg) else OmegaConf.create(cfg)
    for shortcut, key, allowed, words in _CHECKS:
        for name in filter(None, (shortcut, key)):
            value = OmegaConf.select(recipe, name, throw_on_missing=False)
            if value is not None and not allowed(value):
                raise SgResnetsError(f"{name}={value}: must be {words}")
    if is_distillation(recipe):
        _check_distillation(recipe)
    plugins = OmegaConf.select(recipe, "plugins")
    if isinstance(plugins, str):
        raise SgResnetsError(f"plugins={plugins}: must be a list of modules, such as plugins=[{plugins}]")
    import_plugins(plugins or ())


def _check_distillation(recipe: Any) -> None:
    given = ("checkpoint_path", "pretrained_weights")
    if not recipe.get("smoke") and not any(
        OmegaConf.select(recipe, f"teacher_checkpoint_params.{key}") for key in given
    ):
        raise SgResnetsError(
            "the teacher has no weights, so there is nothing to learn from it: set "
            "teacher_checkpoint_params.checkpoint_path=FILE or teacher_checkpoint_params.pretrained_weights=KIND"
        )
    classes = [OmegaConf.select(recipe, f"{who}_arch_params.num_classes") for who in ("student", "teacher")]
    if classes[0] != classes[1]:
        raise SgResnetsError(
            f"student_arch_params.num_classes={classes[0]} and teacher_arch_params.num_classes={classes[1]}: "
            "both must have the same classes"
        )


def import_plugins(modules: Iterable[str]) -> None:
    """Import modules of the user's from the current folder or from what is installed.

    Raises:
        SgResnetsError: there is no such module.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    for module in modules:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module.partition(".")[0] and error.name != module:
                raise
            raise SgResnetsError(
                f"plugins: there is no module '{module}': it is neither in {here}, nor installed"
            ) from None
