"""The repairs to SuperGradients 3.7.1, one file each.

Every repair module has FAULT (what is wrong, where, seen with which error), `present()` and `repair()`; `apply` runs
those whose fault is there. `quiet_import` is the exception: it must act before the host is imported (see `host.py`).
"""

from importlib import import_module
from types import ModuleType

REPAIRS = (
    "seed_before_model",
    "int8",
    "recipe_of_a_run",  # around the one above, which completes the recipe
    "multirun_shortcuts",  # around those above, which read what it sets
    "resume_keeps_best",
    "seed_each_epoch",
    "repeated_augmentation",
    "average_best_models",
    "atomic_checkpoints",
    "safe_checkpoints",
    "interrupt_saves",
    "batch_accumulate",
    "zero_weight_decay",
    "lr_schedulers",
    "early_stop",
    "focal_loss",
    "torchvision_processing",
    "help_option",
    "false_warnings",
    "mixed_precision",  # replaces what the one above has put in place
    "compile_in_place",
    "ddp_anywhere",
    "messages",  # last: it turns the errors of all the others into one line
)

active: dict[str, bool] = {}  # by module: whether its fault was there and is repaired


def repairs() -> list[ModuleType]:
    """The repair modules, in the order in which they are applied."""
    return [import_module(f"{__name__}.{name}") for name in REPAIRS]


def apply() -> None:
    """Repair the imported host.

    Raises:
        SgResnetsError: the host is of another version than the one whose faults are known.
    """
    import super_gradients

    from sg_resnets.errors import SgResnetsError
    from sg_resnets.host import HOST_VERSION, INSTALL

    if super_gradients.__version__ != HOST_VERSION:
        raise SgResnetsError(
            f"super-gradients {super_gradients.__version__} is installed but {HOST_VERSION} is needed: {INSTALL}"
        )
    for module in repairs():
        active[module.__name__] = module.present()
        if active[module.__name__]:
            module.repair()
