"""matplotlib axes for costs and accuracies, used by the figures and by the page's charts."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from lenet_sweep.report.encodings import ONE_IMAGE, PERFECT, stretch, unstretch


def log_axis(axis: Axis, low: float, high: float, zero: float | None = None) -> None:
    """Set the ticks of a logarithmic axis from `low` to `high`.

    A tick labeled 0 is added at `zero` if given. matplotlib's LogLocator is not used because it
    overflows for the costs of diverged runs.
    """
    first, last = math.log10(low), math.log10(high)
    steps: tuple[float, ...] = (1, 2, 5) if last - first < 2.5 else (1,)
    powers = range(math.floor(first), math.floor(last) + 1, max(1, math.ceil((last - first) / 8)))
    ticks = [step * 10.0**power for power in powers for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) < 2:  # the axis covers less than a factor of 2
        ticks = [t for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]
    axis.set_major_locator(FixedLocator([*([] if zero is None else [zero]), *ticks]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: "0" if value == zero else f"{value:g}")


def accuracy_axis(axes: Axes, accuracies: NDArray[np.float64], which: str = "y") -> None:
    """Make the x or y axis (`which`) logarithmic in the error, with limits around `accuracies`."""
    finite = accuracies[np.isfinite(accuracies)]
    best, worst = (float(finite.max()), float(finite.min())) if len(finite) else (99.0, 0.0)
    smallest_error, largest_error = PERFECT - best, PERFECT - worst
    # At least 10 % of the error on each side, so that chance differences do not fill the axis.
    margin = max((largest_error / smallest_error) ** 0.08, 1.1)
    low = max(0.0, min(PERFECT - largest_error * margin, best - 2 * ONE_IMAGE))
    high = PERFECT - smallest_error / margin
    if which == "x":
        axes.set_xscale("function", functions=(stretch, unstretch))
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("function", functions=(stretch, unstretch))
        axes.set_ylim(low, high)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(_accuracy_ticks(low, high)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def _accuracy_ticks(low: float, high: float) -> list[float]:
    """Round accuracies with different labels, among them 100 if it is within the limits."""
    steps: tuple[float, ...] = (1, 2, 5)
    if (PERFECT - low) / (PERFECT - high) < 50:
        steps = (1, 1.5, 2, 3, 5, 7)
    ticks = [100 - step * 10.0**power for power in range(2, -3, -1) for step in reversed(steps)]
    inside = [tick for tick in [*ticks, 100.0] if low <= tick <= high]
    if len(inside) < 3:
        inside = [t for t in MaxNLocator(5).tick_values(low, high) if low <= t <= min(high, 100)]
    return sorted({round(tick, 2) for tick in inside if low <= round(tick, 2) <= high})
