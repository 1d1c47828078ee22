"""A loader of a folder of pictures: its workers make pixels, of which a batch is finished where it is used."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sg_resnets.data.image_folder import ImageFolderImages


class FolderLoader(DataLoader):
    """Batches of an `ImageFolderImages`: images float32 `(B, C, *size)` and labels int64 (B,).

    Its workers hand over uint8, a quarter of the bytes; a batch is mirrored, normalised and erased at once, on
    `device`.

    Args:
        dataset: the pictures.
        device: where batches are finished, and stay.
        params: as of PyTorch's DataLoader.
    """

    def __init__(self, dataset: ImageFolderImages, device: str | torch.device = "cpu", **params: Any) -> None:
        super().__init__(dataset, collate_fn=unfinished, **params)
        self.device = device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:  # type: ignore[override]
        return map(self._finished, super().__iter__())  # begun here, as PyTorch's: that draws a random number

    def _finished(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        pixels, labels, plan = batch
        pixels = pixels.to(self.device, non_blocking=True)
        return self.dataset.finished(pixels, plan), labels  # type: ignore[attr-defined]


def unfinished(samples: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Collate function of `PixelSamples`: pixels, labels and plan."""
    return samples.pixels, samples.labels, samples.plan
