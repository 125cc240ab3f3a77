"""Marks of running sweeps: a locked file in the folder of a sweep while a launch writes to it.

    <sweep folder>/.<8 hex digits>.launch     one for each launch; killed launches leave it unlocked
    <store>/elsewhere/<8 hex digits>.json     the path of a sweep's folder outside <store>/sweeps

`lenet_sweep.clean` removes neither running sweeps nor the runs of sweeps elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import filelock

from lenet_sweep.core.errors import StoreError
from lenet_sweep.storage.files import (
    DamagedError,
    lock_file,
    lock_in_folder,
    make_folder,
    read_json,
    remove,
    write_json,
)


@contextlib.contextmanager
def mark_running(folder: Path) -> Iterator[None]:
    """Create the folder of a sweep if it is missing, and mark it as running inside the `with`.

    Raises StoreError.
    """
    is_running(folder)  # removes the marks of killed launches
    name = f".{secrets.token_hex(4)}.launch"
    lock = lock_in_folder(folder, name, timeout=10)
    try:
        yield
    except BaseException:
        with contextlib.suppress(StoreError):  # the first error is the one to report
            _unmark(folder / name, lock)
        raise
    _unmark(folder / name, lock)


def _unmark(path: Path, lock: filelock.BaseFileLock | None) -> None:
    if lock:
        lock.release()
    remove(path)


def is_running(folder: Path) -> bool:
    """Whether a launch is running in the folder of a sweep. Removes the marks of killed launches.

    Raises StoreError if that cannot be found out.
    """
    for path in folder.glob(".*.launch"):
        if (lock := lock_file(path, timeout=0)) is None:
            return True
        lock.release()
        with contextlib.suppress(StoreError):  # in a read-only store it stays
            remove(path)
    return False


def record_folder(out: Path, folder: Path) -> None:
    """Record the folder of a sweep if a listing of the sweeps of its store would not find it.

    The store is the folder that contains `runs`, which may be a link. Raises StoreError.
    """
    place, store = folder.resolve(), (out / "runs").resolve().parent
    if place.parent == (store / "sweeps").resolve() and not place.name.startswith("."):
        return
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:8]
    path = store / "elsewhere" / f"{digest}.json"
    if _recorded(path) is None:
        make_folder(path.parent)
        write_json(path, {"folder": str(place)})


def recorded_folders(out: Path) -> dict[Path, Path | None]:
    """The files of `record_folder`, each with the folder that it names; None if it is damaged.

    Raises StoreError if one cannot be read.
    """
    paths = sorted((out / "elsewhere").glob("*.json"))
    return {path: _recorded(path) for path in paths}


def _recorded(path: Path) -> Path | None:
    """The folder that a file names; None if the file is missing or damaged."""
    try:
        values = read_json(path)
        return Path(values["folder"]) if values else None
    except (DamagedError, LookupError, TypeError):
        return None
