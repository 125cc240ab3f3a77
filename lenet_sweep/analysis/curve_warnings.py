"""Warnings about training curves: a cost that is still falling, or a peak long before the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lenet_sweep.analysis.axes import ordered
from lenet_sweep.analysis.commands import command
from lenet_sweep.analysis.significance import Comparison, describe_leaders, leaders
from lenet_sweep.analysis.statistics import Result, longest_snapshots, wilson
from lenet_sweep.analysis.warning_types import ResultWarning, accuracy_of, count_of
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Epoch

STILL_FALLING = 0.01  # share of the total decrease that falls into the last tenth of the epochs
EARLY = 0.75  # share of the epochs; a later peak counts as the end
MIN_EPOCHS = 5  # shorter histories are not searched for an early peak


def falling(history: Sequence[Epoch]) -> tuple[float, float, float] | None:
    """The decrease of the cost at the end of training; None for fewer than 2 epochs.

    Returns the mean cost over the last but one tenth of the epochs, the mean cost over the last
    tenth, and their difference as a share of the total decrease since the first epoch.
    """
    if len(history) < 2:
        return None
    costs = [epoch.cost for epoch in history]
    tenth = max(1, len(costs) // 10)
    before, last = float(np.mean(costs[-2 * tenth : -tenth])), float(np.mean(costs[-tenth:]))
    decrease = costs[0] - last
    if not np.isfinite(decrease) or decrease <= 0:
        return before, last, 0.0
    return before, last, (before - last) / decrease


def still_falling(
    results: Sequence[Result], compared: Sequence[Comparison], names: Mapping[Cell, str]
) -> Iterable[ResultWarning]:
    """Warn about runs whose cost was still falling, and about runs of a single epoch."""
    trained = [r for r in results if r.accuracy is not None and r.history]
    longest = longest_snapshots(trained)
    measured = [(r, end) for r in longest if (end := falling(r.history))]
    steep = [(r, end) for r, end in measured if end[2] >= STILL_FALLING and not r.ended_early]
    if short := [r for r in longest if len(r.history) == 1]:
        yield ResultWarning(
            "one epoch",
            f"{count_of(len(short), len(longest), 'run')} {'was' if len(short) == 1 else 'were'} "
            "trained for only one epoch, so it is unknown whether the cost was still falling.",
            tuple(r.cell for r in short),
            "note",
        )
    if not steep:
        return
    r, (before, last, share) = max(steep, key=lambda item: item[1][2])
    leading = {result.cell.run_id for c in leaders(compared) for result in c.results}
    number = sum(r.cell.run_id in leading for r, _ in steep)
    described = describe_leaders(compared)
    runs = f"runs of {described}"
    among = f"None of the {runs} is among these runs."
    if len(leading) == 1:
        among = f"The run of {described} is {'among' if number else 'not among'} these runs."
    elif number and number == len(leading):
        among = f"{'Both' if number == 2 else f'All {number}'} {runs} are among these runs."
    elif number:
        verb = "is" if number == 1 else "are"
        among = f"{number} of the {len(leading)} {runs} {verb} among these runs."
    epochs = len(r.history)
    fall = f"from {before:.4g} in epoch {epochs - 1} to {last:.4g} in epoch {epochs}"
    if epochs // 10 > 1:
        fall = (
            f"from a mean of {before:.4g} over the second-to-last tenth of its {epochs} epochs to "
            f"{last:.4g} over the last tenth"
        )
    longer = 2 * max(r.cell.epochs for r, _ in steep)
    yield ResultWarning(
        "still falling",
        f"In {count_of(len(steep), len(measured), 'run')}, the cost was still falling when "
        f"training ended. The largest relative decrease is in {names[r.cell]}: {fall}, which is "
        f"{100 * share:.0f}% of its total decrease since the first epoch. More epochs may change "
        f"the ranking. {among}",
        tuple(r.cell for r, _ in steep),
        "caution" if number else "note",
        command(
            [r.cell for r in results],
            {"epochs": ordered([*(r.cell.epochs for r in results), longer])},
        ),
    )


def early_peak(history: Sequence[Epoch], images: int) -> Epoch | None:
    """The epoch of the highest accuracy if it came long before the end and was clearly better.

    The peak must lie in the first EARLY of at least MIN_EPOCHS epochs, and above the Wilson
    interval, on `images` test images, of the best accuracy in the last tenth of the epochs.
    """
    if len(history) < MIN_EPOCHS:
        return None
    peak = max(history, key=lambda epoch: epoch.accuracy)  # the first of equal peaks
    tenth = max(1, len(history) // 10)
    end = max(epoch.accuracy for epoch in history[-tenth:])
    threshold = wilson(round(end / 100 * images), images).high
    early = peak.epoch <= EARLY * history[-1].epoch
    return peak if early and peak.accuracy > threshold else None


def early_peaks(results: Sequence[Result], names: Mapping[Cell, str]) -> Iterable[ResultWarning]:
    """Warn about cells that were clearly better long before their last epoch."""
    peaks = [
        (r, peak)
        for r in results
        if r.correct is not None and (peak := early_peak(r.history, r.correct.size))
    ]
    if not peaks:
        return
    r, peak = max(peaks, key=lambda item: item[1].accuracy - accuracy_of(item[0]))
    yield ResultWarning(
        "early peak",
        f"{count_of(len(peaks), len(results))} {'was' if len(peaks) == 1 else 'were'} more "
        "accurate long before the end, by more than the sampling error of the test images. The "
        f"largest drop is in {names[r.cell]}: from {peak.accuracy:.2f}% after epoch {peak.epoch} "
        f"to {accuracy_of(r):.2f}% after epoch {r.history[-1].epoch}. To see the earlier "
        f"epoch as a row of its own, add the value {peak.epoch} to epochs. Because a peak is "
        "chosen on the test images, its accuracy is too high on average.",
        tuple(r.cell for r, _ in peaks),
        "caution",
        command([r.cell], {"epochs": [peak.epoch, r.cell.epochs]}),
    )
