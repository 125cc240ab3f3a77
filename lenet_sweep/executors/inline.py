"""Runs one after another in this process: for launchers that have made a process for each cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lenet_sweep.cells import Run
from lenet_sweep.events import Event
from lenet_sweep.executors import Setup
from lenet_sweep.store import Store
from lenet_sweep.training import train


def execute(runs: Sequence[Run], setup: Setup) -> Iterator[Event]:
    """Train the runs in order. A run that kills the process takes this process with it."""
    store = Store(setup.out)
    for run in runs:
        if setup.stop.is_set():
            return
        yield from train(
            run,
            store.run(run.id),
            setup.data_root,
            fresh=setup.fresh,
            stop=setup.stop.is_set,
            environment=setup.environment,
        )
