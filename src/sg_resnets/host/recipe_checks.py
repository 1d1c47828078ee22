"""Values of a recipe that cannot be meant, refused before anything is built or written."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf
from super_gradients.common.registry.registry import (
    CALLBACKS,
    LOSSES,
    LR_SCHEDULERS_CLS_DICT,
    LR_WARMUP_CLS_DICT,
    METRICS,
    OPTIMIZERS,
    TORCH_LR_SCHEDULERS,
)
from super_gradients.training.params import DEFAULT_TRAINING_PARAMS
from super_gradients.training.utils.utils import fuzzy_keys, fuzzy_str, get_fuzzy_mapping_param

from sg_resnets.distillation.student import is_distillation
from sg_resnets.host.current_run import as_data
from sg_resnets.host.divergence import ON_DIVERGENCE
from sg_resnets.host.repairs.loggers import check_packages
from sg_resnets.runs.recipes import SHORTCUTS
from sg_resnets.training.intervals import INTERVAL
from sg_resnets.utils.checks import BOOLEAN, NOT_NEGATIVE, PROBABILITY, Check, integer
from sg_resnets.utils.errors import SgResnetsError, choices, similar

TRAINING = "training_hyperparams"
RATE = Check(
    lambda value: isinstance(value, Mapping) or NOT_NEGATIVE.allows(value), NOT_NEGATIVE.words + ", such as 0.1"
)
CHECKS: dict[str, Check] = {
    "epochs": integer(1),
    "lr": RATE,
    "batch_size": integer(1),
    "val_batch_size": integer(1),
    "num_workers": integer(0),
    "ema": BOOLEAN,
    "resume": Check(BOOLEAN.allows, "True, False or auto"),
    f"{TRAINING}.seed": integer(0),
    f"{TRAINING}.mixed_precision": Check(BOOLEAN.allows, BOOLEAN.words + "; mixed_precision_dtype chooses the format"),
    **{
        f"{TRAINING}.{key}": BOOLEAN
        for key in ("channels_last", "torch_compile", "sync_bn", "find_unused_parameters", "deterministic")
    },
    "dataset_params.train_dataset_params.horizontal_flip": BOOLEAN,
    f"{TRAINING}.batch_accumulate": integer(1),
    f"{TRAINING}.save_every": INTERVAL,
    f"{TRAINING}.on_divergence": ON_DIVERGENCE,
    **{f"{TRAINING}.keep_{key}": integer(0) for key in ("last", "best", "every")},
    f"{TRAINING}.clip_grad_norm": NOT_NEGATIVE,
    f"{TRAINING}.optimizer_params.weight_decay": NOT_NEGATIVE,
    f"{TRAINING}.criterion_params.smooth_eps": NOT_NEGATIVE,
    f"{TRAINING}.ema_params.decay": PROBABILITY,
}
# What other libraries call them.
ALIASES = {"learning_rate": "lr", "batchsize": "batch_size"}
# Keys of training_hyperparams that are read, besides those that SuperGradients has defaults for.
OTHER_KEYS = (
    "max_epochs", "loss", "channels_last", "mixed_precision_dtype", "find_unused_parameters", "run_id", "save_every",
    "on_divergence", "deterministic", "keep_last", "keep_best", "keep_every",
)  # fmt: skip
MISSPELT = 0.85  # difflib's ratio from which on a key that nothing reads is taken for one that is read
# Keys under which one name is chosen. Two recipes that choose differently are merged into both.
CHOICES = (f"{TRAINING}.lr_mode", f"{TRAINING}.loss", "dataset_params.train_dataloader_params.sampler")
GIVEN_BY_TRAINER = ("phase", "metric_name", "optimizer")  # to a schedule of PyTorch's


def check_recipe(recipe: Any) -> None:
    """Check a recipe's values; an absent or null key is left alone.

    Raises:
        SgResnetsError: a value that its key does not take.
    """
    for name, check in CHECKS.items():
        for key in filter(None, (name, SHORTCUTS.get(name))):
            value = OmegaConf.select(recipe, key, throw_on_missing=False)
            if value is not None:
                check(key, value)
    refuse_misspelt(recipe)
    refuse_merged(recipe)
    training = OmegaConf.select(recipe, TRAINING) or {}
    check_packages(training.get("sg_logger"))
    check_schedule(training)
    check_optimizer(training)
    for key, name, params, registry, filled in named_parts(training):
        check_parameters(key, name, params, registry, filled)
    if is_distillation(recipe):
        check_distillation(recipe)


def refuse_misspelt(recipe: Any) -> None:
    """Refuse a key that is nearly one that is read: nothing would read it, and the run would not be what was asked
    for."""
    training = OmegaConf.select(recipe, TRAINING) or ()
    used = set(
        re.findall(r"\$\{([^:}]+)\}", OmegaConf.to_yaml(OmegaConf.create(as_data(OmegaConf.to_container(recipe)))))
    )
    read_in_training = (*DEFAULT_TRAINING_PARAMS, *OTHER_KEYS)
    for prefix, keys, read in (("", recipe, SHORTCUTS), (f"{TRAINING}.", training, read_in_training)):
        for key in keys:
            candidates = similar(key, read, count=1, cutoff=MISSPELT)
            meant = ALIASES.get(key) or (f"{prefix}{candidates[0]}" if candidates else None)
            if meant and key not in read and f"{prefix}{key}" not in used:
                raise SgResnetsError(f"nothing reads {prefix}{key}: did you mean {meant}?")


def refuse_merged(recipe: Any) -> None:
    """Refuse two names where one is chosen: a recipe's dict and the one it stands on are merged, and one of the two
    would be ignored without a word."""
    for key in CHOICES:
        value = OmegaConf.select(recipe, key, throw_on_missing=False)
        if isinstance(value, Mapping) and len(value) > 1 and "_target_" not in value:
            names = " and ".join(map(str, value))
            deletions = " or ".join(f"'~{key}.{name}'" for name in value)
            raise SgResnetsError(f"{key} has {names}, and takes one: delete the other with {deletions}")


def _public(registry: Mapping[str, Any]) -> list[str]:
    return [name for name in registry if not name.startswith("_")]


def check_schedule(training: Any) -> None:
    """Refuse an unknown warm-up or schedule."""
    warmup, schedule = training.get("warmup_mode"), training.get("lr_mode")
    if (warmup is None and "warmup_mode" in training) or (isinstance(warmup, str) and warmup not in LR_WARMUP_CLS_DICT):
        raise SgResnetsError(f"unknown warmup_mode '{warmup}': {choices(str(warmup), _public(LR_WARMUP_CLS_DICT))}")
    if isinstance(schedule, str) and schedule not in LR_SCHEDULERS_CLS_DICT:
        raise SgResnetsError(
            f"unknown lr_mode '{schedule}': {choices(schedule, _public(LR_SCHEDULERS_CLS_DICT))}; or one of PyTorch's "
            "with its parameters, such as {StepLR: {step_size: 30, phase: TRAIN_EPOCH_END}}"
        )


def check_optimizer(training: Any) -> None:
    """Refuse parameters that the optimiser does not take: as a rule the recipe's, which are another optimiser's."""
    name = training.get("optimizer")
    if not (isinstance(name, str) and name in OPTIMIZERS):
        return
    unknown = _unknown_parameters(OPTIMIZERS[name], training.get("optimizer_params") or {})
    if unknown:
        remove = " ".join(f"'~{TRAINING}.optimizer_params.{key}'" for key in unknown)
        raise SgResnetsError(f"{name} takes no {', '.join(unknown)}: leave them out with {remove}")


def named_parts(training: Any) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, Any], tuple[str, ...]]]:
    """Yield (key, name, its parameters, registry, parameters that it gets anyway) for what training_hyperparams
    name."""
    loss = training.get("loss")
    if isinstance(loss, str):
        yield f"{TRAINING}.criterion_params", loss, training.get("criterion_params") or {}, LOSSES, ()
    elif isinstance(loss, Mapping):
        yield from ((f"{TRAINING}.loss.{name}", name, params or {}, LOSSES, ()) for name, params in loss.items())
    schedule = training.get("lr_mode")
    if isinstance(schedule, Mapping):
        for name, params in schedule.items():
            yield f"{TRAINING}.lr_mode.{name}", name, params or {}, TORCH_LR_SCHEDULERS, GIVEN_BY_TRAINER
    for key, registry in (
        ("train_metrics_list", METRICS),
        ("valid_metrics_list", METRICS),
        ("phase_callbacks", CALLBACKS),
    ):
        for part in training.get(key) or ():
            if isinstance(part, Mapping):
                yield from ((f"{TRAINING}.{key}", name, params or {}, registry, ()) for name, params in part.items())


def check_parameters(
    key: str, name: str, params: Mapping[str, Any], registry: Mapping[str, Any], filled: tuple[str, ...]
) -> None:
    """Refuse parameters that a loss, metric, schedule or callback does not take, and the lack of one that it needs; a
    name that is not registered is answered by SuperGradients."""
    cls = registry.get(name) or (
        get_fuzzy_mapping_param(name, registry) if fuzzy_str(name) in fuzzy_keys(registry) else None
    )
    if cls is None or not isinstance(params, Mapping) or "_target_" in params:
        return
    signature = inspect.signature(cls).parameters.values()
    valid = [one.name for one in signature if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    valid += [each for each in filled if each not in valid and each != "optimizer"]
    for unknown in (each for each in _unknown_parameters(cls, params) if each not in filled):
        wrong = f"~{key}.{unknown}"
        raise SgResnetsError(
            f"{key}: {name} takes no {unknown}: {choices(unknown, valid)}; leave it out with '{wrong}'"
        )
    needed = [
        one.name
        for one in signature
        if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    missing = [each for each in needed if each not in params and each not in filled]
    if missing:
        raise SgResnetsError(f"{key}: {name} needs {', '.join(missing)}: add +{key}.{missing[0]}=VALUE")


def _unknown_parameters(cls: Any, params: Mapping[str, Any]) -> list[str]:
    signature = inspect.signature(cls).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.values()):
        return []
    return [str(key) for key in params if key not in signature]


def check_distillation(recipe: Any) -> None:
    """Refuse a teacher that knows nothing, and networks of other numbers of classes."""
    sources = ("checkpoint_path", "pretrained_weights")
    if not recipe.get("smoke") and not any(
        OmegaConf.select(recipe, f"teacher_checkpoint_params.{key}") for key in sources
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
