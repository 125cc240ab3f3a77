"""Figures of training histories.

Each function returns a matplotlib Figure that `style.render` draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lenet_sweep.core.text import pluralize
from lenet_sweep.report.chart_axes import accuracy_axis, cost_axis, draw_band, epoch_axis
from lenet_sweep.report.encodings import COLORS, curve_style, move_zeros
from lenet_sweep.report.histories import Curve, Series, finite_points
from lenet_sweep.report.style import (
    FAINT,
    QUIET,
    SCREEN,
    Layout,
    styled,
    titled_figure,
    wrap_legend,
)


def cost_figure(curve: Curve, layout: Layout = SCREEN) -> Figure:
    """The cost of one cell: the mean of each epoch over the losses of single batches."""
    epochs, costs, _ = curve.before_divergence()
    trace = finite_points(np.asarray(curve.trace, float).reshape(-1, 2).T)
    outcome = f"Cost {curve.cost[-1]:.3g} and test accuracy"
    if curve.diverged_in is not None:
        outcome = f"Diverged in epoch {curve.diverged_in}; test accuracy"
    outcome += f" {_percent(curve.accuracy[-1])} after epoch {curve.epochs[-1]}"
    with styled(layout.style):
        legend_rows = 2 if layout.width and layout.width < 5 else 1
        figure, (axes,) = _figure_with_axes(
            layout.width or 7.2,
            1,
            curve.label,
            outcome,
            layout,
            0.205 * layout.legend / 9 * legend_rows,
        )
        epoch_axis(axes, curve.epochs[-1])
        hidden, zero = cost_axis(axes, costs, trace[1])
        costs = move_zeros(costs, zero)
        if trace.size:
            line: dict[str, Any] = {"alpha": 0.45, "lw": 0, "ms": 2.5 * layout.scale}
            if len(epochs) <= 1:  # only the batches show a trend
                line = {"alpha": 0.9, "lw": layout.scale, "ms": 3.5 * layout.scale}
            name = "loss of single batches" + f" ({hidden} below the axis)" * bool(hidden)
            axes.plot(*trace, "o-", color=COLORS[5], label=name, mew=0, zorder=1.5, **line)
        if len(epochs):
            size = (5 if len(epochs) <= 30 else 3) * layout.scale
            axes.plot(epochs, costs, "o-", color=COLORS[0], label="mean of the epoch", ms=size)
        if curve.diverged_in is not None:
            points = np.array([epochs, costs]) if len(epochs) else trace
            _mark_divergence(axes, points, (curve.epochs[0], 1), COLORS[1], "diverged")
        if axes.get_legend_handles_labels()[0]:  # matplotlib warns about an empty legend
            figure.legend(loc="lower left", ncols=3 - legend_rows)
    return figure


def overlay_figure(
    curves: Sequence[Curve], layout: Layout = SCREEN, *, highlight: int = 5
) -> Figure:
    """All settings: cost and test accuracy over epochs side by side, and a ranked legend below.

    Means over seeds have a band. If every curve has a single epoch, the curves become dots, ordered
    by rank.

    Up to seven curves are all colored. Of more curves, only the `highlight` (at most seven) with
    the highest final accuracy are colored, and the rest are gray. Raises ValueError without curves.
    """
    if not curves:
        raise ValueError("no curves to draw; pass at least one")
    ranked = sorted(curves, key=_rank_key)  # stable: equal curves keep their order
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
    with styled(layout.style):
        width = layout.width or 11.5  # inches
        entries, columns, legend_height = wrap_legend(entries, layout, width)
        figure, both = _figure_with_axes(width, 2, title, note, layout, legend_height)
        zero = _set_overlay_axes(both, ranked, colored)
        handles: list[Line2D] = []
        for rank, curve in enumerate(ranked):
            color = COLORS[rank] if rank < colored else None
            drawn = _draw_curve(both, curve, rank, color, zero, layout, as_dot=single_epoch)
            handles += drawn if rank <= colored else []  # the first gray line stands for all
        for axes in both:
            epoch_axis(axes, max(curve.epochs[-1] for curve in curves))
            if single_epoch:
                axes.set(xlabel="Rank by test accuracy", xlim=(0.4, len(curves) + 0.6))
        if both[0].get_position().y0 > both[1].get_position().y0:  # they share the lower axis
            both[0].set_xlabel("")
            both[0].tick_params(labelbottom=False)
        cross = Line2D([], [], color=QUIET, marker="x", lw=0, ms=8 * layout.scale)
        handles += [cross] * diverged
        figure.legend(handles, entries, loc="lower left", ncols=columns)
    return figure


def _set_overlay_axes(both: Sequence[Axes], ranked: Sequence[Curve], colored: int) -> float:
    """Set the y axes of cost and accuracy; returns where a cost of 0 is drawn."""
    costs, accuracies = [], []
    for curve in ranked:
        _, cost, accuracy = curve.before_divergence()
        costs.append(cost)
        accuracies.append(accuracy)
    for curve in ranked[:colored]:
        costs += curve.cost_band or ()
        accuracies += curve.accuracy_band or ()
    cost_axes, accuracy_axes = both
    _, zero = cost_axis(cost_axes, np.concatenate(costs))
    accuracy_axes.set_ylabel("Test accuracy (%), log error scale")
    accuracy_axis(accuracy_axes, np.concatenate(accuracies))
    return zero


def _draw_curve(
    both: Sequence[Axes],
    curve: Curve,
    rank: int,
    color: str | None,
    zero: float,
    layout: Layout,
    *,
    as_dot: bool,
) -> list[Line2D]:
    """Draw the cost and the accuracy of a curve; returns the line of the accuracy.

    color: None for a gray line without a band. zero: where a cost of 0 is drawn. as_dot: whether
    the curve is its first epoch, at its rank.
    """
    epochs, cost, accuracy = curve.before_divergence()
    first = rank + 1 if as_dot else curve.epochs[0]
    x = np.full_like(epochs, first) if as_dot else epochs
    scale = layout.scale
    line: dict[str, Any] = {"color": FAINT, "lw": 0.9 * scale, "marker": "." if as_dot else None}
    if color:
        line = curve_style(rank, len(epochs), color) | {"ms": 5 * scale}
    lines: list[Line2D] = []
    for axes, series, band, height_of_0, edge in (
        (both[0], cost, curve.cost_band, zero, 1),
        (both[1], accuracy, curve.accuracy_band, 0.0, 0),
    ):
        if color and band:
            low, high = (move_zeros(end, height_of_0) for end in band)
            draw_band(axes, [first] if as_dot else curve.epochs, (low, high), color)
        points = finite_points(np.array([x, move_zeros(series, height_of_0)]))
        lines = axes.plot(*points, **line)
        if curve.diverged_in is not None:
            _mark_divergence(axes, points, (first, edge), color or QUIET)
    return lines


def _seeds_each(curves: Sequence[Curve]) -> str:
    """', 3 seeds each' or ', 1 to 3 seeds each'; '' if every curve has one seed."""
    low, high = min(curve.seeds for curve in curves), max(curve.seeds for curve in curves)
    if high == 1:
        return ""
    return f", {high} seeds each" if low == high else f", {low} to {high} seeds each"


def _rank_key(curve: Curve) -> tuple[bool, float]:
    """Sorts by final accuracy, highest first; diverged curves last."""
    final = curve.accuracy[-1]
    return curve.diverged_in is not None, -final if math.isfinite(final) else math.inf


def _percent(accuracy: float) -> str:
    return f"{accuracy:.2f}%" if math.isfinite(accuracy) else "unknown"


def _result(curve: Curve) -> str:
    """What the legend says about a curve."""
    if curve.diverged_in is not None:
        return f"diverged in epoch {curve.diverged_in}"
    if curve.sd is not None:
        return f"{curve.accuracy[-1]:.2f} \N{PLUS-MINUS SIGN} {curve.sd:.2f}%"
    return _percent(curve.accuracy[-1])


def _figure_with_axes(
    width: float, count: int, title: str, note: str, layout: Layout, legend_height: float
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes of equal size, and space for a legend below.

    The axes are side by side or, in a narrow figure, below each other. They are placed by hand,
    which is faster than matplotlib's layout engines.
    """
    unit = layout.font / 9.5
    # Inches, like all lengths here.
    below = (0.7 if layout.titled else 0.6) * unit + legend_height
    left, gap, right = 0.85 * unit, 0.95 * unit, 0.2 * unit
    columns = 1 if width < 5 else count
    rows = -(-count // columns)
    axes_height = 3.4 if layout.titled else 2.1 - 0.2 * (rows > 1)
    between = 0.2 * unit  # of rows
    height = rows * axes_height + (rows - 1) * between + below
    figure, top = titled_figure(width, height, title, note, layout)
    axes_width = (width - left - right - gap * (columns - 1)) / columns
    total = height / top
    axes = []
    for index in range(count):
        row, column = divmod(index, columns)
        x = left + column * (axes_width + gap)
        y = below + (rows - 1 - row) * (axes_height + between)
        axes.append(
            figure.add_axes((x / width, y / total, axes_width / width, axes_height / total))
        )
    return figure, axes


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
