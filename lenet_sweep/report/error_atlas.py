"""The error atlas: which test images the cells miss, which of them all miss, and as what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis.effects import has_learned
from lenet_sweep.data.test_images import LabeledImages
from lenet_sweep.report.collect import Report
from lenet_sweep.report.samples import misclassified, sample_correct
from lenet_sweep.report.sprites import Sprite, sprite

WRONG = 500  # misclassified images that are shown; a cell that has not learned misses thousands
HARD = 60  # images of the hard core that are shown
ALONE = 20  # images that the best row misses though most others do not
RIGHT = 10


@dataclass(frozen=True)
class Digit:
    """A test image with what is said of it. x, y: its column and row in the sprite."""

    x: int
    y: int
    caption: str
    text: str  # the same for who does not see it


@dataclass(frozen=True)
class Digits:
    """Some test images, in one sprite; `total` there are, of which these are the first."""

    sprite: Sprite
    items: tuple[Digit, ...]
    total: int


@dataclass(frozen=True, eq=False)
class Best:
    """What the best row takes each image for. confusion: (10, 10), true by predicted."""

    confusion: NDArray[np.int64]
    right: Digits | None
    wrong: Digits | None


@dataclass(frozen=True, eq=False)
class Atlas:
    """What the cells that have learned have in common.

    counts: (cells + 1,), how many test images are missed by none, by one, ... by all of them.
    """

    cells: int
    others: int  # cells that have not learned, left out
    images: int
    counts: NDArray[np.int64]
    hard: Digits | None
    alone: Digits | None  # missed by the best row, known to three quarters of the others

    @property
    def missed_by_all(self) -> int:
        return int(self.counts[-1])

    @property
    def missed_by_none(self) -> int:
        return int(self.counts[0])


def best(report: Report, *, pictures: bool) -> Best | None:
    """What is to be seen of the best row, without images if not `pictures`.

    None where its predictions or its test images are not at hand.
    """
    if report.best is None or report.tests is None or report.best.result.predictions is None:
        return None
    tests, guesses = report.tests, report.best.result.predictions
    labels = tests.labels
    confusion = np.zeros((10, 10), np.int64)
    np.add.at(confusion, (labels, guesses), 1)
    shown, right = sample_correct(labels, guesses, report.best.cell.seed, RIGHT)
    wrong = misclassified(labels, guesses)
    if not pictures:
        return Best(confusion, None, None)
    return Best(
        confusion,
        _digits(tests, shown, right, [f"{labels[i]} \N{CHECK MARK}" for i in shown],
                [f"a {labels[i]}, recognised" for i in shown]),
        _digits(tests, wrong[:WRONG], len(wrong),
                [f"{labels[i]}\N{RIGHTWARDS ARROW}{guesses[i]}" for i in wrong[:WRONG]],
                [f"a {labels[i]}, taken for a {guesses[i]}" for i in wrong[:WRONG]]),
    )  # fmt: skip


def atlas(report: Report, *, pictures: bool) -> Atlas | None:
    """What all cells miss, among those that have learned and saw the images of the best row.

    None for fewer than two of them.
    """
    if report.best is None or report.tests is None or report.best.result.predictions is None:
        return None
    digest = report.best.cell.dataset.digest
    same = [r.result for r in report.rows if r.cell.dataset.digest == digest]
    learned = [r for r in same if has_learned(r) and r.predictions is not None]
    if len(learned) < 2:
        return None
    tests, labels = report.tests, report.tests.labels
    guesses = np.stack([r.predictions for r in learned if r.predictions is not None])
    missed = (guesses != labels).sum(axis=0)  # (images,), by how many cells
    counts = np.bincount(missed, minlength=len(learned) + 1)
    hardest = np.lexsort((np.arange(len(labels)), -missed))
    hardest = hardest[missed[hardest] > 0]
    of_best = report.best.result.predictions != labels
    alone = np.flatnonzero(of_best & (missed <= max(1, len(learned) // 4)))
    alone = alone[np.lexsort((alone, missed[alone]))]
    if not pictures:
        return Atlas(len(learned), len(same) - len(learned), len(labels), counts, None, None)

    def shown(places: NDArray[np.intp], limit: int) -> Digits | None:
        first = places[:limit]
        often = [_usual(guesses[:, i], int(labels[i])) for i in first]
        captions = [f"{labels[i]}\N{RIGHTWARDS ARROW}{o} \N{MULTIPLICATION SIGN}{missed[i]}"
                    for i, o in zip(first, often, strict=True)]  # fmt: skip
        texts = [f"a {labels[i]}, missed by {missed[i]} of {len(learned)}, mostly taken for a {o}"
                 for i, o in zip(first, often, strict=True)]  # fmt: skip
        return _digits(tests, first, len(places), captions, texts)

    return Atlas(
        cells=len(learned),
        others=len(same) - len(learned),
        images=len(labels),
        counts=counts,
        hard=shown(hardest, HARD),
        alone=shown(alone, ALONE),
    )


def _usual(guesses: NDArray[np.uint8], label: int) -> int:
    """What a missed image is most often taken for."""
    counts = np.bincount(guesses, minlength=10)
    counts[label] = 0
    return int(counts.argmax())


def _digits(
    tests: LabeledImages,
    places: NDArray[np.intp],
    total: int,
    captions: Sequence[str],
    texts: Sequence[str],
) -> Digits | None:
    if not len(places):
        return None
    sheet = sprite(tests.images[places])
    items = tuple(
        Digit(*sheet.place(n), caption, f"test image {place}: {text}")
        for n, (place, caption, text) in enumerate(zip(places, captions, texts, strict=True))
    )
    return Digits(sheet, items, total)
