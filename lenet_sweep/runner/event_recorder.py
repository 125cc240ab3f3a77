"""An observer that appends the events of a sweep to events.jsonl, for the live page.

A sweep must not fail or wait because of it. A thread writes the lines, so a slow disk delays only
the page, and after an error, such as a full disk, the thread tries again.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import queue
import secrets
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lenet_sweep.core.events import EpochEnded, Event, LockedElsewhere, Progress, SearchRound
from lenet_sweep.core.plans import Plan
from lenet_sweep.results.event_file import (
    MAX_BYTES,
    MAX_EPOCH_BYTES,
    MAX_RUNS,
    NAME,
    NO_WAIT,
    Content,
    Entry,
    LaunchEnded,
    LaunchStarted,
    RoundStarted,
    RunsAdded,
    encode_entry,
)
from lenet_sweep.ui.observer import Observer

MAX_WAITING = 20_000  # entries for the thread to write; further ones are lost
BEAT = 3.0  # seconds between two changes of the file's time, which show that the launch is alive
RETRY = 5.0  # seconds after an error until the next attempt
END_TIMEOUT = 0.5  # seconds to wait at the end for the last lines


class EventRecorder(Observer):
    """Records everything but the progress within an epoch.

    An epoch takes about 330 bytes. The file grows to at most MAX_BYTES over all launches, and a
    launch that has nothing to train adds nothing.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = folder / NAME
        self._clock = clock
        self._launch = secrets.token_hex(4)
        self._entries: queue.Queue[Entry | None] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._listed: set[str] = set()  # the runs that a line has named

    def on_start(self, plan: Plan, workers: int | None) -> None:
        if not plan.runs:
            return
        runs = self._list_new(plan)
        self._thread = threading.Thread(target=self._write, name="events", daemon=True)
        self._thread.start()
        self._add(LaunchStarted(workers, socket.gethostname(), os.getpid(), runs))

    def on_plan(self, plan: Plan) -> None:
        if self._thread and (runs := self._list_new(plan)):
            self._add(RunsAdded(runs))

    def on_round(self, search_round: SearchRound) -> None:
        runs = {
            run.id: (run.cell.epochs, search_round.trained.get(run.id, 0))
            for run in search_round.runs
        }
        if self._thread and len(runs) <= MAX_RUNS:
            later = search_round.later
            self._add(RoundStarted(search_round.stage, runs, later, search_round.at_most))

    def _list_new(self, plan: Plan) -> dict[str, tuple[int, ...]]:
        """The runs that no line has named, with the epochs of their cells; none if too many."""
        if len(plan.runs) > MAX_RUNS:
            return {}
        runs = {run.id: run.snapshot_epochs for run in plan.runs if run.id not in self._listed}
        self._listed |= runs.keys()
        return runs

    def on_event(self, event: Event) -> None:
        if not isinstance(event, Progress | LockedElsewhere):
            self._add(event)

    def on_end(self) -> None:
        if self._thread:
            self._add(LaunchEnded())
            self._ended.set()
            try:
                self._entries.put_nowait(None)
            except queue.Full:
                return
            self._thread.join(END_TIMEOUT)

    def _add(self, content: Content) -> None:
        with contextlib.suppress(queue.Full):  # the disk hangs
            self._entries.put_nowait(Entry(self._clock(), self._launch, content))

    def _write(self) -> None:
        """Write the entries until the end. After an error, those that failed are written again."""
        entries: list[Entry | None] = []
        is_last = False
        while True:
            with contextlib.suppress(OSError), _open(self._path) as file:
                while True:
                    entries = entries or self._wait()
                    if not _append(file, [entry for entry in entries if entry]):
                        os.utime(file.fileno() if os.utime in os.supports_fd else self._path)
                    if None in entries or (not entries and self._ended.is_set()):
                        return
                    entries = []
            if is_last:
                return
            is_last = self._ended.wait(RETRY)  # one more attempt at the end

    def _wait(self) -> list[Entry | None]:
        """All entries that are waiting; none if there was none for BEAT seconds."""
        try:
            entries = [self._entries.get(timeout=BEAT)]
        except queue.Empty:
            return []
        while not self._entries.empty():
            entries.append(self._entries.get_nowait())
        return entries


@contextlib.contextmanager
def _open(path: Path) -> Iterator[io.FileIO]:
    """Open the file to append to it, and end the line that a killed launch has left incomplete.

    Raises OSError, also if it is not a regular file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_WAIT, 0o666)
    with io.FileIO(descriptor, "a+") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a file")
        if status.st_size:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        yield file


def _append(file: io.FileIO, entries: Sequence[Entry]) -> bool:
    """Append the entries in one write, as far as the limits of the file allow.

    Returns whether there were any. Raises OSError if not all of them were written.
    """
    size = os.fstat(file.fileno()).st_size
    lines = []
    for entry in entries:
        line = encode_entry(entry)
        is_epoch = isinstance(entry.content, EpochEnded)
        if size + len(line) <= (MAX_EPOCH_BYTES if is_epoch else MAX_BYTES):
            lines.append(line)
            size += len(line)
    content = "".join(lines).encode()
    if content and file.write(content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return bool(content)
