"""What was aimed at, and whether it was reached: computed from the records, never typed."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np

from benchmarks import records
from benchmarks.contenders import CONTENDERS
from benchmarks.records import Record, Spread

MOST = "card-10"
FIGURES = 100  # cells up to which each one's costs are drawn
STRAIGHT = 0.99  # R2 of a line through the cost of 100 to 1,000 cells


@dataclass(frozen=True)
class Verdict:
    """One target."""

    target: str
    measured: str
    reached: bool | None  # None: not measured
    sure: bool = True  # whether the least and the most that were measured say the same

    @property
    def word(self) -> str:
        said = {True: "yes", False: "no", None: "not measured"}[self.reached]
        return said if self.sure else f"{said}, within the spread"


@dataclass(frozen=True)
class Line:
    """A straight line through the costs of so many cells."""

    ms_per_cell: float
    seconds_at_none: float
    r2: float


PEERS = tuple(c.name for c in CONTENDERS if c.module)


def fastest_peer(found: list[Record], job: str) -> tuple[str, float] | None:
    """The peer with the least median of a job, and that median."""
    taken = {name: records.seconds(found, job, name) for name in PEERS}
    medians = {name: spread.median for name, spread in taken.items() if spread}
    return min(medians.items(), key=lambda item: item[1]) if medians else None


def ratio(found: list[Record], job: str, slow: str, fast: str) -> Spread | None:
    """How many times as long one contender takes as another.

    Repeats of one turn are compared with each other, so that a machine that becomes faster does not
    count for anyone. Without such, the medians and their ends are.
    """
    turns = {r.repeat: r for r in records.warm(found, job, fast) if r.commit}
    pairs = [(r, turns[r.repeat]) for r in records.warm(found, job, slow) if r.repeat in turns]
    paired = records.spread(a.seconds / b.seconds for a, b in pairs if a.commit == b.commit)
    one, other = records.seconds(found, job, slow), records.seconds(found, job, fast)
    if paired or not one or not other:
        return paired
    return Spread(
        one.median / other.median, one.least / other.most, one.most / other.least,
        min(one.count, other.count),
    )  # fmt: skip


def cell_costs(found: list[Record]) -> dict[int, float]:
    """Median seconds by number of cells."""
    counts = sorted({int(r.job.removeprefix("cells-")) for r in found if r.job[:6] == "cells-"})
    taken = {count: records.seconds(found, f"cells-{count}", "ours") for count in counts}
    return {count: spread.median for count, spread in taken.items() if spread}


def ms_with_figure(found: list[Record]) -> float | None:
    """What a cell more costs up to FIGURES cells, where each has a figure; None: not measured."""
    costs = cell_costs(found)
    few = min(costs, default=FIGURES)
    if few >= FIGURES or FIGURES not in costs:
        return None
    return 1000 * (costs[FIGURES] - costs[few]) / (FIGURES - few)


def cell_line(found: list[Record]) -> Line | None:
    """Least squares over the medians of each number of cells from FIGURES on; None below three."""
    medians = {count: took for count, took in cell_costs(found).items() if count >= FIGURES}
    if len(medians) < 3:
        return None
    x, y = np.array(list(medians)), np.array(list(medians.values()))
    slope, start = np.polyfit(x, y, 1)
    left = ((y - slope * x - start) ** 2).sum()
    return Line(1000 * slope, start, float(1 - left / ((y - y.mean()) ** 2).sum()))


def _at_least(target: str, wanted: float, got: Spread | None, told: str = "") -> Verdict:
    if got is None:
        return Verdict(target, "", None)
    sure = (got.least >= wanted) == (got.most >= wanted)
    ends = f" ({got.least:.2f}-{got.most:.2f})" if got.least < got.most else ""
    reached = got.median >= wanted
    digits = 2 if (round(got.median, 2) >= wanted) == reached else 3  # 1.895 is not 1.90
    return Verdict(target, f"{got.median:.{digits}f} x{ends}{told}", reached, sure)


def _below(target: str, wanted: float, got: float | None, unit: str) -> Verdict:
    if got is None:
        return Verdict(target, "", None)
    return Verdict(target, f"{got:.2f} {unit}", got < wanted)


def verdicts(found: list[Record]) -> list[Verdict]:
    """Every target with what was measured."""
    peer = fastest_peer(found, MOST)
    against = ratio(found, MOST, peer[0], "ours") if peer else None
    start = records.cold(found, "startup", "ours")
    line = cell_line(found)
    return [
        _at_least(
            "15 x the report's loop on the card's command, 10 epochs", 15,
            ratio(found, MOST, "report_loop", "ours"),
        ),
        _at_least(
            "5 x the fastest peer there", 5, against, f", {peer[0]}" if peer else "",
        ),
        _below(
            "start-up until the first run trains, cold, under 4 s", 4,
            start.begins if start else None, "s",
        ),
        _below(
            "a whole sweep of 6 cells with next to nothing to train, cold, under 4 s", 4,
            start.seconds if start else None, "s",
        ),
        _below(
            f"a cell more costs under 30 ms, from {FIGURES} cells on", 30,
            line.ms_per_cell if line else None, "ms",
        ),
        Verdict(
            f"the cost over cells is straight (R2 at least {STRAIGHT})",
            f"R2 = {line.r2:.4f}" if line else "", line.r2 >= STRAIGHT if line else None,
        ),
        *(
            _at_least(
                f"two workers at least 1.9 x one, {epochs} epochs", 1.9,
                ratio(found, f"workers-{epochs}", "one_worker", "two_workers"),
            )
            for epochs in (10, 30)
        ),
    ]  # fmt: skip


def worst_spread(found: list[Record]) -> float:
    """The largest of the ranges over the repeats, as a share of their median."""
    pairs = {(r.job, r.contender) for r in found}
    shares = [0.0]
    for job, contender in pairs:
        taken = [r.seconds for r in records.warm(found, job, contender)]
        if len(taken) > 1:
            shares.append((max(taken) - min(taken)) / statistics.median(taken))
    return max(shares)
