"""The batches of an epoch, in an order and with random numbers that depend on nothing but seed, epoch and place: an
epoch that is taken up in its middle goes on with the batches, and the augmentation, that it would have had.

PyTorch's loader draws its order from the global generator, and each of its workers augments with a generator that goes
on from batch to batch: both depend on what was drawn before, and on the number of workers. Here any number of workers,
none among them, makes the same batches.
"""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sg_resnets.data.folder_loader import FolderLoader


@dataclass(frozen=True)
class Place:
    """Where a training is: what all of its random numbers follow from.

    Attributes:
        seed: of the run.
        rank: of the process.
        epoch: that goes on, from 0.
        batch: of the epoch, from 0.
    """

    seed: int
    rank: int
    epoch: int
    batch: int = 0

    def seed_generators(self) -> int:
        """Seed Python's, numpy's and PyTorch's generator of this process, on the CPU; return the seed."""
        seed = int(np.random.SeedSequence((self.seed, self.rank, self.epoch, self.batch)).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        return seed


class PlacedBatch(list):
    """The indices of a batch. A loader's worker that goes through them is seeded for this batch first."""

    def __init__(self, indices: Any, place: Place):
        super().__init__(indices)
        self.place = place

    def __iter__(self) -> Iterator[Any]:
        if get_worker_info() is not None:
            self.place.seed_generators()
        return super().__iter__()

    def __reduce__(self) -> Any:
        return PlacedBatch, (tuple(super().__iter__()), self.place)


@contextmanager
def _seeded(place: Place, *others: torch.Generator | None) -> Iterator[None]:
    """Seed the generators, and `others`, for a place; afterwards the global ones go on as before."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = place.seed_generators()
    for generator in filter(None, others):
        generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


class _Batches:
    """Stands for a loader's batch sampler."""

    def __init__(self, sampler: Any):
        self.sampler = sampler
        self.indices: list[Any] = []
        self.place = Place(0, 0, 0)

    def __iter__(self) -> Iterator[PlacedBatch]:
        for number in range(self.place.batch, len(self.indices)):
            yield PlacedBatch(self.indices[number], replace(self.place, batch=number))

    def __len__(self) -> int:
        return len(self.sampler)


def end_workers(loader: Any) -> None:
    """End the workers that a loader keeps from epoch to epoch (`persistent_workers`). Left to the garbage collector,
    which ends their queues first, each of them would be waited for five seconds."""
    iterator: Any = getattr(loader, "_iterator", None)
    if hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()
        loader._iterator = None


class PlacedLoader:
    """A loader whose epochs may begin at any batch.

    Of a data set without indices (an `IterableDataset`), without batches, and of a loader that iterates in its own way,
    those before are fetched and thrown away, and the random numbers of the workers are left to PyTorch.
    """

    def __init__(self, loader: DataLoader):
        self.loader = loader
        self._batches: _Batches | None = None
        of_pytorch = isinstance(loader, DataLoader) and type(loader).__iter__ in (
            DataLoader.__iter__,
            FolderLoader.__iter__,
        )
        if of_pytorch and loader.batch_sampler is not None and not isinstance(loader.dataset, IterableDataset):
            self._batches = _Batches(loader.batch_sampler)
            self._loader = copy.copy(loader)  # one that PyTorch has started cannot be changed
            vars(self._loader).update(batch_sampler=self._batches, _iterator=None)

    def end_workers(self) -> None:
        """End the workers that are kept for another epoch."""
        if self._batches is not None:
            end_workers(self._loader)

    def iterate(self, place: Place) -> Iterator[Any]:
        """Return an iterator over the batches of an epoch, from `place` on."""
        if self._batches is None:
            return islice(self.loader, place.batch, None)
        sampler = self._batches.sampler
        drawing = (self.loader, sampler, getattr(sampler, "sampler", None))
        with _seeded(replace(place, batch=0), *(getattr(each, "generator", None) for each in drawing)):
            self._batches.indices = list(islice(sampler, len(self.loader)))  # a sampler may have no end
        self._batches.place = place
        batches = iter(self._loader)
        return batches if self.loader.num_workers else self._made_here(batches, place)

    @staticmethod
    def _made_here(batches: Iterator[Any], place: Place) -> Iterator[Any]:
        """The batches that this process makes, with the random numbers that a worker would make each with."""
        for number in count(place.batch):
            with _seeded(replace(place, batch=number)):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch
