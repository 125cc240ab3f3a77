"""What printed tables say beyond results.csv: settings over seeds, and how rows compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lenet_sweep.analysis.statistics import (
    OUTCOMES,
    Comparison,
    Result,
    compare_table,
    counts,
    group_by_setting,
)
from lenet_sweep.core.cells import Cell
from lenet_sweep.results.columns import HOLDOUT
from lenet_sweep.results.ranking import MARKS, NO_COMPARISON, SettingRow, TieMarks

if TYPE_CHECKING:
    import pandas as pd


def tie_marks(results: Sequence[Result]) -> TieMarks:
    """The outcome of each of these results, which stand in the table's order."""
    compared = compare_table(results)
    distinct = list({id(c): c for c in compared}.values())
    if sum(c.difference is not None for c in distinct) < 2:
        return NO_COMPARISON  # there is nothing to compare
    outcomes = {place: c.outcome for place, c in enumerate(compared)}
    return TieMarks(outcomes, caption(distinct))


def caption(compared: Sequence[Comparison]) -> str:
    """How many rows or settings have which outcome, with the marks: "1 tied (=), 2 worse."."""
    by_seed = any(len(c.results) > 1 for c in compared)
    thing = "settings" if by_seed else "rows"
    tests = "t tests over seeds" if by_seed else "McNemar on the same images"
    how = f" ({tests}, Holm)" if any(c.p is not None for c in compared) else ""
    several = sum(c.outcome == "best" for c in compared) > 1
    where = " on the same test images" if several else ""
    found = counts(compared)
    parts = []
    for outcome in OUTCOMES[1:]:
        if found[outcome] or outcome == "tied":
            notes = [MARKS[outcome]] if MARKS[outcome] not in ("", outcome) else []
            notes += ["too few seeds to decide"] if outcome == "inconclusive" else []
            parts.append(
                f"{found[outcome]} {outcome}" + (f" ({', '.join(notes)})" if notes else "")
            )
    return f"Compared with the best of {len(compared)} {thing}{where}{how}: {', '.join(parts)}."


def rows_over_seeds(cells: Sequence[Cell], frame: pd.DataFrame) -> tuple[SettingRow, ...]:
    """The settings of a table, best mean first; none where no setting has several seeds.

    cells: of the table's rows. A cell that has two rows counts with the first.
    """
    places: dict[Cell, list[int]] = {}
    for place, cell in enumerate(cells):
        places.setdefault(cell.setting, []).append(place)
    if len(places) == len(cells):
        return ()
    held_out = frame[HOLDOUT] if HOLDOUT in frame else [None] * len(cells)
    first: dict[Cell, Result] = {}
    for cell, *numbers in zip(cells, frame["status"], frame["accuracy"], held_out, strict=True):
        status, accuracy, held = numbers
        first.setdefault(
            cell, Result(cell, status, _known(accuracy), holdout_accuracy=_known(held))
        )
    found = group_by_setting(first.values())
    if not any(s.n > 1 for s in found):
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
        for s in found
    )


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
