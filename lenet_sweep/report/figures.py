"""
Figures of training histories, drawn from plain arrays.

Every function returns a Figure for `style.save` to write.
"""

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
    titled,
    width_of,
    wrapped,
)

_TOO_LARGE: Final = 1e38  # a cost that float32 hardly holds; far beyond, matplotlib overflows


@dataclass(frozen=True)
class Curve:
    """
    The training history of a cell, or of a setting the mean over its seeds (`mean_curve`);
    `ValueError` if it has no epoch or its lengths differ.

    A cost that is no finite number (of float32) means a diverged run: it is drawn up to there.
    """

    label: str  # e.g. "lr 0.1, batch 64"; shown as typed
    epochs: Sequence[int]  # 1..E
    cost: Sequence[float] | Series  # mean of each epoch on the training set
    accuracy: Sequence[float] | Series  # on the test set after each epoch, percent
    # (position in epochs, loss of one batch): pairs, or an array (k, 2)
    trace: Sequence[tuple[float, float]] | NDArray[np.floating[Any]] = ()
    seeds: int = 1  # that this is the mean of
    cost_band: tuple[Series, Series] | None = None  # lowest and highest seed, by epoch
    accuracy_band: tuple[Series, Series] | None = None
    sd: float | None = None  # standard deviation of the last accuracy over the seeds, in points

    def __post_init__(self) -> None:
        lengths = [len(self.epochs), len(self.cost), len(self.accuracy)]
        if not lengths[0] or len(set(lengths)) > 1:
            raise ValueError(f"{self.label}: {lengths} epochs, costs, accuracies; want E, E, E > 0")

    @property
    def diverged_in(self) -> int | None:
        """The first epoch whose cost is no finite number, if there is one."""
        pairs = zip(self.epochs, self.cost, strict=True)
        return next((epoch for epoch, cost in pairs if not abs(cost) < _TOO_LARGE), None)


def mean_curve(label: str, seeds: Sequence[Curve]) -> Curve:
    """
    The mean over a setting's seeds, with bands from the lowest to the highest of them.

    Seeds that diverged are left out unless all did; then the first one stands for the setting.
    """
    sound = [curve for curve in seeds if curve.diverged_in is None] or [*seeds[:1]]
    if len(sound) == 1:
        return replace(sound[0], label=label, trace=())
    longest = max(sound, key=lambda curve: len(curve.epochs))
    costs, accuracies = stack_seeds([(curve.cost, curve.accuracy) for curve in sound])
    (cost, *cost_band), (accuracy, *accuracy_band) = map(mean_and_range, (costs, accuracies))
    last = accuracies[:, -1]
    last = last[np.isfinite(last)]
    if len(last):
        accuracy[-1] = fmean(last)  # as in the tables, to the last bit
    return Curve(
        label=label,
        epochs=longest.epochs,
        cost=cost,
        accuracy=accuracy,
        seeds=len(sound),
        cost_band=(cost_band[0], cost_band[1]),
        accuracy_band=(accuracy_band[0], accuracy_band[1]),
        sd=float(last.std(ddof=1)) if len(last) > 1 else None,
    )


def cost_figure(curve: Curve) -> Figure:
    """One cell: the mean cost of each epoch, and faint behind it the losses of single batches."""
    epochs, costs, _ = _drawn_part(curve)
    trace = _finite(np.asarray(curve.trace, float).reshape(-1, 2).T)
    few = len(epochs) <= 1  # then the batches are all there is to see of a trend
    outcome = f"Cost {curve.cost[-1]:.3g} and test accuracy"
    if curve.diverged_in is not None:
        outcome = f"Diverged in epoch {curve.diverged_in}; test accuracy"
    outcome += f" {_percent(curve.accuracy[-1])} after epoch {curve.epochs[-1]}"
    with styled():
        figure, (axes,) = _charts(7.2, 1, curve.label, outcome, legend_rows=1)
        _epoch_axis(axes, [curve])
        hidden, zero = _cost_axis(axes, costs, trace[1])
        costs = move_zeros(costs, zero)
        if trace.size:
            look: dict[str, Any] = {"alpha": 0.45, "lw": 0, "ms": 2.5}
            if few:
                look = {"alpha": 0.9, "lw": 1, "ms": 3.5}
            name = "loss of single batches" + f" ({hidden} below this axis)" * bool(hidden)
            axes.plot(*trace, "o-", color=COLORS[5], label=name, mew=0, zorder=1.5, **look)
        if len(epochs):
            size = 5 if len(epochs) <= 30 else 3
            axes.plot(epochs, costs, "o-", color=COLORS[0], label="mean of the epoch", ms=size)
        if curve.diverged_in is not None:
            points = np.array([epochs, costs]) if len(epochs) else trace
            _mark_diverged(axes, points, (curve.epochs[0], 1), COLORS[1], "diverged")
        if axes.get_legend_handles_labels()[0]:  # an empty legend is a warning
            figure.legend(loc="lower left", ncols=2)
    return figure


def overlay_figure(curves: Sequence[Curve], *, highlight: int = 5) -> Figure:
    """
    All settings: cost over epochs, beside it test accuracy over epochs, and a ranked legend below.
    Means over seeds have a band. Where every curve has a single epoch, its dots stand side by
    side in order of rank instead.

    Up to seven are all coloured; of more, the `highlight` (at most seven) most accurate
    after their last epoch are, and the rest is grey. `ValueError` without curves.
    """
    if not curves:
        raise ValueError("no curves to draw")
    ranked = sorted(curves, key=_rank)  # stable: equals stay in the order given
    parts = [_drawn_part(curve) for curve in ranked]
    coloured = len(curves) if len(curves) <= len(COLORS) else min(highlight, len(COLORS))
    single = max(len(curve.epochs) for curve in curves) == 1
    diverged = any(curve.diverged_in is not None for curve in curves)
    entries = [f"{_verdict(curve)} \N{MIDDLE DOT} {curve.label}" for curve in ranked[:coloured]]
    entries += [f"{len(ranked) - coloured} other settings"] * (coloured < len(ranked))
    entries += ["diverged here"] * diverged
    title = f"Cost and test accuracy {'after one epoch' if single else 'over epochs'}"
    title += f": {len(curves)} setting{'s' * (len(curves) > 1)}{_seeds(curves)}"
    note = "Cost: mean of each epoch. In the key: test accuracy after the last epoch, best first"
    if any(curve.seeds > 1 for curve in curves):
        note = (
            "Lines: means over the seeds; bands: from the lowest to the highest seed. In the key: "
            "test accuracy after the last epoch, mean \N{PLUS-MINUS SIGN} standard deviation"
        )
    with styled():
        wide, key = 11.5, 0.75  # inches: the figure; an entry's line and the space around it
        entries = [wrapped(entry, wide - 2 * key, size=9) for entry in entries]
        widest = max(width_of(line, size=9) for entry in entries for line in entry.split("\n"))
        columns = min(3, len(entries), int(wide / (widest + key)) or 1)
        rows = math.ceil(len(entries) / columns) * max(e.count("\n") + 1 for e in entries)
        figure, both = _charts(wide, 2, title, note, legend_rows=rows)
        costs = [costs for _, costs, _ in parts]
        accuracies = [accuracy for *_, accuracy in parts]
        for curve in ranked[:coloured]:
            costs += curve.cost_band or ()
            accuracies += curve.accuracy_band or ()
        _, zero = _cost_axis(both[0], np.concatenate(costs), np.empty(0))
        both[1].set_ylabel("Test accuracy (%), stretched towards 100")
        accuracy_axis(both[1], np.concatenate(accuracies))
        handles: list[Line2D] = []
        for place, (curve, (epochs, *values)) in enumerate(zip(ranked, parts, strict=True)):
            top = place < coloured
            look: dict[str, Any] = {"color": FAINT, "lw": 0.9, "marker": "." if single else None}
            if top:
                look = {"color": COLORS[place], "marker": MARKERS[place], "ms": 5}
                look |= {"markevery": marked_epochs(place, len(epochs), 12)}
                look |= {"zorder": 3 - place / 10}
            first = place + 1 if single else curve.epochs[0]
            values[0] = move_zeros(values[0], zero)
            bands = (curve.cost_band, curve.accuracy_band)
            for axes, band in zip(both, bands, strict=True) if top else ():
                if band:
                    low, high = (move_zeros(b, zero if axes is both[0] else 0.0) for b in band)
                    at = [first] if single else curve.epochs
                    _draw_band(axes, at, (low, high), COLORS[place])
            for axes, series, edge in zip(both, values, (1, 0), strict=True):
                points = _finite(
                    np.array([np.full_like(epochs, first) if single else epochs, series])
                )
                line = axes.plot(*points, **look)
                if curve.diverged_in is not None:
                    _mark_diverged(axes, points, (first, edge), COLORS[place] if top else QUIET)
            handles += line if place <= coloured else []  # the first grey one stands for all
        for axes in both:
            _epoch_axis(axes, curves)
            if single:
                axes.set(xlabel="Rank by test accuracy", xlim=(0.4, len(curves) + 0.6))
        handles += [Line2D([], [], color=QUIET, marker="x", lw=0, ms=8)] * diverged
        figure.legend(handles, entries, loc="lower left", ncols=columns)
    return figure


def _seeds(curves: Sequence[Curve]) -> str:
    """', 3 seeds each', ', 1 to 3 seeds each'; '' for single seeds."""
    low, high = min(curve.seeds for curve in curves), max(curve.seeds for curve in curves)
    if high == 1:
        return ""
    return f", {high} seeds each" if low == high else f", {low} to {high} seeds each"


def _draw_band(axes: Axes, at: Sequence[int], band: tuple[Series, Series], colour: str) -> None:
    if len(at) == 1:  # nothing to fill between
        axes.vlines(at, *band, color=colour, lw=2, alpha=0.45, zorder=2)
    else:
        axes.fill_between(at, *band, color=colour, alpha=0.18, lw=0, zorder=1.5)


def _finite(points: Series) -> Series:
    return points[:, (abs(points) < _TOO_LARGE).all(axis=0)]


def _drawn_part(curve: Curve) -> Series:
    table = np.array([curve.epochs, curve.cost, curve.accuracy], float)
    return table[:, np.logical_and.accumulate(abs(table[1]) < _TOO_LARGE)]


def _rank(curve: Curve) -> tuple[bool, float]:
    last = curve.accuracy[-1]
    return curve.diverged_in is not None, -last if math.isfinite(last) else math.inf


def _percent(accuracy: float) -> str:
    return f"{accuracy:.2f} %" if math.isfinite(accuracy) else "unknown"


def _verdict(curve: Curve) -> str:
    if curve.diverged_in is not None:
        return f"diverged in epoch {curve.diverged_in}"
    if curve.sd is not None:
        return f"{curve.accuracy[-1]:.2f} \N{PLUS-MINUS SIGN} {curve.sd:.2f} %"
    return _percent(curve.accuracy[-1])


def _charts(
    width: float, count: int, title: str, note: str, *, legend_rows: int
) -> tuple[Figure, list[Axes]]:
    """Axes of one size over a legend, placed by hand: matplotlib's layout engines take longer."""
    below = 0.7 + 0.205 * legend_rows  # inches, as all here
    height, left, gap, right = 3.4 + below, 0.85, 0.95, 0.2
    figure, top = titled(width, height, title, note)
    each = (width - left - right - gap * (count - 1)) / count
    corners = [(left + at * (each + gap)) / width for at in range(count)]
    bottom = top * below / height
    return figure, [figure.add_axes((x, bottom, each / width, top - bottom)) for x in corners]


def _epoch_axis(axes: Axes, curves: Sequence[Curve]) -> None:
    axes.set(xlabel="Epoch", xlim=(0, max(max(curve.epochs) for curve in curves) * 1.02 + 0.02))
    whole = MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    axes.xaxis.set_major_locator(whole)


def _cost_axis(axes: Axes, means: Series, single: Series) -> tuple[int, float]:
    """Scale and limits for the cost: how many single losses are below the axis, and where 0 is."""
    axes.set_ylabel("Cost on the training set")
    every = np.concatenate([means, single])
    positive = (
        means[means > SMALLEST_COST]
        if (means > SMALLEST_COST).any()
        else every[every > SMALLEST_COST]
    )
    top, low = every.max(initial=0), positive.min(initial=np.inf)
    zeros = bool((means <= SMALLEST_COST).any())
    if every.min(initial=0) < 0 or not len(positive) or top <= 10 * low:
        axes.set_ylim(min(0, every.min(initial=0) * 1.05), top * 1.08 or 1)
        axes.yaxis.set_major_formatter("{x:g}")
        return 0, 0.0
    # Single losses come close to 0; shown in full they would press the means into a corner.
    bottom, top = max(low / 5, every[every > SMALLEST_COST].min()) / 1.3, top * 1.3
    zero = zero_position(bottom, top) if zeros else 0.0
    limit = extend_below(zero, top, 0.03) if zeros else bottom
    axes.set(ylabel="Cost on the training set (log scale)", yscale="log", ylim=(limit, top))
    log_axis(axes.yaxis, bottom, top, zero if zeros else None)
    return int((single < limit).sum()), zero


def _mark_diverged(
    axes: Axes, points: Series, edge: tuple[float, float], colour: str, word: str = ""
) -> None:
    """A cross at the last of `points` (2, n); else at `edge`: an epoch, and a height 0..1."""
    where = axes.transData if points.size else axes.get_xaxis_transform()
    x, y = points[:, -1] if points.size else edge
    axes.plot([x], [y], "x", color=colour, mew=2.2, ms=9, zorder=4, clip_on=False, transform=where)
    if word:
        right = x > axes.get_xlim()[1] / 2  # then there is no room after the point
        look: dict[str, Any] = {"ha": "right" if right else "left", "va": "center"}
        look |= {"bbox": {"alpha": 0.8, "fc": "white", "lw": 0, "pad": 1}, "weight": "bold"}
        beside = (-9 if right else 9, 0)
        axes.annotate(word, (x, y), beside, where, "offset points", color=colour, **look)
