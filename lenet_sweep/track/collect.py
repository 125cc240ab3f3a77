"""Collects from the folder of a sweep and its store what trackers write."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Epoch
from lenet_sweep.core.names import short_names
from lenet_sweep.core.text import one_line
from lenet_sweep.results.columns import EPOCHS_TRAINED, HOLDOUT, STOPPED
from lenet_sweep.results.manifest import Manifest
from lenet_sweep.results.records import settings_columns
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.track import UNFINISHED, TrackedCell, TrackedSweep

FILES = ("results.csv", "results.md", "report.html", "statistics.csv", "reproduction.csv")
MAX_FIGURES = 100  # of a sweep; a sweep with figures=all may have thousands

History = tuple[Epoch, ...]


def tracked_sweep(folder: Path, manifest: Manifest, *, is_running: bool = True) -> TrackedSweep:
    """The sweep in a folder.

    Its identity and time are those of its first launch, so that a resumed sweep keeps them. The
    command, the host and the paths in sweep.json stay there.
    """
    first = manifest.launches[0] if manifest.launches else {}
    identity = json.dumps([folder.resolve().name, first], sort_keys=True)
    environment = first.get("environment")
    environment = environment if isinstance(environment, dict) else {}
    try:
        started = datetime.fromisoformat(environment["time"]).timestamp()
    except (KeyError, TypeError, ValueError):  # of another version
        started = 0.0
    return TrackedSweep(
        folder=folder,
        store=manifest.store.out,
        id=hashlib.sha256(identity.encode()).hexdigest()[:32],
        started=started,
        person=one_line(str(environment.get("person", ""))),
        cells=manifest.cells,
        is_running=is_running,
    )


def parameters_of(cell: Cell) -> dict[str, str | float]:
    """The settings and options of a cell, without those that have no value."""
    return {name: value for name, value in settings_columns(cell).items() if value is not None}


def tracked_cells(
    sweep: Sweep, live: Callable[[str], History] = lambda _: ()
) -> Iterator[TrackedCell]:
    """The cells of a sweep that have been trained, or have another outcome, in their order.

    live: the epochs of a run, by id, that this process has seen, which may be more than a failed
    run has in the store.
    """
    names = short_names(sweep.cells)
    rows = {row["cell"]: row for row in sweep.table.to_dict("records")}
    figures = _figures(sweep.folder)
    for cell in sweep.cells:
        row = rows.get(cell.id)
        history = sweep.store.run_folder(cell.run_id).history(until=cell.epochs)
        seen = live(cell.run_id)[: cell.epochs]
        history = seen if len(seen) > len(history) else history
        if row is None and not history:
            continue
        if row and row["status"] == STOPPED:  # another sweep may have trained it further
            history = history[: row[EPOCHS_TRAINED]]
        held_out = _number(row.get(HOLDOUT)) if row else None
        prefix = f"{cell.file_name}_"
        yield TrackedCell(
            cell=cell,
            name=names[cell],
            settings=parameters_of(cell),
            history=history,
            status=row["status"] if row else UNFINISHED,
            error=one_line(row["error"]) if row else "",
            accuracy=_number(row["accuracy"]) if row and held_out is None else held_out,
            person=one_line(row["person"]) if row else "",
            figures=tuple(path for path in figures if path.name.startswith(prefix)),
        )


def sweep_files(folder: Path) -> list[Path]:
    """The tables, the page and the figures in the folder of a sweep, for trackers that keep files.

    sweep.json is not among them: it has the command, the host and the folder of the images.
    """
    files = [folder / name for name in FILES]
    return [*filter(Path.exists, files), *_figures(folder)[:MAX_FIGURES]]


def _figures(folder: Path) -> list[Path]:
    return sorted((folder / "figures").glob("*.png"))


def _number(value: object) -> float | None:
    return value if isinstance(value, float) and not math.isnan(value) else None


def is_complete(sweep: Sweep) -> bool:
    """Whether all cells of a sweep have an outcome."""
    return len(sweep.table) == len(sweep.cells)
