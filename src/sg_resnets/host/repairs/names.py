"""Names that are wrong: of models, recipes, groups; and `--help`."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import CompactHydraException, MissingConfigException
from omegaconf import OmegaConf
from super_gradients.common.environment import argparse_utils
from super_gradients.common.exceptions.factory_exceptions import UnknownTypeException
from super_gradients.training.models import model_factory
from super_gradients.training.utils.utils import fuzzy_str

from sg_resnets.host.patching import Patch, Repair
from sg_resnets.models.zoo import refuse_unknown_model
from sg_resnets.runs.recipes import known_recipes
from sg_resnets.utils.errors import SgResnetsError, choices
from sg_resnets.utils.files import make_folder
from sg_resnets.utils.paths import recipes_path

EXTRAS = {"submitit_slurm": "slurm", "ray": "ray", "joblib": "sweeps"}  # of our package, by Hydra's launcher


class UnknownModelError(SgResnetsError, UnknownTypeException):
    """Ours, and what callers of SuperGradients catch."""

    def __init__(self, message: str) -> None:
        ValueError.__init__(self, message)
        self.message = message


def registered_name(name: str) -> str:
    """Return an architecture's own spelling of its name, which SuperGradients takes in any case and with any signs."""
    known = model_factory.ARCHITECTURES
    return name if name in known else {fuzzy_str(other): other for other in known}.get(fuzzy_str(name), name)


def name_models(original: Callable[..., Any], model_name: Any, *args: Any, **kwargs: Any) -> Any:
    """Answer an unknown architecture with the similar ones."""
    if isinstance(model_name, str):
        model_name = registered_name(model_name)
        try:
            refuse_unknown_model(model_name, model_factory.ARCHITECTURES)
        except SgResnetsError as error:
            raise UnknownModelError(str(error)) from None
    return original(model_name, *args, **kwargs)


def name_recipes(
    original: Callable[..., Any], self: ConfigLoaderImpl, config_name: str | None, *args: Any, **kwargs: Any
) -> Any:
    """Answer an unknown recipe or group option with the similar ones."""
    try:
        return original(self, config_name, *args, **kwargs)
    except MissingConfigException as error:
        missing = error.missing_cfg_file or config_name or ""
        if config_name == missing:
            text = f"unknown recipe '{config_name}': {choices(config_name, known_recipes())}; see `sg-resnets recipes`"
        else:
            group, _, name = missing.rpartition("/")
            ours = sorted(path.stem for path in (recipes_path() / group).glob("*.yaml"))
            others = [option for option in error.options or [] if option not in ours]
            text = f"unknown {group} '{name}': {choices(name, ours + others)}"
            text += f"; it comes with pip install 'sg-resnets[{EXTRAS[name]}]'" if name in EXTRAS else ""
        raise MissingConfigException(text, missing, error.options) from None


def try_output_folder(
    original: Callable[..., Any], self: ConfigLoaderImpl, *args: Any, from_shell: bool = True, **kwargs: Any
) -> Any:
    """Try out whether a command's output folder can be made, before Hydra does, which answers with a traceback."""
    config = original(self, *args, from_shell=from_shell, **kwargs)
    root = OmegaConf.select(config, "ckpt_root_dir", throw_on_missing=False)
    if from_shell and isinstance(root, str):
        folder = Path(root).expanduser()
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            make_folder(str(folder), "ckpt_root_dir")
        except SgResnetsError as error:
            raise CompactHydraException(str(error)) from None
        for path in missing:  # --help and --cfg leave nothing behind
            with contextlib.suppress(OSError):
                path.rmdir()
    return config


def leave_help_to_hydra(original: Callable[[], int]) -> int:
    """Parse --local_rank only where it is given: the parser answers --help by itself."""
    return original() if any(argument.startswith("--local_rank") for argument in sys.argv) else -1


REPAIRS = (
    Repair(
        "names",
        "an unknown recipe is answered with Hydra's search path, an unknown architecture without the similar ones, an "
        "output folder that cannot be made with a traceback",
        [
            Patch(model_factory, "get_architecture", name_models),
            Patch(ConfigLoaderImpl, "load_configuration", name_recipes),
            Patch(ConfigLoaderImpl, "load_configuration", try_output_folder),
        ],
    ),
    Repair(
        "help",
        "--help is eaten by the parser of --local_rank",
        [Patch(argparse_utils, "pop_local_rank", leave_help_to_hydra)],
    ),
)
