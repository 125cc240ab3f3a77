"""The chart of a search, for the figure and for the page, which differ only in their colors."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from lenet_sweep.core.text import pluralize
from lenet_sweep.report import style, svg
from lenet_sweep.report.chart_axes import accuracy_axis
from lenet_sweep.report.curve_charts import Legend
from lenet_sweep.report.encodings import COLORS, MARKERS, PERFECT, curve_style
from lenet_sweep.report.marks import Mark, Marks, gid
from lenet_sweep.report.search_history import SearchedSetting, SearchHistory
from lenet_sweep.report.style import SCREEN, Layout

WIDTH: Final = 6.0  # inches on the page, so that texts stay readable on a phone
MAX_RACED = 40  # settings of a race that are drawn, best first
ROW: Final = 0.24  # inches per setting of a race
NAME: Final = 34  # characters of the name of a setting in a race
RUNG_TEXT: Final = 6.0  # width of the text above a rung in units of its font size
ZOOM: Final = 1.6  # errors up to this multiple of that of the last setting to continue are visible


@dataclass(frozen=True)
class ChartStyle:
    """The colors and sizes of a chart.

    finished: the colors of the settings that are trained to the end, best first. font: the size of
    labels in points. scale: of lines and markers.
    """

    ink: str
    quiet: str
    faint: str
    paper: str
    finished: Sequence[str]
    font: float = 9.5
    scale: float = 1


PAGE: Final = ChartStyle(svg.INK, svg.QUIET, svg.FAINT, svg.PAPER, svg.SERIES)
FIGURE: Final = ChartStyle("#000000", style.QUIET, style.FAINT, "#FFFFFF", COLORS)


@dataclass(frozen=True)
class SearchChart:
    """The chart of the page. legend: its colors. caption: how to read it."""

    svg: str
    legend: tuple[Legend, ...]
    caption: str
    sentences: tuple[str, ...]


def search_chart(history: SearchHistory | None) -> SearchChart | None:
    """The chart of a search on the page; None without a search."""
    if history is None:
        return None
    with svg.page_style():
        if history.rungs:
            figure, axes = svg.page_figure(WIDTH, 4.0)
            axes.set_position(_below_the_rungs(figure, axes))
            hidden = draw_rungs(axes, history, PAGE)
            marks = _rung_marks(axes, history)
        else:
            names = _names(_raced(history), WIDTH, PAGE.font)
            left = _names_width(names, 11)
            figure, axes = svg.page_figure(WIDTH, _race_height(names) + 0.9, left)
            hidden = draw_race(axes, history, PAGE)
            marks = _race_marks(axes, history)
    legend = tuple(
        Legend(color, MARKERS[color] if color >= 0 else "", text)
        for color, text in _legend(history)
    )
    return SearchChart(
        svg=svg.to_svg(figure, "search-chart", _title(history), marks),
        legend=legend if history.rungs else (),
        caption=_caption(history, hidden),
        sentences=history.sentences,
    )


def search_figure(history: SearchHistory, layout: Layout = SCREEN) -> Figure:
    """The figure of a search."""
    width, unit = layout.width or 9.6, layout.font / 9.5
    sentences = (style.wrap_text(text, width - 0.3, size=9.5) for text in history.sentences)
    chart = replace(FIGURE, font=layout.font, scale=layout.scale)
    colors = [color for color, _ in _legend(history)]
    with style.styled(layout.style):
        entries, columns, below = style.wrap_legend([t for _, t in _legend(history)], layout, width)
        if history.rungs:  # inches, like all lengths here
            axes_height = 3.4 if layout.titled else 2.1
            left, right, above = 0.75 * unit, 0.2 * unit, 0.45 * unit
        else:
            names = _names(_raced(history), width, chart.font)
            axes_height = unit * _race_height(names)
            left, right, above = _names_width(names, chart.font), 0.75 * unit, 0.25 * unit
            below = 0.0
        below += 0.6 * unit
        height = below + axes_height + above
        figure, top = style.titled_figure(
            width, height, _title(history), "\n".join(sentences), layout
        )
        total = height / top
        axes = figure.add_axes(
            (left / width, below / total, 1 - (left + right) / width, axes_height / total)
        )
        (draw_rungs if history.rungs else draw_race)(axes, history, chart)
        if history.rungs:
            handles = [
                Line2D(
                    [], [], color=chart.finished[c] if c >= 0 else chart.faint,
                    marker=MARKERS[c] if c >= 0 else "", ms=5 * layout.scale,
                )
                for c in colors
            ]  # fmt: skip
            figure.legend(handles, entries, loc="lower left", ncols=columns)
    return figure


# ---------------------------------------------------------------- halving


def draw_rungs(axes: Axes, history: SearchHistory, chart: ChartStyle) -> int:
    """Draw the curve of each setting up to the epoch where it stopped, and the rungs.

    Returns how many settings are below the axis.
    """
    low, high = _visible(history)
    accuracy_axis(axes, np.array([low, high]))
    floor = axes.get_ylim()[0]
    visible = [setting.curve > floor for setting in history.settings]
    left = 1 + min(int(np.argmax(curve)) for curve in visible if curve.any())  # first visible epoch
    axes.set(xscale="log", xlim=(left * 0.96, history.epochs * 1.05), xlabel="Epoch (log scale)")
    images = "Held-out" if history.held_out else "Test"
    axes.set_ylabel(f"{images} accuracy (%), log error scale")
    width = _inches(axes) / chart.font * 72  # in units of the font's size
    distance = max(0.35, 2.6 / width * math.log(history.epochs / left))
    ticks = _epoch_ticks([*(rung.epoch for rung in history.rungs), history.epochs], distance)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)
    rungs = history.rungs if history.one_competition else ()
    lines = [
        *((rung.epoch, f"{rung.continuing} of {rung.total}", "continue") for rung in rungs),
        (history.epochs, f"{history.finished} of {len(history.settings)}", "finish"),
    ]
    gaps = np.diff(np.log([epoch for epoch, _, _ in lines])) / math.log(history.epochs / left)
    if gaps.min(initial=1) * width < RUNG_TEXT:
        lines = [(epoch, number.replace(" of ", "/"), "") for epoch, number, _ in lines]
    for epoch, number, what in lines:
        axes.axvline(epoch, color=chart.quiet, lw=chart.scale, ls=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"{number}\n{what}".strip(), (epoch, 1), (0, 4), axes.get_xaxis_transform(),
            "offset points", ha="right" if epoch == history.epochs else "center", va="bottom",
            color=chart.ink, fontsize=chart.font, linespacing=1.25, annotation_clip=False,
        )  # fmt: skip
    for place, setting in reversed(list(enumerate(history.settings))):
        _draw_curve(axes, place, setting, chart)
    return sum(setting.curve.max(initial=-1.0) < floor for setting in history.settings)


def _draw_curve(axes: Axes, place: int, setting: SearchedSetting, chart: ChartStyle) -> None:
    """Draw the curve of a setting. place: its position in the search, from 0."""
    scale, epochs = chart.scale, np.arange(1, len(setting.curve) + 1)
    line: dict[str, Any] = {"color": chart.faint, "lw": 0.9 * scale, "zorder": 1.5}
    if setting.finished:
        line = {"color": chart.quiet, "lw": 1.3 * scale, "zorder": 2}
        if place < len(chart.finished):
            line = curve_style(place, len(epochs), chart.finished[place])
            line |= {"ms": 5 * scale, "mec": chart.paper, "mew": 0.6, "lw": 2 * scale}
            line["markevery"] = _log_spaced(len(epochs), place)
    axes.plot(epochs, setting.curve, gid=gid(place), **line)
    if not setting.finished and len(epochs):  # where it stopped
        end = epochs[-1:], setting.curve[-1:]
        axes.plot(*end, "o", color=chart.faint, ms=3.5 * scale, zorder=2)


def _rung_marks(axes: Axes, history: SearchHistory) -> Marks:
    marks = []
    for place, setting in enumerate(history.settings):
        epochs = np.arange(1, len(setting.curve) + 1)
        accuracies = [f"{accuracy:.2f}" for accuracy in setting.curve]
        end = ""
        if not setting.finished:
            end = f"by the search after epoch {len(epochs)}" if setting.stopped else "early"
        values = [[str(epoch) for epoch in epochs], accuracies, end]
        marks.append(Mark(place, setting.name, epochs, setting.curve, values))
    return Marks(axes, ("epoch", _accuracy_column(history), "stopped"), marks, lines=True)


def _accuracy_column(history: SearchHistory) -> str:
    return f"{'held-out' if history.held_out else 'test'} accuracy (%)"


def _visible(history: SearchHistory) -> tuple[float, float]:
    """The lowest and the highest accuracy that the axis must show."""
    first = history.rungs[0].epoch
    curves = [setting.curve[setting.curve.size and first - 1 :] for setting in history.settings]
    highest = max(float(curve.max()) for curve in curves if curve.size)
    continuing = [s.at(first) for s in history.settings if len(s.curve) > first or s.finished]
    known = [accuracy for accuracy in continuing if accuracy is not None]
    limit = PERFECT - ZOOM * (PERFECT - min(known, default=highest))
    shown = (float(a) for s in history.settings for a in s.curve if a >= limit)
    return min(shown, default=highest), highest


def _inches(axes: Axes) -> float:
    """The width of the axes."""
    return float(axes.get_position().width) * _figure_width(axes)


def _figure_width(axes: Axes) -> float:
    return float(axes.figure.bbox.width / axes.figure.dpi)


def _epoch_ticks(fixed: Sequence[int], distance: float) -> list[int]:
    """The epochs `fixed`, and round numbers between them.

    distance: the smallest difference of the logarithms that leaves space for the labels.
    """
    ticks = sorted(set(fixed))
    for power in range(6):
        for number in (1, 2, 5):
            tick = number * 10**power
            if tick < ticks[-1] and all(abs(math.log(tick / t)) > distance for t in ticks):
                ticks = sorted([*ticks, tick])
    return ticks


def _log_spaced(epochs: int, place: int) -> list[int]:
    """Indices of the epochs with a marker; those of neighboring curves do not overlap."""
    positions = np.geomspace(1, epochs, 13)[place % 3 :: 2]
    return sorted({round(p) - 1 for p in positions})


def _below_the_rungs(figure: Figure, axes: Axes) -> tuple[float, float, float, float]:
    """The position of the axes with space for two lines of text above them."""
    left, bottom, width, height = axes.get_position().bounds
    return left, bottom, width, height - 0.36 / figure.get_figheight()


# ---------------------------------------------------------------- racing


def draw_race(axes: Axes, history: SearchHistory, chart: ChartStyle) -> int:
    """Draw the seeds of each setting, their mean and its interval, best setting first.

    Returns how many settings are left of the axis.
    """
    settings = _raced(history)
    kept = [s for s in settings if s.stopped is None and s.finals] or settings[:1]
    high = max(max(setting.finals) for setting in settings)
    error = PERFECT - min(min(setting.finals) for setting in kept)
    near = [setting for setting in settings if setting.mean >= PERFECT - ZOOM * error]
    accuracy_axis(axes, np.array([min(min(setting.finals) for setting in near), high]), "x")
    _thin_ticks(axes, chart.font)
    left = axes.get_xlim()[0]
    for place, setting in enumerate(settings):
        _draw_row(axes, place, setting, chart)
    axes.annotate(
        "seeds", (1, -0.9), (4, 0), axes.get_yaxis_transform(), "offset points", va="center",
        color=chart.quiet, fontsize=chart.font, annotation_clip=False,
    )  # fmt: skip
    axes.set_yticks(
        range(len(settings)),
        _names(settings, _figure_width(axes), chart.font),
    )
    axes.set_ylim(len(settings) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    images = "Held-out" if history.held_out else "Test"
    axes.set_xlabel(f"{images} accuracy (%), log error scale")
    return sum(setting.mean < left for setting in settings)


def _draw_row(axes: Axes, place: int, setting: SearchedSetting, chart: ChartStyle) -> None:
    """Draw the seeds of a setting, or an arrow if their mean is left of the axis. place: from 0."""
    scale, left = chart.scale, axes.get_xlim()[0]
    dropped = setting.stopped is not None
    color = chart.faint if dropped else chart.finished[0 if place else 1]
    if setting.mean < left:
        axes.plot([left], [place], "<", color=chart.quiet, ms=6 * scale, clip_on=False)
    else:
        seeds = setting.finals, [place] * len(setting.finals)
        axes.plot(*seeds, "|", color=color, ms=8 * scale, mew=1.2 * scale, alpha=0.8)
        if interval := setting.interval:
            ends = [interval.low, interval.high]
            axes.plot(ends, [place] * 2, color=color, lw=3 * scale, alpha=0.45)
        mark: dict[str, Any] = {"ms": 6 * scale, "mec": chart.paper, "mew": 0.6, "zorder": 3}
        axes.plot([setting.mean], [place], "o", color=color, **mark)
    text = f"{len(setting.finals)} of {setting.seeds}"
    axes.annotate(
        text, (1, place), (4, 0), axes.get_yaxis_transform(), "offset points", va="center",
        color=chart.quiet if dropped else chart.ink, fontsize=chart.font, annotation_clip=False,
    )  # fmt: skip


def _race_marks(axes: Axes, history: SearchHistory) -> Marks:
    left = axes.get_xlim()[0]
    marks = []
    for place, setting in enumerate(_raced(history)):
        seeds = f"{len(setting.finals)} of {setting.seeds}"
        interval = setting.interval
        span = f"{interval.low:.2f} to {interval.high:.2f}" if interval else ""
        x, accuracies = [max(setting.mean, left)], [f"{setting.mean:.2f}"]
        which, spans = ["all (mean)"], [span]
        if setting.mean >= left:
            x += setting.finals
            accuracies += [f"{accuracy:.2f}" for accuracy in setting.finals]
            which += [str(seed) for seed in setting.final_seeds]
            spans += [""] * len(setting.finals)
        values = [which, accuracies, spans, seeds]
        marks.append(Mark(place, setting.name, x, [place] * len(x), values))
    columns = ("seed", _accuracy_column(history), "95% interval", "seeds trained")
    return Marks(axes, columns, marks)


def _raced(history: SearchHistory) -> list[SearchedSetting]:
    with_results = [s for s in history.settings if s.finals]
    return sorted(with_results, key=lambda s: -s.mean)[:MAX_RACED]


def _race_height(names: Sequence[str]) -> float:
    """The height of the axes in inches, for labels of 9.5 points."""
    return (ROW if all("\n" not in name for name in names) else 1.5 * ROW) * (len(names) + 0.2)


def _names(settings: Sequence[SearchedSetting], width: float, font: float) -> list[str]:
    """The names in a figure of `width` inches, in up to two lines; long ones without a middle."""
    line = min(NAME, int(0.42 * width / (0.56 * font / 72)))
    return [textwrap.fill(_without_middle(s.name, 2 * line - 6), line) for s in settings]


def _without_middle(name: str, limit: int) -> str:
    """At most `limit` characters: the first and last words of a name."""
    if len(name) <= limit:
        return name
    head = textwrap.shorten(name, limit // 3, placeholder="") or name[: limit // 3]
    rest = limit - len(head) - 5
    tail = textwrap.shorten(name[::-1], rest, placeholder="")[::-1] or name[-rest:]
    return f"{head} ... {tail}"


def _names_width(names: Sequence[str], font: float) -> float:
    lines = (line for name in names for line in name.split("\n"))
    return 0.25 * font / 9.5 + max(style.text_width(line, size=font) for line in lines)


def _thin_ticks(axes: Axes, font: float) -> None:
    """Remove the ticks of the x axis whose labels would touch others."""
    ticks: list[float] = []
    distance = 3.2 * font * axes.figure.dpi / 72
    for tick in reversed(axes.get_xticks()):
        places = axes.transData.transform([(t, 0) for t in (*ticks, tick)])[:, 0]
        if all(abs(place - places[-1]) >= distance for place in places[:-1]):
            ticks.append(tick)
    axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))


# ---------------------------------------------------------------- texts


def _title(history: SearchHistory) -> str:
    settings = pluralize(len(history.settings), "setting")
    trained = f"{history.finished} {'was' if history.finished == 1 else 'were'} trained"
    if history.rungs:
        return f"Search over {settings}: {trained} to epoch {history.epochs}"
    return f"Race of {settings}: {trained} with all seeds"


def _legend(history: SearchHistory) -> list[tuple[int, str]]:
    """Index of a color, -1 for gray, and a text, for the finished settings and for the others."""
    finished = [setting for setting in history.settings if setting.finished]
    entries = [
        (place, f"{float(setting.curve[-1]):.2f}% \N{MIDDLE DOT} {setting.name}")
        for place, setting in enumerate(finished[: len(COLORS)])
    ]
    if stopped := len(history.settings) - len(finished):
        entries.append((-1, f"{pluralize(stopped, 'stopped setting')}"))
    return entries


def _caption(history: SearchHistory, hidden: int) -> str:
    images = "held-out" if history.held_out else "test"
    if history.rungs:
        seeds = "mean over the seeds, " if history.settings[0].seeds > 1 else ""
        text = (
            f"Each line is a setting: its {images} accuracy after each epoch ({seeds}log error "
            "scale). "
        )
        if history.one_competition:
            text += "Dashed lines: rungs, where the settings were compared. "
        text += "Gray lines end where the search stopped the setting."
        if history.finished > len(COLORS):
            text += f" Color: the best {len(COLORS)} of {history.finished} finished settings."
        below = "is below the axis" if hidden == 1 else "are below the axis"
    else:
        text = (
            f"Each row is a setting: the {images} accuracy of each seed (ticks), their mean (dot) "
            "and its 95% confidence interval (bar). Orange: the best. Gray: dropped by the race."
        )
        drawn, total = len(_raced(history)), len(history.settings)
        text += f" The best {drawn} of {total} settings are shown." if drawn < total else ""
        below = f"{'is' if hidden == 1 else 'are'} to the left of the axis (<)"
    text += f" {pluralize(hidden, 'setting')} {below}." if hidden else ""
    if history.others:
        text += (
            f" {pluralize(history.others, 'setting')} with other numbers of epochs or other "
            f"datasets did not compete with these and {'is' if history.others == 1 else 'are'} "
            "not shown."
        )
    return text
