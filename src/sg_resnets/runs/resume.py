"""Resume a run: train on from `ckpt_latest.pth` with the run's own recipe and the overrides that a run can take."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from super_gradients import Trainer

from sg_resnets.distillation.student import is_distillation
from sg_resnets.runs.build import follow_split
from sg_resnets.runs.checkpoints import read
from sg_resnets.runs.find import LATEST, find_run, is_finished
from sg_resnets.runs.recipes import SHORTCUTS, is_quantization
from sg_resnets.utils.dotlist import parse_dotlist
from sg_resnets.utils.errors import SgResnetsError, choices

_OPTIMIZER_KEYS = tuple(
    f"training_hyperparams.{key}" for key in ("optimizer", "zero_weight_decay_on_bias_and_bn", "finetune")
)
_SCHEDULE = "training_hyperparams.lr_mode"


def resume_run(path: Path, overrides: Sequence[str]) -> None:
    """Train on from `ckpt_latest.pth` with the run's own recipe, `overrides` (`epochs=20`, dotted keys) put over it.

    Raises:
        SgResnetsError: there is no such run, it is finished, or an override that a run cannot follow.
    """
    path = path.resolve()
    run = find_run(path.parent if path.is_file() else path, LATEST)
    file = run / ".hydra" / "config.yaml"
    if not file.is_file():
        raise SgResnetsError(f"{file} is missing: the run was not trained from a recipe")
    recipe = OmegaConf.load(file)
    with open_dict(recipe):
        recipe.update(dict.fromkeys(SHORTCUTS))  # what they stood for is in the recipe already
    for override in overrides:
        _check_override(recipe, override, run)
    recipe.merge_with(parse_dotlist(overrides, "override", "epochs=20"))
    epochs, wanted = read(run / LATEST)["epoch"], recipe.epochs or recipe.training_hyperparams.max_epochs
    if isinstance(wanted, int) and epochs >= wanted and (is_finished(run) or epochs > wanted):
        raise SgResnetsError(
            f"{run} has trained for {epochs} of {wanted} epochs: resume it with epochs={2 * max(epochs, 1)} for more"
        )
    follow_split(recipe, run)
    with open_dict(recipe):
        recipe.ckpt_root_dir, recipe.experiment_name = str(run.parent.parent), run.parent.name
        recipe.resume = recipe.training_hyperparams.resume = True
        recipe.training_hyperparams.run_id = run.name
        if not is_quantization(recipe):  # which calibrates the float network once more
            forget_first_weights(recipe)
    Trainer.train_from_config(recipe)


def forget_first_weights(recipe: Any) -> None:
    """All weights are in the checkpoint that is resumed; those that the run started from may have moved. A
    distillation's teacher is still read from its own."""
    params = recipe.student_checkpoint_params if is_distillation(recipe) else recipe.checkpoint_params
    params.update(checkpoint_path=None, pretrained_weights=None, checkpoint_num_classes=None)


def _check_override(recipe: Any, override: str, run: Path) -> None:
    key, equals, value = override.partition("=")
    if not equals or OmegaConf.select(recipe, key, default=KeyError) is KeyError:
        valid = choices(key, _keys(recipe), limit=8)
        raise SgResnetsError(f"'{override}' overrides nothing: write key=value with a key of the recipe; {valid}")
    if key.startswith("dataset_params.") and key.rpartition(".")[2] in ("mean", "std"):
        raise SgResnetsError(
            f"'{override}': a run goes on with pictures that are normalised as before; leave it out, or train a new "
            f"run from its weights with checkpoint_params.checkpoint_path={run / LATEST}"
        )
    if key == "architecture":
        raise SgResnetsError("a run goes on with its own network: leave out architecture, or train a new run")
    if key == _SCHEDULE or key.startswith(f"{_SCHEDULE}."):
        raise SgResnetsError(
            f"'{override}': a run goes on with its own schedule; leave out lr_mode, or train a new run"
        )
    if key.startswith("quantization_params") and key != "quantization_params.sensitivity_images":
        raise SgResnetsError(
            f"'{override}': a run goes on with its own quantisers; leave it out, or quantise the float network anew"
        )
    if key.startswith(_OPTIMIZER_KEYS):
        raise SgResnetsError(
            f"'{override}': a run goes on with its own optimiser; leave it out (lr= may change), or train a new "
            f"run from its weights with checkpoint_params.checkpoint_path={run / LATEST}"
        )
    if isinstance(OmegaConf.select(recipe, key), DictConfig) and not value.startswith("{"):
        example = next((each for each in _keys(recipe) if each.startswith(f"{key}.")), key)
        raise SgResnetsError(f"'{override}': a run keeps its groups; give a single key, {example}=...")
    pytorch_schedule = isinstance(OmegaConf.select(recipe, _SCHEDULE), DictConfig)
    if key in ("lr", SHORTCUTS["lr"]) and pytorch_schedule:
        raise SgResnetsError(f"'{override}': leave it out, the run's schedule (PyTorch's) goes on with its own rates")


def _keys(recipe: Any) -> list[str]:
    """Return the shortcuts, then every dotted key of the recipe."""

    def below(node: Any, prefix: str) -> Iterator[str]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from below(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"

    keys = list(below(OmegaConf.to_container(recipe), ""))
    return [*SHORTCUTS, *(key for key in keys if key not in SHORTCUTS)]
