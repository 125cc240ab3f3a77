"""Which test images to show: a random sample of the correct ones, and all misclassified ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Classes: TypeAlias = NDArray[np.integer[Any]]  # (images,): labels, or predicted classes

CHECK: Final = "\N{CHECK MARK}"
ARROW: Final = "\N{RIGHTWARDS ARROW}"
SHORT_NAME: Final = 3  # characters; captions with longer names need two lines


def has_short_names(names: Sequence[str]) -> bool:
    """Whether the names of two classes fit one line of a caption."""
    return all(len(name) <= SHORT_NAME for name in names)


def sample_correct(
    labels: Classes, predictions: Classes, seed: int, count: int
) -> tuple[NDArray[np.intp], int]:
    """`count` random indices of correctly classified images, and the number of such images.

    All of them if there are fewer than `count`. Sorted by class, then by index.
    """
    correct = np.flatnonzero(labels == predictions)
    sample = np.random.default_rng(seed).choice(correct, min(count, len(correct)), replace=False)
    return sample[np.lexsort((sample, labels[sample]))], len(correct)


def misclassified(labels: Classes, predictions: Classes) -> NDArray[np.intp]:
    """Indices of all misclassified images, sorted by true class, predicted class, and index."""
    wrong = np.flatnonzero(labels != predictions)
    return wrong[np.lexsort((wrong, predictions[wrong], labels[wrong]))]
