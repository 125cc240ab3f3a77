"""TODO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lenet_sweep.config.registry import cell_from_json

if TYPE_CHECKING:
    import pandas as pd
import contextlib
import hashlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_sweep.config.studies import Study
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError
from lenet_sweep.results.csv_file import kept_rows
from lenet_sweep.results.ranking import table
from lenet_sweep.results.records import Record, in_store, known
from lenet_sweep.storage.files import DamagedError, read_json, write_atomic
from lenet_sweep.storage.store import Store


def load_results(folder: str | Path) -> pd.DataFrame:
    """The table of a sweep's folder (`outputs/sweeps/<name>`), rebuilt from the store.

    Rows whose runs are not in the store, or are damaged there, come from results.csv, with a
    warning. Cells without an outcome yet are left out. Raises FileNotFoundError where there is no
    sweep.
    """
    manifest = read_manifest(Path(folder))
    records = recorded(Path(folder), manifest)
    for path in dict.fromkeys(manifest.store.damaged):
        warnings.warn(f"{path} is damaged: run the sweep again to repair it", stacklevel=2)
    if lost := sum(not in_store(*row, manifest.store) for row in records.items()):
        warnings.warn(
            f"{lost} of {len(records)} rows come from results.csv alone: their runs are not in "
            f"{manifest.store.out / 'runs'}",
            stacklevel=2,
        )
    return table(records.values())


def recorded(folder: Path, manifest: Manifest) -> dict[Cell, Record]:
    """The rows of a sweep's cells, from the store, else from the folder's results.csv."""
    kept = kept_rows(folder, manifest.cells)
    rows = ((cell, known(cell, manifest.store, kept)) for cell in manifest.cells)
    return {cell: row for cell, row in rows if row}


@dataclass(frozen=True)
class Manifest:
    """What sweep.json says: the sweep's cells, the store that has their results, and its launches.

    data_root: where the images lay; None: in the user's cache. launches: command, git_revision
    and environment of each. studies: that its cells are of.
    """

    cells: tuple[Cell, ...]
    store: Store
    data_root: Path | None
    launches: tuple[dict[str, Any], ...]
    studies: tuple[Study, ...] = ()


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a sweep's folder.

    Raises FileNotFoundError where there is no sweep, StoreError where its sweep.json is of no use:
    DamagedManifestError if that is because it is damaged.
    """
    path = folder / "sweep.json"
    try:
        values = read_json(path)
    except DamagedError as error:
        raise DamagedManifestError(
            f"{path} is damaged: type the sweep's command again, which mends it"
        ) from error
    if values is None:
        raise FileNotFoundError(f"no sweep in {folder}: there is no sweep.json")
    try:
        root = values.get("data_root")
        return Manifest(
            cells=tuple(cell_from_json(cell) for cell in values["cells"]),
            store=Store(folder / values["store"]),
            data_root=Path(root) if root else None,
            launches=tuple(values.get("launches", [])),
            studies=tuple(Study.from_json(study) for study in values.get("studies", [])),
        )
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{path} was written by another version: move it away and sweep again; "
            "results are in the store"
        ) from error


class DamagedManifestError(StoreError):
    """A sweep.json is not what was written."""


def cells_of_table(folder: Path, store: Store) -> list[Cell]:
    """The cells of a sweep's results.csv, for when its sweep.json is damaged.

    Settings come from the folders of their runs. Where one of these is missing too, the rows
    stay in a copy of results.csv: results-before-<digest>.csv.
    """
    import pandas as pd  # noqa: PLC0415 - see above

    try:
        names = pd.read_csv(folder / "results.csv", usecols=["cell"], dtype=str)["cell"]
    except (OSError, ValueError):  # there is none, or it is damaged as well
        return []
    cells = []
    for name in names:
        found = re.fullmatch(r"([0-9a-f]{16})-e(\d{1,6})", str(name))
        if found and (described := store.run(found[1]).description()):
            cells.append(cell_from_json(described["settings"] | {"epochs": int(found[2])}))
    if len(cells) < len(names):  # their rows cannot stay in results.csv
        with contextlib.suppress(OSError):
            content = (folder / "results.csv").read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:8]
            write_atomic(folder / f"results-before-{digest}.csv", content)
    return cells
