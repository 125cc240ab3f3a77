"""Which settings of a sweep compete with each other, and one decision for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.plans import Run
from lenet_sweep.search import Decision, Stop

RUN_FAILED = "a run of this setting failed"  # why a setting leaves its competition


def competitors(runs: Sequence[Run]) -> Iterator[list[list[Run]]]:
    """The runs by setting, for each group of settings with the same dataset and epochs."""
    groups: dict[object, dict[Cell, list[Run]]] = {}
    for run in runs:
        group = groups.setdefault((run.cell.dataset, run.cell.epochs), {})
        group.setdefault(run.cell.setting, []).append(run)
    for settings in groups.values():
        yield list(settings.values())


def decide_each(
    runs: Sequence[Run], decide: Callable[[Sequence[Sequence[Run]]], Decision]
) -> Decision:
    """The decisions for the groups of settings that compete with each other, as one."""
    epochs: dict[str, int] = {}
    stops: dict[str, Stop] = {}
    decisions = [decide(settings) for settings in competitors(runs)]
    for decision in decisions:
        epochs |= decision.epochs
        stops |= decision.stops
    return Decision(
        epochs,
        stops,
        messages=tuple(message for decision in decisions for message in decision.messages),
        stage="; ".join(dict.fromkeys(d.stage for d in decisions if d.stage)),
        later=tuple(each for decision in decisions for each in decision.later),
        later_at_most=any(decision.later_at_most for decision in decisions),
    )
