"""The launching side of runs that are jobs elsewhere: submit them, follow their journals.

Below <out>/jobs/, on the disk that all share:

    <run id>.json                   which job trains the run, and its journal
    <run id>-<launch>-<n>.journal   what happens to it: events, one a line
    <launch>.launch                 held by the launch of these journals while it lives

The first two go when the run has ended. While they are there a later launch finds the jobs of an
earlier one and follows them, instead of submitting them again. Jobs that end with the process that
submitted them have a journal alone, which a later launch removes.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lenet_sweep.core.cells import Run
from lenet_sweep.core.errors import StoreError, UsageError
from lenet_sweep.core.events import (
    CellFinished,
    Event,
    Failed,
    Failure,
    Finished,
    Requeued,
    Retrying,
    Stopped,
    epoch_begun,
)
from lenet_sweep.executors import RetryPolicy, RunContext
from lenet_sweep.executors.job import Journal, Task, job_payload
from lenet_sweep.storage.files import (
    DamagedError,
    lock_file,
    make_folder,
    read_json,
    remove,
    write_json,
)
from lenet_sweep.storage.store import Store

LOOK_EVERY = 0.25  # seconds between two looks at the journals
STOP_WITHIN = 4.0  # seconds that jobs get to checkpoint once they are cancelled
REFUSED_FOR = 60.0  # seconds until jobs that were refused are submitted again
WAITS_SAID_AFTER = 10.0  # seconds in which nothing trains
LATE = 15.0  # seconds that the last words of a job may take to arrive over a network's disk


@dataclass(frozen=True)
class JobExit:
    """How a job ended, as its scheduler tells it.

    reason: '' where it ended as it should. again: its scheduler ended it for reasons of its own.
    """

    reason: str
    status: str = "killed"
    said: str = ""
    again: bool = False


class RefusedError(UsageError):
    """A service does not take a job."""


class ClusterBackend(Protocol):
    """Who runs jobs: a scheduler that people already have."""

    name: str  # in a record, and in what is said
    poll_interval: float  # seconds between two questions what became of jobs
    survives_launch: bool  # whether its jobs go on when the launching process has ended
    runs_per_job: int

    def begin(self, context: RunContext) -> None:
        """Connect. Raises UsageError where that cannot be done."""

    def room(self, jobs: int) -> int:
        """How many jobs it takes at once when it has these already."""

    def submit(self, orders: Sequence[Mapping[str, Any]]) -> list[str]:
        """Submit jobs, each to do `job.work` of its order; their ids. Raises RefusedError."""

    def finished(self, jobs: Iterable[str]) -> dict[str, JobExit]:
        """Those of these jobs that are there no more."""

    def describe_pending(self, jobs: Iterable[str]) -> str:
        """What these jobs, none of which has begun, wait for; '' where that is not known."""

    def cancel(self, jobs: Iterable[str]) -> None:
        """Have these jobs checkpoint and end."""

    def end(self) -> None:
        """Disconnect."""

    def describe_remaining(self, jobs: Sequence[str]) -> str:
        """What becomes of jobs that are not cancelled when the launching process ends, in words."""


@dataclass
class _TrackedRun:
    """A run whose job is followed."""

    run: Run
    journal: Journal
    job: str
    since: float  # when it was submitted, by the clock of the disk; inf where nobody else follows
    begun: bool = False
    epoch: int = 1  # in training
    missed_at: float = 0.0  # when its job was found to be gone without a last word


def execute(runs: Sequence[Run], context: RunContext, backend: ClusterBackend) -> Iterator[Event]:
    """Train the runs as jobs of a service, in the order given.

    Jobs of an earlier launch that still train one of them are followed. A run whose job is lost
    yields Failed and is recorded in the store, or is submitted again, behind the others, where
    `setup.retries` allows it. Ctrl-C cancels all jobs; any other way to end leaves them to
    themselves where they outlive this process.
    """
    folder = context.out / "jobs"
    make_folder(folder)
    launch = secrets.token_hex(4)
    held = lock_file(folder / f"{launch}.launch", timeout=10)
    jobs = _Jobs(folder, launch, context, backend)
    try:
        backend.begin(context)
        yield from jobs.follow(runs)
    finally:
        backend.end()
        jobs.leave()
        if held:
            held.release()


class _Jobs:
    """The jobs of a launch, and what they have told so far."""

    def __init__(
        self, folder: Path, launch: str, context: RunContext, backend: ClusterBackend
    ) -> None:
        self.folder = folder
        self.launch = launch
        self.context = context
        self.backend = backend
        self.store = Store(context.out)
        self.attempts = RetryPolicy(context.retries)
        self.waiting: deque[Run] = deque()
        self.tracked: dict[str, _TrackedRun] = {}  # by run
        self._tasks = 0
        self._asked_at = time.monotonic()
        self._waits_since = time.monotonic()
        self._waits = ""
        self._refused_until = 0.0

    def follow(self, runs: Sequence[Run]) -> Iterator[Event]:
        known = self._records()
        self._clear(known)
        self.waiting.extend(runs if self.context.retrain else self._taken_up(runs, known))
        stop = self.context.stop
        while (self.tracked or self.waiting) and not stop.is_set():
            self._submit()
            yield from self._news()
            yield from self._losses()
            stop.wait(LOOK_EVERY)
        if not stop.is_set() or not self.tracked:
            return
        if signal.SIGINT not in self.context.signals:
            self.context.say(self.backend.describe_remaining(self._jobs()))
            return
        self.backend.cancel(self._jobs())
        deadline = time.monotonic() + STOP_WITHIN
        while self.tracked and time.monotonic() < deadline:
            yield from self._news()
            time.sleep(LOOK_EVERY)
        for run in [tracked.run for tracked in self.tracked.values()]:
            self._forget(run)  # it is cancelled, and nobody is to follow it

    def leave(self) -> None:
        """Remove what no later launch has a use for."""
        if not self.backend.survives_launch:
            for tracked in list(self.tracked.values()):
                self._forget(tracked.run)
        if not self.tracked:
            with contextlib.suppress(StoreError):
                remove(self.folder / f"{self.launch}.launch")

    # ---------------------------------------------------------------- beginning

    def _clear(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        """Remove the journals of launches that are no more, but for those that have a record."""
        recorded = {record["journal"] for record in known.values()}
        for lock in self.folder.glob("*.launch"):
            if lock.stem == self.launch or (held := lock_file(lock, timeout=0)) is None:
                continue
            for journal in self.folder.glob(f"*-{lock.stem}-*.journal"):
                if journal.name not in recorded:
                    remove(journal)
            held.release()
            remove(lock)

    def _taken_up(self, runs: Sequence[Run], known: Mapping[str, Mapping[str, Any]]) -> list[Run]:
        """Follow those that jobs of an earlier launch still train; the others.

        Records of jobs that are gone are removed, also of runs that are not asked for now.
        """
        if not self.backend.survives_launch:
            return list(runs)
        finished = (
            self.backend.finished({record["job"] for record in known.values()}) if known else {}
        )
        asked = {run.id: run for run in runs}
        for name, record in known.items():
            journal = self.folder / record["journal"]
            if record["job"] in finished:
                self._remove(name, journal)
            elif name in asked:
                since = _written_at(self.folder / f"{name}.json")
                self.tracked[name] = _TrackedRun(
                    asked[name], Journal(journal), record["job"], since
                )
        if self.tracked:
            jobs = f"{len(self.tracked)} of these runs in jobs that"
            self.context.say(f"{self.backend.name} has {jobs} an earlier launch has submitted")
        return [run for run in runs if run.id not in self.tracked]

    def _records(self) -> dict[str, dict[str, Any]]:
        """The records of this service's jobs, by run."""
        found = {}
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(DamagedError):
                record = read_json(path)
                if record and record["service"] == self.backend.name:
                    found[path.stem] = record
        return found

    def _submit(self) -> None:
        """Submit what waits, as far as the service takes it."""
        while self.waiting and time.monotonic() >= self._refused_until:
            room = self.backend.room(len(self._jobs()))
            tasks: list[list[Task]] = []
            while self.waiting and len(tasks) < room:
                size = min(self.backend.runs_per_job, len(self.waiting))
                tasks.append([self._task(self.waiting.popleft()) for _ in range(size)])
            if not tasks:
                return
            try:
                jobs = self.backend.submit([job_payload(each, self.context) for each in tasks])
            except RefusedError as error:
                if not self.tracked:
                    raise
                # There may be a limit of jobs for one person, and room again when some have ended.
                self.waiting.extendleft(reversed([task.run for each in tasks for task in each]))
                self._refused_until = time.monotonic() + REFUSED_FOR
                self.context.say(f"{error}; {len(self.waiting)} runs are submitted later")
                return
            self._follow(jobs, tasks)

    def _follow(self, jobs: Sequence[str], tasks: Sequence[Sequence[Task]]) -> None:
        for job, each in zip(jobs, tasks, strict=True):
            for task in each:
                since = math.inf
                if self.backend.survives_launch:
                    path = self.folder / f"{task.run.id}.json"
                    values = {"job": job, "journal": task.journal.name}
                    write_json(path, {"service": self.backend.name, **values})
                    since = _written_at(path)
                journal = Journal(task.journal)
                self.tracked[task.run.id] = _TrackedRun(task.run, journal, job, since)

    def _task(self, run: Run) -> Task:
        self._tasks += 1
        return Task(run, self.folder / f"{run.id}-{self.launch}-{self._tasks}.journal")

    def _jobs(self) -> list[str]:
        return list(dict.fromkeys(each.job for each in self.tracked.values()))

    # ---------------------------------------------------------------- what they tell

    def _news(self) -> Iterator[Event]:
        for tracked in list(self.tracked.values()):
            for event in tracked.journal.poll():
                tracked.begun = True
                tracked.epoch = epoch_begun(event) or tracked.epoch
                yield from self._told(event, tracked)
            still = self.tracked.get(tracked.run.id) is tracked
            followed_by_others = self.backend.survives_launch and still and tracked.begun
            if followed_by_others and not tracked.journal.path.exists():
                # Another launch follows it too, has read its end first, and cleared it away.
                yield from self._lost(tracked, JobExit(""), time.monotonic())

    def _told(self, event: Event, tracked: _TrackedRun) -> Iterator[Event]:
        run = tracked.run
        if run.id not in self.tracked:
            return  # it has ended already
        if isinstance(event, Stopped) and not self.context.stop.is_set():
            yield Requeued(run.id, f"its job was interrupted by {self.backend.name}")
        elif isinstance(event, Failed):
            self._forget(run)
            said = event if self.context.stop.is_set() else self.attempts.judge(event)
            if isinstance(said, Retrying):
                self.waiting.append(run)
            yield said
        else:
            if isinstance(event, (Finished, Stopped)):
                self._forget(run)
            yield event

    def _losses(self) -> Iterator[Event]:
        """Runs whose jobs are gone without having told of their end."""
        now = time.monotonic()
        if not self.tracked or now - self._asked_at < self.backend.poll_interval:
            return
        finished = self.backend.finished(self._jobs())
        self._asked_at = time.monotonic()
        if not finished:
            self._say_what_they_wait_for()
            return
        yield from self._news()  # what they told before they went
        for tracked in [each for each in self.tracked.values() if each.job in finished]:
            yield from self._lost(tracked, finished[tracked.job], now)

    def _say_what_they_wait_for(self) -> None:
        """Where nothing trains for some time, that may be for ever."""
        now = time.monotonic()
        if any(tracked.begun for tracked in self.tracked.values()):
            self._waits_since, self._waits = now, ""
        elif now - self._waits_since > WAITS_SAID_AFTER:
            reason = self.backend.describe_pending(self._jobs())
            if reason and reason != self._waits:
                self.context.say(f"{len(self._jobs())} jobs of {self.backend.name} wait {reason}")
            self._waits = reason

    def _lost(self, tracked: _TrackedRun, ending: JobExit, now: float) -> Iterator[Event]:
        run, folder = tracked.run, self.store.run(tracked.run.id)
        if not self.context.retrain and all(folder.has(epoch) for epoch in run.snapshot_epochs):
            for epoch in run.snapshot_epochs:
                yield from self._told(CellFinished(run.id, epoch), tracked)
            yield from self._told(Finished(run.id), tracked)
            return
        if not tracked.journal.path.exists() and (failure := folder.failure(tracked.since)):
            yield from self._told(Failed(run.id, failure), tracked)
            return
        if ending.again:
            self._forget(run)
            self.waiting.append(run)
            yield Requeued(run.id, ending.reason)
            return
        if not ending.reason:
            tracked.missed_at = tracked.missed_at or now
            if now - tracked.missed_at < LATE:
                return
        person = str(self.context.environment.get("person", ""))
        reason = ending.reason or "its job ended without a word on how it went"
        failure = Failure(ending.status, tracked.epoch, reason, ending.said, person)
        with contextlib.suppress(StoreError):  # the others go on, where they can
            folder.write_failure(failure)
        yield from self._told(Failed(run.id, failure), tracked)

    def _forget(self, run: Run) -> None:
        self._remove(run.id, self.tracked.pop(run.id).journal.path)

    def _remove(self, run_id: str, journal: Path) -> None:
        with contextlib.suppress(StoreError):
            remove(self.folder / f"{run_id}.json")
            remove(journal)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another launch has removed it meanwhile
        return math.inf
