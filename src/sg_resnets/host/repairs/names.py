"""Names that are wrong: of models, recipes, groups; and `--help`."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.errors import CompactHydraException, ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from super_gradients.common.environment import argparse_utils
from super_gradients.common.exceptions.factory_exceptions import UnknownTypeException
from super_gradients.training.models import model_factory
from super_gradients.training.utils.utils import fuzzy_str

from sg_resnets.host.patching import Patch, Repair
from sg_resnets.host.repairs.own_recipes import OWN
from sg_resnets.models.zoo import refuse_unknown_model
from sg_resnets.runs.recipes import known_groups, known_recipes, names_in
from sg_resnets.utils.errors import SgResnetsError, choices, one_line
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
        text = describe_missing(self, error.missing_cfg_file or config_name or "", error.options or [])
        raise MissingConfigException(text, error.missing_cfg_file, error.options) from None
    except ConfigCompositionException as error:
        cause = error.__cause__
        lines = [str(error), describe_mistake(cause) if isinstance(cause, OmegaConfBaseException) else ""]
        raise type(error)(one_line(" ".join(lines))) from error
    except RecursionError:
        raise CompactHydraException(
            f"recipe '{config_name}' stands on itself: the defaults list in it, or in a file that it names, leads back "
            "to it; a file of yours may not have the name of the recipe that it stands on"
        ) from None


def describe_missing(loader: ConfigLoaderImpl, missing: str, options: Sequence[str]) -> str:
    """Return what to say of a recipe, or of an option of a group, that is in none of the folders."""
    group, _, name = missing.rpartition("/")
    own = [Path(source.path) for source in loader.repository.get_sources() if source.provider == OWN]
    for folder in own:
        if (folder / f"{missing}.yml").is_file():
            return f"{folder / missing}.yml is not read: a file of a recipe must end in .yaml: rename it"
    mine = [each for folder in own for each in names_in(folder / group)]
    if not group:
        names = dict.fromkeys([*mine, *known_recipes()])
        return f"unknown recipe '{name}': {choices(name, names)}; see `sg-resnets recipes`"
    if not options:
        groups = {file.parent.name for folder in own for file in folder.glob("*/*.yaml")}
        return f"unknown group '{group}': {choices(group, sorted({*groups, *known_groups()}))}"
    first = [*mine, *names_in(recipes_path() / group)]
    text = f"unknown {group} '{name}': {choices(name, dict.fromkeys([*first, *options]))}"
    return text + (f"; it comes with pip install 'sg-resnets[{EXTRAS[name]}]'" if name in EXTRAS else "")


def describe_mistake(error: OmegaConfBaseException) -> str:
    """Return in a line what OmegaConf says, and of which key."""
    missing = re.search(r"Missing mandatory value: (\S+)", str(error))
    if missing:
        return f"{missing[1]} is missing: add {missing[1]}=VALUE"
    text, _, place = str(error).partition("full_key: ")
    text = one_line(text.rpartition("raised while resolving interpolation: ")[2])
    key = (place.split() or [""])[0]
    return text if not key or key in text else f"{key}: {text}"


def name_output_folder(original: Callable[..., Any], self: Hydra, *args: Any, **kwargs: Any) -> Any:
    """Say in a line why a command's output folder has no name: there is no experiment_name, or none that can be."""
    try:
        return original(self, *args, **kwargs)
    except InterpolationResolutionError as error:
        if error.full_key not in ("hydra.run.dir", "hydra.sweep.dir"):
            raise
        raise CompactHydraException(describe_mistake(error).removeprefix(f"{error.full_key}: ")) from None


def try_output_folder(
    original: Callable[..., Any], self: ConfigLoaderImpl, *args: Any, from_shell: bool = True, **kwargs: Any
) -> Any:
    """Try out whether a command's output folder can be made, before Hydra does, which answers with a traceback."""
    config = original(self, *args, from_shell=from_shell, **kwargs)
    root = OmegaConf.select(config, "ckpt_root_dir", throw_on_missing=False)
    if from_shell and isinstance(root, str):
        folder = Path(os.path.expanduser(root))
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


def help_in_a_line(original: Callable[..., None], self: Hydra, *args: Any, **kwargs: Any) -> None:
    """Answer --help of a recipe that is not there, or is none, in a line, as a run of it."""
    try:
        original(self, *args, **kwargs)
    except CompactHydraException as error:
        sys.exit(str(error))


REPAIRS = (
    Repair(
        "names",
        "an unknown recipe is answered with Hydra's search path, an unknown architecture without the similar ones, an "
        "output folder that cannot be made with a traceback",
        [
            Patch(model_factory, "get_architecture", name_models),
            Patch(ConfigLoaderImpl, "load_configuration", name_recipes),
            Patch(ConfigLoaderImpl, "load_configuration", try_output_folder),
            Patch(Hydra, "run", name_output_folder),
            Patch(Hydra, "multirun", name_output_folder),
        ],
    ),
    Repair(
        "help",
        "--help is eaten by the parser of --local_rank, and of a recipe that is not there it is a traceback",
        [Patch(argparse_utils, "pop_local_rank", leave_help_to_hydra), Patch(Hydra, "app_help", help_in_a_line)],
    ),
)
