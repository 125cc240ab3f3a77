"""Which rows of a printed table are marked: the best one, and those tied with it."""

from __future__ import annotations

from collections.abc import Sequence

from lenet_sweep.analysis.statistics import Result, compare
from lenet_sweep.results import Marks


def marks(results: Sequence[Result]) -> Marks:
    """The leading rows among these, which stand in the table's order, and why they are."""
    compared = compare(results)
    tested = [c for c in compared if c.tied is not None and c.test != "best"]
    if not tested:
        why = [c.reason for c in compared if c.difference is not None and c.test == "none"]
        return Marks(caption=f"Ties with the best cannot be told: {why[0]}." if why else "")
    tied = [c for c in tested if c.tied]
    by_seed = any(len(c.results) > 1 for c in compared)
    thing = "setting" if by_seed else "row"
    how = "t tests over seeds, Holm" if by_seed else "McNemar on the same images, Holm"
    several = sum(c.test == "best" for c in compared) > 1
    best = f"the best {thing} of all" + (" on its test images" if several else "")
    if not tied:
        return Marks(caption=f"No {thing} is tied with {best} ({how}).")
    leading = {r.cell.setting for c in compared if c.tied for r in c.results}
    rows = {id(r) for c in compared if c.tied for r in c.results}
    chosen = frozenset(
        i
        for i, r in enumerate(results)
        if (id(r) in rows if not by_seed else r.cell.setting in leading) and r.accuracy is not None
    )
    return Marks(chosen, f"= {best} and what is tied with it ({how}).")
