"""A loader of a folder of pictures: its workers make pixels, which become numbers where they are used."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sg_resnets.data.image_folder import ImageFolderImages


class FolderLoader(DataLoader):
    """Batches of an `ImageFolderImages`: images float32 `(B, C, *size)` and labels int64 (B,).

    Its workers hand over uint8, a quarter of the bytes; a batch is normalised at once, on `device`.

    Args:
        dataset: the pictures.
        device: where batches are normalised, and stay.
        params: as of PyTorch's DataLoader.
    """

    def __init__(self, dataset: ImageFolderImages, device: str | torch.device = "cpu", **params: Any) -> None:
        super().__init__(dataset, collate_fn=pixels_and_labels, **params)
        self.device = device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:  # type: ignore[override]
        return map(self._normalised, super().__iter__())  # begun here, as PyTorch's: that draws a random number

    def _normalised(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        pixels, labels = batch
        return self.dataset.normalised(pixels.to(self.device, non_blocking=True)), labels  # type: ignore[attr-defined]


def pixels_and_labels(samples: Any) -> tuple[Tensor, Tensor]:
    """Collate function of `PixelSamples`: what is not normalised yet."""
    return samples.pixels, samples.labels
