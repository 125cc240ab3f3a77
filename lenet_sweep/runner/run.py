"""Runs a sweep: plans its cells, trains the missing runs and keeps its table up to date."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_sweep.config.own_models import locations_of
from lenet_sweep.config.search_space import SearchSpace
from lenet_sweep.config.studies import replace_study
from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.plans import Plan, runs_of
from lenet_sweep.core.text import join_command, pluralize
from lenet_sweep.data import download
from lenet_sweep.executors import Executor, RunContext
from lenet_sweep.machine import provenance
from lenet_sweep.results.csv_file import write_csv
from lenet_sweep.results.manifest import (
    DamagedManifestError,
    Manifest,
    read_manifest,
    recover_cells,
    write_manifest,
)
from lenet_sweep.results.sweep import Sweep, load_sweep
from lenet_sweep.runner import background_imports
from lenet_sweep.runner.event_recorder import EventRecorder
from lenet_sweep.runner.interrupts import Interrupts, handle_signals
from lenet_sweep.runner.observers import ObserverGroup
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.runner.sampling_rounds import SamplingRounds
from lenet_sweep.runner.search_rounds import SearchRounds
from lenet_sweep.search.registry import make_search
from lenet_sweep.search.sampling import make_sampling
from lenet_sweep.storage import atomic
from lenet_sweep.storage.files import lock_file, move_to_damaged
from lenet_sweep.storage.launches import mark_running, record_folder
from lenet_sweep.storage.store import Store
from lenet_sweep.track.tracking import Tracking
from lenet_sweep.ui.observer import Observer
from lenet_sweep.ui.progress import describe_damage

if TYPE_CHECKING:
    import pandas as pd

LOCK_TIMEOUT = 60.0  # seconds to wait for another launch that holds the lock of the folder


@dataclass(frozen=True)
class SweepResult:
    """A sweep at the end of a launch.

    requested: the cells of this launch. interrupted: the signal that ended it early, if any.
    not_retrained: the ids of requested cells without a new outcome; their rows, if any, are those
    of an earlier launch. failed_again: the ids of cells that failed, but keep such a row.
    observer_errors: one line for each observer that was removed, and for each tracker that failed.
    tracking: the trackers that still run, if any.
    """

    sweep: Sweep
    requested: tuple[Cell, ...]
    interrupted: signal.Signals | None = None
    not_retrained: frozenset[str] = frozenset()
    failed_again: frozenset[str] = frozenset()
    observer_errors: tuple[str, ...] = ()
    tracking: Tracking | None = None

    @property
    def exit_status(self) -> int:
        """0 if all requested cells are ok or stopped by the search, 1 if not, 128 + signal number
        if interrupted.
        """
        if self.interrupted:
            return 128 + self.interrupted
        ended = [*self.sweep.finished_cells(), *self.sweep.stopped_cells()]
        ok = {cell.id for cell in ended} - self.failed_again
        return 0 if all(cell.id in ok for cell in self.requested) else 1

    def accuracies(self) -> dict[str, float]:
        """Accuracy in percent by cell id: nan if the cell failed, no entry if it has no row."""
        table = self.sweep.table
        accuracies = dict(zip(table["cell"], table["accuracy"], strict=True))
        return accuracies | dict.fromkeys(self.failed_again, float("nan"))


def run_sweep(
    cells: Sequence[Cell],
    options: SweepOptions,
    observers: Sequence[Observer],
    executor: Executor,
    folder: Path | None = None,
    *,
    with_outputs: bool = True,
    space: SearchSpace | None = None,
) -> SweepResult:
    """Train the runs that the cells still need, and rewrite results.csv as cells end.

    The cells are added to those that `folder` (default: `sweep_folder`) already has, so a sweep can
    also be launched cell by cell. On a signal, the workers save checkpoints and the table is
    written; see `lenet_sweep.runner.interrupts`.

    observers: follow the sweep in the given order; `Observer` says what happens if one fails.
    with_outputs: whether `outputs.write_outputs` comes next. If so, its modules are imported during
    the training, and the trackers run until it ends them.
    space: what a search that samples settings samples from; its trials then replace `cells`.

    Raises DataError if the images cannot be obtained, StoreError if the folder cannot be written,
    UsageError if the executor is not available.
    """
    group = ObserverGroup(observers)
    with contextlib.ExitStack() as stack:
        launch = _prepare(cells, options, executor, folder, space, stack)
        table = launch.table
        group.add(EventRecorder(launch.folder))
        tracking = None
        tracked = bool(options.tracker and with_outputs)
        if tracked and not launch.sampling:
            tracking = Tracking(
                options.tracker, launch.folder, launch.manifest, options.person, group.on_message
            )
            group.add(tracking)
        stack.callback(group.on_end)
        if tracking:
            stack.enter_context(tracking.abandoned_after_error())
        group.on_start(launch.planned, launch.workers)
        signals = stack.enter_context(handle_signals())
        for message in _messages(launch.planned, table.store, options):
            group.on_message(message)
        trains = bool(launch.planned.runs)
        modules = _modules_for_outputs(options, with_outputs=with_outputs) if trains else ()
        with signals.deferred(), background_imports.import_in_background(modules):
            search = _train(launch, options, executor, group, signals)
            launch.table.add_stops(search.decision.stops if search else {}, launch.planned.cells)
        with signals.deferred():
            manifest, frame = _write_final_table(launch, signals)
            group.on_table(frame)
        if tracked and launch.sampling:  # trackers need all cells when they start
            tracking = Tracking(
                options.tracker, launch.folder, manifest, options.person, group.on_message
            )
        interrupted = signals.received[0] if signals.received else None
    sweep = Sweep(launch.folder, manifest, table.store, options.data_root, frame)
    requested = launch.planned.cells
    not_retrained = frozenset(cell.id for cell in requested if cell not in table.records)
    failed_again = frozenset(cell.id for cell in table.failed_again)
    return SweepResult(
        sweep, requested, interrupted, not_retrained, failed_again, tuple(group.errors), tracking
    )


@dataclass
class _Launch:
    """A launch that is ready to train: its folder is written, and its images are on the disk.

    planned, manifest: grow in a search that samples settings. workers: the number of concurrent
    runs; None: the executor decides. sampling: None for other searches.
    """

    folder: Path
    planned: Plan
    table: ResultsTable
    manifest: Manifest
    environment: dict[str, Any]
    workers: int | None
    sampling: SamplingRounds | None


def _prepare(
    cells: Sequence[Cell],
    options: SweepOptions,
    executor: Executor,
    folder: Path | None,
    space: SearchSpace | None,
    stack: contextlib.ExitStack,
) -> _Launch:
    """Plan the cells, add them to the sweep's folder, and obtain their images.

    The folder is marked as running until `stack` is closed.
    """
    table = ResultsTable(Store(options.out), options.person)
    planned, sampling = _plan(cells, options, table, space)
    identity = sampling.first if sampling else planned.cells
    folder = folder or sweep_folder(options, identity, space.lines() if space else ())
    if planned.runs:
        executor.check()
    stack.enter_context(mark_running(folder))
    environment = provenance.environment(options.person)
    manifest = _update_manifest(folder, planned.cells, table.store, options, environment)
    record_folder(options.out, folder)
    if table.has_lost_runs():  # removed as unused before this sweep was on the disk
        table.records.clear()
        planned, sampling = _plan(cells, options, table, space)
    table.read_csv(folder, manifest.cells)
    table.forget_stops(planned.cells)
    table.add_stored(set(manifest.cells) - set(planned.cells))
    kinds = sorted({cell.device for cell in planned.cells})
    workers = options.workers or executor.capacity(kinds)
    for dataset in {run.cell.dataset for run in planned.runs}:
        download.ensure_dataset(dataset, options.data_root)
    return _Launch(folder, planned, table, manifest, environment, workers, sampling)


def _plan(
    cells: Sequence[Cell], options: SweepOptions, table: ResultsTable, space: SearchSpace | None
) -> tuple[Plan, SamplingRounds | None]:
    """The cells and the runs that they need, or those of the first waves of a sampling search."""
    if space:
        sampling = SamplingRounds(make_sampling(options.search), space, table)
        return sampling.plan, sampling
    searching = options.search.name != "grid"
    planned = table.plan(cells, reuse=options.reuse, searching=searching)
    if search := make_search(options.search):
        search.describe(runs_of(planned.cells))  # rejects a budget that is too small
    return planned, None


def _train(
    launch: _Launch,
    options: SweepOptions,
    executor: Executor,
    group: ObserverGroup,
    signals: Interrupts,
) -> SearchRounds | SamplingRounds | None:
    """Train the runs, pass their events to the observers, and keep results.csv up to date.

    Returns the search, None if there is none.
    """
    runs = launch.planned.runs
    if not runs:
        return None
    context = RunContext(
        out=options.out,
        data_root=options.data_root,
        workers=launch.workers,
        threads=options.threads,
        retrain=not options.reuse,
        timeout=options.timeout,
        retries=options.retries,
        environment=launch.environment,
        stop=signals.stop,
        signals=signals.received,
        on_message=group.on_message,
        models=locations_of(run.cell for run in runs),
    )
    rounds: SearchRounds | SamplingRounds | None = None
    if launch.sampling:
        rounds = launch.sampling

        def grow(planned: Plan) -> None:
            _grow(launch, planned)
            group.on_plan(planned)

        events = rounds.train(executor, context, grow, group.on_round)
    elif search := make_search(options.search):
        for line in search.describe(runs_of(launch.planned.cells)):
            group.on_message(line)
        rounds = SearchRounds(search, launch.planned, launch.table.records, context)
        events = rounds.train(executor, group.on_round)
    else:
        events = executor.execute(runs, context)
    with contextlib.ExitStack() as stack:
        if isinstance(events, Generator):
            stack.callback(events.close)  # after an error, ends the workers at once
        for event in events:
            group.on_event(event)
            if launch.table.update(event, launch.planned):
                _write_table(launch, group)
    return rounds


def _write_table(launch: _Launch, group: ObserverGroup) -> None:
    """Write results.csv, unless a spreadsheet has it open: the training must not end for that."""
    try:
        table = launch.table.write(launch.folder)
    except StoreError as error:
        if isinstance(error.__cause__, atomic.FileInUseError):
            return
        raise
    group.on_table(table)


def _grow(launch: _Launch, planned: Plan) -> None:
    """Add the cells that a search has sampled to the launch and its folder."""
    launch.planned = planned
    launch.table.forget_stops(planned.cells)
    with _locked(launch.folder):
        earlier = read_manifest(launch.folder)
        cells = tuple(dict.fromkeys([*earlier.cells, *planned.cells]))
        launch.manifest = replace(earlier, cells=cells)
        write_manifest(launch.folder, launch.manifest)


def _write_final_table(launch: _Launch, signals: Interrupts) -> tuple[Manifest, pd.DataFrame]:
    """Write the rows of all launches in this folder, also of those that started in the meantime.

    Under the lock, the last one to write has seen the rows of all others. Returns the manifest and
    the table.
    """
    manifest = launch.manifest
    with _locked(launch.folder, signals.stop) as locked:
        if locked:
            manifest = read_manifest(launch.folder)
            launch.table.add_stored(manifest.cells)
        return manifest, launch.table.write(launch.folder)


def _messages(planned: Plan, store: Store, options: SweepOptions) -> Iterator[str]:
    """What users should know before the training starts."""
    if planned.duplicates:
        yield f"{pluralize(planned.duplicates, 'duplicate cell')} merged"
    for path in dict.fromkeys(store.damaged):
        if path.parent.name not in planned.by_id:  # else the worker that trains it reports it
            yield describe_damage(str(path))
    yield from options.unused
    if planned.runs:
        yield from options.notes


def _modules_for_outputs(options: SweepOptions, *, with_outputs: bool) -> list[str]:
    """The modules that are slow to import, for the table and then for the page and the figures."""
    names = ["pandas"]
    if not with_outputs:
        return names
    if options.figures != "none":
        names += ["matplotlib.figure", "lenet_sweep.report.figure_set"]
    if options.report:
        names += [
            "scipy.special", "lenet_sweep.report.page_files", "lenet_sweep.report.page_template",
        ]  # fmt: skip
    if options.report and options.figures != "none":
        names.append("lenet_sweep.report.charts")
    return names


def reload_sweep(folder: Path) -> Sweep:
    """Read a sweep from its folder and the store, and rewrite its results.csv.

    Raises FileNotFoundError if there is no sweep, StoreError if its sweep.json cannot be used.
    """
    with _locked(folder):
        sweep = load_sweep(folder)
        write_csv(sweep.table, folder / "results.csv")
    return sweep


def sweep_folder(
    options: SweepOptions, cells: Sequence[Cell], sampled_from: Sequence[str] = ()
) -> Path:
    """The folder of a sweep: `options.name`, or a date and a hash of its cells.

    sampled_from: the lines of the space of a search that samples settings, whose first trial has
    these cells.
    An existing folder with the same hash is used again, so a repeated command continues its sweep.
    """
    parent = options.out / "sweeps"
    if options.name:
        return parent / options.name
    search = [options.search.name, *sampled_from] if sampled_from else []
    identity = "\n".join([*sorted(cell.id for cell in cells), *search])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    existing = sorted(parent.glob(f"*_{digest}"))
    if existing:
        return existing[0]
    now = datetime.now().astimezone()
    return parent / f"{now:%Y-%m-%d_%H-%M-%S}_{digest}"


def _update_manifest(
    folder: Path,
    cells: Sequence[Cell],
    store: Store,
    options: SweepOptions,
    environment: dict[str, Any],
) -> Manifest:
    """Add this launch and its cells to sweep.json, and return the new content."""
    launch = {
        "command": join_command(provenance.command()),
        "git_revision": provenance.git_revision(),
        "environment": environment,
        "search": options.search.name,
    }
    with _locked(folder):
        for parent in (folder, folder / "figures"):
            atomic.remove_stale_temporaries(parent)
        earlier = Manifest((), store, None, ())
        try:
            earlier = read_manifest(folder)
        except FileNotFoundError:
            pass
        except DamagedManifestError:
            earlier = replace(earlier, cells=tuple(recover_cells(folder, store)))
            store.damaged.append(move_to_damaged(folder / "sweep.json"))
        studies = earlier.studies
        manifest = Manifest(
            cells=tuple(dict.fromkeys([*earlier.cells, *cells])),
            store=store,
            data_root=options.data_root,
            launches=(*earlier.launches, launch),
            studies=replace_study(studies, options.study) if options.study else studies,
        )
        write_manifest(folder, manifest)
        return read_manifest(folder)


@contextlib.contextmanager
def _locked(folder: Path, stop: threading.Event | None = None) -> Iterator[bool]:
    """Hold the lock of a sweep's folder. Yields False if `stop` was set before it was acquired.

    Raises StoreError after LOCK_TIMEOUT seconds.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT
    lock = None
    while lock is None:
        if stop and stop.is_set():
            yield False
            return
        if time.monotonic() > deadline:
            raise StoreError(
                f"another process has held {folder / '.lock'} for {LOCK_TIMEOUT:g} s; "
                "run the same command again when that process has ended"
            )
        lock = lock_file(folder / ".lock", timeout=0.2)
    try:  # not `with`: it would acquire the lock a second time, but release it only once
        yield True
    finally:
        lock.release()
