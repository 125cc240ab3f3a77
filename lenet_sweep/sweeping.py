"""A sweep: plan the cells, execute the runs that are missing, keep the table up to date."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from lenet_sweep import datasets, devices, provenance, results
from lenet_sweep.cells import Cell, Plan, plan
from lenet_sweep.config import Options
from lenet_sweep.download import StderrProgress
from lenet_sweep.events import Event, Failed, ReadOut
from lenet_sweep.executors import Executor, Setup
from lenet_sweep.store import Store, make_folder, read_json, write_atomic, write_json
from lenet_sweep.tally import counted
from lenet_sweep.views import View

if TYPE_CHECKING:
    import pandas as pd

FINAL = ("ok", "diverged")  # the same settings give these again: no use in training once more


@dataclass(frozen=True)
class Outcome:
    """What a sweep left: its table, the folder it stands in, and the signal that cut it short."""

    table: pd.DataFrame
    folder: Path
    cells: tuple[Cell, ...]
    interrupted: signal.Signals | None

    @property
    def exit_status(self) -> int:
        """0 if every cell is ok, 1 if some failed, 128 + signal number if it was interrupted."""
        if self.interrupted:
            return 128 + self.interrupted
        complete = len(self.table) == len(self.cells)
        return 0 if complete and (self.table["status"] == "ok").all() else 1


def run_sweep(
    cells: Sequence[Cell],
    options: Options,
    view: View,
    execute: Executor,
    folder: Path | None = None,
) -> Outcome:
    """Train what the cells still need and write results.csv each time one of them ends.

    The cells are added to those that `folder` (default: chosen by `sweep_folder`) already has, so
    that a sweep may also be launched cell by cell. SIGINT and SIGTERM end it in good order.
    Raises DataError where the images cannot be had, StoreError where the folder cannot be written.
    """
    table = _Table(Store(options.out))
    planned = table.plan(cells, reuse=options.reuse)
    folder = folder or sweep_folder(options, planned.cells)
    make_folder(folder)
    everything = _add_to_manifest(folder, planned.cells, options)
    for cell in everything:
        if cell not in planned.cells:
            table.look_up(cell)
    kinds = sorted({cell.device for cell in planned.cells})
    workers = options.workers or max(map(devices.workers, kinds))
    for dataset in {run.cell.dataset for run in planned.runs}:
        datasets.ensure(dataset, options.data_root, StderrProgress())
    view.begin(planned, workers)
    try:
        if planned.duplicates:
            equal = counted(planned.duplicates, "equal cell")
            view.say(f"{equal} merged into others")
        for note in options.notes if planned.runs else ():
            view.say(note)
        with _stop_on_signals() as (stop, received):
            setup = Setup(
                out=options.out,
                data_root=options.data_root,
                workers=workers,
                gpus=devices.gpus() if planned.runs and "cuda" in kinds else (),
                fresh=not options.reuse,
                environment=provenance.environment(options.person),
                stop=stop,
            )
            for event in execute(planned.runs, setup) if planned.runs else ():
                view.show(event)
                if table.update(event, planned):
                    view.rows(table.write(folder))
        frame = table.write(folder)
        view.rows(frame)
    finally:
        view.end()
    return Outcome(frame, folder, tuple(everything), received[0] if received else None)


def preview(cells: Sequence[Cell], options: Options) -> Plan:
    """What `run_sweep` would train. Writes nothing."""
    return _Table(Store(options.out)).plan(cells, reuse=options.reuse)


def finish(outcome: Outcome, options: Options) -> list[Path]:
    """Write what is made once, at the end: Markdown, LaTeX and figures. All files of the sweep."""
    folder, table = outcome.folder, outcome.table
    write_atomic(folder / "results.md", results.to_markdown(table).encode())
    write_atomic(folder / "results.tex", results.to_latex(table).encode())
    files = [folder / name for name in ("results.csv", "results.md", "results.tex", "sweep.json")]
    by_id = {cell.id: cell for cell in outcome.cells}
    ranked = [by_id[name] for name in table.loc[table["status"] == "ok", "cell"]]
    if options.figures == "none" or not ranked:
        return files
    from lenet_sweep import gallery  # noqa: PLC0415 - matplotlib takes most of a second

    figures = gallery.draw(
        ranked, Store(options.out), folder / "figures", options.data_root, options.figures
    )
    return [*files, *figures]


def reopen(folder: Path) -> Outcome:
    """A sweep as it stands in its folder and the store, with results.csv written anew."""
    frame = results.load_results(folder)
    results.write_csv(frame, folder / "results.csv")
    manifest = read_json(folder / "sweep.json") or {}
    return Outcome(frame, folder, tuple(map(Cell.from_json, manifest["cells"])), None)


class _Table:
    """The rows of a sweep as its cells end."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows: dict[Cell, results.Record] = {}

    def look_up(self, cell: Cell) -> str | None:
        """Take the cell's row from the store; its status, None where it has no outcome."""
        row = results.record(cell, self.store)
        if row is None or row["status"] not in FINAL:
            return None
        self.rows[cell] = row
        return str(row["status"])

    def plan(self, cells: Sequence[Cell], *, reuse: bool) -> Plan:
        """What is missing for these cells; rows of those that are finished are taken in."""
        return plan(cells, lambda cell: reuse and self.look_up(cell) in FINAL)

    def update(self, event: Event, planned: Plan) -> bool:
        """Take in what an event says; whether the table changed."""
        if not isinstance(event, (ReadOut, Failed)):
            return False
        run = next(run for run in planned.runs if run.id == event.run_id)
        for cell in run.cells():
            if isinstance(event, ReadOut) and cell.epochs != event.epoch:
                continue
            if row := results.record(cell, self.store):
                self.rows[cell] = row
        return True

    def write(self, folder: Path) -> pd.DataFrame:
        frame = results.table(self.rows.values())
        results.write_csv(frame, folder / "results.csv")
        return frame


def sweep_folder(options: Options, cells: Sequence[Cell]) -> Path:
    """The folder of a sweep: by name, or by its cells, so that the same command returns to it."""
    parent = options.out / "sweeps"
    if options.name:
        return parent / options.name
    identity = "\n".join(sorted(cell.id for cell in cells))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    before = sorted(parent.glob(f"*_{digest}"))
    return (
        before[0]
        if before
        else parent / f"{datetime.now().astimezone():%Y-%m-%d_%H-%M-%S}_{digest}"
    )


def _add_to_manifest(folder: Path, cells: Sequence[Cell], options: Options) -> list[Cell]:
    """Write sweep.json; all cells of the sweep, those of earlier launches included."""
    path = folder / "sweep.json"
    with filelock.FileLock(folder / ".lock"):
        manifest: dict[str, Any] = read_json(path) or {"cells": [], "launches": []}
        earlier = [Cell.from_json(values) for values in manifest["cells"]]
        everything = list(dict.fromkeys([*earlier, *cells]))
        launch = {
            "command": shlex.join(provenance.command()),
            "git_revision": provenance.git_revision(),
            "environment": provenance.environment(options.person),
        }
        write_json(
            path,
            {
                "store": os.path.relpath(options.out, folder),
                "cells": [cell.to_json() for cell in everything],
                "launches": [*manifest["launches"], launch],
            },
        )
    return everything


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[tuple[threading.Event, list[signal.Signals]]]:
    """An event that SIGINT and SIGTERM set, and the signals received; the second one interrupts."""
    stop = threading.Event()
    received: list[signal.Signals] = []

    def handle(number: int, _: object) -> None:
        received.append(signal.Signals(number))
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop, received  # only the main thread may handle signals
        return
    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop, received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
