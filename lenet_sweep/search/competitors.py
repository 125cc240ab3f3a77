"""Which settings of a sweep compete with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lenet_sweep.core.cells import Cell, Run


def competitors(runs: Sequence[Run]) -> Iterator[list[list[Run]]]:
    """The runs by setting, for each group of settings with the same dataset and epochs."""
    groups: dict[object, dict[Cell, list[Run]]] = {}
    for run in runs:
        group = groups.setdefault((run.cell.dataset, run.cell.epochs), {})
        group.setdefault(run.cell.setting, []).append(run)
    for settings in groups.values():
        yield list(settings.values())
