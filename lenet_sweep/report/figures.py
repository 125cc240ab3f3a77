"""Figures of training histories, drawn from plain arrays.

Each function returns a matplotlib Figure that `style.save` writes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lenet_sweep.core.text import pluralize
from lenet_sweep.report.chart_axes import accuracy_axis, log_axis
from lenet_sweep.report.encodings import (
    COLORS,
    MARKERS,
    SMALLEST_COST,
    extend_below,
    marked_epochs,
    move_zeros,
    zero_position,
)
from lenet_sweep.report.histories import Series, mean_and_range, stack_seeds
from lenet_sweep.report.style import (
    FAINT,
    QUIET,
    styled,
    text_width,
    titled_figure,
    wrap_text,
)

_DIVERGED_COST: Final = 1e38  # about the largest float32; larger values make matplotlib overflow


@dataclass(frozen=True)
class Curve:
    """The training history of a cell, or the mean over the seeds of a setting (`mean_curve`).

    A cost that is not a finite float32 marks a diverged run, which is drawn up to that epoch.
    Raises ValueError if there is no epoch, or if `epochs`, `cost` and `accuracy` differ in length.
    """

    label: str  # e.g. "lr 0.1, batch 64"; shown as typed
    epochs: Sequence[int]  # 1, 2, ..., E
    cost: Sequence[float] | Series  # (E,) mean training loss of each epoch
    accuracy: Sequence[float] | Series  # (E,) percent of the test set, after each epoch
    # (position in epochs, loss of one batch) as pairs or as an array (k, 2)
    trace: Sequence[tuple[float, float]] | NDArray[np.floating[Any]] = ()
    seeds: int = 1  # the number of seeds in the mean
    cost_band: tuple[Series, Series] | None = None  # lowest and highest seed in each epoch
    accuracy_band: tuple[Series, Series] | None = None
    sd: float | None = None  # points: standard deviation of the final accuracy over the seeds

    def __post_init__(self) -> None:
        lengths = [len(self.epochs), len(self.cost), len(self.accuracy)]
        if not lengths[0] or len(set(lengths)) > 1:
            epochs, costs, accuracies = lengths
            raise ValueError(
                f"curve {self.label!r} has {epochs} epochs, {costs} costs and {accuracies} "
                "accuracies; pass the same number of each, at least 1"
            )

    @property
    def diverged_in(self) -> int | None:
        """The first epoch whose cost is not a finite float32, or None."""
        pairs = zip(self.epochs, self.cost, strict=True)
        return next((epoch for epoch, cost in pairs if not abs(cost) < _DIVERGED_COST), None)


def mean_curve(label: str, seeds: Sequence[Curve]) -> Curve:
    """The mean over the seeds of a setting, with bands from the lowest to the highest seed.

    Diverged seeds are left out. If all seeds diverged, the result is the first one.
    """
    converged = [curve for curve in seeds if curve.diverged_in is None] or [*seeds[:1]]
    if len(converged) == 1:
        return replace(converged[0], label=label, trace=())
    longest = max(converged, key=lambda curve: len(curve.epochs))
    costs, accuracies = stack_seeds([(curve.cost, curve.accuracy) for curve in converged])
    (cost, *cost_band), (accuracy, *accuracy_band) = map(mean_and_range, (costs, accuracies))
    final = accuracies[:, -1]
    final = final[np.isfinite(final)]
    if len(final):
        accuracy[-1] = fmean(final)  # bit-identical to the tables, so that both round alike
    return Curve(
        label=label,
        epochs=longest.epochs,
        cost=cost,
        accuracy=accuracy,
        seeds=len(converged),
        cost_band=(cost_band[0], cost_band[1]),
        accuracy_band=(accuracy_band[0], accuracy_band[1]),
        sd=float(final.std(ddof=1)) if len(final) > 1 else None,
    )


def cost_figure(curve: Curve) -> Figure:
    """The cost of one cell: the mean of each epoch over the losses of single batches."""
    epochs, costs, _ = _before_divergence(curve)
    trace = _finite_points(np.asarray(curve.trace, float).reshape(-1, 2).T)
    outcome = f"Cost {curve.cost[-1]:.3g} and test accuracy"
    if curve.diverged_in is not None:
        outcome = f"Diverged in epoch {curve.diverged_in}; test accuracy"
    outcome += f" {_percent(curve.accuracy[-1])} after epoch {curve.epochs[-1]}"
    with styled():
        figure, (axes,) = _figure_with_axes(7.2, 1, curve.label, outcome, legend_rows=1)
        _set_epoch_axis(axes, [curve])
        hidden, zero = _set_cost_axis(axes, costs, trace[1])
        costs = move_zeros(costs, zero)
        if trace.size:
            line: dict[str, Any] = {"alpha": 0.45, "lw": 0, "ms": 2.5}
            if len(epochs) <= 1:  # only the batches show a trend
                line = {"alpha": 0.9, "lw": 1, "ms": 3.5}
            name = "loss of single batches" + f" ({hidden} below the axis)" * bool(hidden)
            axes.plot(*trace, "o-", color=COLORS[5], label=name, mew=0, zorder=1.5, **line)
        if len(epochs):
            size = 5 if len(epochs) <= 30 else 3
            axes.plot(epochs, costs, "o-", color=COLORS[0], label="mean of the epoch", ms=size)
        if curve.diverged_in is not None:
            points = np.array([epochs, costs]) if len(epochs) else trace
            _mark_divergence(axes, points, (curve.epochs[0], 1), COLORS[1], "diverged")
        if axes.get_legend_handles_labels()[0]:  # matplotlib warns about an empty legend
            figure.legend(loc="lower left", ncols=2)
    return figure


def overlay_figure(curves: Sequence[Curve], *, highlight: int = 5) -> Figure:
    """All settings: cost and test accuracy over epochs side by side, and a ranked legend below.

    Means over seeds have a band. If every curve has a single epoch, the curves become dots, ordered
    by rank.

    Up to seven curves are all colored. Of more curves, only the `highlight` (at most seven) with
    the highest final accuracy are colored, and the rest are gray. Raises ValueError without curves.
    """
    if not curves:
        raise ValueError("no curves to draw; pass at least one")
    ranked = sorted(curves, key=_rank_key)  # stable: equal curves keep their order
    parts = [_before_divergence(curve) for curve in ranked]
    colored = len(curves) if len(curves) <= len(COLORS) else min(highlight, len(COLORS))
    single_epoch = max(len(curve.epochs) for curve in curves) == 1
    diverged = any(curve.diverged_in is not None for curve in curves)
    entries = [f"{_result(curve)} \N{MIDDLE DOT} {curve.label}" for curve in ranked[:colored]]
    entries += [pluralize(len(ranked) - colored, "other setting")] * (colored < len(ranked))
    entries += ["diverged here"] * diverged
    title = f"Cost and test accuracy {'after one epoch' if single_epoch else 'over epochs'}"
    title += f": {pluralize(len(curves), 'setting')}{_seeds_each(curves)}"
    note = "Cost: mean over each epoch. Legend: test accuracy after the last epoch, best first"
    if any(curve.seeds > 1 for curve in curves):
        note = (
            "Lines: means over the seeds; bands: lowest to highest seed. Legend: test accuracy "
            "after the last epoch, mean \N{PLUS-MINUS SIGN} standard deviation"
        )
    with styled():
        width, padding = 11.5, 0.75  # inches: of the figure, and beside the text of a legend entry
        entries = [wrap_text(entry, width - 2 * padding, size=9) for entry in entries]
        widest = max(text_width(line, size=9) for entry in entries for line in entry.split("\n"))
        columns = min(3, len(entries), int(width / (widest + padding)) or 1)
        rows = math.ceil(len(entries) / columns) * max(e.count("\n") + 1 for e in entries)
        figure, both = _figure_with_axes(width, 2, title, note, legend_rows=rows)
        cost_axes, accuracy_axes = both
        costs = [costs for _, costs, _ in parts]
        accuracies = [accuracy for *_, accuracy in parts]
        for curve in ranked[:colored]:
            costs += curve.cost_band or ()
            accuracies += curve.accuracy_band or ()
        _, zero = _set_cost_axis(cost_axes, np.concatenate(costs), np.empty(0))
        accuracy_axes.set_ylabel("Test accuracy (%), log error scale")
        accuracy_axis(accuracy_axes, np.concatenate(accuracies))
        handles: list[Line2D] = []
        for rank, (curve, (epochs, cost, accuracy)) in enumerate(zip(ranked, parts, strict=True)):
            line: dict[str, Any] = {"color": FAINT, "lw": 0.9}
            line["marker"] = "." if single_epoch else None
            if rank < colored:
                line = {"color": COLORS[rank], "marker": MARKERS[rank], "ms": 5}
                line |= {"markevery": marked_epochs(rank, len(epochs), 12), "zorder": 3 - rank / 10}
            first = rank + 1 if single_epoch else curve.epochs[0]
            bands = (curve.cost_band, curve.accuracy_band)
            for axes, band in zip(both, bands, strict=True) if rank < colored else ():
                if band:
                    low, high = (move_zeros(b, zero if axes is cost_axes else 0.0) for b in band)
                    at = [first] if single_epoch else curve.epochs
                    _draw_band(axes, at, (low, high), COLORS[rank])
            for axes, series, edge in zip(both, (move_zeros(cost, zero), accuracy), (1, 0),
                                          strict=True):  # fmt: skip
                x = np.full_like(epochs, first) if single_epoch else epochs
                points = _finite_points(np.array([x, series]))
                drawn = axes.plot(*points, **line)
                if curve.diverged_in is not None:
                    color = COLORS[rank] if rank < colored else QUIET
                    _mark_divergence(axes, points, (first, edge), color)
            handles += drawn if rank <= colored else []  # the first gray line stands for all
        for axes in both:
            _set_epoch_axis(axes, curves)
            if single_epoch:
                axes.set(xlabel="Rank by test accuracy", xlim=(0.4, len(curves) + 0.6))
        handles += [Line2D([], [], color=QUIET, marker="x", lw=0, ms=8)] * diverged
        figure.legend(handles, entries, loc="lower left", ncols=columns)
    return figure


def _seeds_each(curves: Sequence[Curve]) -> str:
    """', 3 seeds each' or ', 1 to 3 seeds each'; '' if every curve has one seed."""
    low, high = min(curve.seeds for curve in curves), max(curve.seeds for curve in curves)
    if high == 1:
        return ""
    return f", {high} seeds each" if low == high else f", {low} to {high} seeds each"


def _draw_band(axes: Axes, at: Sequence[int], band: tuple[Series, Series], color: str) -> None:
    if len(at) == 1:  # fill_between draws nothing for a single point
        axes.vlines(at, *band, color=color, lw=2, alpha=0.45, zorder=2)
    else:
        axes.fill_between(at, *band, color=color, alpha=0.18, lw=0, zorder=1.5)


def _finite_points(points: Series) -> Series:
    """The columns of `points` (2, n) that matplotlib can draw."""
    return points[:, (abs(points) < _DIVERGED_COST).all(axis=0)]


def _before_divergence(curve: Curve) -> Series:
    """Epochs, costs and accuracies (3, n) up to the first cost that is not finite."""
    table = np.array([curve.epochs, curve.cost, curve.accuracy], float)
    return table[:, np.logical_and.accumulate(abs(table[1]) < _DIVERGED_COST)]


def _rank_key(curve: Curve) -> tuple[bool, float]:
    """Sorts by final accuracy, highest first; diverged curves last."""
    final = curve.accuracy[-1]
    return curve.diverged_in is not None, -final if math.isfinite(final) else math.inf


def _percent(accuracy: float) -> str:
    return f"{accuracy:.2f} %" if math.isfinite(accuracy) else "unknown"


def _result(curve: Curve) -> str:
    """What the legend says about a curve."""
    if curve.diverged_in is not None:
        return f"diverged in epoch {curve.diverged_in}"
    if curve.sd is not None:
        return f"{curve.accuracy[-1]:.2f} \N{PLUS-MINUS SIGN} {curve.sd:.2f} %"
    return _percent(curve.accuracy[-1])


def _figure_with_axes(
    width: float, count: int, title: str, note: str, *, legend_rows: int
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes of equal size side by side, and space for a legend below.

    The axes are placed by hand, which is faster than matplotlib's layout engines.
    """
    below = 0.7 + 0.205 * legend_rows  # inches, like all lengths here
    height, left, gap, right = 3.4 + below, 0.85, 0.95, 0.2
    figure, top = titled_figure(width, height, title, note)
    axes_width = (width - left - right - gap * (count - 1)) / count
    corners = [(left + index * (axes_width + gap)) / width for index in range(count)]
    bottom = top * below / height
    return figure, [figure.add_axes((x, bottom, axes_width / width, top - bottom)) for x in corners]


def _set_epoch_axis(axes: Axes, curves: Sequence[Curve]) -> None:
    axes.set(xlabel="Epoch", xlim=(0, max(max(curve.epochs) for curve in curves) * 1.02 + 0.02))
    locator = MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    axes.xaxis.set_major_locator(locator)


def _set_cost_axis(axes: Axes, means: Series, batches: Series) -> tuple[int, float]:
    """Set scale, limits, and ticks for epoch means and batch losses.

    Returns how many batch losses are below the axis, and where a cost of 0 is drawn (0.0 on a
    linear axis).
    """
    axes.set_ylabel("Cost on the training set")
    costs = np.concatenate([means, batches])
    positive = costs[costs > SMALLEST_COST]
    if (means > SMALLEST_COST).any():
        positive = means[means > SMALLEST_COST]
    top, low = costs.max(initial=0), positive.min(initial=np.inf)
    has_zero = bool((means <= SMALLEST_COST).any())
    if costs.min(initial=0) < 0 or not len(positive) or top <= 10 * low:
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


def _mark_divergence(
    axes: Axes, points: Series, edge: tuple[float, float], color: str, label: str = ""
) -> None:
    """Draw a cross at the last of `points` (2, n), or without points at `edge`.

    edge: an epoch, and a height from 0 (bottom of the axes) to 1 (top).
    """
    transform = axes.transData if points.size else axes.get_xaxis_transform()
    x, y = points[:, -1] if points.size else edge
    axes.plot(
        [x], [y], "x", color=color, mew=2.2, ms=9, zorder=4, clip_on=False, transform=transform
    )
    if label:
        on_left = x > axes.get_xlim()[1] / 2  # no room to the right of the cross
        text: dict[str, Any] = {"ha": "right" if on_left else "left", "va": "center"}
        text |= {"bbox": {"alpha": 0.8, "fc": "white", "lw": 0, "pad": 1}, "weight": "bold"}
        offset = (-9 if on_left else 9, 0)
        axes.annotate(label, (x, y), offset, transform, "offset points", color=color, **text)
