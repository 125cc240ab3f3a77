"""The one way a file is written: all of it or nothing, also across a power cut."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
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
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
