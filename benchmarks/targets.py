"""The performance targets, and whether the recorded numbers reach them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks import records
from benchmarks.contenders import BY_NAME, CONTENDERS
from benchmarks.records import Record, Spread

GRID = "grid-10"
# The line is fitted from this number of cells on: up to it, earlier versions drew a figure for each
# cell.
LINE_FROM = 100
MIN_R2 = 0.99
PEERS = tuple(c.name for c in CONTENDERS if c.module)


@dataclass(frozen=True)
class Verdict:
    """One target and what was measured."""

    target: str
    measured: str
    reached: bool | None  # None: not measured
    certain: bool = True  # whether the slowest and the fastest repeat give the same answer

    @property
    def word(self) -> str:
        answer = {True: "yes", False: "no", None: "not measured"}[self.reached]
        return answer if self.certain else f"{answer}, but the target is within the range"


@dataclass(frozen=True)
class Line:
    """A straight line through the times of several numbers of cells."""

    ms_per_cell: float
    intercept: float  # seconds
    r2: float


def fastest_peer(found: list[Record], job: str) -> tuple[str, float] | None:
    """The peer with the smallest median time of a job, and that median.

    None if fewer than two peers were measured, because one alone may not be fast.
    """
    spreads = {name: records.seconds(found, job, name) for name in PEERS}
    medians = {name: spread.median for name, spread in spreads.items() if spread}
    return min(medians.items(), key=lambda item: item[1]) if len(medians) > 1 else None


def ratio(found: list[Record], job: str, slow: str, fast: str) -> Spread | None:
    """The time of `slow` divided by the time of `fast`.

    This is the median over the repeats that both have at the same commit, so that a change in the
    speed of the machine affects both. If there are no such repeats, it is the ratio of the
    medians.
    """
    pairs = _same_round(found, job, slow, fast)
    paired = records.spread(a.seconds / b.seconds for a, b in pairs)
    one, other = records.seconds(found, job, slow), records.seconds(found, job, fast)
    if paired or not one or not other:
        return paired
    return Spread(
        one.median / other.median, one.minimum / other.maximum, one.maximum / other.minimum,
        min(one.count, other.count),
    )  # fmt: skip


def training_ratio(found: list[Record], job: str) -> Spread | None:
    """The time that one worker trains, divided by that of two in the same round."""
    pairs = _same_round(found, job, "one_worker", "two_workers")
    return records.spread(
        one.training / two.training for one, two in pairs if one.training and two.training
    )


def _same_round(found: list[Record], job: str, slow: str, fast: str) -> list[tuple[Record, Record]]:
    """The records of two contenders from the same round and commit."""
    rounds = {(r.repeat, r.commit): r for r in records.warm(found, job, fast) if r.commit}
    return [
        (r, rounds[r.repeat, r.commit])
        for r in records.warm(found, job, slow)
        if (r.repeat, r.commit) in rounds
    ]


def cell_times(found: list[Record]) -> dict[int, float]:
    """Median seconds of a sweep for each number of cells."""
    counts = sorted({int(r.job.removeprefix("cells-")) for r in found if r.job[:6] == "cells-"})
    spreads = {count: records.seconds(found, f"cells-{count}", "ours") for count in counts}
    return {count: spread.median for count, spread in spreads.items() if spread}


def ms_per_cell_below_line(found: list[Record]) -> tuple[int, float] | None:
    """The smallest number of cells, and ms per additional cell up to LINE_FROM.

    None if no smaller number of cells than LINE_FROM was measured.
    """
    times = cell_times(found)
    fewest = min(times, default=LINE_FROM)
    if fewest >= LINE_FROM or LINE_FROM not in times:
        return None
    return fewest, 1000 * (times[LINE_FROM] - times[fewest]) / (LINE_FROM - fewest)


def fit_cell_times(found: list[Record]) -> Line | None:
    """Least squares over the medians from LINE_FROM cells on, or None with less than three."""
    medians = {count: time for count, time in cell_times(found).items() if count >= LINE_FROM}
    if len(medians) < 3:
        return None
    x, y = np.array(list(medians)), np.array(list(medians.values()))
    slope, intercept = np.polyfit(x, y, 1)
    residuals = ((y - slope * x - intercept) ** 2).sum()
    return Line(1000 * slope, intercept, float(1 - residuals / ((y - y.mean()) ** 2).sum()))


def _at_least(target: str, bound: float, measured: Spread | None, note: str = "") -> Verdict:
    if measured is None:
        return Verdict(target, "", None)
    certain = (measured.minimum >= bound) == (measured.maximum >= bound)
    reached = measured.median >= bound
    # Two digits, or three if rounding to two would change the answer: 1.897 is not 1.90.
    digits = 2 if (round(measured.median, 2) >= bound) == reached else 3
    range_ = ""
    if measured.minimum < measured.maximum:
        range_ = f" ({measured.minimum:.2f}-{measured.maximum:.2f})"
    return Verdict(target, f"{measured.median:.{digits}f} x{range_}{note}", reached, certain)


def _below(target: str, bound: float, measured: float | None, unit: str) -> Verdict:
    if measured is None:
        return Verdict(target, "", None)
    return Verdict(target, f"{measured:.2f} {unit}", measured < bound)


def verdicts(found: list[Record]) -> list[Verdict]:
    """Every target with what was measured."""
    peer = fastest_peer(found, GRID)
    peer_ratio = ratio(found, GRID, peer[0], "ours") if peer else None
    line = fit_cell_times(found)
    return [
        _at_least(
            "25 x as fast as the report loop, 6 cells, 10 epochs", 25,
            ratio(found, GRID, "report_loop", "ours"),
        ),
        _at_least(
            "18 x as fast as the report loop, one cell, 10 epochs", 18,
            ratio(found, "single-10", "report_loop", "ours"),
        ),
        _at_least(
            "5 x as fast as the fastest peer, 6 cells, 10 epochs", 5, peer_ratio,
            f" against {BY_NAME[peer[0]].label}" if peer else "",
        ),
        *(
            _below(
                f"start and end of {cells} cells take less than {seconds} s together", seconds,
                _overhead(found, job, contender), "s",
            )
            for job, contender, cells, seconds in (
                ("workers-10", "two_workers", 6, 1.5), ("grid-24", "ours", 24, 3)
            )
        ),
        _below("6 tiny cells in under 4 s, cold", 4, _cold_startup(found, "ours"), "s"),
        _below(
            "6 tiny cells in under 4 s, cold, with bytecode compiled by pip", 4,
            _cold_startup(found, "ours_compiled"), "s",
        ),
        _below(
            f"less than 30 ms per cell from {LINE_FROM} cells on", 30,
            line.ms_per_cell if line else None, "ms",
        ),
        Verdict(
            f"time grows linearly from {LINE_FROM} cells on (R2 at least {MIN_R2})",
            f"R2 = {line.r2:.4f}" if line else "", line.r2 >= MIN_R2 if line else None,
        ),
        _at_least(
            "6 cells, 10 epochs: training 1.93 x as fast with two workers as with one", 1.93,
            training_ratio(found, "workers-10"),
        ),
        _at_least(  # 2 / 1.08: with two workers, at most 1.08 x half of the time of one
            "3 runs of 10 epochs: training 1.85 x as fast with two workers as with one", 1.85,
            training_ratio(found, "workers-three"),
        ),
    ]  # fmt: skip


def _cold_startup(found: list[Record], contender: str) -> float | None:
    startup = records.cold(found, "startup", contender)
    return startup.seconds if startup else None


def _overhead(found: list[Record], job: str, contender: str) -> float | None:
    """Median seconds before the first run and after the last epoch."""
    measured = records.warm(found, job, contender)
    seconds = records.spread(r.overhead for r in measured if r.overhead)
    return seconds.median if seconds else None
