"""The charts of the page: matplotlib figures of a report, each converted to an SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from lenet_sweep.analysis.axes import Value, axes, ordered, varied
from lenet_sweep.analysis.reproduction import NOT, OPEN, REPRODUCED, Reproduction
from lenet_sweep.analysis.statistics import Result
from lenet_sweep.core.cells import Cell, short_names
from lenet_sweep.core.text import format_setting, pluralize
from lenet_sweep.report.chart_axes import accuracy_axis, log_axis
from lenet_sweep.report.collect import Report
from lenet_sweep.report.compared_items import ComparedItem
from lenet_sweep.report.encodings import (
    MARKERS,
    SMALLEST_COST,
    extend_below,
    marked_epochs,
    move_zeros,
    stretch,
    zero_position,
)
from lenet_sweep.report.histories import (
    Series,
    mean_and_range,
    stack_seeds,
    trajectory_setting,
)
from lenet_sweep.report.svg import FAINT, INK, PAPER, QUIET, SERIES, page_style, to_svg

MAX_CURVES = 100  # settings with a curve, best first
MAX_LINES = 300  # rows in the parallel coordinates, best first
ACCURACY_LABEL = "Accuracy (%), log error scale"
_DIVERGED_COST = 1e30  # only diverged runs have larger costs


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


@dataclass(frozen=True)
class FrontPoint:
    """A setting or row on the Pareto front; of a setting, the means over its seeds."""

    item: ComparedItem
    seconds: float
    accuracy: float  # percent


@dataclass(frozen=True)
class Front:
    """The Pareto front of time and accuracy, fastest first.

    left_out: settings or rows that did not learn, which are not drawn.
    """

    svg: str
    points: tuple[FrontPoint, ...]
    left_out: int


# ---------------------------------------------------------------- curves


@dataclass(frozen=True, eq=False)
class _Curve:
    """The histories of a setting's seeds. cost, accuracy: (seeds, epochs), NaN where unknown."""

    cell: Cell
    epochs: NDArray[np.int64]
    cost: Series
    accuracy: Series


def curves(report: Report) -> Curves | None:
    """Curves of the best settings; None if no run has at least two epochs."""
    all_curves = _collect_curves([row.result for row in report.rows])
    if not all_curves or max(len(c.epochs) for c in all_curves) < 2:
        return None
    best = all_curves[:MAX_CURVES]
    settings = [c.cell.setting for c in best]
    names = short_names(settings, epochs=False)
    colored = min(len(best), len(SERIES))
    legend = [Legend(n, MARKERS[n], names[setting]) for n, setting in enumerate(settings[:colored])]
    if len(best) > colored:
        legend.append(Legend(-1, "", pluralize(len(best) - colored, "other setting")))

    def draw_both(name: str, label: str, values: Callable[[_Curve], Series]) -> tuple[str, str]:
        title = (
            f"{label} over epochs, {pluralize(len(best), 'setting')}; the best setting is "
            f"{names[settings[0]]}"
        )
        linear = _curve_figure(best, values, label, log=False)
        log = _curve_figure(best, values, label, log=True)
        return (
            to_svg(linear, f"{name}-linear", f"{title}. Linear scale."),
            to_svg(log, f"{name}-log", f"{title}. Logarithmic scale."),
        )

    return Curves(
        cost=draw_both("cost", "Cost on the training set", lambda c: c.cost),
        accuracy=draw_both("test", "Test accuracy (%)", lambda c: c.accuracy),
        legend=tuple(legend),
        bands=any(len(c.cost) > 1 for c in best[:colored]),
        drawn=len(best),
        total=len(all_curves),
    )


def _collect_curves(results: Sequence[Result]) -> list[_Curve]:
    """One curve per setting, in the order of `results`, from the longest history of each run."""
    longest: dict[str, Result] = {}
    for r in results:
        if r.history and len(r.history) > len(getattr(longest.get(r.cell.run_id), "history", ())):
            longest[r.cell.run_id] = r
    groups: dict[Cell, list[Result]] = {}
    for r in results:
        if (run := longest.get(r.cell.run_id)) is not None:
            group = groups.setdefault(trajectory_setting(r.cell), [])
            if run not in group:
                group.append(run)
    curves = []
    for group in groups.values():
        cost, accuracy = stack_seeds(
            [([e.cost for e in r.history], [e.accuracy for e in r.history]) for r in group]
        )
        cost[~(np.abs(cost) < _DIVERGED_COST)] = np.nan
        curves.append(_Curve(group[0].cell, np.arange(1, cost.shape[1] + 1), cost, accuracy))
    return curves


def _curve_figure(
    curves: Sequence[_Curve],
    values: Callable[[_Curve], Series],
    label: str,
    *,
    log: bool,
) -> Figure:
    with page_style():
        figure, chart = _figure_with_axes(5.0, 3.2)
        chart.set(xlabel="Epoch", ylabel=label)
        chart.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        known_values = np.concatenate([values(c)[~np.isnan(values(c))] for c in curves])
        if not len(known_values):
            return figure
        zero = 0.0
        if label.startswith("Cost"):
            zero = _set_cost_axis(chart, known_values, log=log)
        elif log:
            accuracy_axis(chart, known_values)
            chart.set_ylabel(ACCURACY_LABEL)
        for rank, curve in reversed(list(enumerate(curves))):
            y = values(curve)
            known = ~np.isnan(y).all(axis=0)
            x, y = curve.epochs[known], y[:, known]
            if not len(x):
                continue
            mean, low, high = (move_zeros(series, zero) for series in mean_and_range(y))
            line: dict[str, Any] = {"color": FAINT, "lw": 0.9, "zorder": 1.5}
            if rank < len(SERIES):
                line = {"color": SERIES[rank], "marker": MARKERS[rank], "ms": 4.5}
                line |= {"markevery": marked_epochs(rank, len(x), 10)}
                line |= {"zorder": 3 - rank / 10, "mec": PAPER, "mew": 0.6}
                if len(y) > 1:
                    chart.fill_between(x, low, high, color=SERIES[rank], alpha=0.18, lw=0, zorder=2)
            chart.plot(x, mean, **line)
    return figure


def _set_cost_axis(chart: Axes, costs: Series, *, log: bool) -> float:
    """Set scale, limits, and ticks for costs; where a cost of 0 is drawn, 0.0 on a linear axis."""
    positive = costs[costs > SMALLEST_COST]
    if not log or not len(positive) or costs.min() < 0:
        chart.set_ylim(bottom=min(0, costs.min()))
        return 0.0
    low, high = positive.min() / 1.3, positive.max() * 1.3
    zero = zero_position(low, high) if (costs <= SMALLEST_COST).any() else None
    bottom = low if zero is None else extend_below(zero, high, 0.03)
    chart.set(ylabel="Cost on the training set (log scale)", yscale="log", ylim=(bottom, high))
    log_axis(chart.yaxis, low, high, zero)
    return zero or 0.0


# ---------------------------------------------------------------- parallel coordinates


def parallel(compared: Sequence[ComparedItem]) -> str | None:
    """Parallel coordinates: a line from the values of each setting or row to its accuracy.

    The best item and its ties are highlighted, inconclusive ones are dashed. None if fewer than two
    items have an accuracy, or fewer than two hyperparameters vary.
    """
    items = [item for item in compared if item.accuracy is not None][:MAX_LINES]
    names = list(varied(item.cell for item in items))
    if len(items) < 2 or len(names) < 2:
        return None
    values = [axes(item.cell) for item in items]
    accuracies = np.array([item.accuracy for item in items], float)
    heights = stretch(accuracies)
    low, span = heights.min(), max(float(np.ptp(heights)), 1e-9)
    columns, ticks = [], []
    for name in names:
        levels = ordered(value.get(name) for value in values)
        positions = _level_positions(levels)
        columns.append([positions[value.get(name)] for value in values])
        ticks.append([(positions[level], format_setting(level)) for level in levels])
    columns.append(list((heights - low) / span))
    leading = {n for n, i in enumerate(items) if i.outcome in ("best", "better", "tied")} or {0}
    inconclusive = {n for n, item in enumerate(items) if item.outcome == "inconclusive"}
    points = np.array(columns)
    faintest = 0.16 if len(items) > 40 else 0.4  # few lines need no transparency to stay readable
    # Jitter, so that lines with the same values do not hide each other.
    points[:-1] += np.random.default_rng(0).uniform(-0.012, 0.012, points[:-1].shape)
    with page_style():
        figure = Figure((max(5.6, 1.35 * len(columns)), 3.6))
        chart = figure.add_axes((0.01, 0.01, 0.93, 0.86))
        x = np.arange(len(columns))
        for n in reversed(range(len(items))):
            line: dict[str, Any] = {"color": SERIES[1], "lw": 2.0, "alpha": 0.9, "zorder": 3}
            if n in inconclusive:
                line |= {"lw": 1.4, "ls": (0, (4, 2)), "zorder": 2.5}
            elif n not in leading:
                line = {"color": SERIES[0], "lw": 1.0, "zorder": 2}
                line["alpha"] = faintest + (0.6 - faintest) * float(points[-1, n])
            chart.plot(x, points[:, n], **line)
        chart.set(xlim=(-0.25, len(columns) - 0.45), ylim=(-0.08, 1.08))
        chart.grid(visible=False)
        chart.spines[["left", "bottom"]].set_visible(False)
        chart.set_yticks([])
        chart.set_xticks([])
        lowest, highest = float(accuracies.min()), float(accuracies.max())
        ends = [(0.0, f"{lowest:.2f}"), (1.0, f"{highest:.2f}")] if lowest < highest else [
            (0.0, f"{highest:.2f}")]  # fmt: skip
        for column, (name, labels) in enumerate(
            zip([*names, "accuracy (%)"], [*ticks, ends], strict=True)
        ):
            chart.axvline(column, color=QUIET, lw=1, zorder=4)
            heading: dict[str, Any] = {"weight": "bold", "ha": "center", "va": "bottom"}
            text = name.replace(".", ".\n") if len(name) > 14 else name
            chart.text(column, 1.12, text, clip_on=False, fontsize=9.5, color=INK, **heading)
            for height, label in labels if len(labels) <= 12 else (labels[0], labels[-1]):
                chart.text(
                    column + 0.045, height, label if len(label) < 19 else label[:17] + "...",
                    fontsize=9, va="center", color=INK, zorder=6,
                    bbox={"fc": PAPER, "lw": 0, "pad": 1.2, "alpha": 0.85},
                )  # fmt: skip
    title = (
        f"Parallel coordinates of {pluralize(len(items), _noun(compared))}: {', '.join(names)}, "
        f"and accuracy; highlighted: {len(leading)} best or tied"
    ) + (f"; dashed: {len(inconclusive)} inconclusive" if inconclusive else "")
    return to_svg(figure, "parallel", title)


def _noun(compared: Sequence[ComparedItem]) -> str:
    return "setting" if any(len(item.rows) > 1 for item in compared) else "row"


def _level_positions(levels: Sequence[Value]) -> dict[Value, float]:
    """Evenly spaced heights from 0 to 1, since grids usually step by factors."""
    return {level: n / max(1, len(levels) - 1) for n, level in enumerate(levels)}


# ---------------------------------------------------------------- studies, recipes, time, errors


def reproduced(reproduction: Reproduction, name: str) -> str | None:
    """Measured against reported accuracy of a study's rows; None if no row has both.

    name: prefix of the ids in the SVG. Error bars span the 95 % prediction interval of one more
    training.
    """
    known = [v for v in reproduction.verdicts if v.difference is not None]
    if not known:
        return None
    reported = np.array([v.row.reported for v in known], float)
    measured = np.array([v.mean for v in known], float)
    spread = np.array([v.spread for v in known], float)
    styles = {REPRODUCED: ("o", SERIES[0]), NOT: ("X", SERIES[1]), OPEN: ("D", SERIES[2])}
    with page_style():
        figure, chart = _figure_with_axes(6.4, 5.0)
        chart.plot([0, 100], [0, 100], color=QUIET, lw=1, ls=(0, (4, 3)), zorder=1)
        for verdict, (marker, color) in styles.items():
            chosen = np.array([v.verdict == verdict for v in known])
            if not chosen.any():
                continue
            x, y = reported[chosen], measured[chosen]
            bars = [np.minimum(spread[chosen], y), np.minimum(spread[chosen], 100 - y)]
            chart.errorbar(x, y, bars, fmt="none", ecolor=color, elinewidth=1.2, alpha=0.5)
            style: dict[str, Any] = {"ms": 7, "mew": 0.6, "mec": PAPER, "zorder": 3}
            label = f"{verdict} ({int(chosen.sum())})"
            chart.plot(x, y, marker, color=color, label=label, **style)
        accuracies = np.concatenate([reported, measured])
        accuracy_axis(chart, accuracies, "x")
        accuracy_axis(chart, accuracies)
        chart.set(xlabel="Reported accuracy (%), log error scale")
        chart.set(ylabel="Measured accuracy (%)")
        chart.legend(loc="upper left", frameon=False)
    rows = pluralize(len(known), "row")
    title = f"Measured against reported accuracy of {rows}. {reproduction.headline}"
    return to_svg(figure, name, title)


def recipes(groups: Sequence[tuple[str, Sequence[ComparedItem]]]) -> str | None:
    """The accuracies of the settings or rows of each recipe; None for a single recipe."""
    known = [(name, [i for i in items if i.accuracy is not None]) for name, items in groups]
    known = [(name, items) for name, items in known if items]
    if len(known) < 2:
        return None
    accuracies = np.array([i.accuracy for _, items in known for i in items], float)
    random = np.random.default_rng(0)
    by_seed = any(i.sd is not None for _, items in known for i in items)
    with page_style():
        figure, chart = _figure_with_axes(7.2, 0.95 + 0.5 * len(known), left=0.3)
        for n, (_, items) in enumerate(known):
            x = np.array([i.accuracy for i in items], float)
            y = n + random.uniform(-0.2, 0.2, len(items))
            color, marker = SERIES[n % 7], MARKERS[n % 7]
            if by_seed:
                sd = np.array([i.sd or 0.0 for i in items])
                bars = [np.minimum(sd, x), np.minimum(sd, 100 - x)]
                chart.errorbar(x, y, xerr=bars, fmt="none", ecolor=color, elinewidth=1.3, alpha=0.6)
            chart.plot(x, y, marker, color=color, ms=6, alpha=0.75, mew=0.6, mec=PAPER)
            chart.plot([np.median(x)] * 2, [n - 0.33, n + 0.33], color=INK, lw=2)
        names = [textwrap.fill(name, 30, break_on_hyphens=False) for name, _ in known]
        chart.set_yticks(range(len(known)), names)
        chart.set_ylim(len(known) - 0.45, -0.55)
        chart.grid(visible=False, axis="y")
        chart.set_xlabel(ACCURACY_LABEL)
        accuracy_axis(chart, accuracies, "x")
    noun = "settings (means over seeds)" if by_seed else "rows"
    title = f"Accuracies of the {noun} of each recipe, with the median as a vertical line"
    return to_svg(figure, "recipes", title)


def front(compared: Sequence[ComparedItem]) -> Front | None:
    """Training time against accuracy; None if fewer than two settings or rows have learned."""
    timed = [item for item in compared if item.known and item.mean("seconds") > 0]
    points = [
        FrontPoint(item, item.mean("seconds"), item.accuracy or 0.0)
        for item in timed
        if item.has_learned
    ]
    if len(points) < 2:
        return None
    best: list[FrontPoint] = []
    for point in sorted(points, key=lambda p: (p.seconds, -p.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    x = np.array([point.seconds for point in points])
    y = np.array([point.accuracy for point in points])
    with page_style():
        figure, chart = _figure_with_axes(5.0, 3.2)
        chart.plot(x, y, "o", color=SERIES[0], alpha=0.55, ms=5.5, mew=0.6, mec=PAPER)
        front_x = [point.seconds for point in best]
        front_y = [point.accuracy for point in best]
        chart.step(front_x, front_y, where="post", color=SERIES[1], lw=1.6, zorder=3)
        chart.plot(front_x, front_y, "s", color=SERIES[1], ms=6, mew=0.6, mec=PAPER, zorder=4)
        chart.set(xscale="log", xlabel="Seconds for training and testing (log scale)")
        chart.set_ylabel(ACCURACY_LABEL)
        accuracy_axis(chart, y)
        low, high = x.min() / 1.25, x.max() * 1.25
        steps = (1, 2, 5) if high / low < 300 else (1,)
        powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        chart.set_xlim(low, high)
        ticks = [t for p in powers for s in steps if low <= (t := s * 10.0**p) <= high]
        few_ticks = MaxNLocator(5)
        chart.xaxis.set_major_locator(FixedLocator(ticks) if len(ticks) > 1 else few_ticks)
        chart.xaxis.set_minor_locator(NullLocator())
        chart.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    count = pluralize(len(points), _noun(compared))
    title = f"Training time against accuracy of {count}; {len(best)} on the Pareto front"
    return Front(to_svg(figure, "front", title), tuple(best), len(timed) - len(points))


def missed(counts: NDArray[np.int64]) -> str:
    """Bars: how many test images exactly 1, 2, ..., all cells misclassify.

    counts: (cells + 1,), see `error_atlas.Atlas`.
    """
    cells = len(counts) - 1
    with page_style():
        figure, chart = _figure_with_axes(7.2, 2.6)
        x, y = np.arange(1, cells + 1), counts[1:]
        colors = [SERIES[0]] * (cells - 1) + [SERIES[1]]
        width = 0.85 if cells <= 60 else 1.0
        chart.bar(x, y, width=width, color=colors, lw=0)
        chart.grid(visible=False, axis="x")
        chart.set(xlabel="Cells that misclassify the image", ylabel="Test images")
        chart.set(xlim=(0.3, cells + 0.7))
        chart.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
        chart.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if cells <= 16:
            for at, number in zip(x, y, strict=True):
                chart.text(
                    float(at), float(number), f"{number:,}", ha="center", va="bottom", fontsize=8.5
                )
    title = f"Number of test images by the number of cells, of {cells}, that misclassify them"
    return to_svg(figure, "missed", title)


def _figure_with_axes(width: float, height: float, left: float = 0.72) -> tuple[Figure, Axes]:
    """A figure with one chart. width, height, left (margin): inches.

    Labels get a fixed margin: matplotlib's layout engines take longer than drawing the chart.
    """
    figure = Figure((width, height))
    bottom, right, top = 0.52, 0.14, 0.12
    box = (
        left / width, bottom / height, (width - left - right) / width,
        (height - bottom - top) / height,
    )  # fmt: skip
    return figure, figure.add_axes(box)
