"""The charts of the page: matplotlib figures of a report, each converted to an SVG.

A function with the decorator `section` adds a chart in a section of its own, as described in
docs/extending.md. The other charts are part of a section that page.html.jinja lays out. The curves
over epochs are in curve_charts.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lenet_sweep.analysis.axes import axes, ordered, varied
from lenet_sweep.analysis.reproduction import NOT, OPEN, REPRODUCED, Reproduction
from lenet_sweep.core.names import short_names
from lenet_sweep.core.text import format_setting, pluralize, shorten
from lenet_sweep.report.chart_axes import accuracy_axis, log_axis
from lenet_sweep.report.collect import Report
from lenet_sweep.report.compared_items import ComparedItem, compared_items
from lenet_sweep.report.encodings import MARKERS, stretch
from lenet_sweep.report.marks import Levels, Mark, Marks, gid
from lenet_sweep.report.svg import (
    ACCURACY_LABEL,
    INK,
    PAPER,
    QUIET,
    SERIES,
    page_figure,
    page_style,
    to_svg,
)

MAX_LINES = 300  # rows in the parallel coordinates, best first
# The names of charts that are not section ids, and the prefixes of numbered and paired charts.
OTHER_CHARTS = ("front", "missed")
OTHER_PREFIXES = ("study-", "cost-", "accuracy-")
SCRIPT_IDS = ("compare", "compared", "compare-h", "tip", "chart-help")  # of elements that it adds

Draw = TypeVar("Draw", bound="Callable[[Report], Chart | None]")


@dataclass(frozen=True)
class FrontPoint:
    """A setting or row on the Pareto front; of a setting, the means over its seeds."""

    item: ComparedItem
    seconds: float
    accuracy: float  # percent


@dataclass(frozen=True)
class Front:
    """The Pareto front of time and accuracy, fastest first.

    left_out: settings or rows that did not learn, which are not drawn. others: those with other
    test images than the best, which are not drawn either.
    """

    svg: str
    points: tuple[FrontPoint, ...]
    left_out: int
    others: int


@dataclass(frozen=True)
class Chart:
    """A chart in a section of its own.

    title: a description for screen readers. caption: how to read the chart. Both are plain text.
    marks: the values at its points and lines, which the page shows on hover and keyboard focus.
    """

    figure: Figure
    title: str
    caption: str
    marks: Marks | None = None


@dataclass(frozen=True)
class ChartSection:
    """A section of the page with one chart.

    name: the id of the section and the prefix of the ids in the SVG. heading: of the section, and
    its entry in the list of sections. draw: returns None if there is nothing to show.
    """

    name: str
    heading: str
    draw: Callable[[Report], Chart | None]

    def to_svg(self, chart: Chart) -> str:
        """Convert the chart of this section, and clear its figure."""
        return to_svg(chart.figure, self.name, chart.title, chart.marks)


SECTIONS: list[ChartSection] = []  # in the order of the page


def section(name: str, heading: str) -> Callable[[Draw], Draw]:
    """Decorator of a function that draws a chart: gives the chart a section on the page.

    name: letters, digits and hyphens. Raises ValueError if it is not, or is used on the page.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise ValueError(
            f"section {name!r}: must start with a letter and contain only letters, digits and "
            "hyphens"
        )
    if _is_used(name):
        raise ValueError(f"section {name!r}: the page already uses this id; choose another name")

    def register(draw: Draw) -> Draw:
        SECTIONS.append(ChartSection(name, heading, draw))
        return draw

    return register


def _is_used(name: str) -> bool:
    """Whether the page already has an id that this section would give to one of its elements."""
    names = (*OTHER_CHARTS, *(section.name for section in SECTIONS))
    own = {name, f"{name}-h", f"{name}-title"}
    return (
        name in names
        or name.startswith(OTHER_PREFIXES)
        or bool(own & {*_template_ids(), *SCRIPT_IDS})
    )


@cache
def _template_ids() -> frozenset[str]:
    template = files("lenet_sweep.report") / "templates" / "page.html.jinja"
    return frozenset(re.findall(r'\bid="([\w-]+)"', template.read_text(encoding="utf-8")))


@section("parallel", "All settings at once")
def parallel(report: Report) -> Chart | None:
    """Parallel coordinates: a line from the values of each setting or row to its accuracy.

    The best item and its ties are highlighted, inconclusive ones are dashed. None if fewer than two
    items have an accuracy, or fewer than two hyperparameters vary.
    """
    compared = compared_items(report)
    items = [item for item in compared if item.accuracy is not None][:MAX_LINES]
    names = list(varied(item.cell for item in items))
    if len(items) < 2 or len(names) < 2:
        return None
    outcomes = {item.outcome for item in compared}
    highlighted = {n for n, i in enumerate(items) if i.outcome in ("best", "better", "tied")} or {0}
    dashed = {n for n, item in enumerate(items) if item.outcome == "inconclusive"}
    noun = _noun(compared)
    title = (
        f"Parallel coordinates of {pluralize(len(items), noun)}: {', '.join(names)}, and accuracy; "
        f"highlighted: {len(highlighted)} best or tied"
    ) + (f"; dashed: {len(dashed)} inconclusive" if dashed else "")
    caption = (
        f"Each line is a {noun} and connects the values of its hyperparameters with its "
        f"{'mean ' if noun == 'setting' else ''}accuracy. Orange: the best"
        f"{f' and the {noun}s tied with it' if 'tied' in outcomes else ''}"
        f"{'; dashed: inconclusive' if 'inconclusive' in outcomes else ''}."
    )
    figure, marks = _parallel_figure(compared, items, names, highlighted, dashed)
    return Chart(figure, title, caption, marks)


def _parallel_figure(
    compared: Sequence[ComparedItem],
    items: Sequence[ComparedItem],
    names: Sequence[str],
    highlighted: Collection[int],
    dashed: Collection[int],
) -> tuple[Figure, Marks]:
    """The lines of `items`, and the axes with which the page filters all `compared` rows.

    names: of the hyperparameters that vary. highlighted, dashed: indices of items.
    """
    values = [axes(item.cell) for item in items]
    rows = {id(item): row for row, item in enumerate(compared)}
    texts = short_names([item.cell for item in items])
    levels_of: list[Levels] = []
    accuracies = np.array([item.accuracy for item in items], float)
    heights = stretch(accuracies)
    columns, ticks = [], []
    for name in names:
        levels = ordered(value.get(name) for value in values)
        # Evenly spaced, since grids usually step by factors.
        positions = {level: n / max(1, len(levels) - 1) for n, level in enumerate(levels)}
        columns.append([positions[value.get(name)] for value in values])
        texts_of = [format_setting(level) for level in levels]
        place_of = {level: place for place, level in enumerate(levels)}
        chosen = [place_of.get(axes(item.cell).get(name)) for item in compared]
        levels_of.append(Levels(name, len(levels_of), [*positions.values()], texts_of, chosen))
        ticks.append([(positions[level], format_setting(level)) for level in levels])
    columns.append(list((heights - heights.min()) / max(float(np.ptp(heights)), 1e-9)))
    levels_of.append(_accuracy_levels(compared, items, columns[-1], len(levels_of)))
    lowest, highest = float(accuracies.min()), float(accuracies.max())
    ticks.append([(0.0, f"{highest:.2f}")])
    if lowest < highest:
        ticks[-1] = [(0.0, f"{lowest:.2f}"), (1.0, f"{highest:.2f}")]
    points = np.array(columns)
    faintest = 0.16 if len(items) > 40 else 0.4  # few lines need no transparency to stay readable
    # Jitter, so that lines with the same values do not hide each other.
    points[:-1] += np.random.default_rng(0).uniform(-0.012, 0.012, points[:-1].shape)
    marks = []
    with page_style():
        figure = Figure((max(5.6, 1.35 * len(columns)), 3.6))
        chart = figure.add_axes((0.01, 0.01, 0.93, 0.86))
        for n in reversed(range(len(items))):
            line: dict[str, Any] = {"color": SERIES[1], "lw": 2.0, "alpha": 0.9, "zorder": 3}
            if n in dashed:
                line |= {"lw": 1.4, "ls": (0, (4, 2)), "zorder": 2.5}
            elif n not in highlighted:
                line = {"color": SERIES[0], "lw": 1.0, "zorder": 2}
                line["alpha"] = faintest + (0.6 - faintest) * float(points[-1, n])
            row = rows[id(items[n])]
            chart.plot(np.arange(len(columns)), points[:, n], gid=gid(row), **line)
            name, numbers = texts[items[n].cell], _numbers(items[n])
            marks.append(Mark(row, name, np.arange(len(columns)), points[:, n], numbers))
        chart.set(xlim=(-0.25, len(columns) - 0.45), ylim=(-0.08, 1.08))
        chart.grid(visible=False)
        chart.spines[["left", "bottom"]].set_visible(False)
        chart.set_yticks([])
        chart.set_xticks([])
        for column, (name, labels) in enumerate(zip([*names, "accuracy (%)"], ticks, strict=True)):
            _draw_column(chart, column, name, labels)
    return figure, Marks(chart, NUMBERS, marks[::-1], lines=True, levels=levels_of)


# What a chart shows of a setting or row; see `_numbers`.
NUMBERS = ("rank", "accuracy (%)", "standard deviation (points)", "95% interval")


def _numbers(item: ComparedItem) -> list[str]:
    """The values of an item for the columns NUMBERS."""
    interval = item.interval
    return [
        "" if item.rank is None else str(item.rank),
        f"{item.accuracy:.2f}" if item.accuracy is not None else "",
        f"{item.sd:.2f}" if item.sd is not None else "",
        f"{interval.low:.2f} to {interval.high:.2f}" if interval else "",
    ]


def _accuracy_levels(
    compared: Sequence[ComparedItem],
    items: Sequence[ComparedItem],
    heights: Sequence[float],
    x: int,
) -> Levels:
    """The axis of the accuracies, at `x`. heights: of the items.

    Rows without a line are between those with one, and the worst of them are at the bottom.
    """
    pairs = [(i.accuracy, h) for i, h in zip(items, heights, strict=True) if i.accuracy is not None]
    accuracies, places = zip(*sorted(pairs), strict=True)
    known = sorted({item.accuracy for item in compared if item.accuracy is not None})
    place_of = {accuracy: place for place, accuracy in enumerate(known)}
    return Levels(
        name="accuracy (%)",
        x=x,
        y=[float(np.interp(accuracy, accuracies, places)) for accuracy in known],
        labels=[f"{accuracy:.2f}" for accuracy in known],
        rows=[None if i.accuracy is None else place_of[i.accuracy] for i in compared],
    )


def _draw_column(chart: Axes, column: int, name: str, ticks: Sequence[tuple[float, str]]) -> None:
    """Draw a vertical axis with its name and its ticks, of which many are reduced to two."""
    chart.axvline(column, color=QUIET, lw=1, zorder=4)
    heading: dict[str, Any] = {"weight": "bold", "ha": "center", "va": "bottom"}
    text = name.replace(".", ".\n") if len(name) > 14 else name
    chart.text(column, 1.12, text, clip_on=False, fontsize=9.5, color=INK, **heading)
    for height, label in ticks if len(ticks) <= 12 else (ticks[0], ticks[-1]):
        chart.text(
            column + 0.045, height, shorten(label, 19),
            fontsize=9, va="center", color=INK, zorder=6,
            bbox={"fc": PAPER, "lw": 0, "pad": 1.2, "alpha": 0.85},
        )  # fmt: skip


def _noun(compared: Sequence[ComparedItem]) -> str:
    return "setting" if any(len(item.rows) > 1 for item in compared) else "row"


def reproduced(reproduction: Reproduction, name: str) -> str | None:
    """Measured against reported accuracy of a study's rows; None if no row has both.

    name: prefix of the ids in the SVG. Error bars span the 95% prediction interval of one more
    training.
    """
    known = [v for v in reproduction.verdicts if v.difference is not None]
    if not known:
        return None
    reported = np.array([v.row.reported for v in known], float)
    measured = np.array([v.mean for v in known], float)
    margin = np.array([v.margin for v in known], float)
    styles = {REPRODUCED: ("o", SERIES[0]), NOT: ("X", SERIES[1]), OPEN: ("D", SERIES[2])}
    marks = [
        Mark(
            key=n,
            name=f"row {v.row.number}",
            x=[reported[n]],
            y=[measured[n]],
            values=[f"{reported[n]:.2f}", f"{measured[n]:.2f}", f"{v.difference:+.2f}", v.verdict],
        )
        for n, v in enumerate(known)
    ]
    with page_style():
        figure, chart = page_figure(6.4, 5.0)
        chart.plot([0, 100], [0, 100], color=QUIET, lw=1, ls=(0, (4, 3)), zorder=1)
        for verdict, (marker, color) in styles.items():
            chosen = np.array([v.verdict == verdict for v in known])
            if not chosen.any():
                continue
            x, y = reported[chosen], measured[chosen]
            bars = [np.minimum(margin[chosen], y), np.minimum(margin[chosen], 100 - y)]
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
    title = f"Measured versus reported accuracy of {rows}. {reproduction.headline}"
    columns = ("reported (%)", "measured (%)", "difference (points)", "reproduced")
    return to_svg(figure, name, title, Marks(chart, columns, marks))


def recipes(groups: Sequence[tuple[str, Sequence[ComparedItem]]]) -> str | None:
    """The accuracies of the settings or rows of each recipe; None for a single recipe."""
    known = [(name, [i for i in items if i.accuracy is not None]) for name, items in groups]
    known = [(name, items) for name, items in known if items]
    if len(known) < 2:
        return None
    accuracies = np.array([i.accuracy for _, items in known for i in items], float)
    random = np.random.default_rng(0)
    by_seed = any(i.sd is not None for _, items in known for i in items)
    texts = short_names([item.cell for _, items in known for item in items])
    marks: list[Mark] = []
    with page_style():
        figure, chart = page_figure(7.2, 0.95 + 0.5 * len(known), left=0.3)
        for n, (_, items) in enumerate(known):
            x = np.array([i.accuracy for i in items], float)
            y = n + random.uniform(-0.2, 0.2, len(items))
            color, marker = SERIES[n % 7], MARKERS[n % 7]
            if by_seed:
                sd = np.array([i.sd or 0.0 for i in items])
                bars = [np.minimum(sd, x), np.minimum(sd, 100 - x)]
                chart.errorbar(x, y, xerr=bars, fmt="none", ecolor=color, elinewidth=1.3, alpha=0.6)
            chart.plot(x, y, marker, color=color, ms=6, alpha=0.75, mew=0.6, mec=PAPER)
            marks += [
                Mark(len(marks) + at, texts[item.cell], [x[at]], [y[at]], _numbers(item))
                for at, item in enumerate(items)
            ]
            chart.plot([np.median(x)] * 2, [n - 0.33, n + 0.33], color=INK, lw=2)
        names = [textwrap.fill(name, 30, break_on_hyphens=False) for name, _ in known]
        chart.set_yticks(range(len(known)), names)
        chart.set_ylim(len(known) - 0.45, -0.55)
        chart.grid(visible=False, axis="y")
        chart.set_xlabel(ACCURACY_LABEL)
        accuracy_axis(chart, accuracies, "x")
    noun = "settings (means over seeds)" if by_seed else "rows"
    title = f"Accuracies of the {noun} of each recipe, with the median as a vertical line"
    return to_svg(figure, "recipes", title, Marks(chart, NUMBERS, marks))


def front(compared: Sequence[ComparedItem]) -> Front | None:
    """Training time against accuracy; None if fewer than two settings or rows have learned."""
    all_timed = [item for item in compared if item.measured and item.mean("seconds") > 0]
    timed = [item for item in all_timed if item.cell.uses_test_set_of(all_timed[0].cell)]
    points = [
        FrontPoint(item, item.mean("seconds"), item.accuracy or 0.0)
        for item in timed
        if item.has_learned
    ]
    if len(points) < 2:
        return None
    texts = short_names([point.item.cell for point in points])
    best: list[FrontPoint] = []
    for point in sorted(points, key=lambda p: (p.seconds, -p.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    x = np.array([point.seconds for point in points])
    y = np.array([point.accuracy for point in points])
    with page_style():
        figure, chart = page_figure(5.0, 3.2)
        chart.plot(x, y, "o", color=SERIES[0], alpha=0.55, ms=5.5, mew=0.6, mec=PAPER)
        front_x = [point.seconds for point in best]
        front_y = [point.accuracy for point in best]
        chart.step(front_x, front_y, where="post", color=SERIES[1], lw=1.6, zorder=3)
        chart.plot(front_x, front_y, "s", color=SERIES[1], ms=6, mew=0.6, mec=PAPER, zorder=4)
        chart.set(xscale="log", xlabel="Seconds for training and testing (log scale)")
        chart.set_ylabel(ACCURACY_LABEL)
        accuracy_axis(chart, y)
        low, high = x.min() / 1.25, x.max() * 1.25
        chart.set_xlim(low, high)
        log_axis(chart.xaxis, low, high)
    marks = [
        Mark(
            key=n,
            name=texts[point.item.cell],
            x=[point.seconds],
            y=[point.accuracy],
            values=[*_numbers(point.item), f"{point.seconds:.3g}", "yes" if point in best else ""],
        )
        for n, point in enumerate(points)
    ]
    columns = (*NUMBERS, "seconds", "on the Pareto front")
    count = pluralize(len(points), _noun(compared))
    title = f"Accuracy versus training time of {count}; {len(best)} on the Pareto front"
    svg = to_svg(figure, "front", title, Marks(chart, columns, marks))
    return Front(svg, tuple(best), len(timed) - len(points), len(all_timed) - len(timed))


def missed(counts: NDArray[np.int64]) -> str:
    """Bars: how many test images exactly 1, 2, ..., all runs misclassify.

    counts: (runs + 1,), see `error_atlas.Atlas`.
    """
    runs = len(counts) - 1
    with page_style():
        figure, chart = page_figure(7.2, 2.6)
        x, y = np.arange(1, runs + 1), counts[1:]
        colors = [SERIES[0]] * (runs - 1) + [SERIES[1]]
        width = 0.85 if runs <= 60 else 1.0
        chart.bar(x, y, width=width, color=colors, lw=0)
        chart.grid(visible=False, axis="x")
        chart.set(xlabel="Runs that misclassify the image", ylabel="Test images")
        chart.set(xlim=(0.3, runs + 0.7))
        chart.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
        chart.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if runs <= 16:
            for at, number in zip(x, y, strict=True):
                chart.text(
                    float(at), float(number), f"{number:,}", ha="center", va="bottom", fontsize=8.5
                )
    title = f"Number of test images by how many of the {runs} runs misclassify them"
    marks = [
        Mark(n, f"misclassified by {n} of {runs} runs", [n], [number], [f"{number:,}"])
        for n, number in enumerate(counts[1:], start=1)
    ]
    return to_svg(figure, "missed", title, Marks(chart, ("test images",), marks))
