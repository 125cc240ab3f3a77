"""A sweep whose state is kept up to date with the files in its folder and in the store."""

from __future__ import annotations

import itertools
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.text import describe_os_error, one_line
from lenet_sweep.results.csv_file import read_records_csv
from lenet_sweep.results.event_file import MAX_EPOCH_BYTES, NAME, EventFileReader, LaunchStarted
from lenet_sweep.results.manifest import Manifest, read_manifest
from lenet_sweep.serve.json_values import short_text
from lenet_sweep.serve.served_folder import UNUSABLE, RefusedError, ServedFolder
from lenet_sweep.serve.sweep_state import SweepState

MAX_CELLS = 10_000  # of a sweep that the page shows
CHUNKS = 3  # of events.jsonl that are read at a time
LIST_CHUNK = 256 * 1024  # bytes of events.jsonl that are read at a time for the list of sweeps
HISTORIES = 40  # runs whose curves are read from the store at a time
ALIVE = 15.0  # seconds without a change of events.jsonl until its launch counts as ended
GONE = 6.0  # the same if its process is not found; the recorder changes the file every 3 seconds

_GENERATIONS = itertools.count(1)


class LiveSweep:
    """A sweep that is read again when its files change. Only one thread may use it at a time.

    is_read: whether it was refreshed. error: why it cannot be shown, in one line; "" if it can.
    state: the content of the files so far. generation: changes when the sweep was launched again,
    which changes its cells and replaces the state. It differs from those of all other sweeps, such
    as a deleted one with the same name.
    """

    def __init__(self, name: str, folder: Path, served: ServedFolder) -> None:
        self.name = name
        self.folder = folder
        self.served = served
        self.error = ""
        self.generation = 0
        self.is_read = False
        self._is_detailed = False
        self._stamps: dict[str, Any] = {}
        self._forget()

    def _forget(self) -> None:
        """Start over, as before the first refresh."""
        self.manifest: Manifest | None = None
        self.state = SweepState((), detailed=self._is_detailed)
        self._reader: EventFileReader | None = None

    @property
    def changed(self) -> float | None:
        """The time of the last change of a file, in seconds since the epoch."""
        stamps = [stamp[0] for stamp in self._stamps.values() if stamp]
        return max(stamps) / 1e9 if stamps else None

    def refresh(self, *, detailed: bool) -> bool:
        """Read what has changed on disk, and return whether anything has.

        detailed: keep the curves, and read those of runs that no event has described. Otherwise,
        unless this was true before, only the last epoch of each run is kept.
        """
        before, is_first = self.error, not self.is_read
        self.is_read = True
        try:
            changed = self._refresh(detailed=detailed)
            self.error = ""
        except RefusedError as refusal:
            self.error, changed = str(refusal), False
        except FileNotFoundError:
            self.error, changed = "this sweep no longer exists", False
        except OSError as error:
            self.error, changed = one_line(describe_os_error(error)), False
        except Exception as error:  # noqa: BLE001 - whatever a forged file leads to
            self.error, changed = _malformed("sweep.json", error), False
        return changed or is_first or self.error != before

    def _refresh(self, *, detailed: bool) -> bool:
        changed = False
        if detailed and not self._is_detailed:
            self._is_detailed = True
            self._stamps.clear()  # start over
        if self._has_changed("sweep.json"):
            self._forget()
            self._stamps.pop("results.csv", None)
            self._load_manifest()
            self.generation = next(_GENERATIONS)
            changed = True
        if self.manifest is None:
            raise StoreError(self.error)
        if self._has_changed("results.csv"):
            self._read_table()
            changed = True
        changed |= self._read_events()
        changed |= self._check_launches(time.time())
        if detailed:
            changed |= self._read_histories()
        return changed

    def _has_changed(self, name: str) -> bool:
        """Whether a file differs from the one that was read last. Raises RefusedError."""
        path = self.served.file(self.folder / name)
        status = path.stat() if path else None
        stamp = status and (status.st_mtime_ns, status.st_size, status.st_ino)
        if name in self._stamps and self._stamps[name] == stamp:
            return False
        self._stamps[name] = stamp
        return True

    def _load_manifest(self) -> None:
        manifest = read_manifest(self.served.inside(self.folder))
        if len(manifest.cells) > MAX_CELLS:
            raise RefusedError(
                f"this sweep has {len(manifest.cells):,} cells; the live page can show at most "
                f"{MAX_CELLS:,}; see results.csv"
            )
        cells = tuple(dict.fromkeys(manifest.cells))
        if not all(type(cell.epochs) is int and 0 < cell.epochs <= 100_000 for cell in cells):
            raise StoreError(
                "sweep.json is not read: each cell must have a whole number of epochs from 1 to "
                "100,000"
            )
        self.state = SweepState(cells, detailed=self._is_detailed)
        self.manifest = manifest

    def _read_table(self) -> None:
        assert self.manifest is not None
        path = self.served.file(self.folder / "results.csv")
        if path is None:
            return
        changed = path.stat().st_mtime
        try:
            records = read_records_csv(path.parent, self.state.cells)
        except UNUSABLE as error:
            self.state.notes[_malformed("results.csv", error)] = None
            return
        for index, cell in enumerate(self.state.cells):
            if record := records.get(cell):
                self.state.add_record(index, record, changed)

    def _read_events(self) -> bool:
        notes = self.state.notes
        try:
            path = self.served.file(self.folder / NAME)
        except RefusedError as refusal:
            notes[str(refusal)] = None
            return False
        if path is None:
            return False
        if self._reader is None:
            self._reader = EventFileReader(path)
        if path.stat().st_size > MAX_EPOCH_BYTES:
            notes[f"{NAME} is full, so new epochs are not shown until their run ends"] = None
        changed = False
        for size in [None] * CHUNKS if self._is_detailed else [LIST_CHUNK]:
            entries, is_new = self._reader.read(size)
            if is_new:  # the next refresh starts over
                self._stamps.clear()
                return True
            for entry in entries:
                self.state.add(entry)
            changed |= bool(entries)
        if self._reader.malformed:
            notes[f"{NAME} has lines that cannot be read; they are ignored"] = None
        return changed

    def _read_histories(self) -> bool:
        """Read the curves of some runs from the store, as far as no event has described them."""
        state = self.state
        if not state.unread or self.manifest is None:
            return False
        batch, state.unread = state.unread[:HISTORIES], state.unread[HISTORIES:]
        store = self.manifest.store
        try:
            self.served.inside(store.out)
        except RefusedError:
            state.notes[
                "The store of this sweep is outside the served folder, so earlier curves are "
                "not shown; to show them, serve the folder that contains both"
            ] = None
            state.unread = []
            return True
        for run_id in batch:
            longest = max(state.cells[index].epochs for index in state.cells_of_run[run_id])
            if state.knows(run_id, longest):
                continue
            folder = store.run_folder(run_id)
            try:
                self.served.run_folder(folder.path)
                state.add_history(run_id, folder.history(longest))
            except RefusedError as refusal:
                state.notes[str(refusal)] = None
            except UNUSABLE as error:
                state.notes[_malformed(f"runs/{run_id}", error)] = None
        return True

    def _check_launches(self, now: float) -> bool:
        """Find launches that were killed, and return whether there are any new ones."""
        launches = [launch for launch in self.state.launches.values() if not launch.ended]
        if not launches:
            return False
        try:
            age = abs(now - (self.folder / NAME).stat().st_mtime)
        except OSError:
            age = math.inf
        found = [_has_process(launch.started) for launch in launches]
        changed = False
        for launch, has_process in zip(launches, found, strict=True):
            # In a container, the processes of others are not found, but the file is new. It is also
            # new if another launch changes it, whose process shows that processes can be found.
            is_gone = has_process is False and (age > GONE or any(found))
            alive = age < ALIVE and not is_gone
            changed |= self.state.set_alive(launch, alive)
        return changed


def _has_process(started: LaunchStarted) -> bool | None:
    """Whether the process of a launch exists; None if this machine cannot tell."""
    if started.host != socket.gethostname() or os.name != "posix" or started.pid <= 0:
        return None
    try:
        os.kill(started.pid, 0)  # only checks whether the process exists
    except ProcessLookupError:
        return False
    except OverflowError:
        return None
    except OSError:  # it belongs to another user
        return True
    return True


def _malformed(name: str, error: BaseException) -> str:
    if isinstance(error, StoreError) and str(error):
        return short_text(error)
    return f"{name} does not have the expected content ({type(error).__name__}); it is not read"
