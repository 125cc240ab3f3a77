"""Executors run the runs of a plan and yield their events: here, or as jobs of a cluster."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_sweep.core.cells import Run
from lenet_sweep.core.events import Event, Failed, Retrying


@dataclass(frozen=True)
class RunContext:
    """What every run of a sweep has in common. `stop` is set to end the sweep early."""

    out: Path
    data_root: Path | None
    workers: int | None  # runs at the same time; None: as many as there is room for
    retrain: bool  # train anew even what the store has
    timeout: float | None  # seconds without a sign of life before a run is given up
    retries: int  # how often a run that failed is tried again
    environment: Mapping[str, Any]
    stop: threading.Event
    signals: Sequence[signal.Signals]  # what `stop` was set for
    say: Callable[[str], None]  # a line for the person


@dataclass(frozen=True)
class Executor:
    """A place where runs are trained.

    execute: yields each run's events; the last one of a run is one of events.ENDS. Runs that were
        not begun when `setup.stop` was set yield nothing.
    room: how many runs at the same time fill it, by the kinds of devices that they train on; None
        where nobody knows beforehand.
    check: raises UsageError where it cannot be had; asked before anything is written.
    """

    execute: Callable[[Sequence[Run], RunContext], Iterator[Event]]
    room: Callable[[Iterable[str]], int | None]
    check: Callable[[], None]


class RetryPolicy:
    """How often each run was tried again."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._used: Counter[str] = Counter()  # after the first

    def judge(self, failed: Failed) -> Failed | Retrying:
        """What is to be said of a failed run. An attempt that it has left is then used."""
        # A loss that became infinite does so again.
        run_id, failure = failed.run_id, failed.failure
        if failure.status == "diverged" or self._used[run_id] == self._retries:
            return failed
        self._used[run_id] += 1
        return Retrying(run_id, failure, self._used[run_id])
