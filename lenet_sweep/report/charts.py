"""The page's charts: from a report to matplotlib figures, each as an SVG with its words."""

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
from lenet_sweep.report.histories import mean_and_range, stack_seeds, trajectory_setting
from lenet_sweep.report.svg import FAINT, INK, PAPER, QUIET, SERIES, page_style, to_svg

CURVES = 100  # settings whose curves are drawn, the best ones
LINES = 300  # rows in the parallel coordinates
_TOO_LARGE = 1e30  # a cost beyond it is that of a run that diverged


@dataclass(frozen=True)
class Legend:
    """An entry: its place among the colours of the page (-1: the grey of all others), its name."""

    colour: int
    marker: str
    text: str


@dataclass(frozen=True)
class Curves:
    """Cost and accuracy over the epochs, each on a linear and on a logarithmic scale."""

    cost: tuple[str, str]
    accuracy: tuple[str, str]
    legend: tuple[Legend, ...]
    bands: bool
    drawn: int
    total: int


@dataclass(frozen=True)
class FrontPoint:
    """A setting (means over its seeds) or a row on the front."""

    unit: ComparedItem
    seconds: float
    accuracy: float  # percent


@dataclass(frozen=True)
class Front:
    """What no other setting or row beats in both time and accuracy, fastest first.

    left_out: how many did not learn and are not drawn.
    """

    svg: str
    points: tuple[FrontPoint, ...]
    left_out: int


# ---------------------------------------------------------------- curves


@dataclass(frozen=True, eq=False)
class _Course:
    """A setting's history: (seeds, epochs) each, of the longest read-out of its runs."""

    cell: Cell
    epochs: NDArray[np.int64]
    cost: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def curves(report: Report) -> Curves | None:
    """The courses of the best settings, with a band from the lowest to the highest seed."""
    found = _courses([row.result for row in report.rows])
    if not found or max(len(c.epochs) for c in found) < 2:
        return None
    shown = found[:CURVES]
    cells = [c.cell.setting for c in shown]
    spoken = short_names(cells, epochs=False)
    names = {c.cell: spoken[cell] for c, cell in zip(shown, cells, strict=True)}
    coloured = min(len(shown), len(SERIES))
    legend = [Legend(n, MARKERS[n], names[c.cell]) for n, c in enumerate(shown[:coloured])]
    if len(shown) > coloured:
        others = pluralize(len(shown) - coloured, "other setting")
        legend.append(Legend(-1, "", others))
    best = names[shown[0].cell]

    def both(what: str, values: Callable[[_Course], NDArray[np.float64]]) -> tuple[str, str]:
        title = f"{what} over epochs of {len(shown)} settings; the best is {best}"
        linear = _course_figure(shown, values, what, log=False)
        log = _course_figure(shown, values, what, log=True)
        short = what.split(maxsplit=1)[0].lower()
        return (
            to_svg(linear, f"{short}-linear", f"{title}. Linear scale."),
            to_svg(log, f"{short}-log", f"{title}. Logarithmic scale."),
        )

    return Curves(
        cost=both("Cost on the training set", lambda c: c.cost),
        accuracy=both("Test accuracy (%)", lambda c: c.accuracy),
        legend=tuple(legend),
        bands=any(len(c.cost) > 1 for c in shown[:coloured]),
        drawn=len(shown),
        total=len(found),
    )


def _courses(results: Sequence[Result]) -> list[_Course]:
    """Best row first, one a setting; read-outs of fewer epochs are part of a longer one."""
    longest: dict[str, Result] = {}
    for r in results:
        if r.history and len(r.history) > len(getattr(longest.get(r.cell.run_id), "history", ())):
            longest[r.cell.run_id] = r
    groups: dict[Cell, list[Result]] = {}
    for r in results:
        if (run := longest.get(r.cell.run_id)) is not None:
            key = trajectory_setting(r.cell)
            if run not in groups.setdefault(key, []):
                groups[key].append(run)
    found = []
    for group in groups.values():
        cost, accuracy = stack_seeds(
            [([e.cost for e in r.history], [e.accuracy for e in r.history]) for r in group]
        )
        cost[~(np.abs(cost) < _TOO_LARGE)] = np.nan
        found.append(_Course(group[0].cell, np.arange(1, cost.shape[1] + 1), cost, accuracy))
    return found


def _course_figure(
    found: Sequence[_Course],
    values: Callable[[_Course], NDArray[np.float64]],
    label: str,
    *,
    log: bool,
) -> Figure:
    with page_style():
        figure, chart = _chart(5.0, 3.2)
        chart.set(xlabel="Epoch", ylabel=label)
        chart.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        every = np.concatenate([values(c)[~np.isnan(values(c))] for c in found])
        if not len(every):
            return figure
        zero = 0.0
        if label.startswith("Cost"):
            zero = _cost_axis(chart, every, log=log)
        elif log:
            accuracy_axis(chart, every)
            chart.set_ylabel("Accuracy (%), by log of the error")
        for place, course in reversed(list(enumerate(found))):
            y = values(course)
            known = ~np.isnan(y).all(axis=0)
            x, y = course.epochs[known], y[:, known]
            if not len(x):
                continue
            mean, low, high = (move_zeros(series, zero) for series in mean_and_range(y))
            top = place < len(SERIES)
            look: dict[str, Any] = {"color": FAINT, "lw": 0.9, "zorder": 1.5}
            if top:
                look = {"color": SERIES[place], "marker": MARKERS[place], "ms": 4.5}
                look |= {"markevery": marked_epochs(place, len(x), 10)}
                look |= {"zorder": 3 - place / 10, "mec": PAPER, "mew": 0.6}
                if len(y) > 1:
                    chart.fill_between(
                        x, low, high, color=SERIES[place], alpha=0.18, lw=0, zorder=2
                    )
            chart.plot(x, mean, **look)
    return figure


def _cost_axis(chart: Axes, costs: NDArray[np.float64], *, log: bool) -> float:
    """Scale, limits and ticks for the cost; where a cost of 0 stands."""
    positive = costs[costs > SMALLEST_COST]
    if not log or not len(positive) or costs.min() < 0:
        chart.set_ylim(bottom=min(0, costs.min()))
        return 0.0
    low, high = positive.min() / 1.3, positive.max() * 1.3
    zero = zero_position(low, high) if (costs <= SMALLEST_COST).any() else None
    bottom = low if zero is None else extend_below(zero, high, 0.03)
    chart.set(ylabel="Cost on the training set (log)", yscale="log", ylim=(bottom, high))
    log_axis(chart.yaxis, low, high, zero)
    return zero or 0.0


# ---------------------------------------------------------------- all settings at once


def parallel(compared: Sequence[ComparedItem]) -> str | None:
    """A line through the values of each setting or row to its accuracy; None if fewer than 2 vary.

    The best and its ties stand out, what is inconclusive is dashed.
    """
    rows = [u for u in compared if u.accuracy is not None][:LINES]
    names = list(varied(row.cell for row in rows))
    if len(rows) < 2 or len(names) < 2:
        return None
    found = [axes(row.cell) for row in rows]
    accuracies = np.array([row.accuracy for row in rows], float)
    heights = stretch(accuracies)
    low, span = heights.min(), max(float(np.ptp(heights)), 1e-9)
    columns, ticks = [], []
    for name in names:
        levels = ordered(each.get(name) for each in found)
        places = _places(levels)
        columns.append([places[each.get(name)] for each in found])
        ticks.append([(places[level], format_setting(level)) for level in levels])
    columns.append(list((heights - low) / span))
    leading = {n for n, u in enumerate(rows) if u.outcome in ("best", "better", "tied")} or {0}
    undecided = {n for n, u in enumerate(rows) if u.outcome == "inconclusive"}
    points = np.array(columns)
    # Lines that share a value would hide each other: each is a little off.
    points[:-1] += np.random.default_rng(0).uniform(-0.012, 0.012, points[:-1].shape)
    with page_style():
        figure = Figure((max(5.6, 1.35 * len(columns)), 3.6))
        chart = figure.add_axes((0.01, 0.01, 0.93, 0.86))
        x = np.arange(len(columns))
        for n in reversed(range(len(rows))):
            top = n in leading
            look: dict[str, Any] = {"color": SERIES[1], "lw": 2.0, "alpha": 0.9, "zorder": 3}
            if n in undecided:
                look |= {"lw": 1.4, "ls": (0, (4, 2)), "zorder": 2.5}
            elif not top:
                look = {"color": SERIES[0], "lw": 1.0, "zorder": 2}
                look["alpha"] = 0.16 + 0.44 * float(points[-1, n])
            chart.plot(x, points[:, n], **look)
        chart.set(xlim=(-0.25, len(columns) - 0.45), ylim=(-0.08, 1.08))
        chart.grid(visible=False)
        chart.spines[["left", "bottom"]].set_visible(False)
        chart.set_yticks([])
        chart.set_xticks([])
        lowest, highest = float(accuracies.min()), float(accuracies.max())
        ends = [(0.0, f"{lowest:.2f}"), (1.0, f"{highest:.2f}")] if lowest < highest else [
            (0.0, f"{highest:.2f}")]  # fmt: skip
        for place, (name, marks) in enumerate(
            zip([*names, "accuracy (%)"], [*ticks, ends], strict=True)
        ):
            chart.axvline(place, color=QUIET, lw=1, zorder=4)
            heading: dict[str, Any] = {"weight": "bold", "ha": "center", "va": "bottom"}
            shown = name.replace(".", ".\n") if len(name) > 14 else name
            chart.text(place, 1.12, shown, clip_on=False, fontsize=9.5, color=INK, **heading)
            for height, text in marks if len(marks) <= 12 else (marks[0], marks[-1]):
                chart.text(
                    place + 0.045, height, text if len(text) < 19 else text[:17] + "...",
                    fontsize=9, va="center", color=INK, zorder=6,
                    bbox={"fc": PAPER, "lw": 0, "pad": 1.2, "alpha": 0.85},
                )  # fmt: skip
    thing = "settings" if any(len(u.rows) > 1 for u in compared) else "rows"
    title = (
        f"{len(rows)} {thing} as lines through {', '.join(names)} to their accuracy; "
        f"{len(leading)} leading ones stand out"
    ) + (f", {len(undecided)} inconclusive ones are dashed" if undecided else "")
    return to_svg(figure, "parallel", title)


def _places(levels: Sequence[Value]) -> dict[Value, float]:
    """Heights from 0 to 1, evenly: values are chosen by factors, not by differences."""
    return {level: n / max(1, len(levels) - 1) for n, level in enumerate(levels)}


# ---------------------------------------------------------------- groups, time, a study


def reproduced(reproduction: Reproduction, name: str) -> str | None:
    """Reported against measured accuracy, with where a further training is to be expected."""
    known = [v for v in reproduction.verdicts if v.difference is not None]
    if not known:
        return None
    reported = np.array([v.row.reported for v in known], float)
    measured = np.array([v.mean for v in known], float)
    width = np.array([v.spread for v in known], float)
    every = np.concatenate([reported, measured])
    looks = {REPRODUCED: ("o", SERIES[0]), NOT: ("X", SERIES[1]), OPEN: ("D", SERIES[2])}
    with page_style():
        figure, chart = _chart(6.4, 5.0)
        chart.plot([0, 100], [0, 100], color=QUIET, lw=1, ls=(0, (4, 3)), zorder=1)
        for verdict, (marker, colour) in looks.items():
            chosen = np.array([v.verdict == verdict for v in known])
            if not chosen.any():
                continue
            x, y = reported[chosen], measured[chosen]
            bars = [np.minimum(width[chosen], y), np.minimum(width[chosen], 100 - y)]
            chart.errorbar(x, y, bars, fmt="none", ecolor=colour, elinewidth=1.2, alpha=0.5)
            look: dict[str, Any] = {"ms": 7, "mew": 0.6, "mec": PAPER, "zorder": 3}
            number = f"{verdict} ({int(chosen.sum())})"
            chart.plot(x, y, marker, color=colour, label=number, **look)
        accuracy_axis(chart, every, "x")
        accuracy_axis(chart, every)
        chart.set(xlabel="Reported accuracy (%), by log of the error", ylabel="Measured here (%)")
        chart.legend(loc="upper left", frameon=False)
    title = f"Reported against measured accuracy of {len(known)} rows. {reproduction.headline}"
    return to_svg(figure, name, title)


def recipes(groups: Sequence[tuple[str, Sequence[ComparedItem]]]) -> str | None:
    """The accuracies of each recipe's settings or rows on one axis; None for a single recipe."""
    known = [(name, [u for u in found if u.accuracy is not None]) for name, found in groups]
    known = [(name, found) for name, found in known if found]
    if len(known) < 2:
        return None
    every = np.array([u.accuracy for _, found in known for u in found], float)
    random = np.random.default_rng(0)
    by_seed = any(u.sd is not None for _, found in known for u in found)
    with page_style():
        figure, chart = _chart(7.2, 0.95 + 0.5 * len(known), left=0.3)
        for n, (_, found) in enumerate(known):
            x = np.array([u.accuracy for u in found], float)
            y = n + random.uniform(-0.2, 0.2, len(found))
            if by_seed:
                sd = np.array([u.sd or 0.0 for u in found])
                whiskers = [np.minimum(sd, x), np.minimum(sd, 100 - x)]
                chart.errorbar(
                    x, y, xerr=whiskers, fmt="none", ecolor=SERIES[n % 7], elinewidth=1.3, alpha=0.6
                )
            chart.plot(
                x, y, MARKERS[n % 7], color=SERIES[n % 7], ms=6, alpha=0.75, mew=0.6, mec=PAPER
            )
            chart.plot([np.median(x)] * 2, [n - 0.33, n + 0.33], color=INK, lw=2)
        names = [textwrap.fill(name, 30, break_on_hyphens=False) for name, _ in known]
        chart.set_yticks(range(len(known)), names)
        chart.set_ylim(len(known) - 0.45, -0.55)
        chart.grid(visible=False, axis="y")
        chart.set_xlabel("Accuracy (%), by log of the error")
        accuracy_axis(chart, every, "x")
    thing = "settings, means over their seeds" if by_seed else "rows"
    title = f"Accuracies of each recipe's {thing}; a bar marks the median"
    return to_svg(figure, "recipes", title)


def front(compared: Sequence[ComparedItem]) -> Front | None:
    """Training time against accuracy of what has learned; None for fewer than two of those."""
    timed = [u for u in compared if u.known and u.mean("seconds") > 0]
    points = [(u, u.mean("seconds"), u.accuracy or 0.0) for u in timed if u.has_learned]
    if len(points) < 2:
        return None
    best: list[FrontPoint] = []
    for unit, seconds, accuracy in sorted(points, key=lambda p: (p[1], -p[2])):
        if not best or accuracy > best[-1].accuracy:
            best.append(FrontPoint(unit, seconds, accuracy))
    x = np.array([seconds for _, seconds, _ in points])
    y = np.array([accuracy for *_, accuracy in points])
    with page_style():
        figure, chart = _chart(5.0, 3.2)
        chart.plot(x, y, "o", color=SERIES[0], alpha=0.55, ms=5.5, mew=0.6, mec=PAPER)
        fx = [point.seconds for point in best]
        fy = [point.accuracy for point in best]
        chart.step(fx, fy, where="post", color=SERIES[1], lw=1.6, zorder=3)
        chart.plot(fx, fy, "s", color=SERIES[1], ms=6, mew=0.6, mec=PAPER, zorder=4)
        chart.set(xscale="log", xlabel="Training and testing, seconds (log)")
        chart.set_ylabel("Accuracy (%), by log of the error")
        accuracy_axis(chart, y)
        low, high = x.min() / 1.25, x.max() * 1.25
        steps = (1, 2, 5) if high / low < 300 else (1,)
        powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        chart.set_xlim(low, high)
        ticks = [t for p in powers for s in steps if low <= (t := s * 10.0**p) <= high]
        close = MaxNLocator(5)
        chart.xaxis.set_major_locator(FixedLocator(ticks) if len(ticks) > 1 else close)
        chart.xaxis.set_minor_locator(NullLocator())
        chart.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    thing = "settings" if any(len(u.rows) > 1 for u in compared) else "rows"
    title = f"Seconds against accuracy of {len(points)} {thing}; {len(best)} form the front"
    return Front(to_svg(figure, "front", title), tuple(best), len(timed) - len(points))


def missed(counts: NDArray[np.int64]) -> str:
    """How many test images (height) are missed by how many cells (from one to all)."""
    cells = len(counts) - 1
    with page_style():
        figure, chart = _chart(7.2, 2.6)
        x, y = np.arange(1, cells + 1), counts[1:]
        colours = [SERIES[0]] * (cells - 1) + [SERIES[1]]
        width = 0.85 if cells <= 60 else 1.0
        chart.bar(x, y, width=width, color=colours, lw=0)
        chart.grid(visible=False, axis="x")
        chart.set(xlabel="Cells that miss the image", ylabel="Test images", xlim=(0.3, cells + 0.7))
        chart.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
        chart.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if cells <= 16:
            for at, number in zip(x, y, strict=True):
                chart.text(
                    float(at), float(number), f"{number:,}", ha="center", va="bottom", fontsize=8.5
                )
    return to_svg(figure, "missed", f"Test images by how many of {cells} cells miss them")


def _chart(width: float, height: float, left: float = 0.72) -> tuple[Figure, Axes]:
    """One chart with room for its labels, in inches: layout engines take longer than drawing."""
    figure = Figure((width, height))
    bottom, right, top = 0.52, 0.14, 0.12
    box = (
        left / width, bottom / height, (width - left - right) / width,
        (height - bottom - top) / height,
    )  # fmt: skip
    return figure, figure.add_axes(box)
