"""Results of cells, confidence intervals of their accuracies, and means over seeds.

The rules and their limits are in docs/statistics.md. Accuracies are percentages of the test images,
differences are percentage points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist, fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis import t_tests
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Epoch
from lenet_sweep.data.images import Labels
from lenet_sweep.storage.snapshots import Snapshot

LEVEL = 0.95  # confidence level of every interval
Z = 1.96  # standard errors on each side of a normal interval at LEVEL
COLLAPSED = 0.99  # a cell has collapsed if this share of its predictions is one class
EPSILON = 1e-9  # points; accuracies that are closer differ only by rounding


def min_learned(classes: int) -> float:
    """The accuracy, in percent, below which a network has not learned to tell classes apart.

    Five times what guessing gives, such as 50% for 10 classes and 5% for 100. With fewer than 9
    classes, halfway between guessing and 100%, such as 75% for 2 classes.
    """
    chance = 100 / classes
    return min(5 * chance, (100 + chance) / 2)


def describe_min_learned(cells: Iterable[Cell]) -> str:
    """`min_learned` of the datasets of these cells as text, such as '50%' or '5 to 50%'."""
    limits = sorted({min_learned(cell.dataset.classes) for cell in cells})
    return " to ".join(f"{limit:.3g}" for limit in dict.fromkeys((limits[0], limits[-1]))) + "%"


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a cell; a failed cell has no accuracy.

    correct: (test images,) bool, which images are classified correctly. predictions: (test
    images,), the predicted classes. history: one Epoch per trained epoch. holdout_accuracy: percent
    of the held-out training images; None if none were held out. class_names: by class; () if they
    are not available.
    """

    cell: Cell
    status: str = "ok"
    accuracy: float | None = None  # percent
    correct: NDArray[np.bool_] | None = None
    predictions: Labels | None = None
    history: tuple[Epoch, ...] = ()
    holdout_accuracy: float | None = None
    class_names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, cell: Cell, snapshot: Snapshot, labels: Labels, class_names: tuple[str, ...] = ()
    ) -> Result:
        """The result of a finished cell. labels: (test images,), the true classes.

        Raises ValueError if the number of labels does not match the predictions.
        """
        expected = (len(labels) + (cell.dataset.holdout or 0),)  # held-out images come last
        if snapshot.predictions.shape != expected or not labels.size:
            raise ValueError(f"{snapshot.predictions.shape} predictions, {labels.shape} labels")
        # A copy, so that the buffer of the whole file can be freed.
        predictions = snapshot.predictions[: len(labels)].copy()
        correct = predictions == labels
        accuracy = 100 * int(correct.sum()) / len(labels)
        held_out = snapshot.history[-1].holdout_accuracy if snapshot.history else None
        return cls(
            cell, "ok", accuracy, correct, predictions, snapshot.history, held_out, class_names
        )

    @property
    def ended_early(self) -> bool:
        """Whether its run ended before the cell's last epoch, because of its patience."""
        return bool(self.history) and self.history[-1].epoch < self.cell.epochs

    @property
    def collapsed(self) -> int | None:
        """The class predicted for (nearly) all images; None if the cell did not collapse."""
        if self.predictions is None or not self.predictions.size:
            return None
        counts = np.bincount(self.predictions)
        one_class = counts.max() >= COLLAPSED * self.predictions.size
        accurate = self.accuracy is not None and self.accuracy >= 100 * COLLAPSED
        return int(counts.argmax()) if one_class and not accurate else None

    @property
    def has_learned(self) -> bool:
        """Whether its accuracy is at least `min_learned` and it did not collapse to one class."""
        if self.accuracy is None or self.accuracy < min_learned(self.cell.dataset.classes):
            return False
        return self.collapsed is None

    def class_name(self, number: int) -> str:
        """The name of a class, or its number if the names are not available."""
        return self.class_names[number] if number < len(self.class_names) else str(number)


def epochs_text(results: Sequence[Result]) -> str:
    """The epochs of results that differ only in the seed: '100', or '16 to 20 of 100' trained."""
    epochs = results[0].cell.epochs
    if not any(result.ended_early for result in results):
        return str(epochs)
    trained = sorted(len(result.history) for result in results if result.history)
    first, last = trained[0], trained[-1]
    return f"{first} of {epochs}" if first == last else f"{first} to {last} of {epochs}"


def longest_snapshots(results: Iterable[Result]) -> list[Result]:
    """The result with the most epochs of each run: how the run ended.

    Cells that share a run are snapshots of it, so they are not independent. If a cell has several
    results, the first one counts.
    """
    longest: dict[str, Result] = {}
    for result in results:
        run = result.cell.run_id
        if run not in longest or result.cell.epochs > longest[run].cell.epochs:
            longest[run] = result
    return list(longest.values())


@dataclass(frozen=True)
class Interval:
    """A confidence interval at LEVEL, in percent."""

    low: float
    high: float


def wilson(correct: int, images: int) -> Interval:
    """The Wilson score interval, in percent, of an accuracy of `correct` of `images` test images.

    E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    return _wilson(np.array([correct]), np.array([images]))[0]


def intervals(results: Sequence[Result]) -> tuple[Interval | None, ...]:
    """The Wilson interval of each result; None for a result without `correct`."""
    rows = [r.correct for r in results if r.correct is not None]
    correct = np.array([int(row.sum()) for row in rows], int)
    computed = iter(_wilson(correct, np.array([row.size for row in rows], int)))
    return tuple(None if r.correct is None else next(computed) for r in results)


def _wilson(correct: NDArray[Any], images: NDArray[Any]) -> list[Interval]:
    if not correct.size:
        return []
    z2 = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
    share = correct / images
    middle = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / (4 * images)) / images) / (1 + z2 / images)
    # Clipped, because at 0 and 1 rounding could leave the share outside by 1e-17.
    lows = 100 * np.clip(middle - half, 0, share)
    highs = 100 * np.clip(middle + half, share, 1)
    return [Interval(float(a), float(b)) for a, b in zip(lows, highs, strict=True)]


# ---------------------------------------------------------------- seeds


@dataclass(frozen=True, eq=False)
class Setting:
    """Cells that differ only in their seed.

    n: the number of seeds with an accuracy; mean (percent) and sd (sample standard deviation,
    points) are over these. interval: Student's t interval of the mean; None if all seeds have the
    same accuracy, which does not show how much other seeds would vary. sd and interval are None
    for fewer than 2 seeds. rank: by the mean, or by the mean on held-out images (`holdout`) if all
    cells of the sweep have some.
    """

    results: tuple[Result, ...]  # sorted by seed, including failed ones
    rank: int
    n: int
    mean: float | None
    sd: float | None
    interval: Interval | None
    holdout: float | None = None  # percent, mean over the seeds

    @property
    def cell(self) -> Cell:
        """One of its cells, which share everything but the seed."""
        return self.results[0].cell


def first_of_each_cell(cells: Iterable[Cell]) -> list[int]:
    """The index of the first row of each cell, given the cells of the rows of a table.

    A cell has several rows if it was trained twice with different numbers. The first one, which has
    the better rank, counts for its setting.
    """
    first: dict[Cell, int] = {}
    for index, cell in enumerate(cells):
        first.setdefault(cell, index)
    return list(first.values())


def group_by_setting(results: Iterable[Result]) -> tuple[Setting, ...]:
    """The settings, best mean first, those without an accuracy last. Equal means share a rank."""
    groups: dict[Cell, list[Result]] = {}
    for result in results:
        groups.setdefault(result.cell.setting, []).append(result)
    settings = [_setting(sorted(group, key=lambda r: r.cell.seed)) for group in groups.values()]
    score = scoring(r for s in settings for r in s.results)
    settings.sort(key=score, reverse=True)
    scores = np.array([score(s) for s in settings])
    return tuple(
        replace(s, rank=1 + int(np.count_nonzero(scores > own + EPSILON)))
        for s, own in zip(settings, scores, strict=True)
    )


def by_holdout(results: Iterable[Result]) -> bool:
    """Whether held-out images rank these results: all finished cells have an accuracy on them."""
    has_holdout = [r.holdout_accuracy is not None for r in results if r.accuracy is not None]
    return bool(has_holdout) and all(has_holdout)


def scoring(results: Iterable[Result]) -> Callable[[Setting | Result], float]:
    """The function that ranks these results or settings: percent, -1 without an accuracy."""
    held_out = by_holdout(results)

    def score(item: Setting | Result) -> float:
        if isinstance(item, Result):
            value = item.holdout_accuracy if held_out else item.accuracy
        else:
            value = item.holdout if held_out else item.mean
        return -1.0 if value is None else value

    return score


def _setting(results: Sequence[Result]) -> Setting:
    values = accuracies(results)
    n = len(values)
    mean = fmean(values) if n else None  # does not depend on the order, so all outputs round alike
    per_seed = [r.holdout_accuracy for r in results if r.accuracy is not None]
    available = [accuracy for accuracy in per_seed if accuracy is not None]
    held_out = float(np.mean(available)) if n and len(available) == n else None
    if mean is None or n < 2:
        return Setting(tuple(results), 0, n, mean, None, None, held_out)
    sd = float(np.std(values, ddof=1))
    return Setting(tuple(results), 0, n, mean, sd, t_interval(values), held_out)


def t_interval(values: Sequence[float]) -> Interval | None:
    """Student's t interval of the mean of accuracies in percent.

    None for fewer than two values, or if all are equal.
    """
    n = len(values)
    sd = float(np.std(values, ddof=1)) if n > 1 else 0.0
    if sd <= EPSILON:
        return None
    mean = fmean(values)
    margin = t_tests.t_quantile(LEVEL, n - 1) * sd / sqrt(n)
    return Interval(max(0.0, mean - margin), min(100.0, mean + margin))


def accuracies(results: Iterable[Result]) -> list[float]:
    """The accuracies in percent, in order, of the results that have one."""
    return [r.accuracy for r in results if r.accuracy is not None]
