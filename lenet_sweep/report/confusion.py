"""The confusion matrix of the best row, or with many classes, its largest entries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.data.images import Labels

MAX_MATRIX = 40  # classes; a larger matrix does not fit a page
MAX_PAIRS = 30
MAX_WORST = 20
WIDE_NAME = 3  # characters; longer names of columns are written vertically


@dataclass(frozen=True)
class ClassPair:
    """Two classes of which images of one are classified as the other. share: of those images."""

    true: str
    predicted: str
    count: int
    share: float  # percent


@dataclass(frozen=True)
class ClassAccuracy:
    """How many test images of a class are classified correctly."""

    name: str
    correct: int
    images: int

    @property
    def percent(self) -> float:
        """The share of its test images that is classified correctly, in percent."""
        return 100 * self.correct / self.images


@dataclass(frozen=True, eq=False)
class Confusion:
    """The numbers of test images by class.

    counts: (classes, classes), by true and predicted class. noun: what the names are, "class" or
    "digit".
    """

    counts: NDArray[np.int64]
    names: tuple[str, ...]
    noun: str

    @property
    def is_shown(self) -> bool:
        """Whether the matrix is small enough to be shown."""
        return len(self.names) <= MAX_MATRIX

    @property
    def has_wide_names(self) -> bool:
        """Whether the names of the columns are written vertically."""
        return any(len(name) > WIDE_NAME for name in self.names)

    @property
    def most(self) -> int:
        """The largest number of misclassified images in an entry, at least 1."""
        return max(1, int(self._errors.max()))

    @property
    def _errors(self) -> NDArray[np.int64]:
        errors = self.counts.copy()
        np.fill_diagonal(errors, 0)
        return errors

    @property
    def pairs(self) -> tuple[ClassPair, ...]:
        """The most frequent pairs of true and predicted class, at most MAX_PAIRS."""
        errors, totals = self._errors, self.counts.sum(axis=1)
        largest = np.argsort(-errors, axis=None, kind="stable")[:MAX_PAIRS]
        indices = (divmod(int(index), len(self.names)) for index in largest)
        return tuple(
            ClassPair(
                self.names[i], self.names[j], int(errors[i, j]), 100 * errors[i, j] / totals[i]
            )
            for i, j in indices
            if errors[i, j]
        )

    @property
    def distinct_pairs(self) -> int:
        """The number of pairs of true and predicted class with misclassified images."""
        return int(np.count_nonzero(self._errors))

    @property
    def worst(self) -> tuple[ClassAccuracy, ...]:
        """The classes with the lowest accuracy, at most MAX_WORST."""
        totals, correct = self.counts.sum(axis=1), np.diag(self.counts)
        tested = [
            ClassAccuracy(name, int(right), int(total))
            for name, right, total in zip(self.names, correct, totals, strict=True)
            if total
        ]
        return tuple(sorted(tested, key=lambda each: each.percent)[:MAX_WORST])


def make_confusion(
    labels: Labels, predictions: Labels, names: tuple[str, ...], noun: str
) -> Confusion:
    """Count test images by true class (labels) and predicted class, both (images,)."""
    classes = len(names)
    flat = labels.astype(np.int64) * classes + predictions
    counts = np.bincount(flat, minlength=classes * classes).reshape(classes, classes)
    return Confusion(counts, names, noun)
