"""Where a classifier is right: by class, by pair of classes, and by how sure it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BINS = 15  # of confidence: Guo et al., 'On Calibration of Modern Neural Networks' (2017), section 4


@dataclass(frozen=True)
class OfClass:
    """One class. precision: of the images that are said to be of it, the share that is; recall: of its images, the
    share that is found; f1: their harmonic mean; nan where there is nothing to divide by."""

    name: str
    count: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Bin:
    """The images of one step of confidence: how many, their mean confidence, and the share that is right."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Classification:
    """What a classifier says of N images of K classes.

    Attributes:
        names: of the classes, K.
        labels: what the images are, (N,).
        probabilities: float32, (N, K).
    """

    names: Sequence[str]
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        """The class that each image is said to be of, (N,)."""
        return self.probabilities.argmax(1)

    @property
    def confidences(self) -> np.ndarray:
        """The probability of that class, (N,)."""
        return self.probabilities.max(1)

    @property
    def accuracy(self) -> float:
        """The share of images that are named right."""
        return float((self.predictions == self.labels).mean())

    def confusion(self) -> np.ndarray:
        """How many images of each class (rows) are said to be of each class (columns), (K, K)."""
        count = len(self.names)
        return np.bincount(self.labels * count + self.predictions, minlength=count * count).reshape(count, count)

    def by_class(self) -> list[OfClass]:
        """Return precision, recall, F1 and the number of images of each class."""
        confusion = self.confusion()
        right, said, there = np.diag(confusion), confusion.sum(0), confusion.sum(1)
        with np.errstate(invalid="ignore"):
            rows = zip(self.names, there, right / said, right / there, 2 * right / (said + there), strict=True)
            return [OfClass(name, int(count), *map(float, figures)) for name, count, *figures in rows]

    def mean(self, figure: str) -> float:
        """Return the mean over the classes of "precision", "recall" or "f1", the macro average; a class that there is
        no image of does not count, and the precision of one that is never said is 0."""
        rows = [row for row in self.by_class() if row.count]
        return float(np.mean(np.nan_to_num([getattr(row, figure) for row in rows])))

    def most_confused(self, limit: int = 10) -> Iterator[tuple[str, str, int]]:
        """Yield (class, what it is taken for, how often), the most frequent first."""
        confusion = self.confusion()
        np.fill_diagonal(confusion, 0)
        for place in np.argsort(-confusion, axis=None, kind="stable")[:limit]:
            i, j = divmod(int(place), len(self.names))
            if confusion[i, j]:
                yield self.names[i], self.names[j], int(confusion[i, j])

    def reliability(self) -> list[Bin]:
        """Return the steps of confidence, from 0 to 1, that have images."""
        right = self.predictions == self.labels
        step = np.minimum((self.confidences * BINS).astype(int), BINS - 1)
        inside = [step == i for i in range(BINS)]
        return [Bin(int(i.sum()), float(self.confidences[i].mean()), float(right[i].mean())) for i in inside if i.any()]

    def calibration_error(self) -> float:
        """Return the expected calibration error: the mean distance of confidence and accuracy over the images' steps
        (Guo et al. 2017, equation 3)."""
        return sum(each.count * abs(each.confidence - each.accuracy) for each in self.reliability()) / len(self.labels)

    def worst_mistakes(self, limit: int) -> list[int]:
        """Return the places of the images that are named wrong, the surest first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.confidences[wrong], kind="stable")][:limit].tolist()
