"""The part of a sweep that runs inside a job of a cluster: train runs and record their events.

The events of each run are written to a journal on the shared disk, which any process can read while
it grows. The launching process may therefore end and be started again.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lenet_sweep.config.model_source import ModelLocation
from lenet_sweep.config.registry import run_from_json
from lenet_sweep.core.events import (
    EpochEnded,
    Event,
    Failed,
    Finished,
    Progress,
    decode,
    encode,
    epoch_begun,
)
from lenet_sweep.core.plans import Run
from lenet_sweep.executors import RunContext, local

PROGRESS_EVERY = 1.0  # seconds between two Progress events, to spare the shared disk
# Clusters end a job with SIGTERM; Ray cancels a task with SIGINT.
TERMINATION_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Task:
    """A run for a job to train, and the journal for its events."""

    run: Run
    journal: Path


def job_payload(tasks: Sequence[Task], context: RunContext, threads: int) -> dict[str, Any]:
    """The tasks of a job as JSON values, so that the job does not need to unpickle our classes."""
    return {
        "out": str(context.out.absolute()),
        "data_root": str(context.data_root.absolute()) if context.data_root else None,
        "threads": threads,
        "retrain": context.retrain,
        "timeout": context.timeout,
        "environment": dict(context.environment),
        "models": {digest: asdict(model) for digest, model in context.models.items()},
        "tasks": [task.run.to_json() | {"journal": str(task.journal.absolute())} for task in tasks],
    }


@dataclass(frozen=True)
class InterruptedRun:
    """A run that was interrupted before it was finished.

    epoch: the epoch that was in training. has_progressed: whether this job finished an epoch of it.
    """

    run: Run
    journal: Journal
    epoch: int
    has_progressed: bool


# Called in a job that was stopped, with the signals it received and the runs it did not finish.
OnStop = Callable[[Sequence[int], Sequence[InterruptedRun]], None]


def run_job(
    payload: Mapping[str, Any],
    signals: Sequence[int] = TERMINATION_SIGNALS,
    on_stop: OnStop | None = None,
) -> None:
    """Train the runs of a `job_payload`, one after the other, until one of the signals arrives.

    The run in training is then checkpointed, and `on_stop` is called.
    """
    stop = threading.Event()
    received: list[int] = []

    def handle(number: int, _: object) -> None:
        received.append(number)
        stop.set()

    handlers = {number: signal.signal(number, handle) for number in signals}
    try:
        interrupted = _train(payload, stop)
        if stop.is_set() and on_stop:
            on_stop(received, interrupted)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _train(payload: Mapping[str, Any], stop: threading.Event) -> list[InterruptedRun]:
    tasks = [(run_from_json(task), Journal(Path(task["journal"]))) for task in payload["tasks"]]
    context = RunContext(
        out=Path(payload["out"]),
        data_root=Path(payload["data_root"]) if payload["data_root"] else None,
        workers=1,
        threads=payload["threads"],
        retrain=payload["retrain"],
        timeout=payload["timeout"],
        retries=0,  # the launching process retries, possibly on another node
        environment=payload["environment"],
        stop=stop,
        signals=(),
        on_message=lambda _: None,
        models={
            digest: ModelLocation(**model) for digest, model in payload.get("models", {}).items()
        },
    )
    # After a requeue, some runs have already ended.
    remaining = {run.id: (run, journal) for run, journal in tasks if not journal.has_ended()}
    epoch = dict.fromkeys(remaining, 1)
    progressed = set()
    for event in local.execute([run for run, _ in remaining.values()], context):
        epoch[event.run_id] = epoch_begun(event) or epoch[event.run_id]
        if isinstance(event, EpochEnded):
            progressed.add(event.run_id)
        remaining[event.run_id][1].append(event)
        if isinstance(event, (Finished, Failed)):
            del remaining[event.run_id]
    return [
        InterruptedRun(run, journal, epoch[run.id], run.id in progressed)
        for run, journal in remaining.values()
    ]


class Journal:
    """The events of a run in a file, one per line, written by its job and read while it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._progress_at = 0.0  # when the last Progress event was written
        self._has_appended = False
        self._offset = 0  # bytes read

    def append(self, event: Event) -> None:
        """Add an event. At most one Progress event is written every PROGRESS_EVERY seconds."""
        if isinstance(event, Progress):
            if time.monotonic() - self._progress_at < PROGRESS_EVERY:
                return
            self._progress_at = time.monotonic()
        # Closing the file makes the new line visible to other machines on a network disk.
        with self.path.open("a", encoding="utf-8") as file:
            # An earlier job may have died in the middle of a line, so start a new one.
            file.write(("" if self._has_appended else "\n") + encode(event) + "\n")
        self._has_appended = True

    def poll(self) -> list[Event]:
        """The events since the last call; empty if there is no file."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        complete = content[: content.rfind(b"\n") + 1]  # the last line may be incomplete
        self._offset += len(complete)
        events = []
        for line in complete.splitlines():
            # Skip lines that are incomplete because their job died.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                events.append(decode(line.decode()))
        return events

    def has_ended(self) -> bool:
        """Whether the journal contains the end of the run; an interruption is not an end."""
        return any(isinstance(event, (Finished, Failed)) for event in Journal(self.path).poll())
