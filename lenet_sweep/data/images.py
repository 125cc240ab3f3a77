"""The images and labels of a dataset as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.data.catalog import DIGITS

Pixels: TypeAlias = NDArray[np.uint8]  # images of shape (N, height, width)
Labels: TypeAlias = NDArray[np.unsignedinteger[Any]]  # classes, counted from 0; see `label_type`

MAX_CLASSES = 1000
MAX_SIDE = 1024  # pixels


def label_type(classes: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The type of labels and predicted classes: uint8 for up to 256 classes, else uint16."""
    return np.dtype(np.uint8 if classes <= 256 else np.uint16)


def class_noun(names: Sequence[str]) -> str:
    """What the classes with these names are called: "digit" or "class"."""
    return "digit" if tuple(names) == DIGITS else "class"


@dataclass(frozen=True, eq=False)
class Images:
    """Images and labels for an engine, C-contiguous.

    Images are uint8 of shape (N, height, width), with pixels 0..255. Labels are of `label_type` and
    of shape (N,), from 0 to the number of classes minus 1.
    """

    train_images: Pixels
    train_labels: Labels
    test_images: Pixels
    test_labels: Labels
    # Training images that are held out, to rank cells without the test set.
    holdout_images: Pixels = field(default_factory=lambda: np.empty((0, 28, 28), "u1"))
    holdout_labels: Labels = field(default_factory=lambda: np.empty(0, "u1"))
    class_names: tuple[str, ...] = DIGITS  # by label

    @cached_property
    def pixel_statistics(self) -> tuple[float, float]:
        """The `pixel_statistics` of the training images."""
        return pixel_statistics(self.train_images)


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """Test images, uint8 (N, height, width), their labels (N,), and the names of the classes.

    inverted: whether to show them as negatives, because 0 is the background, as in MNIST.
    """

    images: Pixels
    labels: Labels
    class_names: tuple[str, ...] = DIGITS  # by label
    inverted: bool = True

    @property
    def noun(self) -> str:
        """What its classes are called."""
        return class_noun(self.class_names)


def pixel_statistics(images: Pixels) -> tuple[float, float]:
    """The mean and the standard deviation of the pixels of images, as fractions of 255.

    Computed from integer counts, so that they do not depend on the order of a sum.
    """
    counts = np.bincount(images.reshape(-1), minlength=256)
    values = np.arange(256) / 255
    mean = float(np.average(values, weights=counts))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=counts))) or 1.0
