"""What happens to a recipe before it is trained, evaluated or quantised, in order: `run`, the one function around
`train_from_config`, `evaluate_from_config` and `quantize_from_config`."""

import copy
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from itertools import product
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from jsonschema import ValidationError
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from super_gradients.common.abstractions.abstract_logger import get_logger
from super_gradients.common.data_types.enum import MultiGPUMode
from super_gradients.common.environment import omegaconf_utils
from super_gradients.common.environment.checkpoints_dir_utils import get_checkpoints_dir_path
from super_gradients.common.environment.device_utils import device_config
from super_gradients.common.environment.omegaconf_utils import RecipeShortcutsCallback
from super_gradients.common.exceptions.factory_exceptions import UnknownTypeException
from super_gradients.training.kd_trainer.kd_trainer import KDTrainer
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils.utils import random_seed

from sg_resnets.distillation.student import is_distillation
from sg_resnets.host import int8
from sg_resnets.host.auto_resume import finished_quantization, going_on, take_auto
from sg_resnets.host.current_run import CurrentRun, running
from sg_resnets.host.folders import complete_folder
from sg_resnets.host.patching import HOST, Patch, Put, Repair
from sg_resnets.host.preemption import EXIT_CODES, ListenersExit
from sg_resnets.host.recipe_checks import check_recipe
from sg_resnets.host.repairs.distributed import in_sweep
from sg_resnets.host.repairs.interrupts import dead_worker
from sg_resnets.host.repairs.names import describe_mistake, registered_name
from sg_resnets.runs.build import reads_folder
from sg_resnets.runs.checkpoints import read
from sg_resnets.runs.find import BEST, FINISHED, find_run
from sg_resnets.runs.recipes import SHORTCUTS, is_quantization
from sg_resnets.utils.errors import LoaderError, SeveralMistakes, SgResnetsError, one_line
from sg_resnets.utils.files import make_folder, write_bytes
from sg_resnets.utils.foreign_code import is_refused, refuse_foreign_code, refuse_name
from sg_resnets.utils.paths import PACKAGE
from sg_resnets.utils.plugins import import_plugins

logger = get_logger(__name__)
REQUIRED = {"experiment_name", "dataset_params", "training_hyperparams"}
SECTIONS = (
    *("arch_params", "checkpoint_params", "training_hyperparams", "dataset_params"),
    *(f"dataset_params.{split}_{kind}_params" for split in ("train", "val") for kind in ("dataset", "dataloader")),
)
_objective: ContextVar[float | None] = ContextVar("objective", default=None)  # of the job that has just ended


def run(original: Callable[..., Any], cls: type[Trainer], cfg: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a recipe by the entry point that it is for."""
    with one_line_errors():
        refuse_wrong_recipe(cls, cfg)
    start = right_entry(original, cls, cfg)
    if start is not None:
        return start(cfg)
    with one_line_errors():
        recipe = OmegaConf.create(copy.deepcopy(cfg), flags={"allow_objects": True})
        with open_dict(recipe):
            name_experiment(recipe)
            auto = take_auto(recipe)
            apply_shortcuts(recipe)
            import_plugins(plugins_of(recipe))
            name_networks(recipe)
            if is_refused():
                refuse_foreign_code(OmegaConf.to_container(recipe), plugins_of(recipe))
            trains = original.__name__ != "evaluate_from_config"
            settle_loaders(recipe)
            make_paths_absolute(recipe)
            complete_folder(recipe, trains)
            check_recipe(recipe, trains)
        with running(recipe) as current:
            if original.__name__ == "quantize_from_config":
                int8.complete(recipe)
            if trains:
                seed_network(recipe)
            with going_on(recipe, current) if auto and trains else nullcontext() as finished:
                if finished is not None:
                    _objective.set(current.objective)
                    return finished_quantization(finished, recipe) if is_quantization(recipe) else None
                result = None  # a process that has started others has none
                with launcher_ends_its_job(current):
                    result = original(cls, recipe, *args, **kwargs)
                if trains:
                    mark_finished(current)
                    report_on_folder(recipe, current)
                return result


def mark_finished(current: CurrentRun) -> None:
    """Note in a run's folder that it has come to its end; without a recipe there, none could go on with it."""
    if current.folder is not None and (current.folder / FINISHED).parent.is_dir():
        write_bytes(current.folder / FINISHED, b"")


def report_on_folder(recipe: Any, current: CurrentRun) -> None:
    """Write the page on what a network makes of its folder of pictures into the run's folder; a training that has ended
    well does not fail with it."""
    if current.folder is None or not reads_folder(recipe) or recipe.get("smoke"):
        return
    from sg_resnets.runs.evaluate import evaluate_checkpoint

    try:
        with alone():
            page = evaluate_checkpoint(current.folder, plugins_of(recipe)).page
    except Exception as error:  # whatever it is, the network is there
        logger.warning(f"no report on {current.folder}: {one_line(error)}; `sg-resnets evaluate` writes one")
    else:
        logger.info(f"Report: {page}")


@contextmanager
def alone() -> Iterator[None]:
    """While open, this is the only process: the others of a distributed training have gone."""
    before = device_config.multi_gpu, device_config.assigned_rank
    device_config.multi_gpu, device_config.assigned_rank = MultiGPUMode.OFF, -1
    try:
        yield
    finally:
        device_config.multi_gpu, device_config.assigned_rank = before


class RecipeError(SgResnetsError, CompactHydraException):
    """What Hydra shows as one line; it is of the type, too, that SuperGradients' callers catch."""

    @classmethod
    def of(cls, error: Exception, text: str) -> "RecipeError":
        """Return the error with this text, as one that `except type(error)` catches."""
        bases = (cls,) if isinstance(error, cls) else (cls, type(error))
        methods = {"__init__": Exception.__init__, "__str__": lambda self: self.args[0]}
        return type(cls.__name__, bases, methods)(text if isinstance(error, SeveralMistakes) else one_line(text))

    def __reduce__(self) -> Any:
        return RecipeError, (str(self),)  # the class made above is known in this process alone


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a mistake in a recipe into a line; an error of the user's own code keeps its traceback. In a sweep each
    failure is said when it happens: Hydra says the first one alone, at the end."""
    try:
        try:
            yield
        except RecipeError:
            raise
        except OmegaConfBaseException as error:
            raise RecipeError(describe_mistake(error)) from None  # Hydra would print such a cause once more
        except (ValueError, ValidationError, UnknownTypeException) as error:
            if not isinstance(error, SgResnetsError) and is_from_elsewhere(error):
                raise
            text = str(error)
            if "Original Traceback" in text:  # from a worker of the loader
                text = text.rstrip().splitlines()[-1].partition("Error: ")[2] or text
            raise RecipeError.of(error, text) from error
        except RuntimeError as error:
            words = None if isinstance(error, RecipeError) else dead_worker(error)
            if words is None:
                raise
            raise RecipeError.of(LoaderError(words), words) from error
    except Exception as error:
        if in_sweep():
            print(f"job {HydraConfig.get().job.num} failed: {one_line(error)}", file=sys.stderr, flush=True)
        raise


_LIBRARIES = tuple(str(Path(path).resolve()) for path in {sysconfig.get_path(key) for key in ("purelib", "stdlib")})


def is_from_elsewhere(error: BaseException) -> bool:
    """Whether an error went through the user's own code, or through anyone's once training had begun: no mistake in the
    recipe then, and where it came from is what one needs to know."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if not _is_of_a_library(frame.filename)]
    in_training = any(frame.name == "_train_epoch" for frame in frames)
    return bool(users) or (in_training and HOST not in Path(frames[-1].filename).parts)


def _is_of_a_library(file: str) -> bool:
    return file.startswith("<") or str(Path(file).resolve()).startswith((*_LIBRARIES, str(PACKAGE.resolve())))


@contextmanager
def launcher_ends_its_job(current: CurrentRun) -> Iterator[None]:
    """The process that has started others leaves with SystemExit: in a sweep that ends its job, not the sweep, and a
    failure is one as any other job's."""
    try:
        yield
    except SystemExit as end:
        if not in_sweep() or end.code in EXIT_CODES or isinstance(end, ListenersExit):
            raise
        if end.code:
            raise RecipeError(str(end.code)) from None
        if current.recipe.get("ckpt_root_dir"):
            experiment = Path(current.recipe["ckpt_root_dir"], current.recipe["experiment_name"])
            current.objective = float(read(find_run(experiment, BEST) / BEST)["acc"])
    _objective.set(current.objective)


def refuse_wrong_recipe(cls: type[Trainer], cfg: Any) -> None:
    """Refuse no recipe, one that lacks what all have, and for the distillation's entry point one without a teacher.

    Raises:
        RecipeError: it is such a one.
    """
    if not cfg and not (HydraConfig.initialized() and HydraConfig.get().job.config_name):
        raise RecipeError("no recipe is given: add --config-name=NAME; `sg-resnets recipes` lists ours")
    missing = REQUIRED - set(cfg or ())
    if missing:
        raise RecipeError(
            f"the recipe has no {', '.join(sorted(missing))}: begin it with what it stands on, such as "
            "`defaults: [fashion_mnist_mini_resnet20, _self_]`; `sg-resnets new NAME` writes such a file"
        )
    for key, value in emptied(cfg):
        raise RecipeError(
            f"{key}={value}: leaves nothing there of what the recipe stands on: take it out, or write keys below it"
        )
    if cls is KDTrainer and not is_distillation(cfg):
        raise RecipeError("this recipe has no teacher: run it with python -m super_gradients.train_from_recipe")


def emptied(recipe: Any) -> Iterator[tuple[str, Any]]:
    """Yield the sections that must have keys, and have a value in their place, such as none: what YAML makes of a
    heading with nothing below it. A distillation may leave those of the network open."""
    for key in SECTIONS[2:] if is_distillation(recipe) else SECTIONS:
        part, _, name = key.rpartition(".")
        section = recipe.get(part) if part else recipe
        if isinstance(section, Mapping) and name in section and not isinstance(section[name], Mapping):
            yield key, section[name]


def right_entry(original: Callable[..., Any], cls: type[Trainer], cfg: Any) -> Callable[[Any], Any] | None:
    """Return the entry point that a recipe is for, where it was given to another one that trains."""
    if original.__name__ == "train_from_config" and cls is Trainer and is_quantization(cfg):
        return Trainer.quantize_from_config
    if original.__name__ == "train_from_config" and cls is Trainer and is_distillation(cfg):
        return KDTrainer.train_from_config
    return None


def name_experiment(recipe: Any) -> None:
    """Take `experiment_name=2024_01` as it was typed, for YAML a number; make the output folder.

    Raises:
        SgResnetsError: the name is no text, or the folder cannot be made.
    """
    name = OmegaConf.select(recipe, "experiment_name", throw_on_missing=True)
    if name is not None:
        recipe.experiment_name = typed_name(name)
    if recipe.get("ckpt_root_dir"):
        recipe.ckpt_root_dir = os.path.expanduser(recipe.ckpt_root_dir)
        make_folder(recipe.ckpt_root_dir, "ckpt_root_dir")


def name_networks(recipe: Any) -> None:
    """Write the networks' names as they are registered: checkpoints are told apart by them."""
    for key in ("architecture", "student_architecture", "teacher_architecture"):
        if isinstance(OmegaConf.select(recipe, key), str) and not OmegaConf.is_interpolation(recipe, key):
            recipe[key] = registered_name(recipe[key])


def typed_name(name: Any) -> str:
    """Return an experiment's name as text; of a number, as it was typed.

    Raises:
        SgResnetsError: it is a number in a YAML file.
    """
    if isinstance(name, str):
        return name
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    typed = [override.partition("=")[2] for override in overrides if override.startswith("experiment_name=")]
    if not typed:
        raise SgResnetsError(f"experiment_name={name}: must be text: put it in quotes, experiment_name: '{name}'")
    return typed[-1]


def resolve_experiment_folder(ckpt_root_dir: str | None, experiment_name: Any) -> str:
    """Return Hydra's output folder, for a name that YAML reads as a number too."""
    root = os.path.expanduser(ckpt_root_dir) if ckpt_root_dir else None
    return get_checkpoints_dir_path(ckpt_root_dir=root, experiment_name=typed_name(experiment_name))


def apply_shortcuts(recipe: Any) -> None:
    """Apply `lr=`, `epochs=`, ...: SuperGradients does so for single runs alone; the second time it changes nothing."""
    for name, key in (*SHORTCUTS.items(), ("num_workers", "dataset_params.val_dataloader_params.num_workers")):
        if recipe.get(name) is not None:
            OmegaConf.update(recipe, key, recipe[name])


def plugins_of(recipe: Any) -> list[str]:
    """Return the modules that a recipe wants imported.

    Raises:
        SgResnetsError: they are no list.
    """
    plugins = recipe.get("plugins")
    if plugins is not None and not OmegaConf.is_list(plugins):
        raise SgResnetsError(f"plugins={plugins}: must be a list of modules, such as plugins=[{plugins}]")
    return list(plugins or ())


def leave_validation_workers(
    original: Callable[..., None], self: RecipeShortcutsCallback, config: DictConfig, **kwargs: Any
) -> None:
    """Apply the shortcuts, if they can be; without `num_workers=` the validation loader keeps its own number."""
    if REQUIRED - set(config) or any(emptied(config)):
        return  # which is said before training
    loader = config.dataset_params.val_dataloader_params
    asked, workers = config.num_workers, loader.get("num_workers")
    original(self, config, **kwargs)
    if asked is None and workers is not None and workers != config.num_workers:
        loader.num_workers, config.num_workers = workers, None


def known_class(original: Callable[[str], Any], name: str) -> Any:
    """Return what `${class:NAME}` stands for, unless it is refused."""
    if is_refused():
        refuse_name(f"${{class:{name}}}", name)
    return original(name)


def make_paths_absolute(recipe: Any) -> None:
    """Write down where files are, so that a run can be resumed from another folder; what follows another key stays
    so."""
    parts = {f"{who}checkpoint_params": "checkpoint_path" for who in ("", "student_", "teacher_")}
    data = [f"dataset_params.{split}_dataset_params" for split in ("train", "val")]
    for part, key in (*parts.items(), *product(data, ("root", "labels"))):
        node = OmegaConf.select(recipe, part)
        if not OmegaConf.is_dict(node) or OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
            continue
        path = Path(str(node.get(key) or "")).expanduser()
        if node.get(key) and path.exists() and str(path.absolute()) != str(node[key]):
            node[key] = str(path.absolute())


def settle_loaders(recipe: Any) -> None:
    """Leave out what a loader has no use for: pinned memory without a GPU, and workers that stay where there are
    none."""
    for split in ("train", "val"):
        loading: Any = OmegaConf.select(recipe, f"dataset_params.{split}_dataloader_params") or {}
        if loading.get("pin_memory") and not torch.cuda.is_available():
            loading.pin_memory = False
        if loading.get("persistent_workers") and not loading.get("num_workers"):
            loading.persistent_workers = False


def seed_network(recipe: Any) -> None:
    """Seed before the network is built, the same in all processes: a distributed run starts from one network."""
    random_seed(is_ddp=False, device="cpu", seed=recipe.training_hyperparams.get("seed", 42))


def return_objective(self: JobReturn, value: Any) -> None:
    """Set what a job returns to Hydra: SuperGradients' entry points return nothing, and optimising sweepers need the
    watched metric."""
    if value is None:
        value = _objective.get()
        _objective.set(None)
    self._return_value = value


REPAIRS = (
    Repair(
        "recipes",
        "a recipe's mistakes end in tracebacks; shortcuts are ignored in sweeps; the seed is set after the network is "
        "built; distillation and INT8 recipes are trained as plain ones; nothing is returned to Hydra's sweepers",
        [
            Patch(Trainer, "train_from_config", run),
            Patch(Trainer, "evaluate_from_config", run),
            Patch(Trainer, "quantize_from_config", run),
            Patch(KDTrainer, "train_from_config", run),
            Patch(RecipeShortcutsCallback, "on_run_start", leave_validation_workers),
            Put(omegaconf_utils, "hydra_output_dir_resolver", resolve_experiment_folder),
            Patch(omegaconf_utils, "get_cls", known_class),
            Put(JobReturn, "return_value", property(vars(JobReturn)["return_value"].fget, return_objective)),
        ],
    ),
)
