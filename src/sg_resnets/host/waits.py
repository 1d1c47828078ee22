"""How long a training waits for its batches, and what would change it."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from sg_resnets.data.image_folder import ImageFolderImages
from sg_resnets.utils.hardware import cpu_cores

MUCH, LONG = 0.05, 1.0  # of the time; seconds
_END = object()


@dataclass
class Waits:
    """The seconds of a training's epochs, validation not counted.

    Attributes:
        waited: until there was a batch.
        worked: with it.
    """

    waited: float = 0.0
    worked: float = 0.0

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches, and add up the time that each takes to come and to be used."""
        while True:
            start = time.perf_counter()
            batch = next(batches, _END)
            came = time.perf_counter()
            self.waited += came - start
            if batch is _END:
                return
            yield batch
            self.worked += time.perf_counter() - came

    def line(self, loader: Any) -> str:
        """What to say of it, and what to change where it is much, and longer than the start of some processes."""
        if not self.worked:
            return ""
        share = self.waited / (self.waited + self.worked)
        said = f"Training has waited {share:.1%} of its time for batches ({self.waited:.1f} s)"
        advice = _advice(loader) if share > MUCH and self.waited > LONG else ""
        return f"{said}: {advice}" if advice else said


def _advice(loader: Any) -> str:
    if not isinstance(loader, DataLoader):
        return ""
    found = []
    data = loader.dataset
    if isinstance(data, ImageFolderImages) and data.cache is None:
        found.append("dataset_params.train_dataset_params.cache=disk decodes each picture once")
    cores = cpu_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if loader.num_workers < cores:
        found.append(f"num_workers={cores} makes more of them at once")
    if loader.num_workers and not loader.persistent_workers:
        found.append(
            "++dataset_params.train_dataloader_params.persistent_workers=True keeps the workers from epoch to epoch"
        )
    return "; ".join(found)
