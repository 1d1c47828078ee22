"""What a recipe asks of its network that the network cannot do, found on one without memory for its weights."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from omegaconf import OmegaConf
from super_gradients.common.factories.metrics_factory import MetricsFactory
from super_gradients.common.registry.registry import ARCHITECTURES
from super_gradients.training.metrics.metric_utils import get_metrics_titles
from super_gradients.training.utils.utils import fuzzy_str
from torch import nn
from torchmetrics import Metric, MetricCollection

from sg_resnets.distillation.student import is_distillation
from sg_resnets.host.repairs.gradients import refuse_empty_groups
from sg_resnets.models import ResNet
from sg_resnets.models.config import ResNetConfig
from sg_resnets.utils.checks import is_integer
from sg_resnets.utils.errors import SgResnetsError, choices
from sg_resnets.utils.foreign_code import PACKAGES

_NOT_OURS = ("num_input_channels", "model_name", "schema")  # of arch_params: SuperGradients reads them


def check_network(recipe: Any) -> Iterator[str]:
    """Yield a line for each thing that the network of a recipe cannot do; other libraries' networks are not looked
    at."""
    who = "student_" if is_distillation(recipe) else ""
    cls = ARCHITECTURES.get(recipe.get(f"{who}architecture"))
    params = OmegaConf.select(recipe, f"{who}arch_params", throw_on_missing=False) or {}
    if not isinstance(getattr(cls, "row", None), ResNetConfig) or "structure" in params:
        return
    try:
        given: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(params), resolve=True)  # type: ignore[assignment]
        config = cls.row.override(**{key: value for key, value in given.items() if key not in _NOT_OURS})
        yield from check_metrics(recipe, config.num_classes)
        rates = OmegaConf.select(recipe, "training_hyperparams.initial_lr", throw_on_missing=False)
        size = OmegaConf.select(recipe, "dataset_params.train_dataloader_params.batch_size", throw_on_missing=False)
        if config == cls.row.override(num_classes=config.num_classes) and not isinstance(rates, Mapping) and size != 1:
            return  # a network of the zoo, and nothing is asked of it
        with torch.device("meta"):
            network = ResNet(config)
        if isinstance(rates, Mapping):
            refuse_empty_groups(network, rates)
    except SgResnetsError as error:
        yield str(error)
        return
    except Exception:  # a block of the user's own may want weights; what is wrong, the building of the network says
        return
    yield from check_batch(recipe, network, size)


def check_batch(recipe: Any, network: nn.Module, size: Any) -> Iterator[str]:
    """Batches of one image, of which batch-norm is to take the statistics."""
    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    if size == 1 and has_batch_norm and not OmegaConf.select(recipe, "training_hyperparams.sync_bn"):
        yield (
            "batch_size=1: batch-norm takes its statistics of a batch, and one image has none to speak of: set a "
            "larger batch_size, or a network without batch-norm, such as architecture=fixup_resnet56_cifar"
        )


def check_metrics(recipe: Any, classes: Any) -> Iterator[str]:
    """Metrics that the number of classes does not allow, Top5 of two classes, for example; and a watched one that is
    none of them."""
    training = recipe.get("training_hyperparams") or {}
    titles: list[str] = []
    all_built = True
    for key in ("train_metrics_list", "valid_metrics_list"):
        for part in training.get(key) or () if is_integer(classes) else ():
            metric = built_metric(part)  # of the user's own it is not known what it takes
            if metric is None or type(metric).__module__.partition(".")[0] not in PACKAGES:
                all_built = False
                continue
            titles += get_metrics_titles(MetricCollection([metric])) if key == "valid_metrics_list" else []
            try:
                metric.update(torch.zeros(2, classes), torch.zeros(2, dtype=torch.int64))
                metric.compute()
            except Exception as error:
                name, reason = part if isinstance(part, str) else next(iter(part)), str(error).splitlines()[0]
                yield f"the metric {name} cannot be computed of {classes} classes ({reason}): leave it out"
    watched = training.get("metric_to_watch")
    for part in training.get("phase_callbacks") or ():
        stop = part.get("EarlyStop") if isinstance(part, Mapping) else None
        if isinstance(stop, Mapping) and str(stop.get("phase")) == "VALIDATION_EPOCH_END":
            yield from check_early_stop(stop, watched, training, titles if all_built else [])
    if all_built and titles and isinstance(watched, str) and not may_be_watched(watched, titles, training.get("loss")):
        yield f"metric_to_watch={watched}: {choices(watched, titles)}; or the loss"


def check_early_stop(stop: Any, watched: Any, training: Any, titles: list[str]) -> Iterator[str]:
    """An early stop on a metric that is not measured, or that takes the watched one's rise for its fall."""
    monitor, mode = str(stop.get("monitor")), stop.get("mode", "min")
    if titles and not may_be_watched(monitor, titles, training.get("loss")):
        yield f"EarlyStop: monitor={monitor}: {choices(monitor, titles)}; or the loss"
    right = "max" if training.get("greater_metric_to_watch_is_better") else "min"
    if monitor == watched and mode != right:
        yield (
            f"EarlyStop: mode={mode}, but greater_metric_to_watch_is_better="
            f"{training.get('greater_metric_to_watch_is_better')} of {watched}: set mode: {right}, or the other"
        )


def built_metric(part: Any) -> Metric | None:
    """Return a metric that a recipe names; None where that is not registered, or takes no such parameters, which others
    say."""
    if not isinstance(part, str | Mapping) or (isinstance(part, Mapping) and "_target_" in part):
        return None
    try:
        return MetricsFactory().get(OmegaConf.to_container(part, resolve=True) if OmegaConf.is_config(part) else part)
    except Exception:
        return None


def may_be_watched(name: str, titles: list[str], loss: Any) -> bool:
    """Whether a name may be that of a metric, of a part of the loss, or of a test set's metric."""
    parts = [fuzzy_str(each) for each in (*titles, *([loss] if isinstance(loss, str) else loss or ()))]
    name = fuzzy_str(name)
    return "loss" in name or ":" in name or "/" in name or any(name in part or part in name for part in parts)
