"""Doubts about the course of the training: a cost still falling, a peak long before the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lenet_sweep.analysis.axes import command, ordered
from lenet_sweep.analysis.statistics import Comparison, Result, leaders, wilson
from lenet_sweep.analysis.warning import ResultWarning, of, percent
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Epoch
from lenet_sweep.core.text import pluralize

STILL_FALLING = 0.01  # of its whole fall: what the cost fell by over the last tenth of the epochs
EARLY = 0.75  # of the epochs; a peak after it counts as the end
ENOUGH = 5  # epochs from which on an early peak is looked for


def falling(history: Sequence[Epoch]) -> tuple[float, float, float] | None:
    """The mean cost over the tenth of the epochs before the last tenth, over the last one, and
    that fall as a share of the whole fall since the first epoch. None for fewer than 2 epochs.
    """
    if len(history) < 2:
        return None
    costs = [epoch.cost for epoch in history]
    tenth = max(1, len(costs) // 10)
    before, last = float(np.mean(costs[-2 * tenth : -tenth])), float(np.mean(costs[-tenth:]))
    whole = costs[0] - last
    if not np.isfinite(whole) or whole <= 0:
        return before, last, 0.0
    return before, last, (before - last) / whole


def still_falling(
    results: Sequence[Result], compared: Sequence[Comparison], names: Mapping[Cell, str]
) -> Iterable[ResultWarning]:
    known = [r for r in results if r.accuracy is not None and r.history]
    # The longest read-out of a run says how the run ended.
    longest: dict[str, Result] = {}
    for r in sorted(known, key=lambda r: r.cell.epochs):
        longest[r.cell.run_id] = r
    measured = [(r, fall) for r in longest.values() if (fall := falling(r.history))]
    steep = [(r, fall) for r, fall in measured if fall[2] >= STILL_FALLING]
    if short := [r for r in longest.values() if len(r.history) == 1]:
        yield ResultWarning(
            "one epoch",
            f"{of(len(short), len(longest), 'run')} trained for one epoch, so nothing shows "
            "whether the cost had stopped falling.",
            tuple(r.cell for r in short),
            "note",
        )
    if not steep:
        return
    r, (before, last, share) = max(steep, key=lambda item: item[1][2])
    best = {result.cell.run_id for c in leaders(compared) for result in c.results}
    among = sum(r.cell.run_id in best for r, _ in steep)
    verb = "is" if among == 1 else "are"
    ahead = f"{among} of the {pluralize(len(best), 'leading run')} {verb} among them."
    longer = 2 * max(r.cell.epochs for r, _ in steep)
    yield ResultWarning(
        "still falling",
        f"In {of(len(steep), len(measured), 'run')} the cost was still falling when training ended,"
        f" most in {names[r.cell]}: from {before:.4g} to {last:.4g} over the last tenth of its "
        f"{len(r.history)} epochs, {100 * share:.0f} % of all it fell since the first epoch. With "
        f"more epochs the ranking may be another. {ahead if among else 'No leading run is one.'}",
        tuple(r.cell for r, _ in steep),
        "caution" if among else "note",
        command(
            [r.cell for r in results],
            {"epochs": ordered([*(r.cell.epochs for r in results), longer])},
        ),
    )


def early_peak(history: Sequence[Epoch], images: int) -> Epoch | None:
    """The epoch of the highest accuracy, where it stands out and came long before the end.

    It lies within the first EARLY of at least ENOUGH epochs, and above Wilson's interval (on
    `images` test images) of the best accuracy of the last tenth of the epochs.
    """
    if len(history) < ENOUGH:
        return None
    peak = max(history, key=lambda epoch: epoch.accuracy)  # the first of equal ones
    tenth = max(1, len(history) // 10)
    end = max(epoch.accuracy for epoch in history[-tenth:])
    above = wilson(round(end / 100 * images), images).high
    early = peak.epoch <= EARLY * history[-1].epoch
    return peak if early and peak.accuracy > above else None


def early_peaks(results: Sequence[Result], names: Mapping[Cell, str]) -> Iterable[ResultWarning]:
    found = [
        (r, peak)
        for r in results
        if r.correct is not None and (peak := early_peak(r.history, r.correct.size))
    ]
    if not found:
        return
    r, peak = max(found, key=lambda item: item[1].accuracy - percent(item[0]))
    yield ResultWarning(
        "early peak",
        f"{of(len(found), len(results))} {'was' if len(found) == 1 else 'were'} better long before "
        f"the end, beyond the sampling error of the test images. Most of all {names[r.cell]}: "
        f"{peak.accuracy:.2f} % after epoch {peak.epoch}, {percent(r):.2f} % after epoch "
        f"{r.cell.epochs}. A read-out there would show it as a row of its own.",
        tuple(r.cell for r, _ in found),
        "caution",
        command([r.cell], {"epochs": [peak.epoch, r.cell.epochs]}),
    )
