"""Images a second of the in-memory loader, against torchvision's pipeline image by image: crop, flip, normalise.

Run: python benchmarks/loader.py [ROUNDS]. Both go over the embedded Fashion-MNIST subset in batches of 128, in turn, in
one process without workers; each round gives a ratio. Then an epoch of training: the part of it that the loop waits for
its batches.
"""

import statistics
import sys
import time

import torch
from common import now, place, ratio, train_recipe
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _BaseDataLoaderIter
from torchvision import transforms

from sg_resnets.data import in_memory, whole_batch

PADDING, BATCH = 2, 128


class ImageByImage(Dataset):
    """As torchvision's MNIST and CIFAR do it: a PIL image from the array, then its transforms."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, mean: tuple, std: tuple) -> None:
        self.images, self.labels = images.squeeze(1).numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[-1], padding=PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def seconds(loader: DataLoader) -> float:
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def waiting() -> float:
    """The part of an epoch, from its first to its last step, in which the loop of a recipe waits for a batch."""
    following, waits = _BaseDataLoaderIter.__next__, []

    def timed(self):
        start = now()
        try:
            return following(self)
        finally:
            waits.append((start, now()))

    _BaseDataLoaderIter.__next__ = timed
    try:
        steps = len(train_recipe("fashion_mnist_mini_resnet20"))
    finally:
        _BaseDataLoaderIter.__next__ = following
    (_, began), *others = waits[2 : steps + 2]  # the Trainer has looked at a batch of each loader before
    return sum(end - start for start, end in others) / (others[-1][1] - began)


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    ours = in_memory("fashion_mnist_mini", crop_padding=PADDING, horizontal_flip=True)
    theirs = ImageByImage(ours.images, ours.labels, ours.mean, ours.std)
    loaders = [DataLoader(ours, BATCH, shuffle=True, collate_fn=whole_batch), DataLoader(theirs, BATCH, shuffle=True)]
    for loader in loaders:
        seconds(loader)
    times = [[seconds(loader) for loader in loaders] for _ in range(rounds)]
    fast, slow = (list(column) for column in zip(*times, strict=True))
    print(place())
    for name, column in (("in memory", fast), ("image by image", slow)):
        print(f"{name:<15} {len(ours) / statistics.median(column):>9,.0f} images a second")
    print(ratio("in memory over image by image", slow, fast))
    print(f"the loop of fashion_mnist_mini_resnet20 waits for the loader {waiting():.2%} of an epoch")
