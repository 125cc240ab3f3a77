"""What printed tables add to results.csv: marks for comparisons, and one row per setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lenet_sweep.analysis.loading import choose_rows, load_results_of, sources
from lenet_sweep.analysis.significance import OUTCOMES, Comparison, Outcome, compare_table, counts
from lenet_sweep.analysis.statistics import Result, first_of_each_cell, group_by_setting
from lenet_sweep.core.cells import Cell
from lenet_sweep.results.columns import HOLDOUT
from lenet_sweep.results.ranking import MARKS, NO_COMPARISON, SettingRow, TieMarks
from lenet_sweep.results.sweep import Sweep

if TYPE_CHECKING:
    import pandas as pd


def compare_sweep(sweep: Sweep) -> TieMarks:
    """The comparison of each row of a sweep's table with the best, and its settings."""
    if len(sweep.finished_cells()) < 2:
        return NO_COMPARISON
    cells = sweep.cells_of(sweep.table)
    chosen = choose_rows(sweep.table, cells)
    rows = sweep.table.iloc[chosen]
    results = load_results_of(rows, sources(sweep, rows), sweep.test_images)
    marks = tie_marks(results, chosen, len(cells))
    return replace(marks, settings=rows_over_seeds(cells, sweep.table))


def tie_marks(results: Sequence[Result], places: Sequence[int], total: int) -> TieMarks:
    """The comparison of each result with the best.

    results: in the order of the table. places: the index of the row of each. total: the number of
    rows in the table.
    """
    compared = compare_table(results)
    distinct = list({id(c): c for c in compared}.values())
    if sum(c.difference is not None for c in distinct) < 2:
        return NO_COMPARISON  # fewer than two rows have an accuracy
    outcomes = {place: c.outcome for place, c in zip(places, compared, strict=True)}
    return TieMarks(outcomes, caption(distinct, are_all=len(places) == total))


def caption(compared: Sequence[Comparison], *, are_all: bool = True) -> str:
    """The number of rows or settings with each outcome, and the marks used in tables.

    are_all: False if a long table has others, which are not compared.
    """
    by_seed = any(len(c.results) > 1 for c in compared)
    thing = "settings" if by_seed else "rows"
    test = "t tests over seeds" if by_seed else "McNemar's test on the same images"
    tests = f" ({test}, Holm's correction)" if any(c.p is not None for c in compared) else ""
    several = sum(c.outcome == "best" for c in compared) > 1
    where = " on the same test images" if several else ""
    numbers = counts(compared)
    parts = []
    for outcome in OUTCOMES[1:]:
        if numbers[outcome] or outcome == "tied":
            notes = [MARKS[outcome]] if MARKS[outcome] not in ("", outcome) else []
            notes += [_EXPLANATIONS[outcome]] if outcome in _EXPLANATIONS else []
            parts.append(
                f"{numbers[outcome]} {outcome}" + (f" ({', '.join(notes)})" if notes else "")
            )
    total = f"{'all' if len(compared) > 2 else 'the'} {len(compared)} {thing}"
    if not are_all:
        total = f"the {len(compared):,} best {thing}"
    return f"Compared with the best of {total}{where}{tests}: {', '.join(parts)}."


_EXPLANATIONS: Mapping[Outcome, str] = {
    "tied": "no significant difference",
    "inconclusive": "not settled by the t test",
}


def rows_over_seeds(cells: Sequence[Cell], frame: pd.DataFrame) -> tuple[SettingRow, ...]:
    """The settings of a table, best mean first; empty if no setting has several seeds.

    cells: the cell of each row. If a cell has two rows, the first one counts.
    """
    places: dict[Cell, list[int]] = {}
    for place, cell in enumerate(cells):
        places.setdefault(cell.setting, []).append(place)
    if len(places) == len(cells):
        return ()
    held_out = frame[HOLDOUT] if HOLDOUT in frame else [None] * len(cells)
    results = [
        Result(cell, status, _number(accuracy), holdout_accuracy=_number(held))
        for cell, status, accuracy, held in zip(
            cells, frame["status"], frame["accuracy"], held_out, strict=True
        )
    ]
    settings = group_by_setting(results[i] for i in first_of_each_cell(cells))
    if not any(s.n > 1 for s in settings):
        return ()
    return tuple(
        SettingRow(
            places=tuple(places[s.cell.setting]),
            n=s.n,
            mean=s.mean,
            sd=s.sd,
            low=s.interval.low if s.interval else None,
            high=s.interval.high if s.interval else None,
        )
        for s in settings
    )


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
