"""How sure the numbers of a sweep are: intervals, settings over seeds, comparisons with the best.

docs/statistics.md says which rule is used when, and what it cannot say. All accuracies are percent
of the test images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist, fmean
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis import t_tests
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Epoch
from lenet_sweep.storage.snapshots import Snapshot

LEVEL = 0.95  # of every interval
SEEDS = 3  # of a setting, from which on it is compared: the t test of two hardly ever rejects
Z = 1.96  # standard errors, of LEVEL
ALPHA = 0.05  # adjusted p-values below it count as a difference
COLLAPSED = 0.99  # share of the predictions in one class from which a cell counts as collapsed
# What a comparison with the best comes to, in the order in which outputs list them.
# docs/statistics.md defines each.
Outcome: TypeAlias = Literal["best", "better", "tied", "inconclusive", "worse", "not compared"]
OUTCOMES: tuple[Outcome, ...] = (
    "best", "better", "tied", "inconclusive", "worse", "not compared",
)  # fmt: skip
EPSILON = 1e-9  # accuracies are multiples of one image: closer ones differ by rounding alone


@dataclass(frozen=True, eq=False)
class Result:
    """What a cell has come to; without an accuracy where it failed.

    correct: (test images,) bool. predictions: (test images,) uint8, the predicted classes.
    history: one Epoch per epoch trained. holdout_accuracy: percent of the held-out training
    images; None where there are none.
    """

    cell: Cell
    status: str = "ok"
    accuracy: float | None = None  # percent
    correct: NDArray[np.bool_] | None = None
    predictions: NDArray[np.uint8] | None = None
    history: tuple[Epoch, ...] = ()
    holdout_accuracy: float | None = None

    @classmethod
    def of(cls, cell: Cell, snapshot: Snapshot, labels: NDArray[np.uint8]) -> Result:
        """The result of a finished cell. labels: (test images,) uint8, of the test images.

        Raises ValueError if the labels are of other images.
        """
        tested = (len(labels) + (cell.dataset.holdout or 0),)  # those held out come last
        if snapshot.predictions.shape != tested or not labels.size:
            raise ValueError(f"{snapshot.predictions.shape} predictions, {labels.shape} labels")
        # A copy, so that the file that it was read from can go.
        predictions = snapshot.predictions[: len(labels)].copy()
        correct = predictions == labels
        accuracy = 100 * int(correct.sum()) / len(labels)
        held_out = snapshot.history[-1].holdout_accuracy if snapshot.history else None
        return cls(cell, "ok", accuracy, correct, predictions, snapshot.history, held_out)

    @property
    def collapsed(self) -> int | None:
        """The class that (nearly) all images are taken for, None where it is not just one."""
        if self.predictions is None or not self.predictions.size:
            return None
        counts = np.bincount(self.predictions)
        one_class = counts.max() >= COLLAPSED * self.predictions.size
        right = self.accuracy is not None and self.accuracy >= 100 * COLLAPSED
        return int(counts.argmax()) if one_class and not right else None


@dataclass(frozen=True)
class Interval:
    """A confidence interval of LEVEL, in percent."""

    low: float
    high: float


def wilson(right: int, images: int) -> Interval:
    """Wilson's score interval of an accuracy: `right` of `images` test images. Percent.

    E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    return _wilson(np.array([right]), np.array([images]))[0]


def intervals(results: Sequence[Result]) -> tuple[Interval | None, ...]:
    """Wilson's interval of each result, None where there is no accuracy."""
    known = [r.correct for r in results if r.correct is not None]
    right = np.array([int(correct.sum()) for correct in known], int)
    found = iter(_wilson(right, np.array([correct.size for correct in known], int)))
    return tuple(None if r.correct is None else next(found) for r in results)


def _wilson(right: NDArray[Any], images: NDArray[Any]) -> list[Interval]:
    if not right.size:
        return []
    z2 = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
    share = right / images
    middle = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / (4 * images)) / images) / (1 + z2 / images)
    # At 0 and at 1 rounding may leave the share outside by 1e-17.
    lows = 100 * np.clip(middle - half, 0, share)
    highs = 100 * np.clip(middle + half, share, 1)
    return [Interval(float(a), float(b)) for a, b in zip(lows, highs, strict=True)]


# ---------------------------------------------------------------- seeds


@dataclass(frozen=True, eq=False)
class Setting:
    """Cells that differ in nothing but their seed.

    mean, sd and n are of the seeds that have an accuracy: percent, sample standard deviation in
    points (None for fewer than 2). interval: Student's t interval of the mean, None likewise.
    rank: by the mean, that of the held-out images (`holdout`) where all cells have some.
    """

    results: tuple[Result, ...]  # by seed, failed ones included
    rank: int
    n: int
    mean: float | None
    sd: float | None
    interval: Interval | None
    holdout: float | None = None  # percent, mean over the seeds

    @property
    def cell(self) -> Cell:
        """One of its cells: they share everything but the seed."""
        return self.results[0].cell


def group_by_setting(results: Iterable[Result]) -> tuple[Setting, ...]:
    """The settings, best mean first; those without any accuracy last. Equal means share a rank."""
    groups: dict[Cell, list[Result]] = {}
    for result in results:
        groups.setdefault(result.cell.setting, []).append(result)
    found = [_setting(sorted(group, key=lambda r: r.cell.seed)) for group in groups.values()]
    score = scoring(r for s in found for r in s.results)
    found.sort(key=score, reverse=True)
    scores = np.array([score(s) for s in found])
    return tuple(
        replace(s, rank=1 + int(np.count_nonzero(scores > own + EPSILON)))
        for s, own in zip(found, scores, strict=True)
    )


def by_holdout(results: Iterable[Result]) -> bool:
    """Whether held-out images rank these results: all that have an accuracy have one of those."""
    known = [r.holdout_accuracy is not None for r in results if r.accuracy is not None]
    return bool(known) and all(known)


def scoring(results: Iterable[Result]) -> Callable[[Setting | Result], float]:
    """What these results are ranked by: a function to percent, -1 where there is nothing."""
    held_out = by_holdout(results)

    def score(item: Setting | Result) -> float:
        if isinstance(item, Result):
            found = item.holdout_accuracy if held_out else item.accuracy
        else:
            found = item.holdout if held_out else item.mean
        return -1.0 if found is None else found

    return score


def _setting(results: Sequence[Result]) -> Setting:
    known = accuracies(results)
    n = len(known)
    mean = fmean(known) if n else None  # of any order the same, so that every output rounds alike
    kept = [r.holdout_accuracy for r in results if r.accuracy is not None]
    numbers = [accuracy for accuracy in kept if accuracy is not None]
    held_out = float(np.mean(numbers)) if n and len(numbers) == n else None
    if mean is None or n < 2:
        return Setting(tuple(results), 0, n, mean, None, None, held_out)
    sd = float(np.std(known, ddof=1))
    width = 0.0  # where nothing scatters but rounding
    if sd > EPSILON:
        width = t_tests.t_quantile(LEVEL, n - 1) * sd / sqrt(n)
    interval = Interval(max(0.0, mean - width), min(100.0, mean + width))
    return Setting(tuple(results), 0, n, mean, sd, interval, held_out)


def accuracies(results: Iterable[Result]) -> list[float]:
    """Of the results that have one, in their order."""
    return [r.accuracy for r in results if r.accuracy is not None]


# ---------------------------------------------------------------- comparisons


@dataclass(frozen=True, eq=False)
class Comparison:
    """A row, or a setting with its seeds, against the best one on the same test images.

    test: 'best' (it is the best itself), 'McNemar', 'paired t', 'Welch', 'none'.
    outcome: 'best'; 'tied' if the test finds no difference; 'worse' or, where held-out images chose
    the best, 'better' if it does; 'inconclusive' if there are too few seeds to decide, 'not
    compared' without an accuracy or without the test images. `reason` explains the last two.
    difference: points of accuracy below the best (negative: above it, where held-out images chose
    it). p: of `test`; adjusted: by Holm over all rows.
    """

    results: tuple[Result, ...]
    test: str
    outcome: Outcome = "not compared"
    difference: float | None = None
    p: float | None = None
    adjusted: float | None = None
    reason: str = ""


def compare(results: Sequence[Result]) -> tuple[Comparison, ...]:
    """Settings by their seeds where one has several, single rows by their images where none has."""
    found = group_by_setting(results)
    return compare_settings(found) if any(s.n > 1 for s in found) else compare_rows(results)


def compare_table(results: Sequence[Result]) -> tuple[Comparison, ...]:
    """For each row of a table its comparison, or that of its setting where settings are compared.

    Rows of one cell (trained twice, to other numbers) may repeat: its setting counts the first.
    """
    first: dict[Cell, Result] = {}
    for r in results:
        first.setdefault(r.cell, r)
    found = group_by_setting(first.values())
    if not any(s.n > 1 for s in found):
        return compare_rows(results)
    by_setting = {c.results[0].cell.setting: c for c in compare_settings(found)}
    return tuple(by_setting[r.cell.setting] for r in results)


def compare_rows(results: Sequence[Result]) -> tuple[Comparison, ...]:
    """Each row against the best of its test set: exact McNemar test on the same images, Holm.

    In the order given; the best is the first with the highest accuracy, that of the held-out images
    where all have some. Correct for the two trainings at hand: it says nothing of what another seed
    would have done.
    """
    score = scoring(results)
    found: dict[int, Comparison] = {}
    for group in _by_test_set(range(len(results)), [r.cell for r in results]):
        known = [i for i in group if results[i].accuracy is not None]
        for i in set(group) - set(known):
            status = results[i].status
            found[i] = Comparison((results[i],), "none", reason=f"no accuracy: {status}")
        if not known:
            continue
        best = max(known, key=lambda i: score(results[i]))
        compared = _images([results[i] for i in known], results[best])
        found |= dict(zip(known, compared, strict=True))
        found[best] = Comparison((results[best],), "best", "best", 0.0)
    return _holm([found[i] for i in range(len(results))])


def _images(known: Sequence[Result], best: Result) -> Iterable[Comparison]:
    """Each result with an accuracy against the best one, untested where images are not at hand."""
    assert best.accuracy is not None
    p: dict[int, float] = {}
    if best.correct is not None:
        tested = [i for i, r in enumerate(known) if r.correct is not None]
        rows = np.stack([known[i].correct for i in tested])  # type: ignore[misc] # none is None
        p = dict(zip(tested, map(float, mcnemar(best.correct, rows)), strict=True))
    for i, r in enumerate(known):
        difference = best.accuracy - (r.accuracy or 0.0)
        if i in p:
            yield Comparison((r,), "McNemar", difference=difference, p=p[i])
        else:
            why = "the test images or the predictions are not available"
            yield Comparison((r,), "none", difference=difference, reason=why)


def mcnemar(best: NDArray[np.bool_], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Exact two-sided p-values (rows,) of McNemar's test of each row (rows, images) against one.

    statsmodels' `mcnemar(exact=True)` for all rows at once: those images that only one of the two
    has right are split evenly under the null hypothesis.
    """
    only_best = (best & ~rows).sum(axis=1)
    only_row = (~best & rows).sum(axis=1)
    pairs = zip(only_best.tolist(), only_row.tolist(), strict=True)
    return np.array([_binomial(min(pair), sum(pair)) for pair in pairs], float)


def _binomial(fewer: int, total: int) -> float:
    """Exact two-sided p-value of a fair coin that fell on one side `fewer` times of `total`."""
    ways = term = 1  # to choose 0 of total; in whole numbers, rounded once
    for chosen in range(1, fewer + 1):
        term = term * (total - chosen + 1) // chosen
        ways += term
    return min(1.0, 2 * ways / (1 << total))


def compare_settings(found: Sequence[Setting]) -> tuple[Comparison, ...]:
    """Each setting against the best mean on its test set, the seed being what is drawn; Holm.

    A paired t test over the seeds that both have, if at least SEEDS; else Welch's t test if both
    have at least SEEDS; else the comparison is inconclusive. So it is where that test finds no
    difference but the test images show one. In the order given.
    """
    compared: dict[int, Comparison] = {}
    score = scoring(r for s in found for r in s.results)
    for group in _by_test_set(range(len(found)), [s.cell for s in found]):
        best = max(group, key=lambda i: score(found[i]))
        for i in group:
            compared[i] = _seeds(found[best], found[i])
    tested = _holm([compared[i] for i in range(len(found))])
    for group in _by_test_set(range(len(found)), [s.cell for s in found]):
        best = max(group, key=lambda i: score(found[i]))
        for i in group:
            compared[i] = _agreed(tested[i], found[i], found[best])
    return tuple(compared[i] for i in range(len(found)))


def _agreed(compared: Comparison, other: Setting, best: Setting) -> Comparison:
    """Tied only if the test images agree: few seeds that scatter fail to reject anything.

    The images' test is a paired z test of the share of seeds that has each image right.
    """
    if compared.outcome != "tied":
        return compared
    ours, theirs = ([r.correct for r in s.results if r.correct is not None] for s in (best, other))
    if len(ours) < best.n or len(theirs) < other.n:
        return compared
    apart = np.mean(ours, axis=0) - np.mean(theirs, axis=0)
    if abs(apart.mean()) <= Z * apart.std() / np.sqrt(apart.size):
        return compared
    reason = "its seeds vary too much to confirm the difference that the test images show"
    return replace(compared, outcome="inconclusive", reason=reason)


def _seeds(best: Setting, other: Setting) -> Comparison:
    if other.mean is None or best.mean is None:
        reason = f"no accuracy: {other.results[0].status}"
        return Comparison(other.results, "none", reason=reason)
    if other is best:
        return Comparison(best.results, "best", "best", 0.0)
    difference = best.mean - other.mean
    ours, theirs = ({r.cell.seed: r.accuracy for r in s.results if r.accuracy is not None}
                    for s in (best, other))  # fmt: skip
    common = sorted(set(ours) & set(theirs))
    if len(common) >= SEEDS:
        a, b = (np.array([side[seed] for seed in common], float) for side in (ours, theirs))
        return _t_test(other, difference, "paired t", a, b)
    if min(best.n, other.n) >= SEEDS:
        a, b = np.array(list(ours.values()), float), np.array(list(theirs.values()), float)
        return _t_test(other, difference, "Welch", a, b)
    which, seeds = ("it", other.n) if other.n < SEEDS else ("the best", best.n)
    number = "only one seed" if seeds == 1 else f"only {seeds} seeds"
    reason = f"{which} has {number}, and the test needs {SEEDS}"
    return Comparison(other.results, "none", "inconclusive", difference, reason=reason)


def _t_test(
    other: Setting, difference: float, test: str, a: NDArray[np.float64], b: NDArray[np.float64]
) -> Comparison:
    scatter = np.ptp(a - b) if test == "paired t" else np.ptp(a) + np.ptp(b)
    if scatter < EPSILON:
        if abs(a.mean() - b.mean()) < EPSILON:
            return Comparison(other.results, test, difference=difference, p=1.0)
        reason = "its seeds do not vary at all, so the t test does not apply"
        return Comparison(other.results, "none", "inconclusive", difference, reason=reason)
    if (a.mean() - b.mean()) * difference < 0:  # the means are also of seeds that only one has
        reason = "on the seeds that both have, the order of the two is reversed"
        return Comparison(other.results, "none", "inconclusive", difference, reason=reason)
    p = t_tests.paired_p(a, b) if test == "paired t" else t_tests.welch_p(a, b)
    return Comparison(other.results, test, difference=difference, p=p)


def _by_test_set(indices: Iterable[int], cells: Sequence[Cell]) -> Iterable[list[int]]:
    """Rows tested on different images cannot be compared: each test set has a best of its own."""
    groups: dict[str, list[int]] = {}
    for i in indices:
        groups.setdefault(cells[i].dataset.digest, []).append(i)
    return groups.values()


def _holm(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    adjusted = iter(holm([c.p for c in comparisons if c.p is not None]))
    return tuple(
        c if c.p is None else _decided(replace(c, adjusted=float(next(adjusted))))
        for c in comparisons
    )


def _decided(tested: Comparison) -> Comparison:
    assert tested.adjusted is not None
    assert tested.difference is not None
    if tested.adjusted >= ALPHA:
        return replace(tested, outcome="tied")
    return replace(tested, outcome="worse" if tested.difference > 0 else "better")


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Holm's adjusted p-values, in the order given.

    S. Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return adjusted.clip(max=1)


def leaders(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The best of each test set, and what is tied with it."""
    return tuple(c for c in comparisons if c.outcome in ("best", "tied"))


def counts(comparisons: Iterable[Comparison]) -> dict[Outcome, int]:
    """How many comparisons have each outcome, zeros included, in the order of OUTCOMES."""
    found = Counter(c.outcome for c in comparisons)
    return {outcome: found[outcome] for outcome in OUTCOMES}
