"""Read and write sweep.json, which lists the cells of a sweep and how it was launched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_sweep.config.registry import cell_from_json
from lenet_sweep.config.studies import Study
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError, UsageError
from lenet_sweep.storage.files import DamagedError, read_json, write_atomic, write_json
from lenet_sweep.storage.store import Store


@dataclass(frozen=True)
class Manifest:
    """The content of a sweep.json.

    cells: of all launches in this folder. data_root: the folder of the images; None: the user's
    cache. launches: command, git_revision, environment and search of each launch. studies: the
    studies that these cells belong to.
    """

    cells: tuple[Cell, ...]
    store: Store
    data_root: Path | None
    launches: tuple[dict[str, Any], ...]
    studies: tuple[Study, ...] = ()


class DamagedManifestError(StoreError):
    """A sweep.json does not have the content that was written to it."""


def read_manifest(folder: Path) -> Manifest:
    """Read the sweep.json in a sweep's folder.

    Raises FileNotFoundError if there is no sweep, DamagedManifestError if the file is damaged, and
    StoreError if another version wrote it.
    """
    path = folder / "sweep.json"
    try:
        values = read_json(path)
    except DamagedError as error:
        raise DamagedManifestError(
            f"{path} is damaged: run the sweep's command again to rebuild it"
        ) from error
    if values is None:
        raise FileNotFoundError(
            f"there is no sweep in {folder} (sweep.json is missing); give the folder of a sweep, "
            "such as outputs/sweeps/NAME"
        )
    try:
        root = values.get("data_root")
        return Manifest(
            cells=tuple(cell_from_json(cell) for cell in values["cells"]),
            store=Store(folder / values["store"]),
            data_root=Path(root) if root else None,
            launches=tuple(values.get("launches", [])),
            studies=tuple(Study.from_json(study) for study in values.get("studies", [])),
        )
    except (KeyError, TypeError, UsageError) as error:
        raise StoreError(
            f"{path} was written by another version: move it elsewhere and run the sweep again; "
            "the results are in the store"
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the sweep.json in a sweep's folder, for `read_manifest`. Raises StoreError."""
    root = manifest.data_root
    write_json(
        folder / "sweep.json",
        {
            "store": _relative(manifest.store.out, folder),
            "data_root": str(root.absolute()) if root else None,
            "cells": [cell.to_json() for cell in manifest.cells],
            "studies": [study.to_json() for study in manifest.studies],
            "launches": [*manifest.launches],
        },
    )


def _relative(path: Path, folder: Path) -> str:
    """The path as seen from a folder, also in a copy of both on another system."""
    path, folder = path.resolve(), folder.resolve()  # '..' after a link leads out of its target
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive of Windows
        return path.as_posix()


def recover_cells(folder: Path, store: Store) -> list[Cell]:
    """The cells in the results.csv of a sweep, for use if its sweep.json is damaged.

    Their settings come from the folders of their runs. If one of these is missing, results.csv is
    copied to results-before-<digest>.csv, so that its rows are not lost.
    """
    import pandas as pd  # noqa: PLC0415 - slow to import

    try:
        names = pd.read_csv(folder / "results.csv", usecols=["cell"], dtype=str)["cell"]
    except (OSError, ValueError):  # missing or damaged
        return []
    cells = []
    for name in names:
        match = re.fullmatch(r"([0-9a-f]{16})-e(\d{1,6})", str(name))
        if match and (description := store.run_folder(match[1]).description()):
            cells.append(cell_from_json(description["settings"] | {"epochs": int(match[2])}))
    if len(cells) < len(names):
        with contextlib.suppress(OSError):
            content = (folder / "results.csv").read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:8]
            write_atomic(folder / f"results-before-{digest}.csv", content)
    return cells
