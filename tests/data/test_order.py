"""The batches of an epoch, taken up in its middle."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, WeightedRandomSampler

from sg_resnets.data.order import Place, PlacedLoader


class Noisy(Dataset):
    """Each item is its number and what the three generators draw for it."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return torch.tensor([index, random.random(), np.random.rand(), torch.rand(()).item()])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(24.0))


def batches(loader, batch=0, epoch=0, **place):
    random.random(), np.random.rand(), torch.rand(3)  # what was drawn before does not matter
    return [each.tolist() for each in loader.iterate(Place(seed=1, rank=0, epoch=epoch, batch=batch, **place))]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_epoch_goes_on_with_the_batches_that_it_would_have_had(workers, persistent):
    options = {"batch_size": 4, "shuffle": True, "num_workers": workers, "persistent_workers": persistent}
    whole = PlacedLoader(DataLoader(Noisy(), **options))
    first, second = batches(whole), batches(whole, epoch=1)
    assert len(first) == 6 and first != second and sorted(row[0] for batch in first for row in batch) == [*range(24)]
    assert batches(PlacedLoader(DataLoader(Noisy(), **options)), batch=4, epoch=1) == second[4:]


def test_the_number_of_workers_changes_nothing():
    one, three = (
        batches(PlacedLoader(DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=workers)))
        for workers in (1, 3)
    )
    assert one == three


@pytest.mark.parametrize(
    "sampler",
    [
        {"sampler": WeightedRandomSampler([1.0] * 24, 24)},
        {"shuffle": True, "generator": torch.Generator().manual_seed(3)},
    ],
)
def test_other_samplers_and_generators_go_on_too(sampler):
    loader = PlacedLoader(DataLoader(Noisy(), batch_size=4, **sampler))
    numbers = [[row[0] for row in batch] for batch in batches(loader)]
    assert [[row[0] for row in batch] for batch in batches(loader, batch=2)] == numbers[2:]


def test_the_order_leaves_the_generators_alone():
    loader = PlacedLoader(DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=1))
    states = []
    for seed in (1, 2):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)
        list(loader.iterate(Place(seed=seed, rank=0, epoch=0)))
        states.append((torch.rand(()).item(), random.random(), np.random.rand()))
    assert states[0] == states[1]


class Pairs:
    """A batch sampler of a user's own, with nothing but what PyTorch asks for."""

    def __iter__(self):
        return iter(torch.randperm(24).view(12, 2).tolist())

    def __len__(self):
        return 12


def test_a_batch_sampler_of_ones_own_goes_on_too():
    loader = PlacedLoader(DataLoader(Noisy(), batch_sampler=Pairs()))
    numbers = [[row[0] for row in batch] for batch in batches(loader)]
    assert [[row[0] for row in batch] for batch in batches(loader, batch=5)] == numbers[5:] and len(numbers) == 12


def test_a_loader_that_iterates_in_its_own_way_does_so():
    class Backwards(DataLoader):
        def __iter__(self):
            return reversed(list(super().__iter__()))

    loader = PlacedLoader(Backwards(Stream(), batch_size=8))
    assert batches(loader, batch=2) == [[*range(8)]]
    own = PlacedLoader(Backwards(torch.arange(24.0), batch_size=8))
    assert batches(own) == [[*range(16, 24)], [*range(8, 16)], [*range(8)]] and batches(own, batch=2) == [[*range(8)]]


def test_what_has_no_indices_is_fetched_again():
    assert batches(PlacedLoader(DataLoader(Stream(), batch_size=8)), batch=2) == [[*range(16, 24)]]
