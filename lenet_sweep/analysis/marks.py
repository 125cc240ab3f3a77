"""How each row of a printed table compares with the best one, and a caption that says it."""

from __future__ import annotations

from collections.abc import Sequence

from lenet_sweep.analysis.statistics import (
    OUTCOMES,
    Comparison,
    Result,
    compare_table,
    counts,
)
from lenet_sweep.results import MARKS, UNMARKED, Marks


def marks(results: Sequence[Result]) -> Marks:
    """The outcome of each of these results, which stand in the table's order."""
    compared = compare_table(results)
    distinct = list({id(c): c for c in compared}.values())
    if sum(c.difference is not None for c in distinct) < 2:
        return UNMARKED  # there is nothing to compare
    outcomes = {place: c.outcome for place, c in enumerate(compared)}
    return Marks(outcomes, caption(distinct))


def caption(compared: Sequence[Comparison]) -> str:
    """How many rows or settings have which outcome, with the marks: "1 tied (=), 2 worse."."""
    by_seed = any(len(c.results) > 1 for c in compared)
    thing = "settings" if by_seed else "rows"
    tests = "t tests over seeds" if by_seed else "McNemar on the same images"
    how = f" ({tests}, Holm)" if any(c.p is not None for c in compared) else ""
    several = sum(c.outcome == "best" for c in compared) > 1
    where = " on its test images" if several else ""
    found = counts(compared)
    parts = []
    for outcome in OUTCOMES[1:]:
        if found[outcome] or outcome == "tied":
            sign = MARKS[outcome]
            sign = f" ({sign})" if sign and sign != outcome else ""
            parts.append(f"{found[outcome]} {outcome}{sign}")
    few = " Inconclusive: too few seeds to decide." if found["inconclusive"] else ""
    return (
        f"Each of {len(compared)} {thing} compared with the best{where}{how}: {', '.join(parts)}."
        f"{few}"
    )
