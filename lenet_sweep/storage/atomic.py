"""Atomic, durable writes: a file has its old or its new content, even after a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

STALE_AFTER = 3600.0  # seconds until a temporary file is abandoned; a write takes a moment
IN_USE_WITHIN = 1.0  # seconds to wait on Windows for a virus scanner or another reader of a file


class FileInUseError(OSError):
    """On Windows, another program has the file open, so it cannot be replaced or removed."""


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Replace the content of a file atomically, and flush it to disk.

    Raises OSError if that fails; the file then has its old content, and no temporary file is left.
    A process that is killed while it writes leaves `.<name>.<8 hex digits>.tmp` behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        wait_if_in_use(path, lambda: temporary.replace(path))
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def wait_if_in_use(path: Path, change: Callable[[], object]) -> None:
    """Replace, rename or remove the file at `path` by calling `change`.

    Windows does not change a file that another program has open, so `change` is then called again
    for up to IN_USE_WITHIN seconds. Raises FileInUseError if that does not help.
    """
    deadline = time.monotonic() + IN_USE_WITHIN
    while True:
        try:
            change()
        except PermissionError as error:
            if os.name != "nt":
                raise
            if time.monotonic() > deadline:
                reason = "it is open in another program, or read-only"
                raise FileInUseError(errno.EBUSY, reason, str(path)) from error
            time.sleep(0.02)
        else:
            return


def make_folder(path: Path) -> None:
    """Create a folder and its parents, and flush them to disk. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Flush the names of a folder's files to disk. Raises OSError."""
    if os.name == "posix":  # other systems cannot open a folder
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_stale_temporaries(folder: Path) -> None:
    """Remove the temporary files of killed processes, but none that may still be in use."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):  # removed by another process, or a read-only store
            if time.time() - path.stat().st_mtime > STALE_AFTER:
                path.unlink()
