"""The charts of cost and accuracy over epochs on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure

from lenet_sweep.core.names import short_names
from lenet_sweep.core.text import format_cost, pluralize
from lenet_sweep.report.chart_axes import accuracy_axis, cost_axis, draw_band, epoch_axis
from lenet_sweep.report.collect import Report
from lenet_sweep.report.compared_items import compared_items
from lenet_sweep.report.encodings import MARKERS, curve_style, move_zeros
from lenet_sweep.report.histories import Curve, Series, curves_by_setting, finite_points
from lenet_sweep.report.marks import Mark, Marks, gid
from lenet_sweep.report.svg import (
    ACCURACY_LABEL,
    FAINT,
    PAPER,
    SERIES,
    page_figure,
    page_style,
    to_svg,
)

MAX_CURVES = 100  # settings with a curve, best first


@dataclass(frozen=True)
class Legend:
    """A legend entry. color: index of the page's series colors, or -1 for the gray of the rest."""

    color: int
    marker: str
    text: str


@dataclass(frozen=True)
class Curves:
    """Cost and accuracy over the epochs, each as a pair of SVGs: linear scale, log scale.

    bands: whether seeds have bands. drawn: settings that are drawn, of `total`.
    """

    cost: tuple[str, str]
    accuracy: tuple[str, str]
    legend: tuple[Legend, ...]
    bands: bool
    drawn: int
    total: int


def curves(report: Report) -> Curves | None:
    """Curves of the best settings; None if no run has at least two epochs."""
    results = [row.result for item in compared_items(report) for row in item.rows]
    all_curves = curves_by_setting([(r.cell, r.history) for r in results if r.history])
    if max((len(curve.epochs) for _, curve in all_curves), default=0) < 2:
        return None
    settings = [cell.setting for cell, _ in all_curves[:MAX_CURVES]]
    best = [curve for _, curve in all_curves[:MAX_CURVES]]
    names = short_names(settings, epochs=False)
    colored = min(len(best), len(SERIES))
    legend = [Legend(n, MARKERS[n], names[setting]) for n, setting in enumerate(settings[:colored])]
    if len(best) > colored:
        legend.append(Legend(-1, "", pluralize(len(best) - colored, "other setting")))

    def draw_both(quantity: Literal["cost", "accuracy"], label: str) -> tuple[str, str]:
        title = (
            f"{label} over epochs, {pluralize(len(best), 'setting')}; the best setting is "
            f"{names[settings[0]]}"
        )
        texts = [names[setting] for setting in settings]
        linear, log = (_figure(best, texts, quantity, log=log) for log in (False, True))
        return (
            to_svg(linear[0], f"{quantity}-linear", f"{title}. Linear scale.", linear[1]),
            to_svg(log[0], f"{quantity}-log", f"{title}. Logarithmic scale.", log[1]),
        )

    return Curves(
        cost=draw_both("cost", "Cost on the training set"),
        accuracy=draw_both("accuracy", "Test accuracy (%)"),
        legend=tuple(legend),
        bands=any(curve.seeds > 1 for curve in best[:colored]),
        drawn=len(best),
        total=len(all_curves),
    )


def _figure(
    curves: Sequence[Curve],
    names: Sequence[str],
    quantity: Literal["cost", "accuracy"],
    *,
    log: bool,
) -> tuple[Figure, Marks]:
    points = []  # of each curve: epochs and values (2, n)
    bands = []
    for curve in curves:
        epochs, costs, accuracies = curve.before_divergence()
        series = costs if quantity == "cost" else accuracies
        points.append(finite_points(np.array([epochs, series])))
        bands.append(curve.cost_band if quantity == "cost" else curve.accuracy_band)
    values = [y for _, y in points]
    values += [y for band in bands[: len(SERIES)] if band for y in band]
    marks = []
    with page_style():
        figure, chart = page_figure(5.0, 3.2)
        epoch_axis(chart, max(curve.epochs[-1] for curve in curves))
        zero = 0.0
        if quantity == "cost":
            _, zero = cost_axis(chart, np.concatenate(values), log=log)
        elif log:
            accuracy_axis(chart, np.concatenate(values))
            chart.set_ylabel(ACCURACY_LABEL)
        else:
            chart.set_ylabel("Test accuracy (%)")
        for rank, (curve, (x, y), band) in reversed(
            list(enumerate(zip(curves, points, bands, strict=True)))
        ):
            line: dict[str, Any] = {"color": FAINT, "lw": 0.9, "zorder": 1.5}
            if rank < len(SERIES):
                line = curve_style(rank, len(x), SERIES[rank])
                line |= {"ms": 4.5, "mec": PAPER, "mew": 0.6}
                if band:
                    low, high = (move_zeros(series, zero) for series in band)
                    draw_band(chart, curve.epochs, (low, high), SERIES[rank], gid(rank))
            heights = move_zeros(y, zero)
            chart.plot(x, heights, gid=gid(rank), **line)
            texts = _texts(curve, quantity, x, y, band)
            marks.append(Mark(rank, names[rank], x, heights, texts))
    unit = "accuracy (%)" if quantity == "accuracy" else "cost"
    columns = ("epoch", unit, "lowest seed", "highest seed")
    return figure, Marks(chart, columns, marks[::-1], lines=True)


def _texts(
    curve: Curve,
    quantity: Literal["cost", "accuracy"],
    x: Series,
    y: Series,
    band: tuple[Series, Series] | None,
) -> list[str | list[str]]:
    """The values of a curve at the epochs `x`, as in the tables."""
    to_text = format_cost if quantity == "cost" else "{:.2f}".format
    texts: list[str | list[str]] = [[f"{epoch:g}" for epoch in x], [to_text(value) for value in y]]
    if band is None:
        return [*texts, "", ""]
    at = {epoch: index for index, epoch in enumerate(curve.epochs)}
    return [*texts, *([to_text(float(side[at[int(e)]])) for e in x] for side in band)]
