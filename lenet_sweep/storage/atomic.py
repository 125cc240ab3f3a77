"""The one way a file is written: all of it or nothing, also across a power cut."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

LEFT_BEHIND = 3600.0  # seconds after which a temporary file is nobody's: writing takes a moment


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that a reader, and a restart after a power cut, sees old or new content.

    Raises OSError where that cannot be done; what stood at `path` then still stands, and no
    temporary file is left. A process killed meanwhile leaves one, `.<name>.<8 hex digits>.tmp`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, to last. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Have the names in a folder outlast a power cut. Raises OSError."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_stale_temporaries(folder: Path) -> None:
    """Remove the temporary files of processes that were killed; not one that is being written."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):  # another process has done it, or the store is read-only
            if time.time() - path.stat().st_mtime > LEFT_BEHIND:
                path.unlink()
