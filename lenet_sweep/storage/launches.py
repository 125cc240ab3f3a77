"""Marks of running sweeps: a locked file in the folder of a sweep while a launch writes to it.

    <sweep folder>/.<8 hex digits>.launch     one for each launch; killed launches leave it unlocked
    <out>/elsewhere/<8 hex digits>.json       the path of a sweep's folder outside <out>/sweeps

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
    """Record the folder of a sweep if it is outside `out`/sweeps. Raises StoreError."""
    place = folder.resolve()
    if place.parent == (out / "sweeps").resolve():
        return
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:8]
    path = out / "elsewhere" / f"{digest}.json"
    if not path.exists():
        make_folder(path.parent)
        write_json(path, {"folder": str(place)})


def recorded_folders(out: Path) -> dict[Path, Path]:
    """The files of `record_folder`, each with the folder that it names.

    Raises StoreError if one cannot be read or is damaged.
    """
    folders = {}
    for path in sorted((out / "elsewhere").glob("*.json")):
        try:
            values = read_json(path)
        except DamagedError as error:
            raise StoreError(
                f"{path} is damaged: run the sweep that it names again, or delete it"
            ) from error
        if values:
            folders[path] = Path(values["folder"])
    return folders
