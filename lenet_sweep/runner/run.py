"""Run a sweep: plan its cells, train the missing runs, keep its table up to date."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lenet_sweep.config.studies import Study, replace_study
from lenet_sweep.config.validation import Options
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.text import pluralize
from lenet_sweep.data import datasets
from lenet_sweep.data.download import StderrProgress
from lenet_sweep.executors import Executor, RunContext
from lenet_sweep.machine import provenance
from lenet_sweep.results.csv_file import write_csv
from lenet_sweep.results.manifest import (
    DamagedManifestError,
    Manifest,
    read_manifest,
    recover_cells,
)
from lenet_sweep.results.sweep import Sweep, load_sweep
from lenet_sweep.runner import background_imports
from lenet_sweep.runner.interrupts import handle_signals
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.storage import atomic
from lenet_sweep.storage.files import lock_file, make_folder, move_to_damaged, write_json
from lenet_sweep.storage.store import Store
from lenet_sweep.ui.progress import describe_damage
from lenet_sweep.ui.views import View

LOCK_TIMEOUT = 60.0  # seconds until waiting for another launch is an error


@dataclass(frozen=True)
class SweepResult:
    """A sweep at the end of a launch.

    requested: the cells of this launch. interrupted: the signal that ended it early. stale: the ids
    of requested cells that were to be trained again but were not; they have their earlier rows.
    """

    sweep: Sweep
    requested: tuple[Cell, ...]
    interrupted: signal.Signals | None = None
    stale: frozenset[str] = frozenset()

    @property
    def exit_status(self) -> int:
        """0 if every requested cell is ok, 1 if not, 128 + signal number if interrupted."""
        if self.interrupted:
            return 128 + self.interrupted
        ok = {cell.id for cell in self.sweep.finished_cells()}
        return 0 if all(cell.id in ok for cell in self.requested) else 1

    def accuracies(self) -> dict[str, float]:
        """Accuracy in percent by cell id; nan for a failed cell, no entry for one without a row."""
        table = self.sweep.table
        return dict(zip(table["cell"], table["accuracy"], strict=True))


def run_sweep(
    cells: Sequence[Cell],
    options: Options,
    view: View,
    executor: Executor,
    folder: Path | None = None,
    *,
    reported: bool = True,
) -> SweepResult:
    """Train what the cells still need and write results.csv each time one of them ends.

    The cells are added to those that `folder` (default: chosen by `sweep_folder`) already has, so
    that a sweep may also be launched cell by cell. Signals end it in good order, as
    `lenet_sweep.runner.interrupts` describes.
    reported: whether page and figures follow, for which much is then imported meanwhile.
    Raises DataError if the images cannot be obtained, StoreError if the folder cannot be written,
    UsageError if the executor is not available.
    """
    table = ResultsTable(Store(options.out), options.person)
    planned = table.plan(cells, reuse=options.reuse)
    folder = folder or sweep_folder(options, planned.cells)
    if planned.runs:
        executor.check()
    make_folder(folder)
    environment = provenance.environment(options.person)
    manifest = _update_manifest(folder, planned.cells, table.store, options, environment)
    table.keep(folder, manifest.cells)
    table.complete(set(manifest.cells) - set(planned.cells))
    kinds = sorted({cell.device for cell in planned.cells})
    workers = options.workers or executor.room(kinds)
    for dataset in {run.cell.dataset for run in planned.runs}:
        datasets.ensure_dataset(dataset, options.data_root, StderrProgress())
    view.begin(planned, workers)
    with contextlib.ExitStack() as stack:
        stack.callback(view.end)
        signals = stack.enter_context(handle_signals())
        if planned.duplicates:
            equal = pluralize(planned.duplicates, "equal cell")
            view.say(f"{equal} merged into others")
        for path in dict.fromkeys(table.store.damaged):
            if path.parent.name not in planned.by_id:  # who trains a run says so of its files
                view.say(describe_damage(str(path)))
        for note in (*options.unused, *(options.notes if planned.runs else ())):
            view.say(note)
        wanted = _imported_meanwhile(options, reported=reported) if planned.runs else ()
        with signals.deferred(), background_imports.import_in_background(wanted):
            context = RunContext(
                out=options.out,
                data_root=options.data_root,
                workers=workers,
                retrain=not options.reuse,
                timeout=options.timeout,
                retries=options.retries,
                environment=environment,
                stop=signals.stop,
                signals=signals.received,
                say=view.say,
            )
            for event in executor.execute(planned.runs, context) if planned.runs else ():
                view.show(event)
                if table.update(event, planned):
                    view.rows(table.write(folder))
        # With the rows of other launches, those that began meanwhile under this name included;
        # locked, so that the last one to write has seen them all.
        with signals.deferred(), _locked(folder, signals.stop) as locked:
            if locked:
                manifest = read_manifest(folder)
                table.complete(manifest.cells)
            frame = table.write(folder)
        view.rows(frame)
        interrupted = signals.received[0] if signals.received else None
    sweep = Sweep(folder, manifest, table.store, options.data_root, frame)
    stale = frozenset(cell.id for cell in planned.cells if cell not in table.rows)
    return SweepResult(sweep, planned.cells, interrupted, stale)


def _imported_meanwhile(options: Options, *, reported: bool) -> list[str]:
    """Modules that are slow to import, which the table needs or the end of a sweep."""
    names = ["pandas"]
    if not reported:
        return names
    if options.figures != "none":
        names += ["matplotlib.figure", "lenet_sweep.report.figure_set"]
    if options.report:
        names += ["scipy.special", "lenet_sweep.report.page_files"]
    if options.report and options.figures != "none":
        names.append("lenet_sweep.report.charts")
    return names


def reload_sweep(folder: Path) -> Sweep:
    """Read a sweep from its folder and the store, and rewrite its results.csv."""
    with _locked(folder):
        sweep = load_sweep(folder)
        write_csv(sweep.table, folder / "results.csv")
    return sweep


def sweep_folder(options: Options, cells: Sequence[Cell]) -> Path:
    """The folder of a sweep: by name, or by its cells, so that the same command returns to it."""
    parent = options.out / "sweeps"
    if options.name:
        return parent / options.name
    identity = "\n".join(sorted(cell.id for cell in cells))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    before = sorted(parent.glob(f"*_{digest}"))
    if before:
        return before[0]
    now = datetime.now().astimezone()
    return parent / f"{now:%Y-%m-%d_%H-%M-%S}_{digest}"


def _update_manifest(
    folder: Path,
    cells: Sequence[Cell],
    store: Store,
    options: Options,
    environment: dict[str, Any],
) -> Manifest:
    """Add this launch and its cells to sweep.json; its new content."""
    path = folder / "sweep.json"
    launch = {
        "command": shlex.join(provenance.command()),
        "git_revision": provenance.git_revision(),
        "environment": environment,
    }
    with _locked(folder):
        for place in (folder, folder / "figures"):
            atomic.remove_stale_temporaries(place)
        earlier: Sequence[Cell] = ()
        known: Sequence[Study] = ()
        launches: Sequence[dict[str, Any]] = ()
        try:
            before = read_manifest(folder)
            earlier, launches, known = before.cells, before.launches, before.studies
        except FileNotFoundError:
            pass
        except DamagedManifestError:
            earlier = recover_cells(folder, store)
            store.damaged.append(move_to_damaged(path))
        everything = list(dict.fromkeys([*earlier, *cells]))
        if options.study:
            known = replace_study(known, options.study)
        write_json(
            path,
            {
                "store": os.path.relpath(store.out, folder),
                "data_root": str(options.data_root.absolute()) if options.data_root else None,
                "cells": [cell.to_json() for cell in everything],
                "studies": [study.to_json() for study in known],
                "launches": [*launches, launch],
            },
        )
        return read_manifest(folder)


@contextlib.contextmanager
def _locked(folder: Path, stop: threading.Event | None = None) -> Iterator[bool]:
    """The sweep's folder for this sweep alone. False: `stop` was set before it could be had."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    lock = None
    while lock is None:
        if stop and stop.is_set():
            yield False
            return
        if time.monotonic() > deadline:
            raise StoreError(f"{folder / '.lock'} has been held for a minute by another process")
        lock = lock_file(folder / ".lock", timeout=0.2)
    try:  # not `with`, which would take the held lock once more and release it once
        yield True
    finally:
        lock.release()
