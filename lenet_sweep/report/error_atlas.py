"""The confusion matrix of the best row, and the test images that the runs misclassify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis.statistics import longest_snapshots
from lenet_sweep.data.images import LabeledImages
from lenet_sweep.report.collect import Report
from lenet_sweep.report.samples import misclassified, sample_correct
from lenet_sweep.report.sprites import Sprite, make_sprite

MAX_MISCLASSIFIED = 500  # images shown; a network that has not learned misclassifies thousands
MAX_HARDEST = 60
MAX_BEST_ONLY = 20
CORRECT_SAMPLES = 10


@dataclass(frozen=True)
class Digit:
    """A test image. x, y: its column and row in the sprite. text: for screen readers."""

    x: int
    y: int
    caption: str
    text: str


@dataclass(frozen=True)
class Digits:
    """The first of `total` test images, in one sprite."""

    sprite: Sprite
    items: tuple[Digit, ...]
    total: int


@dataclass(frozen=True, eq=False)
class Best:
    """How the best row classifies the test images. confusion: (10, 10), true by predicted digit."""

    confusion: NDArray[np.int64]
    correct: Digits | None
    misclassified: Digits | None


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
    hardest: Digits | None
    best_only: Digits | None  # the best row misclassifies them, at most a quarter of the runs do

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
    labels = tests.labels
    confusion = np.zeros((10, 10), np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    if not pictures:
        return Best(confusion, None, None)
    correct, correct_total = sample_correct(
        labels, predictions, report.best.cell.seed, CORRECT_SAMPLES
    )
    wrong = misclassified(labels, predictions)
    first = wrong[:MAX_MISCLASSIFIED]
    return Best(
        confusion,
        _digits(tests, correct, correct_total, [f"{labels[i]} \N{CHECK MARK}" for i in correct],
                [f"digit {labels[i]}, classified correctly" for i in correct]),
        _digits(tests, first, len(wrong),
                [f"{labels[i]}\N{RIGHTWARDS ARROW}{predictions[i]}" for i in first],
                [f"digit {labels[i]}, classified as {predictions[i]}" for i in first]),
    )  # fmt: skip


def atlas(report: Report, *, pictures: bool) -> Atlas | None:
    """The error atlas of all runs that learned and use the test set of the best row.

    None if there are fewer than two such runs.
    """
    if report.best is None or report.tests is None or report.best.result.predictions is None:
        return None
    digest = report.best.cell.dataset.digest
    best_result, best_run = report.best.result, report.best.cell.run_id
    ended = longest_snapshots(r.result for r in report.rows if r.cell.dataset.digest == digest)
    counted = [best_result if r.cell.run_id == best_run else r for r in ended]
    learned = [r for r in counted if r.has_learned and r.predictions is not None]
    if len(learned) < 2:
        return None
    runs, excluded = len(learned), len(counted) - len(learned)
    tests, labels = report.tests, report.tests.labels
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

    def show(indices: NDArray[np.intp], limit: int) -> Digits | None:
        first = indices[:limit]
        usual = [_most_frequent_error(predictions[:, i], int(labels[i])) for i in first]
        captions = [f"{labels[i]}\N{RIGHTWARDS ARROW}{digit} \N{MULTIPLICATION SIGN}{missed[i]}"
                    for i, digit in zip(first, usual, strict=True)]  # fmt: skip
        texts = [f"digit {labels[i]}, misclassified by {missed[i]} of {runs} runs, most often "
                 f"as {digit}" for i, digit in zip(first, usual, strict=True)]  # fmt: skip
        return _digits(tests, first, len(indices), captions, texts)

    return Atlas(
        runs=runs,
        excluded=excluded,
        images=len(labels),
        counts=counts,
        hardest=show(hardest, MAX_HARDEST),
        best_only=show(best_only, MAX_BEST_ONLY),
    )


def _most_frequent_error(predictions: NDArray[np.uint8], label: int) -> int:
    """The digit other than `label` that is predicted most often for an image."""
    counts = np.bincount(predictions, minlength=10)
    counts[label] = 0
    return int(counts.argmax())


def _digits(
    tests: LabeledImages,
    indices: NDArray[np.intp],
    total: int,
    captions: Sequence[str],
    texts: Sequence[str],
) -> Digits | None:
    if not len(indices):
        return None
    sprite = make_sprite(tests.images[indices])
    items = tuple(
        Digit(*sprite.position(n), caption, f"test image {index}: {text}")
        for n, (index, caption, text) in enumerate(zip(indices, captions, texts, strict=True))
    )
    return Digits(sprite, items, total)
