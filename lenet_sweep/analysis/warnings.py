"""What a reader of the table should doubt, each doubt computed from the results at hand.

docs/statistics.md has the rules. A doubt names its numbers and its cells, and where a command would
settle it, that command.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis.axes import command
from lenet_sweep.analysis.curve_warnings import early_peaks, still_falling
from lenet_sweep.analysis.grid_warnings import edges, same_loss, together_doubts
from lenet_sweep.analysis.statistics import (
    Comparison,
    Result,
    Setting,
    by_holdout,
    compare,
    group_by_setting,
)
from lenet_sweep.analysis.warning import ResultWarning, has, of, ordinal, percent
from lenet_sweep.core.cells import Cell, short_names
from lenet_sweep.core.text import join_words

SEEDS = (0, 1, 2, 3, 4)  # what is suggested to who used one
RESAMPLES = 200
LEAST = 0.015  # points: less than that rounds to one of 10,000 test images, and is no warning


def find_warnings(
    results: Sequence[Result],
    comparisons: Sequence[Comparison] | None = None,
) -> tuple[ResultWarning, ...]:
    """Every doubt about these results, the most serious first.

    comparisons: those of `statistics.compare`, where they are at hand.
    """
    if not results:
        return ()
    compared = compare(results) if comparisons is None else comparisons
    names = short_names([r.cell for r in results])
    found = [
        *_failed(results, names),
        *_collapsed(results, names),
        *together_doubts(results),
        *_selection(results),
        *_one_seed(results, compared),
        *edges(results, compared),
        *still_falling(results, compared, names),
        *early_peaks(results, names),
        *same_loss(results),
    ]
    order = ("serious", "caution", "note")
    return tuple(sorted(found, key=lambda doubt: order.index(doubt.severity)))


# ---------------------------------------------------------------- cells that went wrong


def _failed(results: Sequence[Result], names: Mapping[Cell, str]) -> Iterable[ResultWarning]:
    diverged = tuple(r.cell for r in results if r.status == "diverged")
    if diverged:
        which = join_words([names[cell] for cell in diverged])
        yield ResultWarning(
            "diverged",
            f"{of(len(diverged), len(results))} diverged and {has(diverged)} no accuracy: {which}.",
            diverged,
            "caution",
        )
    other = [r for r in results if r.accuracy is None and r.status != "diverged"]
    if other:
        states = Counter(r.status for r in other)
        why = join_words([f"{number} {status}" for status, number in states.items()])
        yield ResultWarning(
            "failed",
            f"{of(len(other), len(results))} {has(other)} no accuracy ({why}): "
            f"{join_words([names[r.cell] for r in other])}. Nothing is known of them; the same command "
            "tries again.",
            tuple(r.cell for r in other),
            "serious",
        )


def _collapsed(results: Sequence[Result], names: Mapping[Cell, str]) -> Iterable[ResultWarning]:
    classes: dict[int, list[Result]] = {}
    for r in results:
        if (only := r.collapsed) is not None:
            classes.setdefault(only, []).append(r)
    for only, group in sorted(classes.items()):
        lowest, highest = min(map(percent, group)), max(map(percent, group))
        span = f"{lowest:.2f} %"
        span += "" if f"{highest:.2f}" == f"{lowest:.2f}" else f" to {highest:.2f} %"
        yield ResultWarning(
            "collapsed",
            f"{of(len(group), len(results))} collapsed to one class: "
            f"{join_words([names[r.cell] for r in group])} "
            f"{'takes' if len(group) == 1 else 'take'} (nearly) every image for a {only}, which is "
            f"right for {span} of the test images. That is no learned accuracy.",
            tuple(r.cell for r in group),
            "caution",
        )


# ---------------------------------------------------------------- how the best was chosen


def _selection(results: Sequence[Result]) -> Iterable[ResultWarning]:
    if by_holdout(results):
        return
    groups: dict[str, list[Setting]] = {}
    for setting in group_by_setting(results):  # best first
        if any(r.correct is not None for r in setting.results):
            groups.setdefault(setting.cell.dataset.digest, []).append(setting)
    for group in groups.values():
        if len(group) < 2:
            continue
        rows = np.stack([_right(setting) for setting in group])
        images = rows.shape[1]
        limits = [s.cell.dataset.limit for s in group]
        train = min(limit for limit in limits if limit) if any(limits) else 6 * images
        excess = optimism(rows)
        if excess < LEAST:
            continue
        thing, mean = "cells", ""
        if any(s.n > 1 for s in group):
            thing, mean = "settings", "mean of "
        yield ResultWarning(
            "selection",
            f"The best of {len(group)} {thing} was chosen by the {images:,} test images that its "
            f"{mean}{group[0].mean:.2f} % is measured on. Such a figure is too high on average, "
            f"here by about {excess:.2f} points (bootstrap over the test images). Choose "
            "by images kept back from training instead.",
            tuple(r.cell for r in group[0].results),
            "caution",
            f"holdout={max(1, min(images, train // 6))}",
        )


def _right(setting: Setting) -> NDArray[np.float32]:
    """The share of its seeds that has each test image right."""
    rows = [r.correct for r in setting.results if r.correct is not None]
    share: NDArray[np.float32] = np.mean(rows, axis=0, dtype=np.float32)
    return share


def optimism(rows: NDArray[np.float32], seed: int = 0) -> float:
    """Points by which the best row overstates itself, having been chosen on these test images.

    rows: (rows, images), 1 where a row is right, or the share of its seeds that is. The bootstrap
    (Efron): on test images drawn with replacement the best is chosen anew, and its accuracy there
    compared with its accuracy on all of them; the mean over RESAMPLES draws.
    """
    images = rows.shape[1]
    random = np.random.default_rng(seed)
    drawn = random.multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    accuracies = drawn.astype(np.float32) @ rows.T / images  # (RESAMPLES, rows)
    every = rows.mean(axis=1)
    chosen, first = accuracies.argmax(axis=1), int(every.argmax())
    # Less what the draws do to one row that is not chosen, which is 0 on average: its noise goes.
    excess = (accuracies.max(axis=1) - accuracies[:, first]) - (every[chosen] - every[first])
    return max(0.0, 100 * float(excess.mean()))


def _one_seed(results: Sequence[Result], compared: Sequence[Comparison]) -> Iterable[ResultWarning]:
    found = [s for s in group_by_setting(results) if s.n]
    single = [s for s in found if s.n == 1]
    if not single or len(found) < 2:
        return
    cells = tuple(s.cell for s in single)
    remedy = command([r.cell for r in results], {"seed": SEEDS})
    if len(single) < len(found):
        sentence = (
            f"{of(len(single), len(found), 'setting')} {has(single)} an accuracy with only one "
            "seed, so how much it varies between seeds is unknown."
        )
        yield ResultWarning("one seed", sentence, cells, "caution", remedy)
        return
    first = next(c for c in compared if c.test == "best").results[0].cell.dataset.digest
    alike = [c for c in compared if c.results[0].cell.dataset.digest == first]
    ranked = sorted((c for c in alike if c.difference is not None), key=_behind)
    tied = [c for c in ranked if c.outcome in ("best", "tied")]
    if len(ranked) < 2:
        return
    once = "Every setting ran with only one seed, and accuracies vary between seeds"
    last = tied[-1] if len(tied) > 1 else ranked[1]
    if by_holdout(results) or last.outcome == "not compared":
        yield ResultWarning("one seed", f"{once}.", cells, "caution", remedy)
        return
    place = ordinal(1 + ranked.index(last))
    if len(tied) > 1:
        within = (
            f"the first and the {place} row lie within {last.difference:.2f} points and are tied "
            "by the test images alone"
        )
    else:
        within = (
            f"the first row is {last.difference:.2f} points ahead of the {place}, more than chance "
            "explains for these two trainings, but another seed may change the order"
        )
    yield ResultWarning("one seed", f"{once}: {within}.", cells, "caution", remedy)


def _behind(comparison: Comparison) -> float:
    return comparison.difference or 0.0
