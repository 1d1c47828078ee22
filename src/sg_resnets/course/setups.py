"""What an experiment is run on, and how its networks are made: data, untrained networks, and networks trained by the
SuperGradients' Trainer, as many at once as there are cores."""

import contextlib
import functools
import multiprocessing
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import torch
from omegaconf import open_dict
from torch import Tensor

from sg_resnets.data import in_memory
from sg_resnets.models import ResNet
from sg_resnets.models.config import ResNetConfig
from sg_resnets.models.zoo import ZOO
from sg_resnets.runs.curves import EpochRecord, read_curves
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hardware import cpu_cores


@dataclass(frozen=True)
class Setup:
    """What an experiment is run on: a recipe, what it changes in its networks, its data and its epochs."""

    recipe: str
    arch_params: dict[str, Any]
    dataset: str
    size: int | None
    samples: int | None
    epochs: int


COURSE = Setup(
    "course_fashion_mnist_14px", {"in_channels": 1, "widths": [8, 16, 32]}, "fashion_mnist_mini", 14, 6000, 5
)
PAPER = Setup("cifar10_resnet20", {}, "cifar10", None, None, 164)


def untrained(architecture: str, seed: int = 0, setup: Setup = COURSE, **arch_params: Any) -> ResNet:
    """An untrained network; the seed says which."""
    torch.manual_seed(seed)
    return ResNet(ZOO[architecture].config.override(**{**setup.arch_params, **arch_params}))


def load_images(setup: Setup, train: bool = False, count: int | None = None) -> tuple[Tensor, Tensor]:
    """(images (N, C, S, S), labels (N,)), not augmented: the first `count` of the training data, or of the
    first 2,000 test images."""
    samples = count or (setup.samples if train else 2000)
    data = in_memory(setup.dataset, train=train, size=setup.size, max_samples=samples)
    return data.__getitems__(range(len(data)))


class Job(NamedTuple):
    """One run of a setup's recipe; `overrides` are Hydra's."""

    architecture: str
    seed: int = 0
    overrides: tuple[str, ...] = ()
    setup: Setup = COURSE


class Trained(NamedTuple):
    """The network with the weights of the last epoch, and the figures of each epoch."""

    network: ResNet
    records: list[EpochRecord]


def train_all(jobs: Sequence[Job], folder: Path) -> list[Trained]:
    """Train each job with SuperGradients' Trainer, as many at once as there are cores, one thread each: small networks
    do not fill more. Each job has a folder of its own in `folder`.

    Raises:
        SgResnetsError: a process ended before its network was trained, or a recipe's value is wrong.
    """
    try:
        results = list(_workers().map(_train, jobs, [str(Path(folder).absolute())] * len(jobs)))
    except BrokenProcessPool:
        _workers.cache_clear()
        raise SgResnetsError(
            "a process ended before its network was trained: in a script, networks are trained below "
            '`if __name__ == "__main__":`; elsewhere memory may have run out'
        ) from None
    except RuntimeError as error:
        if "bootstrapping phase" in str(error):  # a process that runs the script anew: the first one says it in a line
            sys.exit(1)
        raise
    trained = []
    for config, state, records in results:
        network = ResNet(config)
        network.load_state_dict(state)
        trained.append(Trained(network, records))
    return trained


@functools.cache
def _workers() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(cpu_cores(), multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))


def _train(job: Job, folder: str) -> tuple[ResNetConfig, dict[str, Tensor], list[EpochRecord]]:
    from super_gradients import Trainer, init_trainer
    from super_gradients.common.environment.cfg_utils import load_recipe

    from sg_resnets.runs.build import quiet

    init_trainer()
    overrides = [f"architecture={job.architecture}", f"training_hyperparams.seed={job.seed}"]
    overrides += [f"epochs={job.setup.epochs}", f"dataset_params={job.setup.dataset}"]
    samples = "null" if job.setup.samples is None else job.setup.samples
    overrides.append(f"++dataset_params.train_dataset_params.max_samples={samples}")
    with quiet():
        cfg = load_recipe(job.setup.recipe, overrides=[*overrides, *job.overrides])
        with open_dict(cfg):
            cfg.ckpt_root_dir = folder
            words = re.findall(r"[\w.-]+", " ".join([*overrides[:2], *job.overrides]))
            cfg.experiment_name = f"{'_'.join(words)[:200]}_{uuid4().hex[:8]}"
            cfg.training_hyperparams.silent_mode = True
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            network, _ = Trainer.train_from_config(cfg)
    (run,) = Path(folder, cfg.experiment_name).glob("RUN_*")
    return network.config, network.state_dict(), read_curves(run / "curves.csv")
