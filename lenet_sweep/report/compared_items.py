"""What the page compares: settings if any setting has several seeds, else single rows."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from lenet_sweep.analysis.significance import Comparison
from lenet_sweep.analysis.statistics import Interval, epochs_text, min_learned
from lenet_sweep.core.cells import Cell
from lenet_sweep.report.collect import Report, Row


@dataclass(frozen=True, eq=False)
class ComparedItem:
    """A setting or a row.

    cell: its hyperparameters; of a setting, with seed 0. rows: all rows of a setting, sorted by
    seed, with failed ones. rank: None if all failed. accuracy: percent, of a setting the mean over
    its seeds; None if all failed. sd: points, None for fewer than two seeds. interval: Student's t
    interval of the mean, or Wilson's interval of a row.
    """

    cell: Cell
    rows: tuple[Row, ...]
    rank: int | None
    accuracy: float | None
    sd: float | None
    interval: Interval | None
    comparison: Comparison | None

    @property
    def outcome(self) -> str:
        """The outcome of its comparison with the best; '' without statistics."""
        return self.comparison.outcome if self.comparison else ""

    @property
    def measured(self) -> list[Row]:
        """Its rows with an accuracy; if several people trained a cell, the better one."""
        rows: dict[Cell, Row] = {}
        for row in self.rows:
            if row.result.accuracy is not None:
                rows.setdefault(row.cell, row)
        return [*rows.values()]

    @property
    def has_learned(self) -> bool:
        """Whether its accuracy is at least `min_learned` and not all of its seeds collapsed."""
        if self.accuracy is None or self.accuracy < min_learned(self.cell.dataset.classes):
            return False
        return any(row.result.collapsed is None for row in self.measured)

    @property
    def epochs(self) -> str:
        """The epochs of its cell, such as '100', or '40 of 100' if its run ended early."""
        return epochs_text([row.result for row in self.rows])

    def mean(self, name: str) -> float:
        """The mean of a column of the table over the rows with an accuracy."""
        return fmean(float(row.record[name]) for row in self.measured)


def compared_items(report: Report) -> tuple[ComparedItem, ...]:
    """The settings of a report, or its rows if no setting has several seeds; best first."""
    statistics = report.statistics
    if statistics is None or not statistics.by_seed:
        return tuple(
            ComparedItem(
                cell=row.cell,
                rows=(row,),
                rank=None if row.result.accuracy is None else int(row.record["rank"]),
                accuracy=row.result.accuracy,
                sd=None,
                interval=row.interval,
                comparison=row.comparison,
            )
            for row in report.rows
        )
    rows: dict[Cell, list[Row]] = {}
    for row in report.rows:
        rows.setdefault(row.cell.setting, []).append(row)
    return tuple(
        ComparedItem(
            cell=s.cell.setting,
            rows=tuple(sorted(rows[s.cell.setting], key=lambda row: row.cell.seed)),
            rank=None if s.mean is None else s.rank,
            accuracy=s.mean,
            sd=s.sd,
            interval=s.interval,
            comparison=rows[s.cell.setting][0].comparison,
        )
        for s in statistics.settings
    )
