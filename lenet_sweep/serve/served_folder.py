"""The folder that the server may read: no path leads out of it, and no file is too large.

The content of the folder is not trusted: others may write to a shared store, and a sweep.json can
name any folder. Every path is therefore resolved, with its symbolic links, before it is used.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from lenet_sweep.core.errors import StoreError
from lenet_sweep.storage.files import UNREADABLE

MAX_SWEEPS = 500  # sweeps that are listed, newest first
MAX_NAME = 200  # characters of a sweep's name
# Bytes; a larger file is rejected.
LIMITS = {
    "sweep.json": 32 * 2**20,
    "results.csv": 64 * 2**20,
    "events.jsonl": 96 * 2**20,  # the recorder ends at 64 MB
    "report.html": 64 * 2**20,
    ".safetensors": 256 * 2**20,
    ".json": 2**20,
}


# What reading a file may raise if its content is not what this package writes.
UNUSABLE = (StoreError, OSError, ArithmeticError, *UNREADABLE)


class RefusedError(Exception):
    """A file or a folder is not read. The message is one line that says why."""


@dataclass(frozen=True)
class ServedFolder:
    """An output folder. root: its path, resolved."""

    root: Path

    def sweeps(self) -> tuple[dict[str, Path], int]:
        """The folders of the sweeps by name, newest first, and how many older ones are left out.

        These are the subfolders of `sweeps` and of the folder itself that have a sweep.json.
        """
        found: dict[str, tuple[float, Path]] = {}
        for parent in (self.root / "sweeps", self.root):
            try:
                entries = list(os.scandir(self.inside(parent)))
            except (OSError, RefusedError):
                continue
            for entry in entries:
                path = Path(entry.path)
                try:
                    changed = (path / "sweep.json").stat().st_mtime
                except (OSError, ValueError):
                    continue
                if len(entry.name) <= MAX_NAME and entry.name.isprintable():
                    found.setdefault(entry.name, (changed, path))
        newest = sorted(found.items(), key=lambda item: item[1][0], reverse=True)
        listed = {name: path for name, (_, path) in newest[:MAX_SWEEPS]}
        return listed, len(newest) - len(listed)

    def inside(self, path: Path) -> Path:
        """The resolved path. Raises RefusedError if it leads out of the folder."""
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise RefusedError(f"{self._short(path)} cannot be resolved") from error
        if not resolved.is_relative_to(self.root):
            raise RefusedError(
                f"{self._short(path)} is outside the served folder, so it is not read"
            )
        return resolved

    def file(self, path: Path) -> Path | None:
        """The resolved path of a file that may be read; None if it does not exist.

        Raises RefusedError if it is too large, not a regular file, or outside the folder.
        """
        resolved = self.inside(path)
        try:
            status = resolved.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RefusedError(f"{self._short(path)}: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode):
            raise RefusedError(f"{self._short(path)} is not a file")
        limit = LIMITS.get(path.name) or LIMITS[path.suffix]
        if status.st_size > limit:
            raise RefusedError(
                f"{self._short(path)} is {status.st_size / 2**20:,.0f} MB, more than the limit of "
                f"{limit / 2**20:.0f} MB; it is not read"
            )
        return resolved

    def run_folder(self, path: Path) -> None:
        """Check the folder of a run and its files. Raises RefusedError."""
        folder = self.inside(path)
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return
        except OSError as error:
            raise RefusedError(f"{self._short(path)}: {error.strerror}") from error
        for entry in entries:
            if entry.name.endswith((".safetensors", ".json")):
                self.file(Path(entry.path))

    def _short(self, path: Path) -> str:
        """The path as seen from the folder, for a message."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.name
