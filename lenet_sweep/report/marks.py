"""The values at the points and lines of a chart, which the page shows on hover and keyboard focus.

A chart keeps them as JSON in the <metadata> of its SVG. The page's script reads them from there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike, NDArray

from lenet_sweep.core.text import one_line

MAX_POINTS: Final = 12_000  # of a chart; longer lines keep every k-th point and the last one
POINTS_PER_INCH: Final = 72  # the unit of the SVG
ID_PREFIX: Final = "mark-"


@dataclass(frozen=True, eq=False)
class Mark:
    """A line, or points that belong together.

    key: see `gid`. name: what it shows, such as a setting. x, y: (points,) data coordinates.
    values: one entry for each column of `Marks`, a text for all points or (points,) texts. Empty
    texts are not shown.
    """

    key: int
    name: str
    x: ArrayLike
    y: ArrayLike
    values: Sequence[str | Sequence[str]]


@dataclass(frozen=True, eq=False)
class Levels:
    """A vertical axis of parallel coordinates. y: (levels,) data coordinates, lowest first.

    rows: (rows of the ranked table,) the level of each row; None if it has no value.
    """

    name: str
    x: float
    y: ArrayLike
    labels: Sequence[str]
    rows: Sequence[int | None]


@dataclass(frozen=True, eq=False)
class Marks:
    """The marks of a chart.

    axes: where they are drawn. columns: names of the values. lines: whether the points of a mark
    are connected. levels: the axes that select rows of the table; the keys of the marks are then
    the rows of the table, from 0.
    """

    axes: Axes
    columns: Sequence[str]
    marks: Sequence[Mark]
    lines: bool = False
    levels: Sequence[Levels] = ()


def gid(key: int) -> str:
    """The Matplotlib gid of the artists that draw the mark with this key."""
    return f"{ID_PREFIX}{key}"


def to_json(marks: Marks, figure: Figure, box: Bbox) -> str:
    """The marks as JSON, with positions in the SVG. box: the saved part of the figure, in inches.

    Call it after the figure is drawn, which sets the limits of the axes. Points outside of the axes
    are left out.
    """

    def place(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        points = np.stack(np.broadcast_arrays(*(np.atleast_1d(v) for v in (x, y))), axis=1)
        inches = marks.axes.transData.transform(points.astype(float)) / figure.dpi
        placed: NDArray[np.float64] = POINTS_PER_INCH * (inches - [box.x0, box.y1]) * [1, -1]
        return placed

    places = [place(mark.x, mark.y) for mark in marks.marks]
    step = -(-sum(map(len, places)) // MAX_POINTS) or 1
    frame = marks.axes.get_window_extent().padded(3).get_points() / figure.dpi
    (left, bottom), (right, top) = POINTS_PER_INCH * (frame - [box.x0, box.y1]) * [1, -1]
    entries = []
    for mark, points in zip(marks.marks, places, strict=True):
        inside = (points >= [left, top]) & (points <= [right, bottom])
        chosen = np.flatnonzero(inside.all(axis=1))
        if len(chosen):
            chosen = np.unique(np.append(chosen[::step], chosen[-1]))
            entries.append(_entry(mark, points[chosen], [int(index) for index in chosen]))
    content: dict[str, Any] = {"columns": marks.columns, "lines": marks.lines, "marks": entries}
    if marks.levels:
        content["levels"] = [
            {
                "name": level.name,
                "x": _rounded(place(level.x, level.y)[:1, 0])[0],
                "y": _rounded(place(level.x, level.y)[:, 1]),
                "labels": [one_line(label) for label in level.labels],
                "rows": level.rows,
            }
            for level in marks.levels
        ]
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _entry(mark: Mark, points: NDArray[np.float64], chosen: Sequence[int]) -> dict[str, Any]:
    """A mark with the points at the indices `chosen`, which are at `points` (chosen, 2)."""
    return {
        "key": mark.key,
        "name": one_line(mark.name),
        "x": _rounded(points[:, 0]),
        "y": _rounded(points[:, 1]),
        "values": [
            one_line(column) if isinstance(column, str) else [one_line(column[n]) for n in chosen]
            for column in mark.values
        ],
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.round(values, 1)]
