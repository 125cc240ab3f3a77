"""Find what a reader of the table should be careful about.

Each warning is computed from the results. It gives its numbers, its cells and, if one
exists, the command that would settle the matter. The rules are in docs/statistics.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis.commands import command
from lenet_sweep.analysis.curve_warnings import early_peaks, still_falling
from lenet_sweep.analysis.grid_warnings import confounded_settings, edges, same_loss
from lenet_sweep.analysis.significance import Comparison
from lenet_sweep.analysis.statistics import Result, Setting, by_holdout, group_by_setting
from lenet_sweep.analysis.warning_types import (
    ResultWarning,
    accuracy_of,
    count_of,
    has_or_have,
    ordinal,
)
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.names import short_names
from lenet_sweep.core.text import join_words
from lenet_sweep.results.columns import STOPPED

SUGGESTED_SEEDS = (0, 1, 2, 3, 4)  # suggested where only one seed was used
RESAMPLES = 200  # bootstrap resamples of the test images
MIN_OPTIMISM = 0.015  # points; less than this rounds to one of 10,000 test images


def find_warnings(
    results: Sequence[Result],
    compared: Sequence[Comparison],
    *,
    sampled: bool = False,
    others: Sequence[Result] = (),
) -> tuple[ResultWarning, ...]:
    """All warnings about these results, the most serious first.

    compared: the settings or, with one seed, the rows, compared with the best. sampled: whether a
    search has sampled the settings, which then never form a full grid. others: see `analyse`.
    """
    if not results:
        return ()
    all_results = [*results, *others]
    names = short_names([r.cell for r in all_results])
    warnings = [
        *_failed(all_results, names),
        *_collapsed(results, names),
        *(() if sampled else confounded_settings(all_results)),
        *_selection(results),
        *_stopped_by_test_images(results),
        *_stopped_by_search(all_results, sampled=sampled),
        *_one_seed(results, compared),
        *edges(all_results, compared),
        *still_falling(results, compared, names),
        *early_peaks(results, names),
        *same_loss(results),
    ]
    order = ("serious", "caution", "note")
    return tuple(sorted(warnings, key=lambda warning: order.index(warning.severity)))


# ---------------------------------------------------------------- cells that went wrong


def _failed(results: Sequence[Result], names: Mapping[Cell, str]) -> Iterable[ResultWarning]:
    diverged = tuple(r.cell for r in results if r.status == "diverged")
    if diverged:
        listed = join_words([names[cell] for cell in diverged])
        yield ResultWarning(
            "diverged",
            f"{count_of(len(diverged), len(results))} diverged (the cost was no longer a finite "
            f"number) and {has_or_have(diverged)} no accuracy: {listed}.",
            diverged,
            "caution",
        )
    failed = [r for r in results if r.accuracy is None and r.status not in ("diverged", STOPPED)]
    if failed:
        statuses = Counter(r.status for r in failed)
        counts = join_words([f"{number} {status}" for status, number in statuses.items()])
        yield ResultWarning(
            "failed",
            f"{count_of(len(failed), len(results))} {has_or_have(failed)} no accuracy ({counts}): "
            f"{join_words([names[r.cell] for r in failed])}. Nothing can be "
            f"concluded about {'it' if len(failed) == 1 else 'them'}. Run the same command to try "
            "again.",
            tuple(r.cell for r in failed),
            "serious",
        )


def _collapsed(results: Sequence[Result], names: Mapping[Cell, str]) -> Iterable[ResultWarning]:
    collapsed = [(r, r.collapsed) for r in results if r.collapsed is not None]
    if not collapsed:
        return
    rows = [r for r, _ in collapsed]
    classes = sorted({(predicted, r.class_name(predicted)) for r, predicted in collapsed})
    listed = join_words([name for _, name in classes], 10, "or")
    lowest, highest = min(map(accuracy_of, rows)), max(map(accuracy_of, rows))
    accuracies = f"{lowest:.2f}%"
    accuracies += "" if f"{highest:.2f}" == f"{lowest:.2f}" else f" to {highest:.2f}%"
    predict = f"Their networks each predict a single class ({listed})"
    if len(classes) == 1:
        predict = (
            f"{'The network predicts' if len(rows) == 1 else 'Their networks predict'} {listed}"
        )
    yield ResultWarning(
        "collapsed",
        f"{count_of(len(rows), len(results))} collapsed to one class: "
        f"{join_words([names[r.cell] for r in rows])}. {predict} for nearly all test "
        f"images, which is correct for {accuracies} of these images. Such an accuracy is not "
        "evidence of learning.",
        tuple(r.cell for r in rows),
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
        rows = np.stack([_share_correct(setting) for setting in group])
        excess = optimism(rows)
        if excess < MIN_OPTIMISM:
            continue
        thing, mean = "cells", "accuracy of "
        if any(s.n > 1 for s in group):
            thing, mean = "settings", "mean accuracy of "
        yield ResultWarning(
            "selection",
            f"The best of {len(group)} {thing} was chosen on the same {rows.shape[1]:,} test "
            f"images on which its {mean}{group[0].mean:.2f}% was measured. An accuracy chosen in "
            f"this way is too high on average, here by about {excess:.2f} points (a bootstrap "
            "estimate, which repeats the choice on random resamples of the test images; it does "
            "not include chance differences between seeds). Hold out training images instead, and "
            "choose by the accuracy on them.",
            tuple(r.cell for r in group[0].results),
            "caution",
            _holdout([s.cell for s in group], [r for s in group for r in s.results]),
        )


def _stopped_by_test_images(results: Sequence[Result]) -> Iterable[ResultWarning]:
    cells = [r.cell for r in results]
    chosen = [c for c in cells if c.patience is not None and c.dataset.holdout is None]
    if not chosen:
        return
    yield ResultWarning(
        "early stopping",
        f"In {count_of(len(chosen), len(cells))}, the test images decided when to stop training "
        "(patience), so the accuracy is measured on images that influenced the training. If "
        "you hold out training images, those images are used for this decision instead.",
        tuple(chosen),
        "caution",
        _holdout(chosen, results),
    )


def _stopped_by_search(results: Sequence[Result], *, sampled: bool) -> Iterable[ResultWarning]:
    stopped = [r.cell for r in results if r.status == STOPPED]
    if not stopped:
        return
    sentence = (
        f"The search stopped {count_of(len(stopped), len(results))} before the last epoch. The "
        "table does not show what accuracy further training would have reached."
    )
    if not sampled:
        sentence += " The same command with search=grid trains every cell to the end."
    held_out = all(cell.dataset.holdout for cell in stopped)
    if not held_out:
        sentence += (
            " The test images decided which cells to stop, so the accuracy of the best may be "
            "slightly too high. If you hold out training images, those images are used for this "
            "decision instead."
        )
    yield ResultWarning(
        "search",
        sentence,
        tuple(stopped),
        "note" if held_out else "caution",
        "" if held_out else _holdout(stopped, results),
    )


def _holdout(cells: Sequence[Cell], results: Sequence[Result]) -> str:
    """The setting that holds out as many images as there are test images, if there are enough."""
    images = max((r.correct.size for r in results if r.correct is not None), default=10_000)
    limit = min((c.dataset.limit for c in cells if c.dataset.limit), default=6 * images)
    return f"holdout={max(1, min(images, limit // 6))}"


def _share_correct(setting: Setting) -> NDArray[np.float32]:
    """For each test image, the share of the setting's seeds that classify it correctly."""
    rows = [r.correct for r in setting.results if r.correct is not None]
    share: NDArray[np.float32] = np.mean(rows, axis=0, dtype=np.float32)
    return share


def optimism(rows: NDArray[np.float32], seed: int = 0) -> float:
    """How much the best row overstates its accuracy because these test images chose it, in points.

    rows: (rows, images), 1 where a row is correct, or the share of its seeds that are. Estimated by
    the bootstrap (Efron 1983): the best row is chosen on each of RESAMPLES resamples of the test
    images, drawn with replacement, and its accuracy there is compared with its accuracy on all
    images.
    """
    images = rows.shape[1]
    random = np.random.default_rng(seed)
    # Counting drawn images takes a quarter of the time of `random.multinomial`.
    draws = np.empty((RESAMPLES, images), np.float32)  # how often each image is drawn
    for draw in draws:
        draw[:] = np.bincount(random.integers(images, size=images), minlength=images)
    accuracies = draws @ rows.T / images  # (RESAMPLES, rows)
    overall = rows.mean(axis=1)
    chosen, first = accuracies.argmax(axis=1), int(overall.argmax())
    # The same difference for one fixed row is 0 on average; subtracting it removes common noise.
    excess = (accuracies.max(axis=1) - accuracies[:, first]) - (overall[chosen] - overall[first])
    return max(0.0, 100 * float(excess.mean()))


def _one_seed(results: Sequence[Result], compared: Sequence[Comparison]) -> Iterable[ResultWarning]:
    settings = [s for s in group_by_setting(results) if s.n]
    single = [s for s in settings if s.n == 1]
    if not single or len(settings) < 2:
        return
    cells = tuple(s.cell for s in single)
    remedy = command([r.cell for r in results], {"seed": SUGGESTED_SEEDS})
    if len(single) < len(settings):
        sentence = (
            f"{count_of(len(single), len(settings), 'setting')} {has_or_have(single)} an accuracy "
            f"for only one seed, so {'its' if len(single) == 1 else 'their'} variation between "
            "seeds is unknown."
        )
        yield ResultWarning("one seed", sentence, cells, "caution", remedy)
        return
    digest = next(c for c in compared if c.test == "best").results[0].cell.dataset.digest
    same_images = [c for c in compared if c.results[0].cell.dataset.digest == digest]
    ranked = sorted((c for c in same_images if c.difference is not None), key=_difference)
    tied = [c for c in ranked if c.outcome in ("best", "tied")]
    if len(ranked) < 2:
        return
    start = "Every setting has only one seed, and accuracies vary between seeds."
    last = tied[-1] if len(tied) > 1 else ranked[1]
    if by_holdout(results) or last.outcome == "not compared":
        yield ResultWarning("one seed", start, cells, "caution", remedy)
        return
    place = ordinal(1 + ranked.index(last))
    if len(tied) > 1:
        detail = (
            f"Even between these single runs, the difference of {last.difference:.2f} points "
            f"between the 1st row and the {place} is not significant on the test images."
        )
    else:
        detail = (
            f"The 1st row is {last.difference:.2f} points ahead of the {place}. That is more than "
            "the choice of test images explains, but another seed may change the order."
        )
    yield ResultWarning("one seed", f"{start} {detail}", cells, "caution", remedy)


def _difference(comparison: Comparison) -> float:
    return comparison.difference or 0.0
