"""Colors, markers, and scales that the PNG figures and the HTML page share.

This module does not import matplotlib, so the page of an interrupted sweep is written quickly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito's palette for color-blind readers, without yellow, which is too light on white.
# style.css repeats it as --series-0 to --series-5; the last color is the page's text color.
COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS: Final = "osD^vPX"  # one per color, for black-and-white prints
MARKERS_PER_CURVE: Final = 12

PERFECT: Final = 100.005  # percent: 100 plus half an image in 10,000, since log(0) is undefined
ONE_IMAGE: Final = 0.01  # points: one image in 10,000, the smallest distance between two ticks
SMALLEST_COST: Final = 1e-300  # smaller costs are drawn as 0


def stretch(percent: Any) -> Any:
    """The height of an accuracy (or an array of them) on an axis that is logarithmic in the error.

    On this axis, 99.0 and 99.2% are visibly different even if it starts at 11%.
    """
    return -np.log10(np.maximum(PERFECT - percent, 1e-3))


def unstretch(height: Any) -> Any:
    """The inverse of `stretch`."""
    return PERFECT - 10.0**-height


def zero_position(low: float, high: float) -> float:
    """Where to draw a cost of 0 on a logarithmic axis with positive values from `low` to `high`."""
    if high > 1e5 * low:
        return max(extend_below(low, high, 0.08), SMALLEST_COST / 10)
    return low / 2.5


def extend_below(low: float, high: float, share: float) -> float:
    """A value below `low` by `share` of the decades between `low` and `high`."""
    return float(10 ** (math.log10(low) - share * (math.log10(high) - math.log10(low))))


def move_zeros(costs: NDArray[np.float64], position: float) -> NDArray[np.float64]:
    """`costs` with zeros replaced by `position` (see `zero_position`); unchanged if that is 0."""
    return np.where(costs <= SMALLEST_COST, position, costs) if position else costs


def curve_style(rank: int, epochs: int, color: str) -> dict[str, Any]:
    """Matplotlib's line style of a colored curve. rank: 0 for the best.

    About MARKERS_PER_CURVE epochs have a marker. On long curves the first marker depends on the
    rank, so that the markers of neighboring curves do not overlap.
    """
    first = rank % 3 if epochs > 30 else 0
    return {
        "color": color,
        "marker": MARKERS[rank],
        "markevery": (first, epochs // MARKERS_PER_CURVE + 1),
        "zorder": 3 - rank / 10,
    }


class AccuracyScale:
    """Positions from 0 to 100 on a stretched axis that covers `accuracies` (percent)."""

    def __init__(self, accuracies: Iterable[float]) -> None:
        values = list(accuracies) or [0.0, 100.0]
        low, high = float(stretch(min(values))), float(stretch(max(values)))
        margin = max(0.04 * (high - low), 0.02)
        self._low, self._span = low - margin, high - low + 2 * margin

    def at(self, percent: float) -> float:
        """The position of an accuracy, from 0 (left) to 100 (right)."""
        return min(100.0, max(0.0, 100 * (float(stretch(percent)) - self._low) / self._span))

    def ticks(self) -> list[tuple[str, float]]:
        """Labels and positions of a few round accuracies, far enough apart for their labels."""
        ticks: list[tuple[str, float]] = []
        for value in (10, 20, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.99, 100):
            position = self.at(value)
            if 2 < position < 98 and (not ticks or position - ticks[-1][1] >= 22):
                ticks.append((f"{value:g}", position))
        return ticks
