"""Runs trackers in threads of their own, so that none of them can fail or delay a sweep."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_sweep.config.trackers import TRACKERS
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import CellFinished, EpochEnded, Event, Failed, Started, Stopped
from lenet_sweep.core.plans import Plan
from lenet_sweep.core.text import join_command, one_line, shorten, to_str
from lenet_sweep.results.manifest import Manifest
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.storage.files import lock_file
from lenet_sweep.track import TrackedSweep, Tracker, collect
from lenet_sweep.track.live_cells import LiveCells
from lenet_sweep.ui.observer import Observer

EVERY = 1.0  # seconds between two writes of a tracker during a sweep
EVENTS = (Started, EpochEnded, CellFinished, Failed, Stopped)  # the others are not written
MAX_ERROR = 300  # characters of an error in a message


@dataclass(frozen=True)
class Limits:
    """How long the end of a sweep waits for its trackers, in seconds.

    total: for all of them. call: for one call; a tracker that takes longer is assumed to hang.
    interrupted: for all of them after a signal.
    """

    total: float = 60.0
    call: float = 30.0
    interrupted: float = 1.5


LIMITS = Limits()


class AlreadyTrackedError(Exception):
    """Another process is writing the same sweep with the same tracker."""

    def __init__(self) -> None:
        super().__init__("another process is writing this sweep")


def write_sweep(name: str, sweep: Sweep) -> None:
    """Write a sweep with a tracker, from its folder and the store.

    Raises AlreadyTrackedError, StoreError, and whatever the tracker raises.
    """
    with _locked(sweep.folder, name) as locked:
        if not locked:
            raise AlreadyTrackedError
        tracker: Tracker = TRACKERS.find(name)()
        tracker.open(collect.tracked_sweep(sweep.folder, sweep.manifest, is_running=False))
        for _ in _write_all(tracker, sweep, lambda _: ()):
            pass


def _write_all(
    tracker: Tracker, sweep: Sweep, live: Callable[[str], collect.History]
) -> Iterator[None]:
    """Write all cells and close the tracker; yields before each call."""
    for cell in collect.tracked_cells(sweep, live):
        yield
        tracker.log(cell)
    yield
    tracker.close(collect.sweep_files(sweep.folder), complete=collect.is_complete(sweep))


@contextlib.contextmanager
def _locked(folder: Path, name: str, timeout: float = 0) -> Iterator[bool]:
    """Hold the lock of a sweep for a tracker. Yields whether it was acquired within `timeout`."""
    lock = lock_file(folder / f".{name}.lock", timeout)
    try:
        yield lock is not None
    finally:
        if lock:
            lock.release()


class Tracking(Observer):
    """Passes the events of a sweep to its trackers, each of which runs in a thread of its own.

    warnings: a line for each tracker that has failed, or that did not end in time.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        manifest: Manifest,
        person: str,
        on_message: Callable[[str], None],
    ) -> None:
        sweep = collect.tracked_sweep(folder, manifest)
        self.warnings: list[str] = []
        self._folder, self._on_message = folder, on_message
        self._threads = [_TrackerThread(name, sweep, person) for name in names]

    def on_start(self, plan: Plan, workers: int | None) -> None:  # noqa: ARG002 - of Observer
        self._put(plan)

    def on_event(self, event: Event) -> None:
        if isinstance(event, EVENTS):
            self._put(event)

    def _put(self, message: Plan | Event) -> None:
        for thread in list(self._threads):
            thread.put(message)
            if thread.ended.is_set():
                self._warn(thread, thread.error)

    def _warn(self, thread: _TrackerThread, reason: str) -> None:
        self._threads.remove(thread)
        command = f"python -m lenet_sweep.track {join_command([str(self._folder)])}"
        line = (
            f"tracker {thread.name}: {reason}; to write the sweep later, run: "
            f"{command} --to {thread.name}"
        )
        self.warnings.append(line)
        self._on_message(line)

    def finish(
        self, sweep: Sweep, on_message: Callable[[str], None], is_interrupted: Callable[[], bool]
    ) -> None:
        """Write the final state of the sweep, and wait for the trackers within LIMITS.

        on_message: gets the warnings from now on. is_interrupted: whether a signal has arrived;
        called repeatedly.
        """
        self._on_message, limits = on_message, LIMITS
        began = time.monotonic()
        for thread in self._threads:
            thread.close(sweep)
        for thread in list(self._threads):
            while not thread.ended.wait(0.05):
                limit = limits.interrupted if is_interrupted() else limits.total
                if time.monotonic() - began > limit or thread.hangs(limits.call):
                    self._warn(thread, "did not finish in time; some results may be missing")
                    break
            else:
                if thread.error:
                    self._warn(thread, thread.error)

    @contextlib.contextmanager
    def abandoned_after_error(self) -> Iterator[None]:
        """End the trackers, without waiting, if the body of the `with` raises an exception."""
        try:
            yield
        except BaseException:
            for thread in self._threads:
                thread.close(None)
            raise


class _TrackerThread:
    """Writes a sweep with one tracker, in a daemon thread.

    The methods are called in the thread of the sweep. error: why the thread has ended early.
    """

    def __init__(self, name: str, sweep: TrackedSweep, person: str) -> None:
        self.name = name
        self.error = ""
        self.ended = threading.Event()
        self._calling_since: float | None = None  # monotonic time
        self._sweep = sweep
        # None ends the thread; a Sweep is the final state, which is written before that.
        self._queue: queue.SimpleQueue[Plan | Event | Sweep | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._live = LiveCells(sweep, person)
        threading.Thread(target=self._work, name=f"tracker {name}", daemon=True).start()

    def put(self, message: Plan | Event) -> None:
        """Let the thread write what a message changes."""
        self._queue.put(message)

    def close(self, sweep: Sweep | None) -> None:
        """Let the thread end, after it has written the final state if that is given."""
        self._queue.put(sweep)
        self._closing.set()

    def hangs(self, limit: float) -> bool:
        """Whether a call has taken longer than the limit, in seconds."""
        since = self._calling_since
        return since is not None and time.monotonic() - since > limit

    def _work(self) -> None:
        try:
            while not self._closing.is_set():
                with _locked(self._sweep.folder, self.name, EVERY) as locked:
                    if locked:
                        self._track()
                        return
            raise AlreadyTrackedError  # noqa: TRY301 - reported like the errors of trackers
        except BaseException as error:  # noqa: BLE001 - a tracker must not fail the sweep
            self.error = describe_error(error)
        finally:
            self.ended.set()

    def _track(self) -> None:
        self._calling_since = time.monotonic()
        tracker: Tracker = TRACKERS.find(self.name)()
        tracker.open(self._sweep)
        while True:
            self._calling_since = None
            for message in self._messages():
                if message is None:
                    return
                if isinstance(message, Sweep):
                    for _ in _write_all(tracker, message, self._live.history):
                        self._calling_since = time.monotonic()
                    return
                self._live.update(message)
            for cell in self._live.take_changed():
                self._calling_since = time.monotonic()
                tracker.log(cell)
            self._calling_since = None
            self._closing.wait(EVERY)

    def _messages(self) -> Iterator[Plan | Event | Sweep | None]:
        """Wait for a message; all that have arrived, so that a slow tracker skips states."""
        yield self._queue.get()
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._queue.get_nowait()


def describe_error(error: BaseException) -> str:
    """An error in one line, with its type unless it is ours, and without the address of a server.

    The address may contain a password.
    """
    text = one_line(to_str(error))
    if address := os.environ.get("MLFLOW_TRACKING_URI"):
        text = text.replace(address, "MLFLOW_TRACKING_URI")
    text = re.sub(r"//[^/@\s]*@", "//", text)
    text = shorten(text, MAX_ERROR)
    is_clear = isinstance(error, (AlreadyTrackedError, StoreError))
    return text if is_clear else f"{type(error).__name__}: {text}"
