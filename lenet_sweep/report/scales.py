"""Axes of costs and accuracies, the same in the figures and in the page's charts."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

FULL: Final = 100.005  # percent: half an image in 10,000 more, for 100 % has no logarithm
IMAGE: Final = 0.01  # points: one image in 10,000; ticks are no closer
SMALLEST: Final = 1e-300  # costs below it cannot be told from 0


def below(low: float, high: float) -> float:
    """Where 0 stands on a logarithmic axis whose positive values are from `low` to `high`."""
    return max(extended(low, high, 0.08), SMALLEST / 10) if high > 1e5 * low else low / 2.5


def extended(low: float, high: float, share: float) -> float:
    """A value below `low` by this share of the decades up to `high`."""
    return float(10 ** (math.log10(low) - share * (math.log10(high) - math.log10(low))))


def log_axis(axis: Axis, low: float, high: float, zero: float | None = None) -> None:
    """Ticks from `low` to `high` on a logarithmic axis, and one for the place of 0.

    LogLocator overflows on the way to the costs of a run that diverged.
    """
    first, last = math.log10(low), math.log10(high)
    steps: tuple[float, ...] = (1, 2, 5) if last - first < 2.5 else (1,)
    powers = range(math.floor(first), math.floor(last) + 1, max(1, math.ceil((last - first) / 8)))
    ticks = [step * 10.0**power for power in powers for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) < 2:  # within less than a factor of 2
        ticks = [t for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]
    axis.set_major_locator(FixedLocator([*([] if zero is None else [zero]), *ticks]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: "0" if value == zero else f"{value:g}")


def accuracy_axis(axes: Axes, accuracies: NDArray[np.float64], which: str = "y") -> None:
    """An axis by the logarithm of the error: 99.0 and 99.2 % stay apart even beside 11 %."""
    known = accuracies[np.isfinite(accuracies)]
    best, worst = (float(known.max()), float(known.min())) if len(known) else (99.0, 0.0)
    least, most = FULL - best, FULL - worst
    room = max((most / least) ** 0.08, 1.1)  # no closer: chance alone gives such differences
    low = max(0.0, min(FULL - most * room, best - 2 * IMAGE))
    high = FULL - least / room
    functions = (
        lambda percent: -np.log10(np.maximum(FULL - percent, 1e-3)),
        lambda height: FULL - 10.0**-height,
    )
    if which == "x":
        axes.set_xscale("function", functions=functions)
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("function", functions=functions)
        axes.set_ylim(low, high)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(_accuracy_ticks(low, high)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def _accuracy_ticks(low: float, high: float) -> list[float]:
    """Round accuracies, each with a label of its own, 100 included where it is within."""
    steps: tuple[float, ...] = (1, 2, 5)
    if (FULL - low) / (FULL - high) < 50:
        steps = (1, 1.5, 2, 3, 5, 7)
    ticks = [100 - step * 10.0**power for power in range(2, -3, -1) for step in reversed(steps)]
    inside = [tick for tick in [*ticks, 100.0] if low <= tick <= high]
    if len(inside) < 3:
        inside = [t for t in MaxNLocator(5).tick_values(low, high) if low <= t <= min(high, 100)]
    return sorted({round(tick, 2) for tick in inside if low <= round(tick, 2) <= high})
