"""Augmentation: each epoch trains on randomly changed copies of the training images.

The changes depend only on the seed, the epoch and the index of an image. They are therefore the
same for all engines, batch sizes and numbers of threads, and a resumed run needs no random state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.core.cells import Cell
from lenet_sweep.data.images import Pixels
from lenet_sweep.training import resampling
from lenet_sweep.training.random_words import below, fractions, image_keys, random_words
from lenet_sweep.training.resampling import SIDE

Indices = NDArray[np.int64]
Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]
Options = Mapping[str, Any]


def augmented(cell: Cell, epoch: int, images: Pixels, order: Indices) -> Pixels | None:
    """The images with these indices (n,), as a cell trains on them in an epoch: (n, 28, 28).

    images: all training images, (N, 28, 28). epoch: counted from 1. Returns None for a cell without
    augmentation, which trains on the images as they are.
    """
    if cell.augment.name == "none":
        return None
    change = AUGMENTATIONS[cell.augment.name]
    return change(dict(cell.augment.options), images, order, image_keys(cell.seed, epoch, order))


def _shift(options: Options, images: Pixels, order: Indices, keys: Keys) -> Pixels:
    most = int(options["pixels"])
    shifts = below(random_words(keys, 2), 2 * most + 1).T - most  # to the right, and down
    return resampling.shift(images, order, shifts)


def _affine(options: Options, images: Pixels, order: Indices, keys: Keys) -> Pixels:
    # From -1 to 1, in the order of torchvision's RandomAffine.
    turn, right, down, growth, slant = 2 * fractions(random_words(keys, 5)).T - 1
    maps = affine_maps(
        turn * options["degrees"],
        np.stack([right, down]) * (options["translate"] * SIDE),
        1 + growth * options["scale"],
        slant * options["shear"],
    )
    return resampling.affine(images, order, maps)


def affine_maps(degrees: Floats, translate: Floats, scale: Floats, shear: Floats) -> Floats:
    """For each image, the map from its pixels to positions in the original image, (n, 2, 3).

    The parameters have the meaning of those of torchvision's `affine`: degrees of a clockwise
    rotation (n,), shift to the right and down in pixels (2, n), factor of the size (n,), and
    degrees of a shear along x (n,). All but the shift keep the center of the image.
    """
    sin, cos = _sin_cos(degrees * (np.pi / 180))
    shear_sin, shear_cos = _sin_cos(shear * (np.pi / 180))
    tan = shear_sin / shear_cos
    center = (SIDE - 1) / 2
    rows = (
        ((cos - sin * tan) / scale, (sin + cos * tan) / scale),
        (-sin / scale, cos / scale),
    )
    x, y = -center - translate
    return np.stack([np.stack([a, b, a * x + b * y + center], -1) for a, b in rows], axis=1)


def _sin_cos(radians: Floats) -> tuple[Floats, Floats]:
    """Sine and cosine for angles from -pi to pi, with an error below 1e-14.

    Unlike np.sin, the sum of a Taylor series has the same bits on all machines.
    """
    square = radians * radians
    sin, cos = np.zeros_like(radians), np.zeros_like(radians)
    for n in range(28, 0, -2):
        sin = 1 - square * sin / (n * (n + 1))
        cos = 1 - square * cos / (n * (n - 1))
    return radians * sin, cos


def _elastic(options: Options, images: Pixels, order: Indices, keys: Keys) -> Pixels:
    return resampling.elastic(images, order, keys, options["alpha"], options["sigma"])


def _erase(options: Options, images: Pixels, order: Indices, keys: Keys) -> Pixels:
    largest = int(options["size"])
    result = images[order]
    if largest == 0:
        return result
    words = random_words(keys, 5)
    height, width = 1 + below(words[:, 1:3].T, largest)
    top = below(words[:, 3], SIDE + 1 - height)
    left = below(words[:, 4], SIDE + 1 - width)
    erased = np.flatnonzero(fractions(words[:, 0]) < options["p"])
    boxes = np.stack([erased, top[erased], left[erased], height[erased], width[erased]], axis=1)
    for n, y, x, h, w in boxes.tolist():
        result[n, y : y + h, x : x + w] = 0
    return result


AUGMENTATIONS: Mapping[str, Callable[[Options, Pixels, Indices, Keys], Pixels]] = {
    "shift": _shift,
    "affine": _affine,
    "elastic": _elastic,
    "erase": _erase,
}
