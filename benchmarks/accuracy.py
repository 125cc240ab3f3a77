"""Compares the accuracies of two contenders, relative to the sampling error of the test set."""

from __future__ import annotations

import math
from dataclasses import dataclass

TEST_IMAGES = 10_000
ALLOWED = 3.0  # standard errors of a difference; 1 in 370 rows exceeds this by chance


@dataclass(frozen=True)
class Agreement:
    """How far two contenders differ, and the row in which they differ most."""

    difference: float  # percentage points, theirs minus ours
    errors: float  # the same in standard errors
    setting: str
    rows: int
    differing: int  # rows that differ by more than ALLOWED

    @property
    def agrees(self) -> bool:
        return self.differing == 0


def standard_error(one: float, other: float) -> float:
    """The standard error, in points, of the difference between two accuracies in %.

    Each proportion is kept half an image away from 0 and 1, where its error would be zero.
    """
    variance = 0.0
    for percent in (one, other):
        margin = 0.5 / TEST_IMAGES
        proportion = min(max(percent / 100, margin), 1 - margin)
        variance += proportion * (1 - proportion) / TEST_IMAGES
    return 100 * math.sqrt(variance)


def agreement(theirs: dict[str, float], ours: dict[str, float]) -> Agreement | None:
    """Compare the rows that both have, or return None if there are none."""
    compared = [
        (abs(theirs[k] - ours[k]) / standard_error(theirs[k], ours[k]), theirs[k] - ours[k], k)
        for k in theirs
        if k in ours
    ]
    if not compared:
        return None
    errors, difference, setting = max(compared)
    differing = sum(row[0] > ALLOWED for row in compared)
    return Agreement(difference, errors, setting, len(compared), differing)
