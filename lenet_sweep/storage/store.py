"""The store: a folder with the results of every run, safe against crashes and damage.

    <out>/runs/<run id>/
        run.json                      the settings, versions and hardware of the run
        epoch-00100.safetensors       a snapshot: the state of the run after 100 epochs
        checkpoint.safetensors        the state to resume from, if newer than all snapshots
        failure.json                  why the run did not finish, with its traceback
        lock                          held by the process that trains the run

A run with patience may end early; the snapshot of its last epoch is then the result of all its
longer cells. A checkpoint is also a Snapshot. Every file is written atomically and carries a
checksum. A damaged file is never used as a result; it is moved to `<name>.damaged`, where it can be
inspected.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import Epoch, Failure
from lenet_sweep.core.patience import is_exhausted
from lenet_sweep.storage.files import (
    UNREADABLE,
    DamagedError,
    lock_in_folder,
    make_folder,
    move_to_damaged,
    read_json,
    remove,
    write_atomic,
    write_json,
)
from lenet_sweep.storage.snapshots import Snapshot, encode_snapshot, parse_header, read_snapshot

HEADER_LIMIT = 10**8  # bytes; the limit of the safetensors library


class RunFolder:
    """The folder of a run. Reading needs no lock; only the process that holds `claim` may write.

    `damaged` lists the files that were found to be damaged. Reading leaves them in place, because
    another process may have rebuilt them meanwhile; `move_damaged_files` moves them.
    """

    def __init__(self, path: Path, damaged: list[Path] | None = None) -> None:
        self.path = path
        self.damaged: list[Path] = [] if damaged is None else damaged

    def snapshot_path(self, epoch: int) -> Path:
        """The file of the snapshot at this epoch."""
        return self.path / f"epoch-{epoch:05d}.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        """The file of the checkpoint."""
        return self.path / "checkpoint.safetensors"

    def has_intact_snapshot(self, epoch: int) -> bool:
        """Whether there is an intact snapshot at this epoch, which reads and verifies its file."""
        return self.read(self.snapshot_path(epoch)) is not None

    def read(self, path: Path) -> Snapshot | None:
        """The snapshot in a file of this folder; None if it is missing or damaged."""
        try:
            return read_snapshot(path)
        except DamagedError:
            self.damaged.append(path)
            return None

    def result(self, cell: Cell) -> Snapshot | None:
        """The intact snapshot with the result of a cell of this run; None if there is none.

        It is that of the cell's last epoch, or of the epoch after which the run ended early.
        """
        snapshot = self.read(self.snapshot_path(cell.epochs))
        if snapshot or cell.patience is None:
            return snapshot
        newest = max((e for e in self._snapshot_epochs() if e < cell.epochs), default=0)
        earlier = self.read(self.snapshot_path(newest)) if newest else None
        return earlier if earlier and is_exhausted(earlier.history, cell.patience) else None

    def latest(self, until: int) -> Snapshot | None:
        """The newest intact snapshot or checkpoint up to epoch `until`, to resume from."""
        checkpoint = self.read(self.checkpoint_path)
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
        names = (re.fullmatch(r"epoch-(\d{5,6})", p.stem) for p in self.path.glob("epoch-*"))
        return [int(name[1]) for name in names if name]

    def history(self, until: int = sys.maxsize) -> tuple[Epoch, ...]:
        """The history of the newest snapshot up to epoch `until`, for estimates; () if none.

        Only the header of the file is read, so the history is not verified.
        """
        newest = max((epoch for epoch in self._snapshot_epochs() if epoch <= until), default=0)
        longest: tuple[Epoch, ...] = ()
        for path in (self.snapshot_path(newest), self.checkpoint_path):
            try:
                with path.open("rb") as file:
                    length = int.from_bytes(file.read(8), "little")
                    _, history = parse_header(file.read(min(length, HEADER_LIMIT)))
            except (OSError, *UNREADABLE):
                continue
            if len(longest) < len(history) <= until:
                longest = history
        return longest

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Save a snapshot. Raises StoreError."""
        write_atomic(self.snapshot_path(snapshot.epoch), encode_snapshot(snapshot, self.path.name))

    def write_early_end(self, snapshot: Snapshot) -> None:
        """Save the last snapshot of a run that ended early. Raises StoreError.

        Removes later snapshots: on a GPU, an earlier training of the run may have ended later.
        """
        self.write_snapshot(snapshot)
        for epoch in self._snapshot_epochs():
            if epoch > snapshot.epoch:
                remove(self.snapshot_path(epoch))
        self.clear_checkpoint()

    def write_checkpoint(self, snapshot: Snapshot) -> None:
        """Save a snapshot as the checkpoint. Raises StoreError."""
        write_atomic(self.checkpoint_path, encode_snapshot(snapshot, self.path.name))

    def write_description(
        self, cell: Cell, environment: Mapping[str, Any], images: Mapping[str, Any] | None = None
    ) -> None:
        """Write run.json, which allows rebuilding a table without its sweep. Raises StoreError.

        images: the facts about the images that the trained network needs: `class_names`, and if
        its input is normalized, `pixel_mean` and `pixel_std`.
        """
        settings = cell.to_json()
        del settings["epochs"]
        description = {"settings": settings, "environment": environment}
        write_json(self.path / "run.json", description | ({"images": images} if images else {}))

    def description(self) -> dict[str, Any] | None:
        """The content of run.json; None if it is missing or damaged."""
        return self._json(self.path / "run.json")

    def failure(self, since: float = 0.0) -> Failure | None:
        """Why the run did not finish; None if there is no intact record of a failure.

        since: ignore failures recorded before this file time, in seconds since the epoch.
        """
        path = self.path / "failure.json"
        if since and not (path.exists() and path.stat().st_mtime >= since):
            return None
        values = self._json(path)
        try:
            return None if values is None else Failure(**values)
        except TypeError:  # a record of another version of the package
            return None

    def _json(self, path: Path) -> dict[str, Any] | None:
        try:
            return read_json(path)
        except DamagedError:
            self.damaged.append(path)
            return None

    def move_damaged_files(self) -> list[Path]:
        """Move the files in `damaged` to `<name>.damaged`; requires the claim.

        Returns their original paths.
        """
        paths = dict.fromkeys(self.damaged)
        self.damaged.clear()
        return [move_to_damaged(path) for path in paths]

    def write_failure(self, failure: Failure) -> None:
        """Record why the run did not finish, if the disk permits; an event reports it anyway."""
        with contextlib.suppress(StoreError):
            make_folder(self.path)  # a worker may die before it creates the folder
            write_json(self.path / "failure.json", asdict(failure))

    def clear_failure(self) -> None:
        """Remove the record of a failure. Raises StoreError."""
        remove(self.path / "failure.json")

    def clear_checkpoint(self) -> None:
        """Remove the checkpoint. Raises StoreError."""
        remove(self.checkpoint_path)

    def claim(self, timeout: float) -> filelock.BaseFileLock | None:
        """Lock the run for training; the caller must release the lock.

        Returns None if another process still holds it after `timeout` seconds. The operating system
        releases the lock when its process ends, so a killed process leaves only temporary files,
        which the next claim removes. Raises StoreError.
        """
        lock = lock_in_folder(self.path, "lock", timeout)
        if lock is None:
            return None
        for temporary in self.path.glob(".*.tmp"):
            remove(temporary)
        return lock


class Store:
    """All runs in an output folder. `damaged` lists the damaged files found in any of them."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.damaged: list[Path] = []

    def run_folder(self, run_id: str) -> RunFolder:
        """The folder of a run, which need not exist."""
        return RunFolder(self.out / "runs" / run_id, self.damaged)

    def run_ids(self) -> set[str]:
        """The ids of the runs that have a folder. Raises OSError if they cannot be listed."""
        try:
            return {path.name for path in (self.out / "runs").iterdir()}
        except (FileNotFoundError, NotADirectoryError):
            return set()
