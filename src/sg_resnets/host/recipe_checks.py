"""Values of a recipe that cannot be meant, refused before anything is built or written."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import ListConfig, OmegaConf
from super_gradients.common.registry.registry import (
    ARCHITECTURES,
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
from torch.utils.data import DataLoader

from sg_resnets.distillation.student import is_distillation
from sg_resnets.host import signatures
from sg_resnets.host.current_run import as_data
from sg_resnets.host.divergence import ON_DIVERGENCE
from sg_resnets.host.network_checks import check_network
from sg_resnets.host.repairs.loggers import check_packages
from sg_resnets.runs.recipes import SHORTCUTS
from sg_resnets.training.intervals import INTERVAL
from sg_resnets.training.precision import DTYPES
from sg_resnets.utils.checks import BOOLEAN, FINITE, NOT_NEGATIVE, PROBABILITY, Check, integer
from sg_resnets.utils.errors import SeveralMistakes, SgResnetsError, choices, similar
from sg_resnets.utils.foreign_code import PACKAGES, is_known, targets

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
    f"{TRAINING}.mixed_precision_dtype": Check(lambda value: value in DTYPES, "bfloat16 or float16, or left out"),
    f"{TRAINING}.save_every": INTERVAL,
    f"{TRAINING}.on_divergence": ON_DIVERGENCE,
    **{f"{TRAINING}.keep_{key}": integer(0) for key in ("last", "best", "every")},
    f"{TRAINING}.clip_grad_norm": NOT_NEGATIVE,
    f"{TRAINING}.optimizer_params.weight_decay": NOT_NEGATIVE,
    f"{TRAINING}.criterion_params.smooth_eps": NOT_NEGATIVE,
    f"{TRAINING}.ema_params.decay": PROBABILITY,
}
NEEDED = (f"{TRAINING}.seed",)  # for which null stands for no choice of ours
_ABSENT = object()
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


def _public(registry: Mapping[str, Any]) -> list[str]:
    return [name for name in registry if not name.startswith("_")]


# What the schedules and warm-ups of SuperGradients read besides, each from its arguments.
READ_BY_SCHEDULES = sorted(
    {
        name
        for registry in (LR_SCHEDULERS_CLS_DICT, LR_WARMUP_CLS_DICT)
        for mode in _public(registry)
        for name in inspect.signature(registry[mode]).parameters
    }
)
IN_ITS_RECIPES = ("warmup_momentum", "warmup_bias_lr", "multiply_head_lr")  # though nothing reads them
READ_BY_LOADERS = ("min_samples", "auto_wrap_sampler_when_ddp")
BY_DEFAULT: dict[type, Check] = {
    bool: BOOLEAN,
    int: FINITE,
    float: FINITE,
    list: Check(lambda value: isinstance(value, list | tuple | ListConfig), "a list"),
    dict: Check(lambda value: isinstance(value, Mapping), "a dict"),
}
OF_SEVERAL_TYPES = ("resume_strict_load", "resume")
GIVEN_BY_TRAINER = ("phase", "metric_name", "optimizer")  # to a schedule of PyTorch's


def check_recipe(recipe: Any, trains: bool = True) -> None:
    """Check a recipe, and say all that is wrong with it at once; an absent or null key is left alone. Where it does not
    train, as in an evaluation, what it says of training does not matter but for its values.

    Raises:
        SgResnetsError: something in it cannot be meant.
    """
    found: dict[str, str] = {}
    for mistake in mistakes_in(recipe, trains):
        key = mistake.partition(": ")[0]
        found.setdefault(key if "=" in key else mistake, mistake)  # of one value what is said first
    if found:
        raise SeveralMistakes.of("the recipe", list(found.values()))


def mistakes_in(recipe: Any, trains: bool = True) -> Iterator[str]:
    """Yield a line for each mistake."""
    training = OmegaConf.select(recipe, TRAINING) or {}
    yield from check_values(recipe)
    if not trains:
        return
    yield from check_keys(recipe)
    yield from check_merged(recipe)
    try:
        check_packages(training.get("sg_logger"))
    except SgResnetsError as error:
        yield str(error)
    yield from check_schedule(training)
    yield from check_optimizer(training)
    yield from check_lists(training)
    for key, name, params, registry, filled in named_parts(training):
        yield from check_part(key, name, params, registry, filled)
    for split in ("train", "val"):
        key = f"dataset_params.{split}_dataloader_params"
        loading = OmegaConf.select(recipe, key) or {}
        yield from signatures.mistakes(key, "the loader", loading, DataLoader, ("dataset", *READ_BY_LOADERS))
    if is_distillation(recipe):
        yield from check_distillation(recipe)
    yield from check_network(recipe)


def check_values(recipe: Any) -> Iterator[str]:
    """Values that their keys do not take: by `CHECKS`, and of the rest of training_hyperparams those of another type
    than SuperGradients' default."""
    for name, check in CHECKS.items():
        for key in filter(None, (name, SHORTCUTS.get(name))):
            value = OmegaConf.select(recipe, key, default=_ABSENT, throw_on_missing=False)
            is_open = value is _ABSENT or (value is None and name not in NEEDED)
            if not is_open and not check.allows(value):
                yield check.refusal(key, value)
                break
    for key, default in DEFAULT_TRAINING_PARAMS.items():
        name = f"{TRAINING}.{key}"
        value = OmegaConf.select(recipe, name, throw_on_missing=False)
        is_checked = name in CHECKS or name in SHORTCUTS.values()
        typed = type(default) in BY_DEFAULT and not is_checked and key not in OF_SEVERAL_TYPES
        if typed and value is not None and not is_built(value) and not BY_DEFAULT[type(default)].allows(value):
            yield BY_DEFAULT[type(default)].refusal(name, value)


def is_built(value: Any) -> bool:
    """Whether Hydra builds it."""
    return isinstance(value, Mapping) and "_target_" in value


def check_keys(recipe: Any) -> Iterator[str]:
    """Keys that nothing reads, so that the run would not be what was asked for: in training_hyperparams all, unless
    there is code of the user's that may read them; elsewhere those that are nearly one that is read. A null
    one says nothing."""
    training = OmegaConf.select(recipe, TRAINING) or {}
    text = OmegaConf.to_yaml(OmegaConf.create(as_data(OmegaConf.to_container(recipe))))
    used = {path.rpartition(".")[2] for path in re.findall(r"\$\{([^:}]+)\}", text)}
    read_in_training = [*DEFAULT_TRAINING_PARAMS, *OTHER_KEYS, *READ_BY_SCHEDULES, *IN_ITS_RECIPES]
    own_code = has_own_code(recipe, text)
    for prefix, keys, read in (("", recipe, list(SHORTCUTS)), (f"{TRAINING}.", training, read_in_training)):
        for key in keys:
            if key in read or key in used or str(key).startswith("_"):  # of Hydra
                continue
            near = similar(key, read, count=1, cutoff=MISSPELT)
            meant = ALIASES.get(key) or (f"{prefix}{near[0]}" if near else None)
            if meant:
                yield f"nothing reads {prefix}{key}: did you mean {meant}?"
            elif prefix and not own_code and keys.get(key) is not None:
                yield f"nothing reads {prefix}{key}: {elsewhere(recipe, key) or choices(key, read)}"


def has_own_code(recipe: Any, text: str) -> bool:
    """Whether something of the user's own, which a recipe names, may read what it says; `text` is the recipe's."""
    registered = [part for registry in (ARCHITECTURES, CALLBACKS, LOSSES, METRICS) for part in registry.items()]
    own = {
        name for name, cls in registered if getattr(cls, "__module__", PACKAGES[0]).partition(".")[0] not in PACKAGES
    }
    names = [str(name) for _, name in targets(OmegaConf.to_container(recipe))]
    return bool(recipe.get("plugins")) or bool(own & {*re.findall(r"\w+", text)}) or not all(map(is_known, names))


def elsewhere(recipe: Any, key: str) -> str:
    """Return where else in a recipe such a key is, as a question."""
    place = next(places_of(key, OmegaConf.to_container(recipe)), None)
    return f"did you mean {place}?" if place else ""


def places_of(key: str, part: Any, at: str = "") -> Iterator[str]:
    """Yield where in a recipe a key is, but for training_hyperparams itself."""
    for name, each in part.items() if isinstance(part, Mapping) else ():
        if name == key and at != f"{TRAINING}.":
            yield f"{at}{name}"
        yield from places_of(key, each, f"{at}{name}.")


def check_merged(recipe: Any) -> Iterator[str]:
    """Two names where one is chosen: a recipe's dict and the one it stands on are merged, and one of the two would be
    ignored without a word."""
    for key in CHOICES:
        value = OmegaConf.select(recipe, key, throw_on_missing=False)
        if isinstance(value, Mapping) and len(value) > 1 and not is_built(value):
            names = " and ".join(map(str, value))
            deletions = " or ".join(f"'~{key}.{name}'" for name in value)
            yield f"{key} has {names}, and takes one: delete the other with {deletions}"


def check_schedule(training: Any) -> Iterator[str]:
    """An unknown warm-up or schedule."""
    warmup, schedule = training.get("warmup_mode"), training.get("lr_mode")
    if (warmup is None and "warmup_mode" in training) or (isinstance(warmup, str) and warmup not in LR_WARMUP_CLS_DICT):
        yield f"unknown warmup_mode '{warmup}': {choices(str(warmup), _public(LR_WARMUP_CLS_DICT))}"
    if isinstance(schedule, str) and schedule not in LR_SCHEDULERS_CLS_DICT:
        yield (
            f"unknown lr_mode '{schedule}': {choices(schedule, _public(LR_SCHEDULERS_CLS_DICT))}; or one of PyTorch's "
            "with its parameters, such as {StepLR: {step_size: 30, phase: TRAIN_EPOCH_END}}"
        )


def check_optimizer(training: Any) -> Iterator[str]:
    """Parameters that the optimiser does not take: as a rule the recipe's, which are another optimiser's."""
    name, params = training.get("optimizer"), training.get("optimizer_params") or {}
    if not (isinstance(name, str) and name in OPTIMIZERS and isinstance(params, Mapping)):
        return
    unknown = signatures.unknown_parameters(OPTIMIZERS[name], params)
    if unknown:
        remove = " ".join(f"'~{TRAINING}.optimizer_params.{key}'" for key in unknown)
        yield f"{name} takes no {', '.join(unknown)}: leave them out with {remove}"
    known = {key: value for key, value in params.items() if key not in unknown}
    given = tuple(inspect.signature(OPTIMIZERS[name]).parameters)[:2]  # the network's parameters, and the rate
    yield from signatures.mistakes(f"{TRAINING}.optimizer_params", name, known, OPTIMIZERS[name], (*given, "lr"))


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
    for key, registry in LISTS.items():
        for part in training.get(key) or ():
            if isinstance(part, Mapping):
                yield from ((f"{TRAINING}.{key}", name, params or {}, registry, ()) for name, params in part.items())


LISTS = {"train_metrics_list": METRICS, "valid_metrics_list": METRICS, "phase_callbacks": CALLBACKS}


def check_lists(training: Any) -> Iterator[str]:
    """Entries of the lists of metrics and callbacks that are no names: YAML reads `NaN` as a number, for example."""
    for key in LISTS:
        for part in training.get(key) or ():
            if part is None or isinstance(part, bool | int | float):
                yield f"{TRAINING}.{key} has {part!r}: must be names, or {{NAME: {{PARAMETER: VALUE}}}}"


def check_part(
    key: str, name: str, params: Mapping[str, Any], registry: Mapping[str, Any], filled: tuple[str, ...]
) -> Iterator[str]:
    """Parameters that a loss, metric, schedule or callback does not take, and the lack of one that it needs; a name
    that is not registered is answered by SuperGradients."""
    cls = registry.get(name) or (
        get_fuzzy_mapping_param(name, registry) if fuzzy_str(name) in fuzzy_keys(registry) else None
    )
    if cls is not None and isinstance(params, Mapping) and not is_built(params):
        yield from signatures.mistakes(key, name, params, cls, filled)


def check_distillation(recipe: Any) -> Iterator[str]:
    """A teacher that knows nothing, and networks of other numbers of classes."""
    sources = ("checkpoint_path", "pretrained_weights")
    if not recipe.get("smoke") and not any(
        OmegaConf.select(recipe, f"teacher_checkpoint_params.{key}") for key in sources
    ):
        yield (
            "the teacher has no weights, so there is nothing to learn from it: set "
            "teacher_checkpoint_params.checkpoint_path=FILE or teacher_checkpoint_params.pretrained_weights=KIND"
        )
    classes = [OmegaConf.select(recipe, f"{who}_arch_params.num_classes") for who in ("student", "teacher")]
    if classes[0] != classes[1]:
        yield (
            f"student_arch_params.num_classes={classes[0]} and teacher_arch_params.num_classes={classes[1]}: "
            "both must have the same classes"
        )
