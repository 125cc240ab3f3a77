"""What runs inside a job on a cluster: its runs, in a local worker, told to whoever follows them.

A job tells what happens in a journal: a file of events on the shared disk, one for each run, which
anyone may read while it grows. So the launching process may go away and come back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_sweep.config.registry import cell_from_json
from lenet_sweep.core.cells import Run
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import (
    EpochEnded,
    Event,
    Failed,
    Failure,
    Finished,
    Progress,
    decode,
    encode,
    epoch_begun,
)
from lenet_sweep.executors import RunContext, local
from lenet_sweep.storage.store import Store

PROGRESS_EVERY = 1.0  # seconds: a shared disk has more to do than this
WAIT_FOR_THE_END = 900.0  # seconds until a job that was told to end gives up waiting for that
# A job is told to end with SIGTERM, and with SIGUSR2 when its time is nearly up. Ray's way to
# cancel a task is Python's for Ctrl-C.
ENDING = ("SIGTERM", "SIGUSR2", "SIGINT")


@dataclass(frozen=True)
class Task:
    """A run that a job is to train, and the journal it is told in."""

    run: Run
    journal: Path


def job_payload(tasks: Sequence[Task], context: RunContext) -> dict[str, Any]:
    """A job's tasks as plain values: no class of ours has to be unpickled where it runs."""
    return {
        "out": str(context.out.absolute()),
        "data_root": str(context.data_root.absolute()) if context.data_root else None,
        "retrain": context.retrain,
        "timeout": context.timeout,
        "environment": dict(context.environment),
        "tasks": [
            {
                "cell": task.run.cell.to_json(),
                "snapshot_epochs": list(task.run.snapshot_epochs),
                "journal": str(task.journal.absolute()),
            }
            for task in tasks
        ],
    }


def run_job(ordered: Mapping[str, Any]) -> None:
    """Train what `order` made, one run after the other, until told to end.

    Then what was trained is checkpointed. Under Slurm a job whose time is nearly up is queued
    again, and goes on from there. One that Slurm ends for reasons of its own waits for that: had
    it left by itself, Slurm would not queue it again where it means to.
    """
    stop = threading.Event()
    received: list[int] = []

    def handle(number: int, _: object) -> None:
        received.append(number)
        stop.set()

    before = {s: signal.signal(s, handle) for s in (getattr(signal, n) for n in ENDING)}
    try:
        interrupted = _train(ordered, stop)
        if stop.is_set() and (job := _slurm_job()):
            if signal.SIGUSR2 in received:
                _queue_again(job, interrupted, ordered)
            elif interrupted:
                time.sleep(WAIT_FOR_THE_END)
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@dataclass(frozen=True)
class _InterruptedRun:
    """A run that was told to end before it was done.

    epoch: in which it was. moved: whether this job has finished an epoch of it.
    """

    run: Run
    journal: Journal
    epoch: int
    moved: bool


def _train(ordered: Mapping[str, Any], stop: threading.Event) -> list[_InterruptedRun]:
    tasks = [
        (
            Run(cell_from_json(task["cell"]), tuple(task["snapshot_epochs"])),
            Journal(Path(task["journal"])),
        )
        for task in ordered["tasks"]
    ]
    context = RunContext(
        out=Path(ordered["out"]),
        data_root=Path(ordered["data_root"]) if ordered["data_root"] else None,
        workers=1,
        retrain=ordered["retrain"],
        timeout=ordered["timeout"],
        retries=0,  # who follows it tries again, maybe elsewhere
        environment=ordered["environment"],
        stop=stop,
        signals=(),
        say=_say_nothing,
    )
    # What this job has told the end of before it was queued again.
    left = {run.id: (run, journal) for run, journal in tasks if not journal.has_ended()}
    epoch = dict.fromkeys(left, 1)
    moved = set()
    for event in local.execute([run for run, _ in left.values()], context):
        epoch[event.run_id] = epoch_begun(event) or epoch[event.run_id]
        if isinstance(event, EpochEnded):
            moved.add(event.run_id)
        left[event.run_id][1].append(event)
        if isinstance(event, (Finished, Failed)):
            del left[event.run_id]
    return [
        _InterruptedRun(run, told, epoch[run.id], run.id in moved) for run, told in left.values()
    ]


def _say_nothing(_: str) -> None:
    pass


def _slurm_job() -> str | None:
    """The number of the Slurm job that this process is in."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _queue_again(
    job: str, interrupted: Sequence[_InterruptedRun], ordered: Mapping[str, Any]
) -> None:
    """Have Slurm queue this job again; a failure of its runs where that would lead nowhere."""
    if not interrupted:
        return
    if not any(each.moved for each in interrupted):
        why = "no epoch ended within the time of its job; more: hydra.launcher.time=MINUTES"
    else:
        # In a session of its own, since Slurm ends this job's processes, and this is one.
        asked = subprocess.run(
            ["scontrol", "requeue", job],  # noqa: S607 - Slurm is where the user's path has it
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        if asked.returncode <= 0:  # below 0: it was ended, as Slurm does what it was asked for
            time.sleep(WAIT_FOR_THE_END)
            return
        why = (
            f"the time of its job was up, and Slurm did not queue it again: {asked.stderr.strip()}"
        )
    person = str(ordered["environment"].get("person", ""))
    for each in interrupted:
        failure = Failure("timed-out", each.epoch, why, person=person)
        with contextlib.suppress(StoreError):  # the journal tells it too
            Store(Path(ordered["out"])).run(each.run.id).write_failure(failure)
        each.journal.append(Failed(each.run.id, failure))


class Journal:
    """A file of events, one a line, of one run: written by its job, read while it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._told_at = 0.0
        self._begun = False
        self._read = 0  # bytes

    def append(self, event: Event) -> None:
        """Add an event; of a run's progress, one a second."""
        if isinstance(event, Progress):
            if time.monotonic() - self._told_at < PROGRESS_EVERY:
                return
            self._told_at = time.monotonic()
        # Opened and closed each time: on a network's disk that is what shows others the new line.
        with self.path.open("a", encoding="utf-8") as file:
            # An earlier attempt may have been cut off in the middle of a line.
            file.write(("" if self._begun else "\n") + encode(event) + "\n")
        self._begun = True

    def poll(self) -> list[Event]:
        """The events since it was last asked; none where there is no file."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]  # a line may be half written
        self._read += len(whole)
        events = []
        for line in whole.splitlines():
            # One was cut off by the death of its job.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                events.append(decode(line.decode()))
        return events

    def has_ended(self) -> bool:
        """Whether it tells of an end; to be interrupted is none."""
        return any(isinstance(event, (Finished, Failed)) for event in Journal(self.path).poll())
