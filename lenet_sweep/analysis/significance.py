"""Comparisons with the best row or setting: tests, their correction, and the outcomes.

The rules and their limits are in docs/statistics.md. Differences are percentage points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis import t_tests
from lenet_sweep.analysis.statistics import (
    EPSILON,
    Result,
    Setting,
    Z,
    first_of_each_cell,
    group_by_setting,
    scoring,
)
from lenet_sweep.core.cells import Cell

MIN_SEEDS = 3  # smallest number of seeds for a t test: with two it hardly ever finds a difference
ALPHA = 0.05  # significance level for adjusted p-values
# Outcomes of a comparison with the best, in the order of every output; docs/statistics.md defines
# them.
Outcome: TypeAlias = Literal["best", "better", "tied", "inconclusive", "worse", "not compared"]
OUTCOMES: tuple[Outcome, ...] = (
    "best", "better", "tied", "inconclusive", "worse", "not compared",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparison:
    """The comparison of a row or a setting with the best one on the same test images.

    test: 'best' (this is the best one), 'McNemar', 'paired t', 'Welch' or 'none'.
    outcome: 'best'; 'tied' if the test finds no significant difference; 'worse' if it finds one, or
    'better', which is possible only if held-out images chose the best; 'inconclusive' if the t test
    does not settle it; 'not compared' without an accuracy or without the test images. `reason`
    explains the last two.
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


def compare_table(results: Sequence[Result]) -> tuple[Comparison, ...]:
    """The comparison of each row of a table, or of its setting if settings are compared.

    If a cell has several rows, the first one counts for its setting.
    """
    settings = group_by_setting(results[i] for i in first_of_each_cell(r.cell for r in results))
    if not any(s.n > 1 for s in settings):
        return compare_rows(results)
    compared = by_setting(compare_settings(settings))
    return tuple(compared[r.cell.setting] for r in results)


def by_setting(comparisons: Iterable[Comparison]) -> dict[Cell, Comparison]:
    """Comparisons of settings by their settings, as `Cell.setting` gives them."""
    return {c.results[0].cell.setting: c for c in comparisons}


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

    The test is a paired t test over the seeds that both settings have, if there are at least
    MIN_SEEDS; otherwise Welch's t test, if both have at least MIN_SEEDS; otherwise the comparison
    is inconclusive. It is also inconclusive if the t test finds no difference but the test images
    show one. Comparisons are in the order of `settings`.
    """
    score = scoring(r for s in settings for r in s.results)
    best_of: dict[int, Setting] = {}
    for group in _by_test_set(range(len(settings)), [s.cell for s in settings]):
        best = max((settings[i] for i in group), key=score)
        best_of |= dict.fromkeys(group, best)
    tested = _adjust([_t_test_comparison(best_of[i], s) for i, s in enumerate(settings)])
    return tuple(
        _confirm_tie(comparison, setting, best_of[i])
        for i, (comparison, setting) in enumerate(zip(tested, settings, strict=True))
    )


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
    if len(common) >= MIN_SEEDS:
        a, b = (np.array([side[seed] for seed in common], float) for side in (ours, theirs))
        return _t_test(other, difference, "paired t", a, b)
    if min(best.n, other.n) >= MIN_SEEDS:
        a, b = np.array(list(ours.values()), float), np.array(list(theirs.values()), float)
        return _t_test(other, difference, "Welch", a, b)
    subject, seeds = ("the setting", other.n) if other.n < MIN_SEEDS else ("the best", best.n)
    number = "only one seed" if seeds == 1 else f"only {seeds} seeds"
    reason = f"{subject} has {number}, and the t test needs {MIN_SEEDS}"
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


def compared_thing(comparisons: Sequence[Comparison]) -> str:
    """What was compared: 'setting' if one has several seeds, otherwise 'row'."""
    return "setting" if any(len(c.results) > 1 for c in comparisons) else "row"


def describe_leaders(comparisons: Sequence[Comparison]) -> str:
    """The result of `leaders` in words: 'the best row and those tied with it'."""
    thing, found = compared_thing(comparisons), counts(comparisons)
    best, tied = found["best"], found["tied"]
    first, them = f"the best {thing}", "it"
    if best > 1:
        first, them = f"the best {thing} on each test set", "them"
    if not tied:
        return first
    return f"{first} and {'the one' if tied == 1 else 'those'} tied with {them}"


def counts(comparisons: Iterable[Comparison]) -> dict[Outcome, int]:
    """The number of comparisons with each outcome, zeros included, in the order of OUTCOMES."""
    numbers = Counter(c.outcome for c in comparisons)
    return {outcome: numbers[outcome] for outcome in OUTCOMES}
