"""Where an accuracy stands on an axis on which 99.0 and 99.2 % stay apart beside 11 %."""

from __future__ import annotations

import math
from collections.abc import Iterable

FULL = 100.005  # as in `scales`, which needs matplotlib


def stretch(percent: float) -> float:
    """The position of an accuracy, by the logarithm of the error."""
    return -math.log10(max(FULL - percent, 1e-3))


class Scale:
    """Positions from 0 to 100 between the lowest and the highest of these accuracies."""

    def __init__(self, accuracies: Iterable[float]) -> None:
        known = list(accuracies) or [0.0, 100.0]
        low, high = stretch(min(known)), stretch(max(known))
        room = max(0.04 * (high - low), 0.02)
        self._low, self._span = low - room, high - low + 2 * room

    def at(self, percent: float) -> float:
        """0 to 100."""
        return min(100.0, max(0.0, 100 * (stretch(percent) - self._low) / self._span))

    def ticks(self) -> list[tuple[str, float]]:
        """A few round accuracies with their positions, far enough apart to be labelled."""
        found: list[tuple[str, float]] = []
        for value in (10, 20, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.99, 100):
            place = self.at(value)
            if 2 < place < 98 and (not found or place - found[-1][1] >= 22):
                found.append((f"{value:g}", place))
        return found
