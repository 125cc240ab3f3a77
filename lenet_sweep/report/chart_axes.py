"""matplotlib axes for epochs, costs, and accuracies, for the figures and the page's charts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from lenet_sweep.report.encodings import (
    ONE_IMAGE,
    PERFECT,
    SMALLEST_COST,
    extend_below,
    stretch,
    unstretch,
    zero_position,
)
from lenet_sweep.report.histories import Series


def epoch_axis(axes: Axes, last: int) -> None:
    """Set limits and ticks of the x axis for epochs 1 to `last`."""
    axes.set(xlabel="Epoch", xlim=(0, last * 1.02 + 0.02))
    locator = MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    axes.xaxis.set_major_locator(locator)


def cost_axis(
    axes: Axes, means: Series, batches: Series | None = None, *, log: bool | None = None
) -> tuple[int, float]:
    """Set scale, limits, and ticks of the y axis for epoch means and losses of single batches.

    log: whether the axis is logarithmic, which takes positive costs; None: if the costs span more
    than a factor of 10.

    Returns how many batch losses are below the axis, and where a cost of 0 is drawn (0.0 on a
    linear axis).
    """
    batches = np.empty(0) if batches is None else batches
    axes.set_ylabel("Cost on the training set")
    costs = np.concatenate([means, batches])
    positive = costs[costs > SMALLEST_COST]
    if (means > SMALLEST_COST).any():
        positive = means[means > SMALLEST_COST]
    top, low = costs.max(initial=0), positive.min(initial=np.inf)
    has_zero = bool((means <= SMALLEST_COST).any())
    log = top > 10 * low if log is None else log
    if costs.min(initial=0) < 0 or not len(positive) or not log:
        axes.set_ylim(min(0, costs.min(initial=0) * 1.05), top * 1.08 or 1)
        axes.yaxis.set_major_formatter("{x:g}")
        return 0, 0.0
    # Some batch losses are almost 0; an axis with all of them would squeeze the means together.
    bottom, top = max(low / 5, costs[costs > SMALLEST_COST].min()) / 1.3, top * 1.3
    zero = zero_position(bottom, top) if has_zero else 0.0
    limit = extend_below(zero, top, 0.03) if has_zero else bottom
    axes.set(ylabel="Cost on the training set (log scale)", yscale="log", ylim=(limit, top))
    log_axis(axes.yaxis, bottom, top, zero if has_zero else None)
    return int((batches < limit).sum()), zero


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


def accuracy_axis(axes: Axes, accuracies: Series, which: str = "y") -> None:
    """Make the x or y axis (`which`) logarithmic in the error, with limits around `accuracies`."""
    finite = accuracies[np.isfinite(accuracies)]
    best, worst = (float(finite.max()), float(finite.min())) if len(finite) else (99.0, 0.0)
    smallest_error, largest_error = PERFECT - best, PERFECT - worst
    # At least 10% of the error on each side, so that chance differences do not fill the axis.
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


def draw_band(
    axes: Axes, at: Sequence[int], band: tuple[Series, Series], color: str, gid: str | None = None
) -> None:
    """Draw the range between the lowest and the highest seed, `at` these epochs."""
    if len(at) == 1:  # fill_between draws nothing for a single point
        axes.vlines(at, *band, color=color, lw=2, alpha=0.45, zorder=2, gid=gid)
    else:
        axes.fill_between(at, *band, color=color, alpha=0.18, lw=0, zorder=1.5, gid=gid)
