"""Results made on the spot: cells of a grid, and which test images each has right."""

import functools
import itertools
from dataclasses import replace

import numpy as np

from lenet_sweep.analysis.statistics import Result
from lenet_sweep.config import keys, validation
from lenet_sweep.core.events import Epoch
from lenet_sweep.training.engines.support import NATIVE

IMAGES = 10_000


@functools.cache
def labels(images=IMAGES):
    return np.random.default_rng(0).integers(0, 10, images).astype(np.uint8)


@functools.cache
def base():
    (cell,) = validation.validate_cells(keys.grid({"lr": 0.1, "epochs": 10}), NATIVE)[0]
    return cell


def grid(**axes):
    """The cells of a grid as they are typed, dotted keys with two underscores for the dot."""
    typed = {key.replace("__", "."): value for key, value in axes.items()}
    return validation.validate_cells(keys.grid({"lr": 0.1, "epochs": 10} | typed), NATIVE)[0]


def product(**axes):
    """The cells of a grid of plain fields, without the time that validation takes."""
    return [
        replace(base(), **dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
    ]


def history(costs, accuracies=None):
    accuracies = [90.0] * len(costs) if accuracies is None else accuracies
    return tuple(
        Epoch(i + 1, float(cost), float(accuracy), float(cost), 1.0, 0.1)
        for i, (cost, accuracy) in enumerate(zip(costs, accuracies, strict=True))
    )


def answered(cell, right, epochs=()):
    """A cell that has these images right (bool), and takes the others for the next digit."""
    right = np.asarray(right, bool)
    truth = labels(right.size)
    predictions = np.where(right, truth, (truth + 1) % 10).astype(np.uint8)
    return Result(cell, "ok", 100 * right.sum() / right.size, right, predictions, epochs)


def first(cell, percent, epochs=(), images=IMAGES):
    """A cell that has the first `percent` of the images right: of two, one knows all of less."""
    return answered(cell, np.arange(images) < round(percent / 100 * images), epochs)


def scored(cells, accuracies):
    """Each cell with its accuracy, the images right being the first ones."""
    return [first(cell, accuracy) for cell, accuracy in zip(cells, accuracies, strict=True)]


def drawn(cells, accuracy, seed=0, images=IMAGES):
    """Each cell with images of its own right, drawn at random; `accuracy(cell)` is 0 to 1."""
    random = np.random.default_rng(seed)
    return [answered(cell, random.random(images) < accuracy(cell)) for cell in cells]


def without(cell, status):
    return Result(cell, status)


def held_out(results, accuracies, images=5000):
    """The same with these accuracies on held-out images, which then rank them."""
    return [
        replace(
            r,
            holdout_accuracy=a,
            cell=replace(r.cell, dataset=replace(r.cell.dataset, holdout=images)),
        )
        for r, a in zip(results, accuracies, strict=True)
    ]


def constant(cell, digit, images=IMAGES):
    """A cell that takes every image for one digit."""
    right = labels(images) == digit
    predictions = np.full(images, digit, np.uint8)
    return Result(cell, "ok", 100 * right.sum() / images, right, predictions)
