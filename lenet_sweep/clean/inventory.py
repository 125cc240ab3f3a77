"""What an output folder contains, with sizes, and which runs no sweep needs.

A run is needed by a sweep if its sweep.json or its results.csv lists the run. Symbolic links are
listed, but never followed to what might be deleted.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lenet_sweep.core.errors import StoreError
from lenet_sweep.results.manifest import read_manifest
from lenet_sweep.storage.atomic import STALE_AFTER
from lenet_sweep.storage.files import read_file
from lenet_sweep.storage.launches import recorded_folders

RUN_ID = re.compile(r"[0-9a-f]{16}")
REMOVED = ".removed"  # the suffix of a folder that is being deleted
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class StoredFile:
    """A file and its size on disk in bytes."""

    path: Path
    size: int


@dataclass(frozen=True)
class StoredFolder:
    """The folder of a run or a sweep, and its files, including those in subfolders."""

    path: Path
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return total_size(self.files)


@dataclass(frozen=True)
class Inventory:
    """The content of an output folder.

    needed: the ids of runs that each sweep needs, by the folder of the sweep; None if they are
    unknown, because its sweep.json cannot be read. It includes sweeps outside the output folder; if
    such a sweep is gone, the key is the file that records its folder, or the symbolic link to it.
    in_jobs: the ids of runs that jobs of a cluster may be training. links: symbolic links in place
    of the folder of runs, of sweeps, of a run, or of a sweep.
    """

    out: Path
    runs: tuple[StoredFolder, ...]
    sweeps: tuple[StoredFolder, ...]
    temporary: tuple[StoredFile, ...]
    needed: dict[Path, frozenset[str] | None]
    in_jobs: frozenset[str]
    links: tuple[Path, ...]

    @property
    def checkpoints(self) -> list[StoredFile]:
        """The checkpoints of unfinished runs, except those in jobs of a cluster."""
        runs = (run for run in self.runs if run.path.name not in self.in_jobs)
        return [f for run in runs for f in run.files if f.path.name == CHECKPOINT]

    @property
    def damaged(self) -> list[StoredFile]:
        """The damaged files that were moved aside."""
        folders = (*self.runs, *self.sweeps)
        return [f for folder in folders for f in folder.files if f.path.suffix == ".damaged"]

    def unknown_sweeps(self, deleted: Iterable[Path] = ()) -> list[str]:
        """The sweeps whose runs are unknown, with the remedy. deleted: folders to leave out."""
        unknown = [p for p, ids in self.needed.items() if ids is None and p not in {*deleted}]
        return [
            f"{path / 'sweep.json'} is damaged or from another version: run the sweep again"
            if path.is_dir()
            else f"the sweep that {path} names cannot be read: run the sweep again; if it was "
            f"deleted, delete {path.name}"
            for path in unknown
        ]

    def unused_runs(self, deleted: Iterable[Path] = ()) -> list[StoredFolder]:
        """The runs that no sweep needs. deleted: the folders of sweeps to leave out."""
        used = self.in_jobs.union(
            *(ids or () for path, ids in self.needed.items() if path not in {*deleted})
        )
        return [run for run in self.runs if run.path.name not in used]


def take_inventory(out: Path) -> Inventory:
    """List the content of an output folder.

    Raises StoreError and OSError if something cannot be read.
    """
    links: list[Path] = []
    runs = [p for p in _folders(out / "runs", links) if RUN_ID.fullmatch(p.name)]
    sweeps = _folders(out / "sweeps", links)
    leftovers = [*_removed(out / "runs"), *_removed(out / "sweeps")]
    run_folders = tuple(StoredFolder(path, tuple(_files(path))) for path in runs)
    sweep_folders = tuple(StoredFolder(path, tuple(_files(path))) for path in sweeps)
    temporary = [f for folder in (*run_folders, *sweep_folders) for f in folder.files]
    temporary += [f for place in ("jobs", "elsewhere") for f in _files(out / place)]
    return Inventory(
        out=out,
        runs=run_folders,
        sweeps=sweep_folders,
        temporary=(
            *(f for f in temporary if _is_stale(f.path)),
            *(StoredFile(path, total_size(_files(path))) for path in leftovers),
        ),
        needed=needed_runs(out),
        in_jobs=runs_in_jobs(out),
        links=tuple(links),
    )


def needed_runs(out: Path) -> dict[Path, frozenset[str] | None]:
    """`Inventory.needed` of an output folder. Raises StoreError and OSError."""
    parent = out / "sweeps"
    if parent.is_symlink() and not parent.is_dir():
        raise StoreError(
            f"{parent} links to a folder that is not available: mount its disk, or delete the link"
        )
    sweeps = [path for path in _entries(parent) if not path.name.startswith(".")]
    needed = {
        path: _needed_by(path) if path.is_dir() else None
        for path in sweeps
        if path.is_dir() or path.is_symlink()
    }
    for file, folder in recorded_folders(out).items():
        if folder and (folder / "sweep.json").exists():
            needed[folder] = _needed_by(folder)
        else:
            needed[file] = None
    return needed


def _needed_by(folder: Path) -> frozenset[str] | None:
    return _read_needed(folder, _version(folder / "sweep.json"), _version(folder / "results.csv"))


def _version(path: Path) -> tuple[int, ...]:
    """Numbers that change when a file is replaced; () if there is no file."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


@functools.cache  # a sweep.json of many cells takes a second to read
def _read_needed(folder: Path, *_versions: tuple[int, ...]) -> frozenset[str] | None:
    try:
        cells = read_manifest(folder).cells
    except FileNotFoundError:  # not a sweep, or one that has not started
        cells = ()
    except StoreError:
        return None
    # Rows of earlier versions have other ids than their cells have now.
    table = read_file(folder / "results.csv") or b""
    ids = re.findall(rb"([0-9a-f]{16})-e\d+", table)
    return frozenset({cell.run_id for cell in cells} | {name.decode() for name in ids})


def runs_in_jobs(out: Path) -> frozenset[str]:
    """The ids of the runs that a job of a cluster may be training."""
    return frozenset(p.stem for p in (out / "jobs").glob("*.json") if RUN_ID.fullmatch(p.stem))


def total_size(files: Iterable[StoredFile | StoredFolder]) -> int:
    """The size of all files or folders in bytes."""
    return sum(item.size for item in files)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _folders(parent: Path, links: list[Path]) -> list[Path]:
    """The visible folders in `parent`; symbolic links are added to `links` instead."""
    if parent.is_symlink():
        links.append(parent)
        return []
    visible = [path for path in _entries(parent) if not path.name.startswith(".")]
    links += [path for path in visible if path.is_symlink()]
    return [path for path in visible if path.is_dir() and not path.is_symlink()]


def _removed(parent: Path) -> list[Path]:
    """The folders whose deletion was interrupted."""
    if parent.is_symlink():
        return []
    return [
        path
        for path in _entries(parent)
        if path.name.startswith(".") and path.suffix == REMOVED and not path.is_symlink()
    ]


def _files(folder: Path) -> Iterator[StoredFile]:
    """The files below a folder; a symbolic link is a file, and is not followed."""
    if folder.is_symlink():
        return
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in (*names, *links):
            path = Path(parent) / name
            with contextlib.suppress(FileNotFoundError):  # a sweep is running
                status = path.lstat()
                # Windows has no blocks.
                size = 512 * getattr(status, "st_blocks", -(-status.st_size // 512))
                yield StoredFile(path, size)


def _is_stale(path: Path) -> bool:
    if not (path.name.startswith(".") and path.suffix == ".tmp"):
        return False
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.lstat().st_mtime > STALE_AFTER
    return False
