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

import contextlib
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lenet_sweep import files
from lenet_sweep.cells import Cell
from lenet_sweep.errors import StoreError

HEADER_LIMIT = 10**8  # bytes, as in the safetensors library

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Epoch:
    """What one epoch of a run left. Costs are means per image; times are in seconds."""

    epoch: int
    cost: float
    accuracy: float  # on the test set, percent
    test_cost: float
    seconds: float  # training alone
    test_seconds: float
    holdout_accuracy: float | None = None  # percent; None where no images are held out


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at the end of an epoch: what was learned, and how it got there.

    state: weights and optimizer state by name, as the engine gave them.
    predictions: (test images,) uint8, the predicted class of each test image; those of the
        held-out training images follow, if there are any.
    trace: (k, 2) float32, the loss of every 100th batch at its position in epochs.
    history: one Epoch per epoch trained, the last one's number being this snapshot's.
    person: who trained it.
    """

    state: Arrays
    predictions: NDArray[np.uint8]
    trace: NDArray[np.float32]
    history: tuple[Epoch, ...]
    person: str = ""

    @property
    def epoch(self) -> int:
        return self.history[-1].epoch


@dataclass(frozen=True)
class Failure:
    """Why a run did not finish. `epoch` is the epoch it failed in, counted from 1."""

    status: str  # diverged, failed, killed, timed-out
    epoch: int
    reason: str
    traceback: str = ""
    person: str = ""  # who trained it


class RunFolder:
    """One run's folder. Reading needs no lock; writing is for the holder of `claim`.

    damaged: what reading found to be damaged. It is left in its place: only the holder of the
    claim moves it aside, since another process may have made it anew meanwhile.
    """

    def __init__(self, path: Path, damaged: list[Path] | None = None) -> None:
        self.path = path
        self.damaged: list[Path] = [] if damaged is None else damaged

    def readout(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:05d}.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.safetensors"

    def has(self, epoch: int) -> bool:
        """Whether there is a sound read-out at this epoch."""
        return self.read(self.readout(epoch)) is not None

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
        for epoch in sorted((e for e in self._readouts() if newest < e <= until), reverse=True):
            if snapshot := self.read(self.readout(epoch)):
                return snapshot
        return checkpoint

    def _readouts(self) -> list[int]:
        found = (re.fullmatch(r"epoch-(\d{5,6})", p.stem) for p in self.path.glob("epoch-*"))
        return [int(name[1]) for name in found if name]

    def history(self, until: int = sys.maxsize) -> tuple[Epoch, ...]:
        """The epochs of the newest snapshot that is not beyond epoch `until`, for estimates.

        Read from the header of its file alone, so that it is not verified; () where there is none.
        """
        newest = max((epoch for epoch in self._readouts() if epoch <= until), default=0)
        found: tuple[Epoch, ...] = ()
        for path in (self.readout(newest), self.checkpoint):
            try:
                with path.open("rb") as file:
                    length = int.from_bytes(file.read(8), "little")
                    _, history = _header(file.read(min(length, HEADER_LIMIT)))
            except (OSError, *_UNREADABLE):
                continue
            if len(found) < len(history) <= until:
                found = history
        return found

    def write_readout(self, snapshot: Snapshot) -> None:
        write_atomic(self.readout(snapshot.epoch), _to_bytes(snapshot, self.path.name))

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
        return [set_aside(path) for path in found]

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


def lock_file(path: Path, timeout: float) -> filelock.BaseFileLock | None:
    """A held lock, to be released; None if another process still has it after `timeout` seconds."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=timeout)
    except filelock.Timeout:
        return None
    except OSError as error:
        raise StoreError(f"cannot lock {path}: {error.strerror}") from error
    return lock


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises StoreError where that cannot be done."""
    try:
        files.make_folder(path)
    except OSError as error:
        raise StoreError(
            f"out: cannot create the folder {path}: {error.strerror}. Choose another: out=FOLDER"
        ) from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises StoreError where it cannot be written."""
    try:
        files.replace(path, content)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}. What was finished is kept"
        ) from error


def remove(path: Path) -> None:
    """Remove a file, if it is there. Raises StoreError where that cannot be done."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error.strerror}") from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with a checksum that `read_json` looks at."""
    signed = {**values, "sha256": _json_checksum(values)}
    parts = (f" {json.dumps(key)}: {_indented(value)}" for key, value in signed.items())
    write_atomic(path, ("{\n" + ",\n".join(parts) + "\n}\n").encode())


def _indented(value: Any) -> str:
    """JSON in lines; of a list one for each element: a sweep has up to 100,000 cells.

    json.dumps takes ten times as long with an indent.
    """
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {json.dumps(element)}" for element in value) + "\n ]"
    return json.dumps(value, indent=1).replace("\n", "\n ")


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote, None where there is no file. Raises DamagedError."""
    content = _read(path)
    if content is None:
        return None
    try:
        values = json.loads(content)
        signed = values.pop("sha256")
    except _UNREADABLE as error:
        raise DamagedError(path) from error
    if signed != _json_checksum(values):
        raise DamagedError(path)
    assert isinstance(values, dict)
    return values


def _json_checksum(values: Mapping[str, Any]) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class DamagedError(Exception):
    """The file is not what was written."""


# What the readers of a file raise when it is not what they expect.
_UNREADABLE = (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def set_aside(path: Path) -> Path:
    """Move a damaged file to `<name>.damaged`; the path that it had."""
    with contextlib.suppress(OSError):  # a read-only store: it is not used all the same
        path.replace(path.with_name(path.name + ".damaged"))
    return path


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # not the content's fault, so nothing may be concluded from it
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


# ---------------------------------------------------------------- snapshots in files


def _checksum(arrays: Arrays, *texts: str) -> str:
    digest = hashlib.sha256("".join(texts).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _to_bytes(snapshot: Snapshot, run_id: str) -> bytes:
    arrays: dict[str, NDArray[Any]] = {f"state.{k}": v for k, v in snapshot.state.items()}
    arrays |= {"predictions": snapshot.predictions, "trace": snapshot.trace}
    history = json.dumps([asdict(epoch) for epoch in snapshot.history])
    # asarray, since ascontiguousarray would make a number an array of one.
    # Keys carry no order in the format; one in a fixed order keeps equal snapshots equal bytes.
    arrays = {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    texts = {"history": history, "person": snapshot.person, "run": run_id}
    return save(arrays, texts | {"sha256": _checksum(arrays, *texts.values())})


def _header(content: bytes) -> tuple[dict[str, str], tuple[Epoch, ...]]:
    """The texts in a safetensors header, a JSON object, and the history among them."""
    metadata: dict[str, str] = json.loads(content)["__metadata__"]
    return metadata, tuple(Epoch(**values) for values in json.loads(metadata["history"]))


def _read_snapshot(path: Path) -> Snapshot | None:
    content = _read(path)
    if content is None:
        return None
    try:
        length = int.from_bytes(content[:8], "little")
        metadata, epochs = _header(content[8 : 8 + length])
        history, person = metadata["history"], metadata.get("person", "")
        run_id = metadata.get("run", "")
        arrays = load(content)
        sound = metadata["sha256"] == _checksum(arrays, history, person, run_id)
    except _UNREADABLE as error:
        raise DamagedError(path) from error
    # A file of another run or epoch, copied here, is whole and all the same not what it should be.
    named = re.fullmatch(r"epoch-(\d+)", path.stem)
    of_another_epoch = named and int(named[1]) != epochs[-1].epoch
    if not sound or of_another_epoch or run_id not in ("", path.parent.name):
        raise DamagedError(path)
    return Snapshot(
        state={k.removeprefix("state."): v for k, v in arrays.items() if k.startswith("state.")},
        predictions=arrays["predictions"],
        trace=arrays["trace"],
        history=epochs,
        person=person,
    )
