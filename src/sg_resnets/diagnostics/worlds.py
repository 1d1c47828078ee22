"""What an experiment is run on, and how its networks are made: data, untrained networks, and networks trained by the
host's Trainer, as many at once as there are cores."""

import contextlib
import functools
import logging
import multiprocessing
import os
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import open_dict
from torch import Tensor

from sg_resnets.config import ResNetConfig
from sg_resnets.data import in_memory
from sg_resnets.diagnostics.curves import EpochRecord, read_curves
from sg_resnets.nn import ResNet
from sg_resnets.zoo import ZOO


@dataclass(frozen=True)
class World:
    """What an experiment is run on: a recipe, what it changes in its networks, its data and its epochs."""

    recipe: str
    arch_params: dict[str, Any]
    dataset: str
    size: int | None
    samples: int | None
    epochs: int


COURSE = World(
    "course_fashion_mnist_14px", {"in_channels": 1, "widths": [8, 16, 32]}, "fashion_mnist_mini", 14, 6000, 5
)
PAPER = World("cifar10_resnet20", {}, "cifar10", None, None, 164)


def fresh(architecture: str, seed: int = 0, world: World = COURSE, **arch_params: Any) -> ResNet:
    """An untrained network; the seed says which."""
    torch.manual_seed(seed)
    return ResNet(ZOO[architecture].config.override(**{**world.arch_params, **arch_params}))


def images_of(world: World, train: bool = False, count: int | None = None) -> tuple[Tensor, Tensor]:
    """(images (N, C, S, S), labels (N,)), not augmented: the first `count` of the training data, or of the
    first 2,000 test images."""
    samples = count or (world.samples if train else 2000)
    data = in_memory(world.dataset, train=train, size=world.size, max_samples=samples)
    return data.__getitems__(range(len(data)))


class Job(NamedTuple):
    """One run of a world's recipe; `overrides` are Hydra's."""

    architecture: str
    seed: int = 0
    overrides: tuple[str, ...] = ()
    world: World = COURSE


class Trained(NamedTuple):
    """The network with the weights of the last epoch, and the figures of each epoch."""

    network: ResNet
    records: list[EpochRecord]


def train_all(jobs: Sequence[Job], folder: Path) -> list[Trained]:
    """Train each job with the host's Trainer, as many at once as there are cores, one thread each: small networks do
    not fill more. The runs go to folders in `folder`."""
    done = _workers().map(_train, jobs, [str(Path(folder).absolute())] * len(jobs))
    trained = []
    for config, state, records in done:
        network = ResNet(config)
        network.load_state_dict(state)
        trained.append(Trained(network, records))
    return trained


@functools.cache
def _workers() -> ProcessPoolExecutor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))


def _train(job: Job, folder: str) -> tuple[ResNetConfig, dict[str, Tensor], list[EpochRecord]]:
    from super_gradients import Trainer, init_trainer
    from super_gradients.common.environment.cfg_utils import load_recipe

    init_trainer()
    overrides = [f"architecture={job.architecture}", f"training_hyperparams.seed={job.seed}"]
    overrides.append(f"epochs={job.world.epochs}")
    logging.disable(logging.WARNING)
    try:
        cfg = load_recipe(job.world.recipe, overrides=[*overrides, *job.overrides])
        with open_dict(cfg):
            cfg.ckpt_root_dir, cfg.experiment_name = (
                folder,
                "_".join(re.findall(r"[\w.]+", " ".join([*overrides[:2], *job.overrides]))),
            )
            cfg.training_hyperparams.silent_mode = True
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            network, _ = Trainer.train_from_config(cfg)
    finally:
        logging.disable(logging.NOTSET)
    run = max(Path(folder, cfg.experiment_name).glob("RUN_*"))
    return network.config, network.state_dict(), read_curves(run / "curves.csv")
