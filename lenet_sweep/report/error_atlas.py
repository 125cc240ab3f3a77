"""The confusion matrix of the best row, and the test images that the runs misclassify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis.statistics import longest_snapshots
from lenet_sweep.data.images import LabeledImages, Labels
from lenet_sweep.report.collect import Report
from lenet_sweep.report.confusion import Confusion, make_confusion
from lenet_sweep.report.samples import ARROW, CHECK, has_short_names, misclassified, sample_correct
from lenet_sweep.report.sprites import Sprite, make_sprite

MAX_MISCLASSIFIED = 500  # images shown; a network that has not learned misclassifies thousands
MAX_HARDEST = 60
MAX_BEST_ONLY = 20
CORRECT_SAMPLES = 10


@dataclass(frozen=True)
class Picture:
    """A test image.

    x, y: its column and row in the sprite. caption: one or two lines. text: for screen readers.
    """

    x: int
    y: int
    caption: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Pictures:
    """The first of `total` test images, in one sprite.

    inverted: whether the sprite is dark on light. named: whether captions have names of classes,
    which need more space than digits.
    """

    sprite: Sprite
    items: tuple[Picture, ...]
    total: int
    inverted: bool
    named: bool


@dataclass(frozen=True, eq=False)
class Best:
    """How the best row classifies the test images."""

    confusion: Confusion
    correct: Pictures | None
    misclassified: Pictures | None


@dataclass(frozen=True, eq=False)
class Atlas:
    """Which test images the runs that learned misclassify.

    Each run counts once, as it was after its last epoch; the run of the best row, as in that row.

    counts: (runs + 1,), the number of test images that 0, 1, ..., all runs misclassify.
    """

    runs: int
    excluded: int  # runs that did not learn, or have no predictions
    images: int
    counts: NDArray[np.int64]
    hardest: Pictures | None
    best_only: Pictures | None  # the best row misclassifies them, at most a quarter of the runs do

    @property
    def missed_by_all(self) -> int:
        """The number of test images that all runs misclassify."""
        return int(self.counts[-1])

    @property
    def missed_by_none(self) -> int:
        """The number of test images that all runs classify correctly."""
        return int(self.counts[0])


def best(report: Report, *, pictures: bool) -> Best | None:
    """How the best row classifies the test images; without images if not `pictures`.

    None if its predictions or the test images are not available.
    """
    if report.best is None or report.tests is None or report.best.result.predictions is None:
        return None
    tests, predictions = report.tests, report.best.result.predictions
    labels, names = tests.labels, tests.class_names
    confusion = make_confusion(labels, predictions, names, tests.noun)
    if not pictures:
        return Best(confusion, None, None)
    correct, correct_total = sample_correct(
        labels, predictions, report.best.cell.seed, CORRECT_SAMPLES
    )
    wrong = misclassified(labels, predictions)
    first = wrong[:MAX_MISCLASSIFIED]
    return Best(
        confusion,
        _pictures(tests, correct, correct_total,
                  [(f"{names[labels[i]]} {CHECK}",) for i in correct],
                  ["classified correctly" for _ in correct]),
        _pictures(tests, first, len(wrong),
                  [_error_caption(names, labels[i], predictions[i]) for i in first],
                  [f"classified as {names[predictions[i]]}" for i in first]),
    )  # fmt: skip


def atlas(report: Report, *, pictures: bool) -> Atlas | None:
    """The error atlas of all runs that learned and use the test set of the best row.

    None if there are fewer than two such runs.
    """
    if report.best is None or report.tests is None or report.best.result.predictions is None:
        return None
    best_result, best_run = report.best.result, report.best.cell.run_id
    ended = longest_snapshots(
        r.result for r in report.rows if r.cell.uses_test_set_of(report.best.cell)
    )
    counted = [best_result if r.cell.run_id == best_run else r for r in ended]
    learned = [r for r in counted if r.has_learned and r.predictions is not None]
    if len(learned) < 2:
        return None
    runs, excluded = len(learned), len(counted) - len(learned)
    tests, labels, names = report.tests, report.tests.labels, report.tests.class_names
    predictions = np.stack([r.predictions for r in learned if r.predictions is not None])
    missed = (predictions != labels).sum(axis=0)  # (images,), by how many runs
    counts = np.bincount(missed, minlength=runs + 1)
    if not pictures:
        return Atlas(runs, excluded, len(labels), counts, None, None)
    hardest = np.lexsort((np.arange(len(labels)), -missed))
    hardest = hardest[missed[hardest] > 0]
    missed_by_best = report.best.result.predictions != labels
    best_only = np.flatnonzero(missed_by_best & (missed <= max(1, runs // 4)))
    best_only = best_only[np.lexsort((best_only, missed[best_only]))]

    def show(indices: NDArray[np.intp], limit: int) -> Pictures | None:
        first = indices[:limit]
        usual = [_most_frequent_error(predictions[:, i], int(labels[i])) for i in first]
        runs_missed = [f" \N{MULTIPLICATION SIGN}{missed[i]}" for i in first]
        captions = [
            _error_caption(names, labels[i], error, suffix)
            for i, error, suffix in zip(first, usual, runs_missed, strict=True)
        ]
        texts = [
            f"misclassified by {missed[i]} of {runs} runs, most often as {names[error]}"
            for i, error in zip(first, usual, strict=True)
        ]
        return _pictures(tests, first, len(indices), captions, texts)

    return Atlas(
        runs=runs,
        excluded=excluded,
        images=len(labels),
        counts=counts,
        hardest=show(hardest, MAX_HARDEST),
        best_only=show(best_only, MAX_BEST_ONLY),
    )


def _most_frequent_error(predictions: Labels, label: int) -> int:
    """The class other than `label` that is predicted most often for an image."""
    counts = np.bincount(predictions, minlength=label + 1)
    counts[label] = 0
    return int(counts.argmax())


def _error_caption(
    names: Sequence[str], label: int, predicted: int, suffix: str = ""
) -> tuple[str, ...]:
    """True and predicted class: in one line if all names are short, else in two."""
    if has_short_names(names):
        return (f"{names[label]}{ARROW}{names[predicted]}{suffix}",)
    return names[label], f"{ARROW} {names[predicted]}{suffix}"


def _pictures(
    tests: LabeledImages,
    indices: NDArray[np.intp],
    total: int,
    captions: Sequence[tuple[str, ...]],
    texts: Sequence[str],
) -> Pictures | None:
    """texts: what follows the class of each image."""
    if not len(indices):
        return None
    sprite = make_sprite(tests.images[indices], inverted=tests.inverted)
    items = tuple(
        Picture(
            *sprite.position(n),
            caption,
            f"test image {index}: {tests.noun} {tests.class_names[tests.labels[index]]}, {text}",
        )
        for n, (index, caption, text) in enumerate(zip(indices, captions, texts, strict=True))
    )
    named = not has_short_names(tests.class_names)
    return Pictures(sprite, items, total, tests.inverted, named)
