"""Which settings of a sweep compete with each other, and one decision for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lenet_sweep.core.cells import Cell, Run
from lenet_sweep.search import Decision, Stop


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
    messages: list[str] = []
    for settings in competitors(runs):
        decision = decide(settings)
        epochs |= decision.epochs
        stops |= decision.stops
        messages += decision.messages
    return Decision(epochs, stops, tuple(messages))
