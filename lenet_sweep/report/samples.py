"""Which test images to show: a random sample of the correct ones, and all misclassified ones."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Digits: TypeAlias = NDArray[np.integer[Any]]  # (images,): labels, or predicted classes


def sample_correct(
    labels: Digits, predictions: Digits, seed: int, count: int
) -> tuple[NDArray[np.intp], int]:
    """`count` random indices of correctly classified images, and the number of such images.

    All of them if there are fewer than `count`. Sorted by digit, then by index.
    """
    correct = np.flatnonzero(labels == predictions)
    sample = np.random.default_rng(seed).choice(correct, min(count, len(correct)), replace=False)
    return sample[np.lexsort((sample, labels[sample]))], len(correct)


def misclassified(labels: Digits, predictions: Digits) -> NDArray[np.intp]:
    """Indices of all misclassified images, sorted by true digit, predicted digit, and index."""
    wrong = np.flatnonzero(labels != predictions)
    return wrong[np.lexsort((wrong, predictions[wrong], labels[wrong]))]
