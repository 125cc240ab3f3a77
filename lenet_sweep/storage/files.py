"""TODO."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
from safetensors import SafetensorError

from lenet_sweep.core.errors import StoreError
from lenet_sweep.storage import atomic


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
        atomic.make_folder(path)
    except OSError as error:
        raise StoreError(
            f"out: cannot create the folder {path}: {error.strerror}. Choose another: out=FOLDER"
        ) from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises StoreError where it cannot be written."""
    try:
        atomic.replace_file(path, content)
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


def move_to_damaged(path: Path) -> Path:
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
