"""Execution of runs as jobs of a cluster: submit the jobs and follow their journals.

Files in <out>/jobs/, on the disk that all nodes share:

    <run id>.json                   which job trains the run, and its journal
    <run id>-<launch>-<n>.journal   the events of the run, one per line
    <launch>.launch                 locked by the launch of these journals while it is running

The first two are removed when the run has ended. Until then, a later launch finds the jobs of an
earlier one and follows them instead of submitting them again. Jobs that end with the process that
submitted them have only a journal, which a later launch removes.
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

from lenet_sweep.core.errors import StoreError, UsageError
from lenet_sweep.core.events import (
    CellFinished,
    Event,
    Failed,
    Failure,
    Finished,
    Interrupted,
    Requeued,
    Retrying,
    epoch_begun,
)
from lenet_sweep.core.plans import Run
from lenet_sweep.core.text import pluralize
from lenet_sweep.executors import RunContext
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

POLL_EVERY = 0.25  # seconds between two reads of the journals
STOP_WITHIN = 4.0  # seconds for canceled jobs to save checkpoints
RESUBMIT_AFTER = 60.0  # seconds until rejected jobs are submitted again
REJECTED_AT_MOST = 3600.0  # seconds of rejections without a job that ends the launch
REPORT_PENDING_AFTER = 10.0  # seconds without any training
LATE_EVENTS_WITHIN = 15.0  # seconds that the last events of a job may take to appear on the disk


@dataclass(frozen=True)
class JobExit:
    """How a job ended, as reported by its scheduler.

    reason: why the job failed; empty if it ended normally.
    status: the status of the failure, as in `Failure`.
    output: the end of the job's error output.
    interrupted: the scheduler ended the job for its own reasons, so its runs are submitted again.
    """

    reason: str
    status: str = "killed"
    output: str = ""
    interrupted: bool = False


class RejectedError(UsageError):
    """The scheduler rejected a job."""


class ClusterBackend(Protocol):
    """The scheduler of a cluster, such as Slurm or Ray."""

    name: str  # in records and messages
    job_name: str  # of one job, in messages
    poll_interval: float  # seconds between two queries for ended jobs
    survives_launch: bool  # whether jobs continue after the launching process has ended
    runs_per_job: int
    threads: int  # for a run, from the CPU cores of its job

    def connect(self, context: RunContext) -> None:
        """Connect. Raises UsageError if that fails."""

    def free_slots(self, jobs: int) -> int:
        """How many more jobs can be submitted if `jobs` jobs are queued or running."""

    def submit(self, payloads: Sequence[Mapping[str, Any]]) -> list[str]:
        """Submit a job for each payload, which calls `job.run_job` with it. Returns the job ids.

        Raises RejectedError.
        """

    def finished(self, jobs: Iterable[str]) -> dict[str, JobExit]:
        """The jobs among these that have ended, by id."""

    def describe_pending(self, jobs: Iterable[str]) -> str:
        """Why these jobs, none of which has started, are pending; empty if unknown."""

    def cancel(self, jobs: Iterable[str]) -> None:
        """Ask these jobs to save checkpoints and end."""

    def disconnect(self) -> None:
        """Disconnect."""

    def describe_remaining(self, jobs: Sequence[str]) -> str:
        """What happens to these jobs when the launching process ends without canceling them."""


@dataclass
class _TrackedRun:
    """A run whose job is followed."""

    run: Run
    journal: Journal
    job: str
    since: float  # when it was submitted, as a file time; inf if no other launch can follow it
    started: bool = False
    epoch: int = 1  # in training
    ended_at: float = 0.0  # when its job was found to have ended without a final event


def execute(runs: Sequence[Run], context: RunContext, backend: ClusterBackend) -> Iterator[Event]:
    """Train the runs as jobs of a cluster, in the order given.

    Jobs of an earlier launch that are still training one of the runs are followed. A run whose job
    dies yields Failed and is recorded in the store, or is submitted again, after the others, if
    `context.retries` allows it. Ctrl-C cancels all jobs. After any other signal, jobs continue if
    they survive the launching process.
    """
    folder = context.out / "jobs"
    make_folder(folder)
    launch = secrets.token_hex(4)
    lock = lock_file(folder / f"{launch}.launch", timeout=10)
    jobs = _Jobs(folder, launch, context, backend)
    try:
        backend.connect(context)
        yield from jobs.follow(runs)
    finally:
        backend.disconnect()
        jobs.clean_up()
        if lock:
            lock.release()


class _Jobs:
    """The jobs of a launch."""

    def __init__(
        self, folder: Path, launch: str, context: RunContext, backend: ClusterBackend
    ) -> None:
        self.folder = folder
        self.launch = launch
        self.context = context
        self.backend = backend
        self.store = Store(context.out)
        self.retry_policy = context.retry_policy
        self.waiting: deque[Run] = deque()
        self.tracked: dict[str, _TrackedRun] = {}  # by run id
        self._task_count = 0
        self._polled_at = time.monotonic()
        self._pending_since = time.monotonic()
        self._pending_reason = ""
        self._rejected_since = self._rejected_until = 0.0

    def follow(self, runs: Sequence[Run]) -> Iterator[Event]:
        records = self._records()
        self._remove_stale_journals(records)
        self.waiting.extend(runs if self.context.retrain else self._resume_jobs(runs, records))
        stop = self.context.stop
        while (self.tracked or self.waiting) and not stop.is_set():
            self._submit()
            yield from self._read_journals()
            yield from self._poll_backend()
            stop.wait(POLL_EVERY)
        if not stop.is_set() or not self.tracked:
            return
        if signal.SIGINT not in self.context.signals:
            self.context.on_message(self.backend.describe_remaining(self._jobs()))
            return
        self.backend.cancel(self._jobs())
        deadline = time.monotonic() + STOP_WITHIN
        while self.tracked and time.monotonic() < deadline:
            yield from self._read_journals()
            time.sleep(POLL_EVERY)
        for run in [tracked.run for tracked in self.tracked.values()]:
            self._forget(run)  # its job is canceled, so no later launch must follow it

    def clean_up(self) -> None:
        """Remove the files that no later launch needs."""
        if not self.backend.survives_launch:
            for tracked in list(self.tracked.values()):
                self._forget(tracked.run)
        if not self.tracked:
            with contextlib.suppress(StoreError):
                remove(self.folder / f"{self.launch}.launch")

    # ---------------------------------------------------------------- submission

    def _remove_stale_journals(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Remove the journals of launches that have ended, except those with a record."""
        recorded = {record["journal"] for record in records.values()}
        for path in self.folder.glob("*.launch"):
            if path.stem == self.launch or (lock := lock_file(path, timeout=0)) is None:
                continue
            for journal in self.folder.glob(f"*-{path.stem}-*.journal"):
                if journal.name not in recorded:
                    remove(journal)
            lock.release()
            remove(path)

    def _resume_jobs(
        self, runs: Sequence[Run], records: Mapping[str, Mapping[str, Any]]
    ) -> list[Run]:
        """Follow the jobs of an earlier launch that train one of the runs. Returns the other runs.

        Records of ended jobs are removed, also those of runs that this launch does not need.
        """
        if not self.backend.survives_launch:
            return list(runs)
        finished = (
            self.backend.finished({record["job"] for record in records.values()}) if records else {}
        )
        needed = {run.id: run for run in runs}
        for run_id, record in records.items():
            journal = self.folder / record["journal"]
            if record["job"] in finished:
                self._remove(run_id, journal)
            # A job of an earlier round of a search trains fewer epochs, so it is not followed.
            elif run_id in needed and record.get("epochs", needed[run_id].cell.epochs) == (
                needed[run_id].cell.epochs
            ):
                since = _modification_time(self.folder / f"{run_id}.json")
                self.tracked[run_id] = _TrackedRun(
                    needed[run_id], Journal(journal), record["job"], since
                )
        if self.tracked:
            count = pluralize(len(self.tracked), "run")
            self.context.on_message(
                f"following {count} in {self.backend.name} jobs that an earlier launch submitted"
            )
        return [run for run in runs if run.id not in self.tracked]

    def _records(self) -> dict[str, dict[str, Any]]:
        """The records of jobs of this backend, by run id."""
        records = {}
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(DamagedError):
                record = read_json(path)
                if record and record["service"] == self.backend.name:
                    records[path.stem] = record
        return records

    def _submit(self) -> None:
        """Submit waiting runs as far as the backend has free slots."""
        while self.waiting and time.monotonic() >= self._rejected_until:
            free = self.backend.free_slots(len(self._jobs()))
            batches: list[list[Task]] = []  # the tasks of each job
            while self.waiting and len(batches) < free:
                size = min(self.backend.runs_per_job, len(self.waiting))
                batches.append([self._task(self.waiting.popleft()) for _ in range(size)])
            if not batches:
                return
            try:
                threads = self.context.threads or self.backend.threads
                jobs = self.backend.submit(
                    [job_payload(tasks, self.context, threads) for tasks in batches]
                )
            except RejectedError as error:
                now = time.monotonic()
                self._rejected_since = self._rejected_since or now
                if not self.tracked and (
                    not self.context.job_accepted.is_set()
                    or now - self._rejected_since >= REJECTED_AT_MOST
                ):
                    raise
                # There may be a limit of jobs per user, with free slots when some have ended.
                self.waiting.extendleft(reversed([task.run for tasks in batches for task in tasks]))
                self._rejected_until = time.monotonic() + RESUBMIT_AFTER
                count = pluralize(len(self.waiting), "run")
                self.context.on_message(f"{error}; {count} will be submitted later")
                return
            self.context.job_accepted.set()
            self._rejected_since = 0.0
            self._track(jobs, batches)

    def _track(self, jobs: Sequence[str], batches: Sequence[Sequence[Task]]) -> None:
        for job, tasks in zip(jobs, batches, strict=True):
            for task in tasks:
                since = math.inf
                if self.backend.survives_launch:
                    path = self.folder / f"{task.run.id}.json"
                    epochs = task.run.cell.epochs
                    values = {"job": job, "journal": task.journal.name, "epochs": epochs}
                    write_json(path, {"service": self.backend.name, **values})
                    since = _modification_time(path)
                journal = Journal(task.journal)
                self.tracked[task.run.id] = _TrackedRun(task.run, journal, job, since)

    def _task(self, run: Run) -> Task:
        self._task_count += 1
        return Task(run, self.folder / f"{run.id}-{self.launch}-{self._task_count}.journal")

    def _jobs(self) -> list[str]:
        return list(dict.fromkeys(tracked.job for tracked in self.tracked.values()))

    # ---------------------------------------------------------------- events

    def _read_journals(self) -> Iterator[Event]:
        for tracked in list(self.tracked.values()):
            for event in tracked.journal.poll():
                tracked.started = True
                tracked.epoch = epoch_begun(event) or tracked.epoch
                yield from self._handle(event, tracked)
            still_tracked = self.tracked.get(tracked.run.id) is tracked
            shared = self.backend.survives_launch and still_tracked and tracked.started
            if shared and not tracked.journal.path.exists():
                # Another launch, which follows it too, has read the final event and removed it.
                yield from self._handle_lost(tracked, JobExit(""), time.monotonic())

    def _handle(self, event: Event, tracked: _TrackedRun) -> Iterator[Event]:
        run = tracked.run
        if run.id not in self.tracked:
            return  # it has already ended
        if isinstance(event, Interrupted) and not self.context.stop.is_set():
            yield Requeued(run.id, f"its job was interrupted by {self.backend.name}")
        elif isinstance(event, Failed):
            self._forget(run)
            outcome = event if self.context.stop.is_set() else self.retry_policy.decide(event)
            if isinstance(outcome, Retrying):
                self.waiting.append(run)
            yield outcome
        else:
            if isinstance(event, (Finished, Interrupted)):
                self._forget(run)
            yield event

    def _poll_backend(self) -> Iterator[Event]:
        """Handle runs whose jobs have ended without a final event."""
        now = time.monotonic()
        if not self.tracked or now - self._polled_at < self.backend.poll_interval:
            return
        finished = self.backend.finished(self._jobs())
        self._polled_at = time.monotonic()
        if not finished:
            self._report_pending()
            return
        yield from self._read_journals()  # events that were written before the jobs ended
        for tracked in [t for t in self.tracked.values() if t.job in finished]:
            yield from self._handle_lost(tracked, finished[tracked.job], now)

    def _report_pending(self) -> None:
        """If no job has started for some time, say why: it may never start."""
        now = time.monotonic()
        if any(tracked.started for tracked in self.tracked.values()):
            self._pending_since, self._pending_reason = now, ""
        elif now - self._pending_since > REPORT_PENDING_AFTER:
            reason = self.backend.describe_pending(self._jobs())
            if reason and reason != self._pending_reason:
                count = pluralize(len(self._jobs()), self.backend.job_name)
                self.context.on_message(f"{count} pending: {reason}")
            self._pending_reason = reason

    def _handle_lost(self, tracked: _TrackedRun, job_exit: JobExit, now: float) -> Iterator[Event]:
        run, folder = tracked.run, self.store.run_folder(tracked.run.id)
        if not self.context.retrain and all(map(folder.result, run.cells())):
            for epoch in run.snapshot_epochs:
                yield from self._handle(CellFinished(run.id, epoch), tracked)
            yield from self._handle(Finished(run.id), tracked)
            return
        if not tracked.journal.path.exists() and (failure := folder.failure(tracked.since)):
            yield from self._handle(Failed(run.id, failure), tracked)
            return
        if job_exit.interrupted:
            self._forget(run)
            self.waiting.append(run)
            yield Requeued(run.id, job_exit.reason)
            return
        if not job_exit.reason:
            tracked.ended_at = tracked.ended_at or now
            if now - tracked.ended_at < LATE_EVENTS_WITHIN:
                return
        reason = job_exit.reason or "its job ended without reporting a result"
        failure = Failure(
            job_exit.status, tracked.epoch, reason, job_exit.output, self.context.person
        )
        folder.write_failure(failure)
        yield from self._handle(Failed(run.id, failure), tracked)

    def _forget(self, run: Run) -> None:
        self._remove(run.id, self.tracked.pop(run.id).journal.path)

    def _remove(self, run_id: str, journal: Path) -> None:
        with contextlib.suppress(StoreError):
            remove(self.folder / f"{run_id}.json")
            remove(journal)


def _modification_time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed by another launch
        return math.inf
