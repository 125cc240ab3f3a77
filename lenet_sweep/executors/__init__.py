"""Executors train the runs of a plan, on this machine or as jobs of a cluster, yielding events.

May import every subpackage from core to training.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lenet_sweep.config.model_source import ModelLocation
from lenet_sweep.core.events import Event, Failed, Retrying
from lenet_sweep.core.plans import Run


@dataclass(frozen=True)
class RunContext:
    """The settings that all runs of a sweep share. Set `stop` to end the sweep early."""

    out: Path
    data_root: Path | None
    workers: int | None  # concurrent runs; None: as many as fit
    threads: int | None  # per run; None: the runs share all cores of the machine
    retrain: bool  # ignore results in the store
    timeout: float | None  # seconds without progress before a run is killed
    retries: int  # how often a failed run is retried
    environment: Mapping[str, Any]  # provenance, recorded with each run
    stop: threading.Event
    signals: Sequence[signal.Signals]  # the signals for which `stop` was set
    on_message: Callable[[str], None]  # displays a line to the user
    # Where workers import the users' models from, by `Cell.model_source`.
    models: Mapping[str, ModelLocation] = field(default_factory=dict)
    # Set once a cluster has accepted a job, so that a later rejection is no mistake in its options.
    job_accepted: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def retry_policy(self) -> RetryPolicy:
        """Counts the retries of all runs, over all rounds of a search."""
        return RetryPolicy(self.retries)

    @property
    def person(self) -> str:
        """Who trains the runs, for their failures."""
        return str(self.environment.get("person", ""))


@dataclass(frozen=True)
class Executor:
    """Where runs are trained.

    execute: trains the runs and yields their events. The last event of each run is one of
        `FINAL_EVENTS`. Runs that have not started when `context.stop` is set yield no events.
    capacity: the number of concurrent runs that fill the executor, given the kinds of devices that
        the runs use; None if unknown.
    check: raises UsageError if the executor is not available. Called before anything is written.
    devices: the kinds of devices that runs may train on, best first; device=auto is the first one.
        None: the devices of this machine.
    session: a context in which `execute` is called several times, such as for the rounds of a
        search. What takes long to start may keep running until its end.
    """

    execute: Callable[[Sequence[Run], RunContext], Iterator[Event]]
    capacity: Callable[[Iterable[str]], int | None]
    check: Callable[[], None]
    devices: tuple[str, ...] | None = None
    session: Callable[[], AbstractContextManager[None]] = nullcontext


class RetryPolicy:
    """Counts the retries of each run and decides whether a failed run is retried."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._used: Counter[str] = Counter()  # by run id

    def decide(self, failed: Failed) -> Failed | Retrying:
        """Retrying, which uses up a retry, or `failed` itself if the run has none left."""
        run_id, failure = failed.run_id, failed.failure
        # A run that diverged would diverge again.
        if failure.status == "diverged" or self._used[run_id] == self._retries:
            return failed
        self._used[run_id] += 1
        return Retrying(run_id, failure, self._used[run_id])
