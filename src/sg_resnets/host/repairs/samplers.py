"""Random numbers and samplers: what each epoch starts with."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from super_gradients.common.data_types.enum import MultiGPUMode
from super_gradients.common.environment.ddp_utils import get_local_rank, get_world_size
from super_gradients.common.environment.device_utils import device_config
from super_gradients.common.registry.registry import SAMPLERS
from super_gradients.training.dataloaders import dataloaders
from super_gradients.training.datasets.samplers import DistributedSamplerWrapper, RepeatAugSampler
from super_gradients.training.datasets.samplers.class_balanced_sampler import (
    ClassBalancer,
    _default_oversample_heuristic,
)
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import utils
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from sg_resnets.data.catalogue import given_keywords
from sg_resnets.host.patching import Patch, Repair
from sg_resnets.utils.checks import PROBABILITY, integer, number

MOST_SEEDS = 2**32 - 2**16  # numpy takes 32 bits, and processes add their number
AGGRESSIVENESS = number("a number >= 0", lambda value: value >= 0)  # 0 draws all alike, 1 makes up for their numbers
SEEDS_OF_AN_EPOCH = 1000  # between the seeds of two epochs lie those of one epoch's processes


def sampler_of(loader: DataLoader) -> Any:
    """Return the sampler that gives a loader its indices."""
    return getattr(getattr(loader, "batch_sampler", None), "sampler", None)


def seed_epoch(original: Callable[..., Any], self: Trainer, context: Any, silent_mode: bool = False) -> Any:
    """Seed at each epoch, so that a run that is resumed there goes on as one that was not interrupted."""
    is_ddp = device_config.multi_gpu == MultiGPUMode.DISTRIBUTED_DATA_PARALLEL
    seed, sampler = self.training_params.seed, sampler_of(self.train_loader)
    utils.random_seed(is_ddp, device_config.device, (seed + SEEDS_OF_AN_EPOCH * context.epoch) % MOST_SEEDS)
    if isinstance(sampler, DistributedSampler) and sampler.seed == 0:  # any other is the user's
        sampler.seed = seed
    if isinstance(sampler, RepeatAugSampler):  # SuperGradients tells it the epoch under DDP alone
        sampler.set_epoch(context.epoch + SEEDS_OF_AN_EPOCH * seed)  # all that it is seeded with
    return original(self, context, silent_mode)


def take_one_process(
    original: Callable[..., None],
    self: RepeatAugSampler,
    dataset: Any,
    num_replicas: int | None = None,
    rank: int | None = None,
    shuffle: bool = True,
    num_repeats: int = 3,
    selected_round: int = 256,
    selected_ratio: int = 0,
) -> None:
    """Work in one process, and with fewer images than `selected_round`, of which an epoch would have none."""
    num_replicas = get_world_size() if num_replicas is None else num_replicas
    rank = (
        get_local_rank() if rank is None else rank
    )  # it returns the global rank (ddp_utils.py); only its name is wrong
    selected_round = selected_round if selected_round <= len(dataset) else 0
    original(self, dataset, num_replicas, rank, shuffle, num_repeats, selected_round, selected_ratio)


def instantiate_sampler(original: Callable[..., Any], dataset: Any, dataloader_params: Any) -> Any:
    """Keep a sampler that splits by rank itself from being split once more, and `shuffle` from one that takes none.

    Raises:
        SgResnetsError: a parameter that it does not have, or no samples.
    """
    named = dataloader_params["sampler"]
    name, given = (named, {}) if isinstance(named, str) else next(iter(named.items()))
    given = dict(given or {})
    dataloader_params["sampler"] = {name: given}
    if given.get("num_samples") is not None:
        integer(1)("num_samples", given["num_samples"])
    if name in SAMPLERS:
        valid = inspect.signature(SAMPLERS[name]).parameters
        if all(parameter.kind != parameter.VAR_KEYWORD for parameter in valid.values()):
            given_keywords(name, given, [each for each in valid if each != "dataset"])
        if "shuffle" not in valid:
            dataloader_params.pop("shuffle", None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*RepeatAugSampler that appears not to fit")
        params = original(dataset, dataloader_params)
    sampler = params["sampler"]
    if isinstance(sampler, DistributedSamplerWrapper) and isinstance(sampler.sampler, RepeatAugSampler):
        params["sampler"] = sampler.sampler
    return params


def repeat_factors(
    original: Callable[..., Any],
    class_information_provider: Any,
    oversample_threshold: float | None = None,
    oversample_aggressiveness: float = 0.5,
) -> Any:
    """Return how often each sample is to be drawn; of one label for each sample without a loop over them.

    Raises:
        SgResnetsError: a parameter is out of its range.
    """
    if oversample_threshold is not None:
        PROBABILITY("oversample_threshold", oversample_threshold)
    AGGRESSIVENESS("oversample_aggressiveness", oversample_aggressiveness)
    labels = getattr(class_information_provider, "targets", None)
    if labels is None:
        return original(class_information_provider, oversample_threshold, oversample_aggressiveness)
    counts = np.bincount(labels, minlength=len(class_information_provider.class_names))
    factors = _default_oversample_heuristic(counts / len(labels), oversample_threshold, oversample_aggressiveness)
    return factors[labels]


REPAIRS = (
    Repair(
        "seed_of_epochs",
        "seeded once, when training starts: a resumed run shuffles and drops as its first epochs did; under DDP the "
        "order "
        "is the same for all seeds",
        [Patch(Trainer, "_train_epoch", seed_epoch)],
    ),
    Repair(
        "samplers",
        "RepeatAugSampler: split twice under DDP, with the same images in every epoch; an error in one process. "
        "ClassBalancedSampler fails on the recipes' `shuffle`, and goes through all samples in Python",
        [
            Patch(RepeatAugSampler, "__init__", take_one_process),
            Patch(dataloaders, "_instantiate_sampler", instantiate_sampler),
            Patch(ClassBalancer, "get_sample_repeat_factors", repeat_factors),
        ],
    ),
)
