"""The store: a folder in which every run and its read-outs last, whatever happens.

    <out>/runs/<run id>/
        run.json                      the settings, versions and hardware of the run
        epoch-00100.safetensors       a read-out: the run's state after 100 epochs
        checkpoint.safetensors        the state to go on from, if newer than every read-out
        failure.json                  why the run did not finish, with its traceback
        lock                          held by the one process that trains the run

A read-out and a checkpoint are the same thing, a Snapshot in one file. Of every file the old or the
new state is seen, never half of one; each carries a checksum, and one that was damaged later is
moved aside to `<name>.damaged`, where it can be looked at and is never taken for a result.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Epoch, Failure
from lenet_sweep.storage.files import (
    _UNREADABLE,
    DamagedError,
    lock_file,
    make_folder,
    move_to_damaged,
    read_json,
    remove,
    write_atomic,
    write_json,
)
from lenet_sweep.storage.snapshots import Snapshot, _header, _read_snapshot, _to_bytes

HEADER_LIMIT = 10**8  # bytes, as in the safetensors library


class RunFolder:
    """One run's folder. Reading needs no lock; writing is for the holder of `claim`.

    damaged: what reading found to be damaged. It is left in its place: only the holder of the
    claim moves it aside, since another process may have made it anew meanwhile.
    """

    def __init__(self, path: Path, damaged: list[Path] | None = None) -> None:
        self.path = path
        self.damaged: list[Path] = [] if damaged is None else damaged

    def snapshot_path(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:05d}.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.safetensors"

    def has(self, epoch: int) -> bool:
        """Whether there is a sound read-out at this epoch."""
        return self.read(self.snapshot_path(epoch)) is not None

    def read(self, path: Path) -> Snapshot | None:
        """The snapshot in a file of this folder, None where it is missing or damaged."""
        try:
            return _read_snapshot(path)
        except DamagedError:
            self.damaged.append(path)
            return None

    def latest(self, until: int) -> Snapshot | None:
        """The newest sound snapshot that is not beyond epoch `until`: where to go on from."""
        checkpoint = self.read(self.checkpoint)
        if checkpoint and checkpoint.epoch > until:
            checkpoint = None
        newest = checkpoint.epoch if checkpoint else 0
        for epoch in sorted(
            (e for e in self._snapshot_epochs() if newest < e <= until), reverse=True
        ):
            if snapshot := self.read(self.snapshot_path(epoch)):
                return snapshot
        return checkpoint

    def _snapshot_epochs(self) -> list[int]:
        found = (re.fullmatch(r"epoch-(\d{5,6})", p.stem) for p in self.path.glob("epoch-*"))
        return [int(name[1]) for name in found if name]

    def history(self, until: int = sys.maxsize) -> tuple[Epoch, ...]:
        """The epochs of the newest snapshot that is not beyond epoch `until`, for estimates.

        Read from the header of its file alone, so that it is not verified; () where there is none.
        """
        newest = max((epoch for epoch in self._snapshot_epochs() if epoch <= until), default=0)
        found: tuple[Epoch, ...] = ()
        for path in (self.snapshot_path(newest), self.checkpoint):
            try:
                with path.open("rb") as file:
                    length = int.from_bytes(file.read(8), "little")
                    _, history = _header(file.read(min(length, HEADER_LIMIT)))
            except (OSError, *_UNREADABLE):
                continue
            if len(found) < len(history) <= until:
                found = history
        return found

    def write_snapshot(self, snapshot: Snapshot) -> None:
        write_atomic(self.snapshot_path(snapshot.epoch), _to_bytes(snapshot, self.path.name))

    def write_checkpoint(self, snapshot: Snapshot) -> None:
        write_atomic(self.checkpoint, _to_bytes(snapshot, self.path.name))

    def describe(self, cell: Cell, environment: Mapping[str, Any]) -> None:
        """Write run.json: for people, and for whoever rebuilds a table without the sweep."""
        settings = cell.to_json()
        del settings["epochs"]
        write_json(self.path / "run.json", {"settings": settings, "environment": environment})

    def description(self) -> dict[str, Any] | None:
        """What `describe` wrote, None where it is missing or damaged."""
        return self._json(self.path / "run.json")

    def failure(self, since: float = 0.0) -> Failure | None:
        """Why the run did not finish, None where nothing (or only a damaged note) says so.

        since: seconds, by the clock of the disk; a failure from before it is none.
        """
        path = self.path / "failure.json"
        if since and not (path.exists() and path.stat().st_mtime >= since):
            return None
        values = self._json(path)
        try:
            return None if values is None else Failure(**values)
        except TypeError:  # written by another version
            return None

    def _json(self, path: Path) -> dict[str, Any] | None:
        try:
            return read_json(path)
        except DamagedError:
            self.damaged.append(path)
            return None

    def set_damaged_aside(self) -> list[Path]:
        """For the holder of the claim: what reading has found damaged, moved aside now."""
        found = dict.fromkeys(self.damaged)
        self.damaged.clear()
        return [move_to_damaged(path) for path in found]

    def write_failure(self, failure: Failure) -> None:
        make_folder(self.path)  # a process may die before it has made it
        write_json(self.path / "failure.json", asdict(failure))

    def clear_failure(self) -> None:
        remove(self.path / "failure.json")

    def clear_checkpoint(self) -> None:
        remove(self.checkpoint)

    def claim(self, timeout: float) -> filelock.BaseFileLock | None:
        """The run's lock, to be released; None if another process still has it after `timeout` s.

        The lock is the operating system's: it ends with the process that holds it, so that a
        killed process leaves nothing to clean up but half-written temporary files.
        """
        make_folder(self.path)
        lock = lock_file(self.path / "lock", timeout)
        if lock is None:
            return None
        for left in self.path.glob(".*.tmp"):
            remove(left)
        return lock


class Store:
    """All runs below one output folder. `damaged`: what was found so, in any of them."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.damaged: list[Path] = []

    def run(self, run_id: str) -> RunFolder:
        return RunFolder(self.out / "runs" / run_id, self.damaged)

    def run_ids(self) -> set[str]:
        """The runs that have a folder. Raises OSError where they cannot be listed."""
        try:
            return {path.name for path in (self.out / "runs").iterdir()}
        except (FileNotFoundError, NotADirectoryError):
            return set()


# ---------------------------------------------------------------- files


# ---------------------------------------------------------------- snapshots in files
