"""Watches the sweeps that someone looks at, and passes what changes to each open page."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lenet_sweep.core.cells import Cell
from lenet_sweep.results.manifest import Manifest
from lenet_sweep.serve import sweep_json
from lenet_sweep.serve.live_sweep import LiveSweep
from lenet_sweep.serve.served_folder import RefusedError, ServedFolder

INTERVAL = 0.2  # seconds between two looks at the files
LIST_INTERVAL = 1.0  # seconds between two looks for new sweeps
LIST_BUDGET = 0.15  # seconds of a look in which sweeps of the list are read
HEAD_INTERVAL = 2.0  # seconds until a head is compared again, which names report.html
BEAT = 10.0  # seconds without a message until an empty one, which finds closed connections
COMPARED = 8  # sweeps that one page can show


@dataclass
class _Cursor:
    """What a page has of a sweep."""

    generation: int = 0
    version: int = 0
    points: int = 0
    head: Any = None


class Feed:
    """The sweeps of the served folder, kept up to date by a thread while pages are open."""

    def __init__(self, served: ServedFolder) -> None:
        self.served = served
        self._condition = threading.Condition()
        self._sweeps: dict[str, LiveSweep] = {}
        self._left_out = 0  # older sweeps
        self._viewed: Counter[str] = Counter()
        self._list_viewers = 0
        self._listed_at = float("-inf")
        self._next_of_list = 0
        self._changes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def start(self) -> None:
        """Start the thread that watches."""
        self._thread.start()

    def close(self) -> None:
        """End all streams and the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def cell(self, name: str, cell_id: str) -> tuple[Cell, Manifest]:
        """A cell of a sweep, and the manifest of the sweep. Raises RefusedError."""
        with self._condition:
            sweep = self._find(name)
            sweep.refresh(detailed=False)
            if sweep.error or sweep.manifest is None:
                raise RefusedError(sweep.error)
            for cell in sweep.state.cells:
                if cell.id == cell_id:
                    return cell, sweep.manifest
        raise RefusedError("this sweep has no such cell")

    def folder_file(self, name: str, file: str) -> bytes:
        """The content of a file in a sweep's folder. Raises RefusedError."""
        with self._condition:
            folder = self._find(name).folder
        path = self.served.file(folder / file)
        if path is None:
            raise RefusedError(f"this sweep has no {file}")
        try:
            return path.read_bytes()
        except OSError as error:
            raise RefusedError(f"{file}: {error.strerror}") from error

    # ------------------------------------------------------------ streams

    def stream(self, names: Sequence[str]) -> Iterator[bytes]:
        """The messages of a page (server-sent events), until it is closed.

        names: the sweeps that it shows; none for the list of all sweeps.
        """
        cursors = {name: _Cursor() for name in names}
        sent: Any = None  # the list
        last = time.monotonic()
        with self._viewing(names):
            while True:
                with self._condition:
                    if self._closed:
                        return
                    seen = self._changes
                    if names:
                        updates = [
                            update
                            for each, cursor in cursors.items()
                            for update in self._updates(each, cursor)
                        ]
                    else:
                        values = self._cards()
                        updates = [] if values == sent else [("sweeps", values)]
                        sent = values
                if updates:  # encoded and sent without the lock
                    yield b"".join(_message(kind, values) for kind, values in updates)
                    last = time.monotonic()
                elif time.monotonic() - last > BEAT:
                    yield b": beat\n\n"
                    last = time.monotonic()
                with self._condition:
                    if seen == self._changes and not self._closed:
                        self._condition.wait(HEAD_INTERVAL)

    @contextlib.contextmanager
    def _viewing(self, names: Sequence[str]) -> Iterator[None]:
        with self._condition:
            for name in names:
                with contextlib.suppress(RefusedError):  # reported in the stream
                    self._changes += self._find(name).refresh(detailed=True)
            self._viewed.update(names)
            self._list_viewers += not names
            self._list()
            if not names:
                self._refresh_list()
            self._condition.notify_all()
        try:
            yield
        finally:
            with self._condition:
                self._viewed.subtract(names)
                self._viewed += Counter()  # drops those that are at zero
                self._list_viewers -= not names
                if not self._list_viewers:  # the others are read again when they are needed
                    self._sweeps = {
                        name: sweep
                        for name, sweep in self._sweeps.items()
                        if name in self._viewed or sweep.state.is_alive
                    }

    def _cards(self) -> dict[str, Any]:
        """The list of all sweeps; the condition is held."""
        cards = [sweep_json.summary(sweep) for sweep in self._sweeps.values() if sweep.is_read]
        reading = len(self._sweeps) - len(cards)
        return {
            "folder": self.served.root.name,
            "sweeps": cards,
            "reading": reading,
            "left_out": self._left_out,
        }

    def _updates(self, name: str, cursor: _Cursor) -> list[tuple[str, Any]]:
        """What brings a page up to date, at most one message; the condition is held."""
        try:
            sweep = self._find(name)
        except RefusedError as refusal:
            head = {"sweep": name, "error": str(refusal)}
            is_new, cursor.head = head != cursor.head, head
            return [("update", {"sweep": name, "head": head})] if is_new else []
        if not sweep.is_read:
            return []
        head = sweep_json.head(sweep)
        if sweep.error:
            is_new, cursor.head = head != cursor.head, head
            return [("update", {"sweep": name, "head": head})] if is_new else []
        values: dict[str, Any] = {"sweep": name}
        kind = "update"
        if cursor.generation != sweep.generation:
            kind, values = "snapshot", {"sweep": name, "head": head, **sweep_json.snapshot(sweep)}
        else:
            if head != cursor.head:
                values["head"] = head
            if rows := sweep.state.rows_since(cursor.version):
                values["rows"] = rows
            if points := sweep.state.points[cursor.points :]:
                values["points"] = points
        cursor.generation, cursor.version = sweep.generation, sweep.state.version
        cursor.points, cursor.head = len(sweep.state.points), head
        return [(kind, values)] if len(values) > 1 else []

    # ------------------------------------------------------------ watching

    def _find(self, name: str) -> LiveSweep:
        """The sweep with this name; the condition is held. Raises RefusedError."""
        if name not in self._sweeps:
            self._list()
        if name not in self._sweeps:
            raise RefusedError("there is no sweep with this name")
        return self._sweeps[name]

    def _list(self) -> None:
        """Find new and removed sweeps; the condition is held."""
        folders, left_out = self.served.sweeps()
        self._listed_at = time.monotonic()
        known = self._sweeps
        self._sweeps = {
            name: known[name]
            if name in known and known[name].folder == folder
            else LiveSweep(name, folder, self.served)
            for name, folder in folders.items()
        }
        self._changes += known.keys() != folders.keys() or left_out != self._left_out
        self._left_out = left_out

    def _watch(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closed or self._list_viewers or self._viewed)
                if self._closed:
                    return
                before = self._changes
                if time.monotonic() - self._listed_at > LIST_INTERVAL:
                    self._list()
                for name in self._viewed:
                    if name in self._sweeps:
                        self._changes += self._sweeps[name].refresh(detailed=True)
                if self._list_viewers:
                    self._refresh_list()
                if self._changes != before:
                    self._condition.notify_all()
            time.sleep(INTERVAL)

    def _refresh_list(self) -> None:
        """Refresh the sweeps of the list in turn, for LIST_BUDGET seconds."""
        sweeps = [*self._sweeps.values()]
        end = time.monotonic() + LIST_BUDGET
        for _ in sweeps:
            sweep = sweeps[self._next_of_list % len(sweeps)]
            self._next_of_list += 1
            self._changes += sweep.refresh(detailed=False)
            if time.monotonic() > end:
                return


def _message(kind: str, values: Any) -> bytes:
    """A server-sent event. JSON has no line breaks, so one line holds the data."""
    return f"event: {kind}\ndata: {json.dumps(values, separators=(',', ':'))}\n\n".encode()
