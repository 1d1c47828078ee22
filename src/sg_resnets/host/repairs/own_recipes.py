"""Recipes in a folder of the user's own, which Hydra is given as `--config-dir`: they come before ours and
SuperGradients' of the same name, and what is wrong in a file is said with the file and the line."""

import functools
from collections.abc import Callable
from pathlib import Path

from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.errors import CompactHydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf
from super_gradients.common.abstractions.abstract_logger import get_logger
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from sg_resnets.host.patching import HOST, Patch, Repair
from sg_resnets.runs.recipes import recipe_folders
from sg_resnets.utils.errors import one_line

logger = get_logger(__name__)
OWN = "command-line"  # what Hydra calls the source that --config-dir adds


def own_folder_first(
    original: Callable[..., None], self: ConfigRepository, config_search_path: ConfigSearchPath
) -> None:
    """Look into the user's folder before SuperGradients' and ours; Hydra's own configuration stays the first, and other
    applications of Hydra have their order."""
    original(self, config_search_path)
    hosts = {f"pkg://{HOST}.recipes", *(f"file://{folder}" for folder in recipe_folders())}
    if any(source.provider == "main" and source.full_path() in hosts for source in self.sources):
        self.sources.sort(key=lambda source: (source.provider != "hydra", source.provider != OWN))


def read_own(
    original: Callable[..., ConfigResult | None], self: ConfigRepository, config_path: str
) -> ConfigResult | None:
    """Read one file of a recipe. Of the user's own a mistake in it is one line, and so is that it is read in the place
    of another of its name.

    Raises:
        CompactHydraException: it is no YAML file of a recipe.
    """
    holders = [source for source in self.sources if source.is_config(config_path)]
    if not holders or holders[0].provider != OWN:
        return original(self, config_path)
    file = file_of(holders[0], config_path)
    try:
        found = original(self, config_path)
    except MarkedYAMLError as error:
        mark, begun = error.problem_mark, error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        inside = f", {error.context} of line {begun.line + 1}" if begun and mark and begun.line < mark.line else ""
        tab = "; YAML takes spaces, no tabs" if "\\t" in (error.problem or "") else ""
        raise CompactHydraException(one_line(f"{file}{where}: {error.problem}{inside}{tab}")) from None
    except UnicodeDecodeError as error:
        raise CompactHydraException(f"{file}: is not UTF-8 text ({error.reason}): save it as UTF-8") from None
    except (YAMLError, OSError) as error:
        raise CompactHydraException(f"{file} cannot be read as YAML: {one_line(error)}") from None
    except ValueError as error:
        form = "; its lines are such as `- finetune_image_folder` or `- training_hyperparams: cosine_few_epochs`"
        advice = form if "default" in str(error) else ""
        raise CompactHydraException(f"{file}: {one_line(error)}{advice}") from None
    if found is not None and not OmegaConf.is_dict(found.config):
        raise CompactHydraException(f"{file}: must be keys and values, such as `epochs: 3`, and is a list")
    if len(holders) > 1:
        say_which(file, file_of(holders[1], config_path))
    return found


def file_of(source: ConfigSource, config_path: str) -> str:
    """Return where a source has a file."""
    return str(Path(source.path, f"{config_path.removesuffix('.yaml')}.yaml"))


@functools.cache  # Hydra composes a recipe more than once
def say_which(file: str, other: str) -> None:
    """Say which of two files of a name is read."""
    logger.info(f"{file} is read in the place of {other}")


REPAIRS = (
    Repair(
        "own_recipes",
        "a recipe of one's own gives way, without a word, to SuperGradients' of its name; a mistake in its YAML is a "
        "traceback",
        [
            Patch(ConfigRepository, "initialize_sources", own_folder_first),
            Patch(ConfigRepository, "load_config", read_own),
        ],
    ),
)
