"""Synthetic results: cells of a grid, and which test images each classifies correctly."""

import functools
import itertools
from dataclasses import replace

import numpy as np

from lenet_sweep.analysis.statistics import Result
from lenet_sweep.config import grids, validation
from lenet_sweep.core.events import Epoch
from lenet_sweep.training.engines.support import NATIVE

IMAGES = 10_000


@functools.cache
def labels(images=IMAGES):
    """The true classes of the test images: (images,) uint8."""
    return np.random.default_rng(0).integers(0, 10, images).astype(np.uint8)


@functools.cache
def base():
    """The cell that others are derived from."""
    (cell,) = validation.validate_cells(grids.grid({"lr": 0.1, "epochs": 10}), NATIVE)[0]
    return cell


def grid(**axes):
    """The validated cells of a grid; two underscores in a key stand for a dot."""
    settings = {key.replace("__", "."): value for key, value in axes.items()}
    return validation.validate_cells(grids.grid({"lr": 0.1, "epochs": 10} | settings), NATIVE)[0]


def product(**axes):
    """The cells of a grid over plain fields, without the time that validation takes."""
    return [
        replace(base(), **dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
    ]


def history(costs, accuracies=None):
    """One Epoch for each cost; accuracies in percent, 90 by default."""
    accuracies = [90.0] * len(costs) if accuracies is None else accuracies
    return tuple(
        Epoch(i + 1, float(cost), float(accuracy), float(cost), 1.0, 0.1)
        for i, (cost, accuracy) in enumerate(zip(costs, accuracies, strict=True))
    )


def make_result(cell, correct, epochs=()):
    """A result with these images correct (bool); for the others it predicts the next class."""
    correct = np.asarray(correct, bool)
    truth = labels(correct.size)
    predictions = np.where(correct, truth, (truth + 1) % 10).astype(np.uint8)
    return Result(cell, "ok", 100 * correct.sum() / correct.size, correct, predictions, epochs)


def first_correct(cell, percent, epochs=(), images=IMAGES):
    """A result with the first `percent` of the images correct, so that results are nested."""
    return make_result(cell, np.arange(images) < round(percent / 100 * images), epochs)


def scored(cells, accuracies):
    """A result with this accuracy for each cell, on the first images."""
    return [first_correct(cell, accuracy) for cell, accuracy in zip(cells, accuracies, strict=True)]


def random_results(cells, accuracy, seed=0, images=IMAGES):
    """A result with independent random images correct for each cell; accuracy(cell) is 0 to 1."""
    random = np.random.default_rng(seed)
    return [make_result(cell, random.random(images) < accuracy(cell)) for cell in cells]


def failed(cell, status):
    """A result without an accuracy."""
    return Result(cell, status)


def with_holdout(results, accuracies, images=5000):
    """The same results, ranked by these accuracies on held-out images."""
    return [
        replace(
            r,
            holdout_accuracy=a,
            cell=replace(r.cell, dataset=replace(r.cell.dataset, holdout=images)),
        )
        for r, a in zip(results, accuracies, strict=True)
    ]


def collapsed(cell, predicted, images=IMAGES):
    """A result that predicts one class for all images."""
    correct = labels(images) == predicted
    predictions = np.full(images, predicted, np.uint8)
    return Result(cell, "ok", 100 * correct.sum() / images, correct, predictions)
