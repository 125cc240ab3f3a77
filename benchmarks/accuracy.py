"""Whether two contenders reached the same: differences against the error of the test images."""

from __future__ import annotations

import math
from dataclasses import dataclass

TEST_IMAGES = 10_000
ALLOWED = 3.0  # standard errors of a difference: one row in 370 is further off by chance


@dataclass(frozen=True)
class Agreement:
    """The row in which two contenders differ most, in standard errors."""

    difference: float  # percentage points, theirs minus ours
    errors: float  # standard errors
    setting: str
    rows: int
    apart: int  # rows further apart than allowed

    @property
    def agrees(self) -> bool:
        return self.apart == 0


def standard_error(one: float, other: float) -> float:
    """Of the difference of two accuracies in %, each of TEST_IMAGES images, in points.

    The share is kept half an image off 0 and 1, where its error would be nothing.
    """
    variance = 0.0
    for percent in (one, other):
        least = 0.5 / TEST_IMAGES
        share = min(max(percent / 100, least), 1 - least)
        variance += share * (1 - share) / TEST_IMAGES
    return 100 * math.sqrt(variance)


def agreement(theirs: dict[str, float], ours: dict[str, float]) -> Agreement | None:
    """Compare the rows that both have; None if there are none."""
    found = [
        (abs(theirs[k] - ours[k]) / standard_error(theirs[k], ours[k]), theirs[k] - ours[k], k)
        for k in theirs
        if k in ours
    ]
    if not found:
        return None
    errors, difference, setting = max(found)
    apart = sum(row[0] > ALLOWED for row in found)
    return Agreement(difference, errors, setting, len(found), apart)
