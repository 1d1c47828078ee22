"""What happens to a recipe before anything is built or written: values that cannot be meant are refused, and the user's
modules that it names (`plugins: [my_module]`) are imported, so that their blocks are registered."""

import inspect
import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from omegaconf import OmegaConf

from sg_resnets.distillation.student import is_distillation
from sg_resnets.errors import SgResnetsError, choices, is_number

# What other libraries call them.
_ALIASES = {"learning_rate": "lr", "batchsize": "batch_size"}


def _whole(least: int) -> Any:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _switch(value: Any) -> bool:
    return isinstance(value, bool)


def _from_zero(value: Any) -> bool:
    return is_number(value) and value >= 0


def _rate(value: Any) -> bool:
    return isinstance(value, Mapping) or _from_zero(value)


# The shortcut, the key that it stands for, what is allowed, in words.
_CHECKS = (
    ("epochs", "training_hyperparams.max_epochs", _whole(1), "a whole number from 1 on"),
    ("lr", "training_hyperparams.initial_lr", _rate, "a number from 0 on, such as 0.1"),
    ("batch_size", "dataset_params.train_dataloader_params.batch_size", _whole(1), "a whole number from 1 on"),
    ("val_batch_size", "dataset_params.val_dataloader_params.batch_size", _whole(1), "a whole number from 1 on"),
    ("num_workers", "dataset_params.train_dataloader_params.num_workers", _whole(0), "a whole number from 0 on"),
    ("ema", "training_hyperparams.ema", _switch, "True or False"),
    ("resume", "training_hyperparams.resume", _switch, "True or False"),
    (None, "training_hyperparams.seed", _whole(0), "a whole number from 0 on"),
    (None, "training_hyperparams.mixed_precision", _switch, "True or False; mixed_precision_dtype chooses the format"),
    *(
        (None, f"training_hyperparams.{key}", _switch, "True or False")
        for key in ("channels_last", "torch_compile", "sync_bn", "find_unused_parameters")
    ),
    (None, "dataset_params.train_dataset_params.horizontal_flip", _switch, "True or False"),
    (None, "training_hyperparams.batch_accumulate", _whole(1), "a whole number from 1 on"),
    (None, "training_hyperparams.clip_grad_norm", _from_zero, "a number from 0 on, such as 1.0"),
    (None, "training_hyperparams.optimizer_params.weight_decay", _from_zero, "a number from 0 on, such as 5e-4"),
    (None, "training_hyperparams.criterion_params.smooth_eps", _from_zero, "a number from 0 on, such as 0.1"),
    (
        None,
        "training_hyperparams.ema_params.decay",
        lambda value: _from_zero(value) and value <= 1,
        "a number from 0 to 1, such as 0.999",
    ),
)
SHORTCUTS = tuple(shortcut for shortcut, *_ in _CHECKS if shortcut)  # of the host's variable_setup.yaml
# Keys of training_hyperparams that are read, besides those that the host has defaults for.
_READ = ("max_epochs", "loss", "channels_last", "mixed_precision_dtype", "find_unused_parameters", "run_id")


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
    _refuse_misspelt(recipe)
    _check_training(OmegaConf.select(recipe, "training_hyperparams") or {})
    if is_distillation(recipe):
        _check_distillation(recipe)
    plugins = OmegaConf.select(recipe, "plugins")
    if isinstance(plugins, str):
        raise SgResnetsError(f"plugins={plugins}: must be a list of modules, such as plugins=[{plugins}]")
    import_plugins(plugins or ())


def _refuse_misspelt(recipe: Any) -> None:
    """A key that is nearly one that is read: nothing would read it, and the run would not be what was asked for."""
    from difflib import get_close_matches

    from super_gradients.training.params import DEFAULT_TRAINING_PARAMS

    training = OmegaConf.select(recipe, "training_hyperparams") or ()
    read_in_training = (*DEFAULT_TRAINING_PARAMS, *_READ)
    for prefix, keys, read in (("", recipe, SHORTCUTS), ("training_hyperparams.", training, read_in_training)):
        for key in keys:
            near = get_close_matches(key, read, n=1, cutoff=0.85)
            meant = _ALIASES.get(key) or (f"{prefix}{near[0]}" if near else None)
            if meant and key not in read:
                raise SgResnetsError(f"nothing reads {prefix}{key}: did you mean {meant}?")


def _public(registry: Mapping[str, Any]) -> list[str]:
    return [name for name in registry if not name.startswith("_")]


def _check_training(training: Any) -> None:
    """Refuse an unknown warm-up or schedule, and parameters that the optimiser does not take: as a rule the recipe's,
    which are another optimiser's."""
    from super_gradients.common.registry.registry import LR_SCHEDULERS_CLS_DICT, LR_WARMUP_CLS_DICT, OPTIMIZERS

    name, warmup, schedule = (training.get(key) for key in ("optimizer", "warmup_mode", "lr_mode"))
    if (warmup is None and "warmup_mode" in training) or (isinstance(warmup, str) and warmup not in LR_WARMUP_CLS_DICT):
        raise SgResnetsError(f"unknown warmup_mode '{warmup}': {choices(str(warmup), _public(LR_WARMUP_CLS_DICT))}")
    if isinstance(schedule, str) and schedule not in LR_SCHEDULERS_CLS_DICT:
        raise SgResnetsError(
            f"unknown lr_mode '{schedule}': {choices(schedule, _public(LR_SCHEDULERS_CLS_DICT))}; or one of PyTorch's "
            "with its parameters, such as {StepLR: {step_size: 30, phase: TRAIN_EPOCH_END}}"
        )
    if not (isinstance(name, str) and name in OPTIMIZERS):
        return
    taken = inspect.signature(OPTIMIZERS[name]).parameters
    unknown = [str(key) for key in training.get("optimizer_params") or () if key not in taken]
    if unknown and not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken.values()):
        remove = " ".join(f"'~training_hyperparams.optimizer_params.{key}'" for key in unknown)
        raise SgResnetsError(f"{name} takes no {', '.join(unknown)}: leave them out with {remove}")


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
