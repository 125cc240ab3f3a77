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
    Event,
    Failed,
    Failure,
    Finished,
    ReadOut,
    Requeued,
    Retrying,
    Stopped,
    epoch_begun,
)
from lenet_sweep.executors import Attempts, Setup
from lenet_sweep.executors.job import Journal, Task, order
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
class Ending:
    """How a job ended, as its scheduler tells it.

    reason: '' where it ended as it should. again: its scheduler ended it for reasons of its own.
    """

    reason: str
    status: str = "killed"
    said: str = ""
    again: bool = False


class RefusedError(UsageError):
    """A service does not take a job."""


class Service(Protocol):
    """Who runs jobs: a scheduler that people already have."""

    name: str  # in a record, and in what is said
    ask_every: float  # seconds between two questions what became of jobs
    outlives: bool  # whether its jobs go on when the launching process has ended
    runs_per_job: int

    def begin(self, setup: Setup) -> None:
        """Connect. Raises UsageError where that cannot be done."""

    def room(self, jobs: int) -> int:
        """How many jobs it takes at once when it has these already."""

    def submit(self, orders: Sequence[Mapping[str, Any]]) -> list[str]:
        """Submit jobs, each to do `job.work` of its order; their ids. Raises RefusedError."""

    def gone(self, jobs: Iterable[str]) -> dict[str, Ending]:
        """Those of these jobs that are there no more."""

    def waits(self, jobs: Iterable[str]) -> str:
        """What these jobs, none of which has begun, wait for; '' where that is not known."""

    def cancel(self, jobs: Iterable[str]) -> None:
        """Have these jobs checkpoint and end."""

    def end(self) -> None:
        """Disconnect."""

    def left_behind(self, jobs: Sequence[str]) -> str:
        """What becomes of jobs that are not cancelled when the launching process ends, in words."""


@dataclass
class _Followed:
    """A run whose job is followed."""

    run: Run
    journal: Journal
    job: str
    since: float  # when it was submitted, by the clock of the disk; inf where nobody else follows
    begun: bool = False
    epoch: int = 1  # in training
    missed_at: float = 0.0  # when its job was found to be gone without a last word


def execute(runs: Sequence[Run], setup: Setup, service: Service) -> Iterator[Event]:
    """Train the runs as jobs of a service, in the order given.

    Jobs of an earlier launch that still train one of them are followed. A run whose job is lost
    yields Failed and is recorded in the store, or is submitted again, behind the others, where
    `setup.retries` allows it. Ctrl-C cancels all jobs; any other way to end leaves them to
    themselves where they outlive this process.
    """
    folder = setup.out / "jobs"
    make_folder(folder)
    launch = secrets.token_hex(4)
    held = lock_file(folder / f"{launch}.launch", timeout=10)
    jobs = _Jobs(folder, launch, setup, service)
    try:
        service.begin(setup)
        yield from jobs.follow(runs)
    finally:
        service.end()
        jobs.leave()
        if held:
            held.release()


class _Jobs:
    """The jobs of a launch, and what they have told so far."""

    def __init__(self, folder: Path, launch: str, setup: Setup, service: Service) -> None:
        self.folder = folder
        self.launch = launch
        self.setup = setup
        self.service = service
        self.store = Store(setup.out)
        self.attempts = Attempts(setup.retries)
        self.waiting: deque[Run] = deque()
        self.followed: dict[str, _Followed] = {}  # by run
        self._tasks = 0
        self._asked_at = time.monotonic()
        self._waits_since = time.monotonic()
        self._waits = ""
        self._refused_until = 0.0

    def follow(self, runs: Sequence[Run]) -> Iterator[Event]:
        known = self._records()
        self._clear(known)
        self.waiting.extend(runs if self.setup.fresh else self._taken_up(runs, known))
        stop = self.setup.stop
        while (self.followed or self.waiting) and not stop.is_set():
            self._submit()
            yield from self._news()
            yield from self._losses()
            stop.wait(LOOK_EVERY)
        if not stop.is_set() or not self.followed:
            return
        if signal.SIGINT not in self.setup.received:
            self.setup.say(self.service.left_behind(self._jobs()))
            return
        self.service.cancel(self._jobs())
        deadline = time.monotonic() + STOP_WITHIN
        while self.followed and time.monotonic() < deadline:
            yield from self._news()
            time.sleep(LOOK_EVERY)
        for run in [followed.run for followed in self.followed.values()]:
            self._forget(run)  # it is cancelled, and nobody is to follow it

    def leave(self) -> None:
        """Remove what no later launch has a use for."""
        if not self.service.outlives:
            for followed in list(self.followed.values()):
                self._forget(followed.run)
        if not self.followed:
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
        if not self.service.outlives:
            return list(runs)
        gone = self.service.gone({record["job"] for record in known.values()}) if known else {}
        asked = {run.id: run for run in runs}
        for name, record in known.items():
            journal = self.folder / record["journal"]
            if record["job"] in gone:
                self._remove(name, journal)
            elif name in asked:
                since = _written_at(self.folder / f"{name}.json")
                self.followed[name] = _Followed(asked[name], Journal(journal), record["job"], since)
        if self.followed:
            jobs = f"{len(self.followed)} of these runs in jobs that"
            self.setup.say(f"{self.service.name} has {jobs} an earlier launch has submitted")
        return [run for run in runs if run.id not in self.followed]

    def _records(self) -> dict[str, dict[str, Any]]:
        """The records of this service's jobs, by run."""
        found = {}
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(DamagedError):
                record = read_json(path)
                if record and record["service"] == self.service.name:
                    found[path.stem] = record
        return found

    def _submit(self) -> None:
        """Submit what waits, as far as the service takes it."""
        while self.waiting and time.monotonic() >= self._refused_until:
            room = self.service.room(len(self._jobs()))
            tasks: list[list[Task]] = []
            while self.waiting and len(tasks) < room:
                size = min(self.service.runs_per_job, len(self.waiting))
                tasks.append([self._task(self.waiting.popleft()) for _ in range(size)])
            if not tasks:
                return
            try:
                jobs = self.service.submit([order(each, self.setup) for each in tasks])
            except RefusedError as error:
                if not self.followed:
                    raise
                # There may be a limit of jobs for one person, and room again when some have ended.
                self.waiting.extendleft(reversed([task.run for each in tasks for task in each]))
                self._refused_until = time.monotonic() + REFUSED_FOR
                self.setup.say(f"{error}; {len(self.waiting)} runs are submitted later")
                return
            self._follow(jobs, tasks)

    def _follow(self, jobs: Sequence[str], tasks: Sequence[Sequence[Task]]) -> None:
        for job, each in zip(jobs, tasks, strict=True):
            for task in each:
                since = math.inf
                if self.service.outlives:
                    path = self.folder / f"{task.run.id}.json"
                    values = {"job": job, "journal": task.journal.name}
                    write_json(path, {"service": self.service.name, **values})
                    since = _written_at(path)
                journal = Journal(task.journal)
                self.followed[task.run.id] = _Followed(task.run, journal, job, since)

    def _task(self, run: Run) -> Task:
        self._tasks += 1
        return Task(run, self.folder / f"{run.id}-{self.launch}-{self._tasks}.journal")

    def _jobs(self) -> list[str]:
        return list(dict.fromkeys(each.job for each in self.followed.values()))

    # ---------------------------------------------------------------- what they tell

    def _news(self) -> Iterator[Event]:
        for followed in list(self.followed.values()):
            for event in followed.journal.news():
                followed.begun = True
                followed.epoch = epoch_begun(event) or followed.epoch
                yield from self._told(event, followed)
            still = self.followed.get(followed.run.id) is followed
            followed_by_others = self.service.outlives and still and followed.begun
            if followed_by_others and not followed.journal.path.exists():
                # Another launch follows it too, has read its end first, and cleared it away.
                yield from self._lost(followed, Ending(""), time.monotonic())

    def _told(self, event: Event, followed: _Followed) -> Iterator[Event]:
        run = followed.run
        if run.id not in self.followed:
            return  # it has ended already
        if isinstance(event, Stopped) and not self.setup.stop.is_set():
            yield Requeued(run.id, f"its job was interrupted by {self.service.name}")
        elif isinstance(event, Failed):
            self._forget(run)
            said = event if self.setup.stop.is_set() else self.attempts.judge(event)
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
        if not self.followed or now - self._asked_at < self.service.ask_every:
            return
        gone = self.service.gone(self._jobs())
        self._asked_at = time.monotonic()
        if not gone:
            self._say_what_they_wait_for()
            return
        yield from self._news()  # what they told before they went
        for followed in [each for each in self.followed.values() if each.job in gone]:
            yield from self._lost(followed, gone[followed.job], now)

    def _say_what_they_wait_for(self) -> None:
        """Where nothing trains for some time, that may be for ever."""
        now = time.monotonic()
        if any(followed.begun for followed in self.followed.values()):
            self._waits_since, self._waits = now, ""
        elif now - self._waits_since > WAITS_SAID_AFTER:
            waits = self.service.waits(self._jobs())
            if waits and waits != self._waits:
                self.setup.say(f"{len(self._jobs())} jobs of {self.service.name} wait {waits}")
            self._waits = waits

    def _lost(self, followed: _Followed, ending: Ending, now: float) -> Iterator[Event]:
        run, folder = followed.run, self.store.run(followed.run.id)
        if not self.setup.fresh and all(folder.has(epoch) for epoch in run.readouts):
            for epoch in run.readouts:
                yield from self._told(ReadOut(run.id, epoch), followed)
            yield from self._told(Finished(run.id), followed)
            return
        if not followed.journal.path.exists() and (failure := folder.failure(followed.since)):
            yield from self._told(Failed(run.id, failure), followed)
            return
        if ending.again:
            self._forget(run)
            self.waiting.append(run)
            yield Requeued(run.id, ending.reason)
            return
        if not ending.reason:
            followed.missed_at = followed.missed_at or now
            if now - followed.missed_at < LATE:
                return
        person = str(self.setup.environment.get("person", ""))
        reason = ending.reason or "its job ended without a word on how it went"
        failure = Failure(ending.status, followed.epoch, reason, ending.said, person)
        with contextlib.suppress(StoreError):  # the others go on, where they can
            folder.write_failure(failure)
        yield from self._told(Failed(run.id, failure), followed)

    def _forget(self, run: Run) -> None:
        self._remove(run.id, self.followed.pop(run.id).journal.path)

    def _remove(self, run_id: str, journal: Path) -> None:
        with contextlib.suppress(StoreError):
            remove(self.folder / f"{run_id}.json")
            remove(journal)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another launch has removed it meanwhile
        return math.inf
