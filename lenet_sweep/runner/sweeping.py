"""A sweep: plan the cells, execute the runs that are missing, keep the table up to date."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_sweep.config.studies import Study, renewed
from lenet_sweep.config.validation import Options
from lenet_sweep.core.cells import Cell, Plan, plan
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import Event, Failed, ReadOut
from lenet_sweep.core.text import pluralize
from lenet_sweep.data import datasets
from lenet_sweep.data.download import StderrProgress
from lenet_sweep.data.test_images import ImageSets
from lenet_sweep.executors import Executor, Setup
from lenet_sweep.machine import provenance
from lenet_sweep.report.text_tables import presented, write_texts
from lenet_sweep.results import records
from lenet_sweep.results.columns import REPRODUCTION
from lenet_sweep.results.csv_file import kept_rows, write_csv
from lenet_sweep.results.estimate import Estimate, estimate
from lenet_sweep.results.manifest import (
    DamagedManifestError,
    cells_of_table,
    read_manifest,
    recorded,
)
from lenet_sweep.results.ranking import UNMARKED, Marks, table
from lenet_sweep.results.records import Record
from lenet_sweep.runner import background_imports
from lenet_sweep.runner.interrupts import handle_signals
from lenet_sweep.storage import atomic
from lenet_sweep.storage.files import lock_file, make_folder, set_aside, write_json
from lenet_sweep.storage.store import Store
from lenet_sweep.ui.progress import damage, planning
from lenet_sweep.ui.views import View

if TYPE_CHECKING:
    import pandas as pd

    from lenet_sweep.analysis.reproduction import Reproduction
    from lenet_sweep.analysis.statistics import Result

FINAL = ("ok", "diverged")  # the same settings give these again: no use in training once more
LOCK_WITHIN = 60.0  # seconds until waiting for another launch is an error
PAUSE = 10.0  # times as long as it took to write results.csv, until it is written again


@dataclass(frozen=True)
class Outcome:
    """What a sweep left: its table and folder, and the signal that cut it short.

    cells: all of the folder's, those of earlier launches under its name included.
    asked: the ones of this launch. kept: those of them that were to be trained again and were
    not; they have their earlier rows.
    """

    table: pd.DataFrame
    folder: Path
    cells: tuple[Cell, ...]
    asked: tuple[Cell, ...]
    interrupted: signal.Signals | None
    kept: frozenset[str] = frozenset()  # ids

    @property
    def exit_status(self) -> int:
        """0 if every cell asked for is ok, 1 if not, 128 + signal number if it was interrupted."""
        if self.interrupted:
            return 128 + self.interrupted
        ok = set(self.table.loc[self.table["status"] == "ok", "cell"])
        return 0 if all(cell.id in ok for cell in self.asked) else 1

    @cached_property
    def test_images(self) -> ImageSets:
        """The test images of its cells, read when they are first asked for, and once."""
        return ImageSets()

    def accuracies(self) -> dict[str, float]:
        """Accuracy in percent by cell id; nan for a failed cell, no entry for one without a row."""
        return dict(zip(self.table["cell"], self.table["accuracy"], strict=True))


def run_sweep(
    cells: Sequence[Cell],
    options: Options,
    view: View,
    executor: Executor,
    folder: Path | None = None,
    *,
    reported: bool = True,
) -> Outcome:
    """Train what the cells still need and write results.csv each time one of them ends.

    The cells are added to those that `folder` (default: chosen by `sweep_folder`) already has, so
    that a sweep may also be launched cell by cell. Signals end it in good order, as
    `lenet_sweep.runner.interrupts` describes.
    reported: whether page and figures follow, for which much is then imported meanwhile.
    Raises DataError if the images cannot be obtained, StoreError if the folder cannot be written,
    UsageError if the executor is not available.
    """
    table = _Table(Store(options.out), options.person)
    planned = table.plan(cells, reuse=options.reuse)
    folder = folder or sweep_folder(options, planned.cells)
    if planned.runs:
        executor.check()
    make_folder(folder)
    environment = provenance.environment(options.person)
    everything = _add_to_manifest(folder, planned.cells, table.store, options, environment)
    table.keep(folder, everything)
    table.complete(set(everything) - set(planned.cells))
    kinds = sorted({cell.device for cell in planned.cells})
    workers = options.workers or executor.room(kinds)
    for dataset in {run.cell.dataset for run in planned.runs}:
        datasets.ensure(dataset, options.data_root, StderrProgress())
    view.begin(planned, workers)
    with contextlib.ExitStack() as stack:
        stack.callback(view.end)
        signals = stack.enter_context(handle_signals())
        if planned.duplicates:
            equal = pluralize(planned.duplicates, "equal cell")
            view.say(f"{equal} merged into others")
        for path in dict.fromkeys(table.store.damaged):
            if path.parent.name not in planned.by_id:  # who trains a run says so of its files
                view.say(damage(str(path)))
        for note in (*options.unused, *(options.notes if planned.runs else ())):
            view.say(note)
        wanted = _imported_meanwhile(options, reported=reported) if planned.runs else ()
        with signals.deferred(), background_imports.importing(wanted):
            setup = Setup(
                out=options.out,
                data_root=options.data_root,
                workers=workers,
                fresh=not options.reuse,
                timeout=options.timeout,
                retries=options.retries,
                environment=environment,
                stop=signals.stop,
                received=signals.received,
                say=view.say,
            )
            for event in executor.execute(planned.runs, setup) if planned.runs else ():
                view.show(event)
                if table.update(event, planned):
                    view.rows(table.write(folder))
        # With the rows of other launches, those that began meanwhile under this name included;
        # locked, so that the last one to write has seen them all.
        with signals.deferred(), _locked(folder, signals.stop) as locked:
            if locked:
                everything = list(read_manifest(folder).cells)
                table.complete(everything)
            frame = table.write(folder)
        view.rows(frame)
        cut = signals.received[0] if signals.received else None
    kept = frozenset(cell.id for cell in planned.cells if cell not in table.rows)
    return Outcome(frame, folder, tuple(everything), planned.cells, cut, kept)


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


@dataclass(frozen=True)
class Preview:
    """What a sweep would do.

    rows: of cells that are in the store. damaged: files of them. estimate: None if the plan has
    nothing to train.
    """

    plan: Plan
    rows: tuple[Record, ...]
    damaged: tuple[Path, ...]
    estimate: Estimate | None
    notes: tuple[str, ...]  # on how the cells are trained

    def lines(self) -> list[str]:
        """What a dry run prints."""
        damaged = [f"{path} is damaged" for path in self.damaged]
        return [*planning(self.plan, self.estimate), *self.notes, *damaged]


def preview(cells: Sequence[Cell], options: Options, executor: Executor | None) -> Preview:
    """What `run_sweep` would do. executor: None where it is not known how many runs train at once.

    Writes nothing.
    """
    table = _Table(Store(options.out), options.person)
    planned = table.plan(cells, reuse=options.reuse)
    expected = None
    if planned.runs:
        kinds = sorted({run.cell.device for run in planned.runs})
        workers = options.workers or (executor.room(kinds) if executor else None)
        expected = estimate(planned, table.store, workers, provenance.processor())
    damaged = tuple(dict.fromkeys(table.store.damaged))
    notes = (*options.unused, *options.notes)
    return Preview(planned, tuple(table.rows.values()), damaged, expected, notes)


def mark(outcome: Outcome, options: Options) -> Marks:
    """What printed tables say beyond results.csv; without comparisons if it was interrupted."""
    table = outcome.table
    if int((table["status"] == "ok").sum()) < 2:
        return UNMARKED
    from lenet_sweep.analysis import ties  # noqa: PLC0415 - not for one cell

    by_id = {cell.id: cell for cell in outcome.cells}
    settings = ties.over_seeds([by_id[name] for name in table["cell"]], table)
    found = UNMARKED if outcome.interrupted else ties.marks(_results(outcome, options))
    return replace(found, settings=settings if options.rows == "settings" else ())


def reproduce(outcome: Outcome, options: Options) -> tuple[Reproduction, ...]:
    """The sweep's studies held against its results; none of a sweep that was interrupted."""
    studies = read_manifest(outcome.folder).studies
    if outcome.interrupted or not studies:
        return ()
    from lenet_sweep.analysis import claim_checks  # noqa: PLC0415 - not for most sweeps

    found = _results(outcome, options)
    return tuple(claim_checks.judge(study, found) for study in studies)


def _results(outcome: Outcome, options: Options) -> Sequence[Result]:
    """What the first rows of the table have come to, out of the store."""
    from lenet_sweep.analysis import loading  # noqa: PLC0415 - not for one cell

    first = outcome.table.head(loading.MOST)
    sources = loading.sources(first, outcome.cells, Store(options.out), options.data_root)
    return loading.load(first, sources, outcome.test_images)


def write_tables(
    outcome: Outcome, marks: Marks = UNMARKED, reproduced: Sequence[Reproduction] = ()
) -> list[Path]:
    """Write the tables that are for reading, at the end. The sweep's files but the figures."""
    folder = outcome.folder
    tables = presented(outcome.table, marks)
    files = [folder / "results.csv"]
    if reproduced:
        from lenet_sweep.analysis import reproduction  # noqa: PLC0415 - not for most sweeps

        tables += [table for each in reproduced for table in reproduction.presented(each)]
        files.append(folder / REPRODUCTION)
        write_csv(reproduction.table(reproduced), files[-1])
    else:
        (folder / REPRODUCTION).unlink(missing_ok=True)  # of another state of the sweep
    return [*files, *write_texts(tables, folder), folder / "sweep.json"]


def draw_figures(outcome: Outcome, options: Options, say: Callable[[str], None]) -> list[Path]:
    """Draw the figures that `options.figures` asks for; their files.

    `say` takes a line on what is left out, and now and then on how far it has come. None are
    drawn of a sweep that was interrupted: who pressed Ctrl-C does not wait for pictures.
    This process draws them itself: a fork of a process with threads can deadlock, and a new process
    takes longer to import matplotlib than most sweeps take to draw.
    """
    table = outcome.table
    by_id = {cell.id: cell for cell in outcome.cells}
    ranked = [by_id[name] for name in table.loc[table["status"] == "ok", "cell"]]
    if options.figures == "none" or outcome.interrupted or not ranked:
        return []
    from lenet_sweep.report import figure_set  # noqa: PLC0415 - matplotlib takes most of a second

    store, folder = Store(options.out), outcome.folder / "figures"
    return figure_set.draw(
        ranked, store, folder, options.data_root, outcome.test_images, options.figures, say
    )


def write_page(outcome: Outcome, options: Options, say: Callable[[str], None]) -> list[Path]:
    """Write the page, and the statistics behind it, where `options.report` asks for it; the files.

    `say` takes a line on why a page that shows more than this one would is kept.
    Without pictures where `figures` is none; of a sweep that was interrupted, the rows alone.
    """
    if not options.report:
        return []
    from lenet_sweep.report import page_files as page_files  # noqa: PLC0415 - it is slow to import

    return page_files.write(
        outcome.folder,
        outcome.table,
        outcome.cells,
        Store(options.out),
        options.data_root,
        outcome.test_images,
        pictures=options.figures != "none",
        interrupted=outcome.interrupted.name if outcome.interrupted else "",
        say=say,
    )


def reopen(folder: Path, asked: Sequence[Cell]) -> Outcome:
    """A sweep as it stands in its folder and the store, with results.csv written anew."""
    with _locked(folder):
        manifest = read_manifest(folder)
        frame = table(recorded(folder, manifest).values())
        write_csv(frame, folder / "results.csv")
    return Outcome(frame, folder, manifest.cells, tuple(asked), None)


class _Table:
    """The rows of a sweep as its cells end."""

    def __init__(self, store: Store, person: str) -> None:
        self.store = store
        self.person = person
        self.rows: dict[Cell, Record] = {}
        self.kept: dict[Cell, Record] = {}  # of results.csv, until there is a row
        self._changed = False  # since it was written
        self._due = 0.0  # not written before: how long that takes grows with the table

    def plan(self, cells: Sequence[Cell], *, reuse: bool) -> Plan:
        """What is missing for these cells; rows of those that are finished are taken in."""
        if not reuse:
            return plan(cells, lambda _: False)
        try:
            stored = self.store.run_ids()
        except OSError:  # a folder that cannot be listed may still be read
            return plan(cells, self._is_final)
        return plan(cells, lambda cell: cell.run_id in stored and self._is_final(cell))

    def _is_final(self, cell: Cell) -> bool:
        try:
            row = records.record(cell, self.store, self.person)
        except StoreError:  # it cannot be read: whoever trains it finds out, and is a row
            return False
        if row is None or row["status"] not in FINAL:
            return False
        self.rows[cell] = row
        return True

    def complete(self, cells: Iterable[Cell]) -> None:
        """Take in every row that the store has of these cells, failed ones included."""
        for cell in cells:
            if cell not in self.rows and (
                row := records.known(cell, self.store, self.kept, self.person)
            ):
                self.rows[cell] = row

    def keep(self, folder: Path, cells: Iterable[Cell]) -> None:
        """Keep what the folder's results.csv says of these cells until they are trained again."""
        self.kept = kept_rows(folder, cells)

    def update(self, event: Event, planned: Plan) -> bool:
        """Take in what an event says; whether the table should be written now.

        That is asked with every event, so that a row is never long without being written.
        """
        if isinstance(event, (ReadOut, Failed)):
            run = planned.by_id[event.run_id]
            failure = event.failure if isinstance(event, Failed) else None
            epochs = [event.epoch] if isinstance(event, ReadOut) else run.readouts
            for cell in (replace(run.cell, epochs=number) for number in epochs):
                if row := records.record(cell, self.store, self.person, failure):
                    self.rows[cell] = row
            self._changed = True
        return self._changed and time.monotonic() >= self._due

    def write(self, folder: Path) -> pd.DataFrame:
        began = time.monotonic()
        frame = table((self.kept | self.rows).values())
        write_csv(frame, folder / "results.csv")
        ended = time.monotonic()
        self._changed, self._due = False, ended + PAUSE * (ended - began)
        return frame


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


def _add_to_manifest(
    folder: Path,
    cells: Sequence[Cell],
    store: Store,
    options: Options,
    environment: dict[str, Any],
) -> list[Cell]:
    """Write sweep.json; all cells of the sweep, those of earlier launches included."""
    path = folder / "sweep.json"
    launch = {
        "command": shlex.join(provenance.command()),
        "git_revision": provenance.git_revision(),
        "environment": environment,
    }
    with _locked(folder):
        for place in (folder, folder / "figures"):
            atomic.clear_left_behind(place)
        earlier: Sequence[Cell] = ()
        known: Sequence[Study] = ()
        launches: Sequence[dict[str, Any]] = ()
        try:
            before = read_manifest(folder)
            earlier, launches, known = before.cells, before.launches, before.studies
        except FileNotFoundError:
            pass
        except DamagedManifestError:
            earlier = cells_of_table(folder, store)
            store.damaged.append(set_aside(path))
        everything = list(dict.fromkeys([*earlier, *cells]))
        if options.study:
            known = renewed(known, options.study)
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
    return everything


@contextlib.contextmanager
def _locked(folder: Path, stop: threading.Event | None = None) -> Iterator[bool]:
    """The sweep's folder for this sweep alone. False: `stop` was set before it could be had."""
    deadline = time.monotonic() + LOCK_WITHIN
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
