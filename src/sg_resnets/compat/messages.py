"""A user's mistake is answered with one line, not with a traceback, by every entry point of the host.

Hydra prints the bare message of a `CompactHydraException` and exits with 1; so that is what our errors, and the host's
and Hydra's for unknown names, are turned into.
"""

import re
import traceback
from pathlib import Path

from sg_resnets.host import HOST

FAULT = "a wrong name or value in a recipe ends in a traceback; an unknown recipe is answered with the search path"


def present() -> bool:
    return True


def _is_from_elsewhere_in_training(error: BaseException) -> bool:
    """Whether training had begun, and it is not the host that complains: no mistake in the recipe then."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == "_train_epoch" for frame in frames) and HOST not in Path(frames[-1].filename).parts


def repair() -> None:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.errors import CompactHydraException, MissingConfigException
    from jsonschema import ValidationError
    from omegaconf.errors import OmegaConfBaseException
    from super_gradients.common.exceptions.factory_exceptions import UnknownTypeException
    from super_gradients.training.models import model_factory

    from sg_resnets.compat.patching import wrap_function, wrap_method, wrap_recipe_entries
    from sg_resnets.distillation.student import is_distillation
    from sg_resnets.errors import SgResnetsError, choices
    from sg_resnets.paths import known_recipes, recipes_path
    from sg_resnets.recipe import prepare
    from sg_resnets.zoo import refuse_unknown_model

    class RecipeError(SgResnetsError, CompactHydraException):
        """What Hydra shows as one line."""

    def in_one_line(original):
        def run(cls, cfg, *args, **kwargs):
            if not cfg:
                raise RecipeError("no recipe is given: add --config-name=NAME; `sg-resnets recipes` lists ours")
            if cls.__name__ == "KDTrainer" and not is_distillation(cfg):
                raise RecipeError("this recipe has no teacher: run it with python -m super_gradients.train_from_recipe")
            try:
                prepare(cfg)
                return original(cls, cfg, *args, **kwargs)
            except OmegaConfBaseException as error:
                missing = re.search(r"Missing mandatory value: (\S+)", str(error))
                line = f"{missing[1]} is missing: add {missing[1]}=VALUE" if missing else " ".join(str(error).split())
                raise RecipeError(line) from None  # Hydra would print such a cause once more
            except (ValueError, ValidationError, UnknownTypeException) as error:
                if not isinstance(error, SgResnetsError) and _is_from_elsewhere_in_training(error):
                    raise  # where it came from is what one needs to know
                text = str(error)
                if "Original Traceback" in text:  # from a worker of the loader
                    text = text.rpartition("SgResnetsError: ")[2]
                raise RecipeError(" ".join(text.split())) from error

        return run

    def name_the_models(original):
        def get_architecture(model_name, *args, **kwargs):
            refuse_unknown_model(model_name, model_factory.ARCHITECTURES)
            return original(model_name, *args, **kwargs)

        return get_architecture

    def name_the_recipes(original):
        def load_configuration(self, config_name, *args, **kwargs):
            try:
                return original(self, config_name, *args, **kwargs)
            except MissingConfigException as error:
                missing = error.missing_cfg_file or config_name
                if config_name == missing:
                    near = choices(str(config_name), known_recipes())
                    text = f"unknown recipe '{config_name}': {near}; see `sg-resnets recipes`"
                else:
                    group, _, name = missing.rpartition("/")
                    ours = sorted(path.stem for path in (recipes_path() / group).glob("*.yaml"))
                    others = [option for option in error.options or [] if option not in ours]
                    text = f"unknown {group} '{name}': {choices(name, ours + others)}"
                raise MissingConfigException(text, missing, error.options) from None

        return load_configuration

    wrap_recipe_entries(in_one_line)
    wrap_function(model_factory, "get_architecture", name_the_models)
    wrap_method(ConfigLoaderImpl, "load_configuration", name_the_recipes)
