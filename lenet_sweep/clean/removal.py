"""Deletes runs, sweeps and files of a store that other processes may be using.

A folder is deleted in two steps: under its lock, it is renamed to `.<name>.removed`, which takes it
out of the store at once; then its files are deleted. After the renaming, it is checked again that
the folder is not needed; if a sweep has started in the meantime, it is renamed back. That
sweep, in turn, checks that its runs still exist after it has written its sweep.json, so one of the
two notices the other. The next deletion completes one that was killed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import filelock

from lenet_sweep.clean.inventory import REMOVED, needed_runs, runs_in_jobs
from lenet_sweep.core.errors import StoreError
from lenet_sweep.storage.files import lock_file, remove
from lenet_sweep.storage.launches import is_running
from lenet_sweep.storage.store import RunFolder


def remove_run(out: Path, path: Path) -> bool:
    """Delete a run. Returns False if it is in use, or if a sweep needs it by now.

    Raises StoreError and OSError.
    """
    if not path.exists():
        return True
    lock = RunFolder(path).claim(timeout=0)
    return lock is not None and _remove_folder(path, lock, lambda: _is_needed(out, path.name))


def _is_needed(out: Path, run_id: str) -> bool:
    needed = needed_runs(out).values()
    return run_id in runs_in_jobs(out) or any(ids is None or run_id in ids for ids in needed)


def remove_sweep(path: Path) -> bool:
    """Delete the folder of a sweep, without its runs. Returns False if the sweep is running.

    Raises StoreError and OSError.
    """
    lock = lock_file(path / ".lock", timeout=0)
    if lock is None or is_running(path):
        if lock:
            lock.release()
        return False
    return _remove_folder(path, lock, lambda: is_running(_aside(path)))


def remove_checkpoint(path: Path) -> bool:
    """Delete the checkpoint of a run. Returns False if the run is in use. Raises StoreError."""
    if not path.exists():  # claiming the run would create its folder
        return True
    lock = RunFolder(path.parent).claim(timeout=0)
    if lock is None:
        return False
    try:
        remove(path)
    finally:
        lock.release()
    return True


def remove_damaged(path: Path) -> bool:
    """Delete a damaged file that was moved aside; no process uses it. Raises StoreError."""
    remove(path)
    return True


def remove_temporary(out: Path, path: Path) -> bool:
    """Delete a temporary file, or a folder whose deletion was interrupted. Raises StoreError.

    A run that a sweep needs by now is renamed back. Returns False in that case.
    """
    if path.suffix != REMOVED:
        remove(path)
        return True
    original = path.with_name(path.name.removeprefix(".").removesuffix(REMOVED))
    is_run = path.parent == out / "runs"
    if is_run and not original.exists() and _is_needed(out, original.name):
        path.rename(original)
        return False
    _delete(path)
    return True


def _remove_folder(path: Path, lock: filelock.BaseFileLock, is_needed: Callable[[], bool]) -> bool:
    aside = _aside(path)
    try:
        if os.name == "nt":  # which renames no folder with an open file
            lock.release()
        if aside.exists():  # left by a killed process
            _delete(aside)
        path.rename(aside)
        needed = True
        try:
            needed = is_needed()
        finally:
            if needed and not path.exists():
                aside.rename(path)
        if needed:
            return False
        _delete(aside)
    finally:
        lock.release()
    return True


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}{REMOVED}")


def _delete(folder: Path) -> None:
    """Delete a folder and everything in it; links are deleted, not followed."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:  # another process completes the same deletion
        pass
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(
            f"cannot delete {folder}: {reason}; the remaining files are no longer used, and "
            "running this command with --temporary deletes them"
        ) from error
