"""Files of the store: folders, locks, and JSON records with a checksum.

Errors of the operating system become a StoreError that names the path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
from safetensors import SafetensorError

from lenet_sweep.core.errors import StoreError
from lenet_sweep.storage import atomic

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
MAX_REMOVALS = 3  # times that a folder may be removed before its lock is acquired


def lock_file(path: Path, timeout: float) -> filelock.BaseFileLock | None:
    """Acquire a lock, which the caller must release.

    Returns None if another process still holds it after `timeout` seconds. Raises StoreError.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=timeout)
    except filelock.Timeout:
        return None
    except OSError as error:
        remedy = "; make its folder writable" if error.errno in NOT_WRITABLE else ""
        raise StoreError(f"cannot lock {path}: {error.strerror}{remedy}") from error
    return lock


def lock_in_folder(folder: Path, name: str, timeout: float) -> filelock.BaseFileLock | None:
    """Create a folder if it is missing, and acquire the lock `name` in it, as `lock_file` does.

    Repeats both if the folder is removed in the meantime. Raises StoreError.
    """
    for _ in range(MAX_REMOVALS):
        make_folder(folder)
        try:
            return lock_file(folder / name, timeout)
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
    return lock_file(folder / name, timeout)


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises StoreError."""
    try:
        atomic.make_folder(path)
    except OSError as error:
        raise StoreError(
            f"out: cannot create the folder {path}: {error.strerror}; "
            "choose another one with out=FOLDER"
        ) from error


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file atomically. Raises StoreError."""
    try:
        atomic.replace_file(path, content)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; finished results are kept"
        ) from error


def remove(path: Path) -> None:
    """Remove a file if it exists. Raises StoreError."""
    try:
        atomic.wait_if_in_use(path, lambda: path.unlink(missing_ok=True))
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error.strerror}") from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with a checksum that `read_json` verifies.

    Raises StoreError.
    """
    signed = {**values, "sha256": _json_checksum(values)}
    parts = (f" {json.dumps(key)}: {_indented(value)}" for key, value in signed.items())
    write_atomic(path, ("{\n" + ",\n".join(parts) + "\n}\n").encode())


def _indented(value: Any) -> str:
    """Indented JSON, with each element of a list on one line.

    json.dumps with an indent takes ten times as long, and a sweep has up to 100,000 cells.
    """
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {json.dumps(element)}" for element in value) + "\n ]"
    return json.dumps(value, indent=1).replace("\n", "\n ")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read an object that `write_json` wrote; None if there is no file.

    Raises DamagedError if the content is not what was written, and StoreError.
    """
    content = read_file(path)
    if content is None:
        return None
    try:
        values = json.loads(content)
        checksum = values.pop("sha256")
    except UNREADABLE as error:
        raise DamagedError(path) from error
    if checksum != _json_checksum(values):
        raise DamagedError(path)
    assert isinstance(values, dict)
    return values


def _json_checksum(values: Mapping[str, Any]) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class DamagedError(Exception):
    """The content of a file is not what was written."""


# The exceptions that parsing raises for damaged content.
UNREADABLE = (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def move_to_damaged(path: Path) -> Path:
    """Move a damaged file to `<name>.damaged`. Returns its original path."""
    damaged = path.with_name(path.name + ".damaged")
    with contextlib.suppress(OSError):  # in a read-only store it stays, and is still not used
        atomic.wait_if_in_use(path, lambda: path.replace(damaged))
    return path


def read_file(path: Path) -> bytes | None:
    """Read a file; None if it does not exist. Raises StoreError."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # says nothing about the content, so it must not count as damage
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
