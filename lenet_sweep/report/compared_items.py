"""What the page compares: settings over their seeds or, where none has several, single rows."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from lenet_sweep.analysis.effects import LEARNED
from lenet_sweep.analysis.statistics import Comparison, Interval
from lenet_sweep.core.cells import Cell
from lenet_sweep.report.collect import Report, Row


@dataclass(frozen=True, eq=False)
class ComparedItem:
    """A setting or a row. accuracy: percent, of a setting the mean; None where all seeds failed.

    cell: what identifies it, of a setting with seed 0. rows: those of a setting by seed, failed
    ones included. sd: points, None for fewer than two seeds; interval: of the mean, or Wilson's of
    the row.
    """

    cell: Cell
    rows: tuple[Row, ...]
    accuracy: float | None
    sd: float | None
    interval: Interval | None
    comparison: Comparison | None

    @property
    def outcome(self) -> str:
        """Of its comparison with the best; '' without statistics."""
        return self.comparison.outcome if self.comparison else ""

    @property
    def known(self) -> list[Row]:
        """Its rows with an accuracy."""
        return [row for row in self.rows if row.result.accuracy is not None]

    @property
    def has_learned(self) -> bool:
        """Whether it got at least LEARNED percent right, and not all of its seeds collapsed."""
        if self.accuracy is None or self.accuracy < LEARNED:
            return False
        return any(row.result.collapsed is None for row in self.known)

    def mean(self, name: str) -> float:
        """The mean of a column of the table over the rows with an accuracy."""
        return fmean(float(row.record[name]) for row in self.known)


def compared_items(report: Report) -> tuple[ComparedItem, ...]:
    """The settings of a report or, without several seeds, its rows; best first."""
    found = report.statistics
    if found is None or not found.by_seed:
        return tuple(
            ComparedItem(row.cell, (row,), row.result.accuracy, None, row.interval, row.comparison)
            for row in report.rows
        )
    rows: dict[Cell, list[Row]] = {}
    for row in report.rows:
        rows.setdefault(row.cell.setting, []).append(row)
    return tuple(
        ComparedItem(
            cell=s.cell.setting,
            rows=tuple(sorted(rows[s.cell.setting], key=lambda row: row.cell.seed)),
            accuracy=s.mean,
            sd=s.sd,
            interval=s.interval,
            comparison=rows[s.cell.setting][0].comparison,
        )
        for s in found.settings
    )
