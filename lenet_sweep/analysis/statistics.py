"""Confidence intervals, means over seeds, and comparisons with the best row or setting.

The rules and their limits are in docs/statistics.md. Accuracies are percentages of the test images,
differences are percentage points.
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

LEVEL = 0.95  # confidence level of every interval
SEEDS = 3  # smallest number of seeds for a t test: with two it hardly ever finds a difference
Z = 1.96  # standard errors on each side of a normal interval at LEVEL
ALPHA = 0.05  # significance level for adjusted p-values
COLLAPSED = 0.99  # a cell has collapsed if this share of its predictions is one class
# Outcomes of a comparison with the best, in the order of every output; docs/statistics.md defines
# them.
Outcome: TypeAlias = Literal["best", "better", "tied", "inconclusive", "worse", "not compared"]
OUTCOMES: tuple[Outcome, ...] = (
    "best", "better", "tied", "inconclusive", "worse", "not compared",
)  # fmt: skip
EPSILON = 1e-9  # points; accuracies that are closer differ only by rounding


@dataclass(frozen=True, eq=False)
class Result:
    """The result of a cell; a failed cell has no accuracy.

    correct: (test images,) bool, which images are classified correctly. predictions: (test
    images,) uint8, the predicted classes. history: one Epoch per trained epoch. holdout_accuracy:
    percent of the held-out training images; None if none were held out.
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
        """The result of a finished cell. labels: (test images,) uint8, the true classes.

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
        return cls(cell, "ok", accuracy, correct, predictions, snapshot.history, held_out)

    @property
    def collapsed(self) -> int | None:
        """The class predicted for (nearly) all images; None if the cell did not collapse."""
        if self.predictions is None or not self.predictions.size:
            return None
        counts = np.bincount(self.predictions)
        one_class = counts.max() >= COLLAPSED * self.predictions.size
        accurate = self.accuracy is not None and self.accuracy >= 100 * COLLAPSED
        return int(counts.argmax()) if one_class and not accurate else None


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
    points) are over these. interval: Student's t interval of the mean. sd and interval are None
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
    width = 0.0  # if seeds differ only by rounding
    if sd > EPSILON:
        width = t_tests.t_quantile(LEVEL, n - 1) * sd / sqrt(n)
    interval = Interval(max(0.0, mean - width), min(100.0, mean + width))
    return Setting(tuple(results), 0, n, mean, sd, interval, held_out)


def accuracies(results: Iterable[Result]) -> list[float]:
    """The accuracies in percent, in order, of the results that have one."""
    return [r.accuracy for r in results if r.accuracy is not None]


# ---------------------------------------------------------------- comparisons


@dataclass(frozen=True, eq=False)
class Comparison:
    """The comparison of a row or a setting with the best one on the same test images.

    test: 'best' (this is the best one), 'McNemar', 'paired t', 'Welch' or 'none'.
    outcome: 'best'; 'tied' if the test finds no significant difference; 'worse' if it finds one, or
    'better', which is possible only if held-out images chose the best; 'inconclusive' if the seeds
    cannot decide; 'not compared' without an accuracy or without the test images. `reason` explains
    the last two.
    difference: points below the best; negative if above. p: of `test`. adjusted: p with Holm's
    correction over all comparisons.
    """

    results: tuple[Result, ...]
    test: str
    outcome: Outcome = "not compared"
    difference: float | None = None
    p: float | None = None
    adjusted: float | None = None
    reason: str = ""


def compare(results: Sequence[Result]) -> tuple[Comparison, ...]:
    """Compare settings if one of them has several seeds, otherwise rows."""
    settings = group_by_setting(results)
    return compare_settings(settings) if any(s.n > 1 for s in settings) else compare_rows(results)


def compare_table(results: Sequence[Result]) -> tuple[Comparison, ...]:
    """The comparison of each row of a table, or of its setting if settings are compared.

    A cell may have several rows (trained twice, with different numbers); the first one counts for
    its setting.
    """
    first: dict[Cell, Result] = {}
    for r in results:
        first.setdefault(r.cell, r)
    settings = group_by_setting(first.values())
    if not any(s.n > 1 for s in settings):
        return compare_rows(results)
    by_setting = {c.results[0].cell.setting: c for c in compare_settings(settings)}
    return tuple(by_setting[r.cell.setting] for r in results)


def compare_rows(results: Sequence[Result]) -> tuple[Comparison, ...]:
    """Compare each row with the best on its test set: exact McNemar test, Holm's correction.

    The best is the first row with the highest accuracy, on held-out images if all rows have some.
    The test is about these two runs; it says nothing about other seeds. Comparisons are in the
    order of `results`.
    """
    score = scoring(results)
    compared: dict[int, Comparison] = {}
    for group in _by_test_set(range(len(results)), [r.cell for r in results]):
        finished = [i for i in group if results[i].accuracy is not None]
        for i in set(group) - set(finished):
            status = results[i].status
            compared[i] = Comparison((results[i],), "none", reason=f"no accuracy ({status})")
        if not finished:
            continue
        best = max(finished, key=lambda i: score(results[i]))
        comparisons = _mcnemar_comparisons([results[i] for i in finished], results[best])
        compared |= dict(zip(finished, comparisons, strict=True))
        compared[best] = Comparison((results[best],), "best", "best", 0.0)
    return _adjust([compared[i] for i in range(len(results))])


def _mcnemar_comparisons(finished: Sequence[Result], best: Result) -> Iterable[Comparison]:
    """Compare results that have an accuracy with the best, if their predictions are available."""
    assert best.accuracy is not None
    p: dict[int, float] = {}
    if best.correct is not None:
        tested = [i for i, r in enumerate(finished) if r.correct is not None]
        rows = np.stack([finished[i].correct for i in tested])  # type: ignore[misc] # not None
        p = dict(zip(tested, map(float, mcnemar(best.correct, rows)), strict=True))
    for i, r in enumerate(finished):
        difference = best.accuracy - (r.accuracy or 0.0)
        if i in p:
            yield Comparison((r,), "McNemar", difference=difference, p=p[i])
        else:
            reason = "the test images or the predictions are not available"
            yield Comparison((r,), "none", difference=difference, reason=reason)


def mcnemar(best: NDArray[np.bool_], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Exact two-sided p-values (rows,) of McNemar's test of each row against the best.

    best: (images,) bool, rows: (rows, images) bool, whether each image is classified correctly.
    Under the null hypothesis, the images that only one of two classifies correctly split evenly.
    Q. McNemar (1947); the same as `mcnemar(exact=True)` in statsmodels, for all rows at once.
    """
    only_best = (best & ~rows).sum(axis=1)
    only_row = (~best & rows).sum(axis=1)
    pairs = zip(only_best.tolist(), only_row.tolist(), strict=True)
    return np.array([_binomial(min(pair), sum(pair)) for pair in pairs], float)


def _binomial(fewer: int, total: int) -> float:
    """Exact two-sided p-value of a fair coin that shows its rarer side `fewer` of `total` times."""
    ways = binomial = 1  # integers, so that only the final division rounds
    for k in range(1, fewer + 1):
        binomial = binomial * (total - k + 1) // k
        ways += binomial
    return min(1.0, 2 * ways / (1 << total))


def compare_settings(settings: Sequence[Setting]) -> tuple[Comparison, ...]:
    """Compare each setting with the best mean on its test set, with Holm's correction.

    The test is a paired t test over the seeds that both settings have, if there are at least SEEDS;
    otherwise Welch's t test, if both have at least SEEDS; otherwise the comparison is inconclusive.
    It is also inconclusive if the t test finds no difference but the test images show one.
    Comparisons are in the order of `settings`.
    """
    compared: dict[int, Comparison] = {}
    score = scoring(r for s in settings for r in s.results)
    for group in _by_test_set(range(len(settings)), [s.cell for s in settings]):
        best = max(group, key=lambda i: score(settings[i]))
        for i in group:
            compared[i] = _t_test_comparison(settings[best], settings[i])
    tested = _adjust([compared[i] for i in range(len(settings))])
    for group in _by_test_set(range(len(settings)), [s.cell for s in settings]):
        best = max(group, key=lambda i: score(settings[i]))
        for i in group:
            compared[i] = _confirm_tie(tested[i], settings[i], settings[best])
    return tuple(compared[i] for i in range(len(settings)))


def _confirm_tie(compared: Comparison, other: Setting, best: Setting) -> Comparison:
    """Keep a tie only if the test images do not separate the settings either.

    A t test of few seeds that vary a lot rejects hardly anything. The test over images is a paired
    z test at LEVEL, on the share of seeds that classify each image correctly.
    """
    if compared.outcome != "tied":
        return compared
    ours, theirs = ([r.correct for r in s.results if r.correct is not None] for s in (best, other))
    if len(ours) < best.n or len(theirs) < other.n:
        return compared
    differences = np.mean(ours, axis=0) - np.mean(theirs, axis=0)
    if abs(differences.mean()) <= Z * differences.std() / np.sqrt(differences.size):
        return compared
    reason = "the test images show a difference that the t test over the seeds does not confirm"
    return replace(compared, outcome="inconclusive", reason=reason)


def _t_test_comparison(best: Setting, other: Setting) -> Comparison:
    if other.mean is None or best.mean is None:
        reason = f"no accuracy ({other.results[0].status})"
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
    subject, seeds = ("the setting", other.n) if other.n < SEEDS else ("the best", best.n)
    number = "only one seed" if seeds == 1 else f"only {seeds} seeds"
    reason = f"{subject} has {number}, and the t test needs {SEEDS}"
    return Comparison(other.results, "none", "inconclusive", difference, reason=reason)


def _t_test(
    other: Setting, difference: float, test: str, a: NDArray[np.float64], b: NDArray[np.float64]
) -> Comparison:
    variation = np.ptp(a - b) if test == "paired t" else np.ptp(a) + np.ptp(b)
    if variation < EPSILON:
        if abs(a.mean() - b.mean()) < EPSILON:
            return Comparison(other.results, test, difference=difference, p=1.0)
        constant = "the difference is the same for every seed"
        if test != "paired t":
            constant = "neither setting varies between seeds"
        reason = f"{constant}, so the t test does not apply"
        return Comparison(other.results, "none", "inconclusive", difference, reason=reason)
    if (a.mean() - b.mean()) * difference < 0:  # `difference` includes seeds that only one has
        reason = "on the seeds that both settings have, the order of the two is reversed"
        return Comparison(other.results, "none", "inconclusive", difference, reason=reason)
    p = t_tests.paired_p(a, b) if test == "paired t" else t_tests.welch_p(a, b)
    return Comparison(other.results, test, difference=difference, p=p)


def _by_test_set(indices: Iterable[int], cells: Sequence[Cell]) -> Iterable[list[int]]:
    """Group indices by test set, because only rows with the same test images are compared."""
    groups: dict[str, list[int]] = {}
    for i in indices:
        groups.setdefault(cells[i].dataset.digest, []).append(i)
    return groups.values()


def _adjust(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    adjusted = iter(holm([c.p for c in comparisons if c.p is not None]))
    return tuple(
        c if c.p is None else _decide(replace(c, adjusted=float(next(adjusted))))
        for c in comparisons
    )


def _decide(tested: Comparison) -> Comparison:
    assert tested.adjusted is not None
    assert tested.difference is not None
    if tested.adjusted >= ALPHA:
        return replace(tested, outcome="tied")
    return replace(tested, outcome="worse" if tested.difference > 0 else "better")


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """p-values adjusted by Holm's method for multiple comparisons, in the same order.

    S. Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return adjusted.clip(max=1)


def leaders(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The best of each test set, and the comparisons tied with it."""
    return tuple(c for c in comparisons if c.outcome in ("best", "tied"))


def counts(comparisons: Iterable[Comparison]) -> dict[Outcome, int]:
    """The number of comparisons with each outcome, zeros included, in the order of OUTCOMES."""
    numbers = Counter(c.outcome for c in comparisons)
    return {outcome: numbers[outcome] for outcome in OUTCOMES}
