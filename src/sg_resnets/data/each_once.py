"""Distributed evaluation on each sample once; PyTorch's DistributedSampler repeats some, so that all processes have as
many, and their accuracy is not that of the data."""

from collections.abc import Iterator

from torch.utils.data import DataLoader, Sampler
from torch.utils.data.distributed import DistributedSampler


class EachOnce(Sampler[int]):
    """Of n processes, the k-th sees samples k, k + n, k + 2n, ...; the last ones may see one less."""

    def __init__(self, count: int, processes: int, rank: int) -> None:
        self.indices = range(rank, count, processes)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def show_each_once(loader: DataLoader) -> None:
    """Let a loader for evaluation, which pads its data, go over them once instead."""
    sampler = getattr(loader.batch_sampler, "sampler", None)
    if isinstance(sampler, DistributedSampler) and not sampler.drop_last:
        each_once = EachOnce(len(loader.dataset), sampler.num_replicas, sampler.rank)  # type: ignore[arg-type]
        loader.batch_sampler.sampler = each_once  # type: ignore[union-attr]
