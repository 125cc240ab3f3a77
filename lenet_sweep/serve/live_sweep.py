"""The state of a sweep, from the files in its folder: its cells, outcomes, curves and progress."""

from __future__ import annotations

import itertools
import math
import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lenet_sweep.config.keys import is_option
from lenet_sweep.config.registry import option_default
from lenet_sweep.core.cells import Cell, Plan, Run, short_names
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import (
    CellFinished,
    Dropped,
    EndedEarly,
    Epoch,
    EpochEnded,
    Event,
    Failed,
    SearchRound,
    Started,
)
from lenet_sweep.core.text import describe_os_error, format_option, one_line
from lenet_sweep.results.columns import (
    EPOCHS_TRAINED,
    HOLDOUT,
    STOPPED,
    heading_of,
    holds_text,
    settings_of,
)
from lenet_sweep.results.csv_file import read_records_csv
from lenet_sweep.results.event_file import (
    MAX_EPOCH_BYTES,
    NAME,
    Entry,
    EventFileReader,
    LaunchEnded,
    LaunchStarted,
    RoundStarted,
    RunsAdded,
)
from lenet_sweep.results.manifest import Manifest, read_manifest
from lenet_sweep.results.records import Record, settings_columns
from lenet_sweep.serve.served_folder import RefusedError, ServedFolder
from lenet_sweep.storage.files import UNREADABLE
from lenet_sweep.ui.progress import RunProgress, SweepProgress, describe_round

MAX_CELLS = 10_000  # of a sweep that the page shows
MAX_POINTS = 240  # of a curve when the page is opened; further ones are added as epochs end
ALL_POINTS = 60_000  # of all curves together when the page is opened
MAX_TEXT = 300  # characters of a text from outside
CHUNKS = 3  # of events.jsonl that are read at a time
LIST_CHUNK = 256 * 1024  # bytes of events.jsonl that are read at a time for the list of sweeps
HISTORIES = 40  # runs whose curves are read from the store at a time
ALIVE = 15.0  # seconds without a change of events.jsonl until its launch counts as ended
GONE = 6.0  # the same if its process is not found; the recorder changes the file every 3 seconds

# What reading a file of a sweep may raise if its content is not what this package writes.
UNUSABLE = (StoreError, OSError, ArithmeticError, *UNREADABLE)

_GENERATIONS = itertools.count(1)

Point = tuple[int, int, float | None, float | None, float | None, float | None]


@dataclass
class Launch:
    """A launch in events.jsonl.

    progress: of its runs; None if they are not known. ended: whether the file says so. alive:
    whether it still runs, as far as its file and its process show.
    """

    started: LaunchStarted
    time: float
    progress: SweepProgress | None
    ended: bool = False
    alive: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a row shows about an outcome. time: of the file or the event that it comes from."""

    status: str
    time: float
    accuracy: float | None = None
    holdout: float | None = None
    cost: float | None = None
    seconds: float | None = None  # per epoch
    epoch: int | None = None  # epochs trained
    error: str = ""
    person: str = ""


class LiveSweep:
    """A sweep that is read again when its files change. Only one thread may use it at a time.

    is_read: whether it was refreshed. error: why it cannot be shown, in one line; "" if it can.
    generation: changes when the sweep was launched again, which changes its cells. It differs from
    those of all other sweeps, such as a deleted one with the same name. version: increases with
    each change of a row; row_versions has that of each row's last change. points: of the curves, in
    the order in which they became known; one without numbers discards the later points of its run.
    """

    def __init__(self, name: str, folder: Path, served: ServedFolder) -> None:
        self.name = name
        self.folder = folder
        self.served = served
        self.error = ""
        self.generation = 0
        self.version = 0
        self.is_read = False
        self._is_detailed = False
        self._stamps: dict[str, Any] = {}
        self._forget()

    def _forget(self) -> None:
        """Start over, as before the first refresh."""
        self.manifest: Manifest | None = None
        self.cells: tuple[Cell, ...] = ()
        self.columns: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.row_versions: list[int] = []
        self.points: list[Point] = []
        self.launches: dict[str, Launch] = {}
        self.notes: dict[str, None] = {}
        self._static: list[dict[str, Any]] = []
        self._cells_of_run: dict[str, list[int]] = {}
        self._run_numbers: dict[str, int] = {}
        self._history: dict[str, dict[int, Epoch]] = {}
        self._ended_early: dict[str, int] = {}
        self._outcomes: dict[int, Outcome] = {}
        self._reader: EventFileReader | None = None
        self._unread: list[str] = []  # runs whose curves may be in the store

    # ------------------------------------------------------------ reading

    def refresh(self, *, detailed: bool) -> bool:
        """Read what has changed on disk, and return whether anything has.

        detailed: keep the curves, and read those of runs that no event has described. Otherwise,
        unless this was true before, only the last epoch of each run is kept.
        """
        before, is_first = self.error, not self.is_read
        self.is_read = True
        try:
            changed = self._refresh(detailed=detailed)
            self.error = ""
        except RefusedError as refusal:
            self.error, changed = str(refusal), False
        except FileNotFoundError:
            self.error, changed = "this sweep no longer exists", False
        except OSError as error:
            self.error, changed = one_line(describe_os_error(error)), False
        except Exception as error:  # noqa: BLE001 - whatever a forged file leads to
            self.error, changed = _malformed("sweep.json", error), False
        return changed or is_first or self.error != before

    def _refresh(self, *, detailed: bool) -> bool:
        changed = False
        if detailed and not self._is_detailed:
            self._is_detailed = True
            self._stamps.clear()  # start over
        if self._has_changed("sweep.json"):
            self._forget()
            self._stamps.pop("results.csv", None)
            self._load_manifest()
            self.generation = next(_GENERATIONS)
            changed = True
        if self.manifest is None:
            raise StoreError(self.error)
        if self._has_changed("results.csv"):
            self._read_table()
            changed = True
        changed |= self._read_events()
        changed |= self._check_launches(time.time())
        if detailed:
            changed |= self._read_histories()
        return changed

    def _has_changed(self, name: str) -> bool:
        """Whether a file differs from the one that was read last. Raises RefusedError."""
        path = self.served.file(self.folder / name)
        status = path.stat() if path else None
        stamp = status and (status.st_mtime_ns, status.st_size, status.st_ino)
        if name in self._stamps and self._stamps[name] == stamp:
            return False
        self._stamps[name] = stamp
        return True

    def _load_manifest(self) -> None:
        manifest = read_manifest(self.served.inside(self.folder))
        if len(manifest.cells) > MAX_CELLS:
            raise RefusedError(
                f"this sweep has {len(manifest.cells):,} cells; the live page can show at most "
                f"{MAX_CELLS:,}; see results.csv"
            )
        cells = tuple(dict.fromkeys(manifest.cells))
        if not all(type(cell.epochs) is int and 0 < cell.epochs <= 100_000 for cell in cells):
            raise StoreError(
                "sweep.json is not read: the epochs of each cell must be a whole number from 1 to "
                "100,000"
            )
        names = short_names(cells)
        records = [settings_columns(cell, "") for cell in cells]
        self.columns = _columns(records)
        for index, (cell, record) in enumerate(zip(cells, records, strict=True)):
            number = self._run_numbers.setdefault(cell.run_id, len(self._run_numbers))
            self._cells_of_run.setdefault(cell.run_id, []).append(index)
            values = [_value(record.get(column["name"])) for column in self.columns]
            self._static.append(
                {"id": cell.id, "run": number, "name": _text(names[cell]), "epochs": cell.epochs,
                 "values": values}
            )  # fmt: skip
        self.rows = [{} for _ in cells]
        self.row_versions = [0] * len(cells)
        self._unread = [*self._cells_of_run]
        self.cells, self.manifest = cells, manifest
        self._update_rows(range(len(cells)))

    def _read_table(self) -> None:
        assert self.manifest is not None
        path = self.served.file(self.folder / "results.csv")
        if path is None:
            return
        changed = path.stat().st_mtime
        try:
            records = read_records_csv(path.parent, self.cells)
        except UNUSABLE as error:
            self.notes[_malformed("results.csv", error)] = None
            return
        for index, cell in enumerate(self.cells):
            record = records.get(cell)
            if record:
                self._set_outcome(index, _outcome(record, changed))

    def _set_outcome(self, index: int, outcome: Outcome) -> None:
        """Set the outcome of a cell, unless a newer one is known."""
        known = self._outcomes.get(index)
        if known and known.time > outcome.time:
            return
        self._outcomes[index] = outcome
        self._update_rows([index])

    def _read_events(self) -> bool:
        try:
            path = self.served.file(self.folder / NAME)
        except RefusedError as refusal:
            self.notes[str(refusal)] = None
            return False
        if path is None:
            return False
        if self._reader is None:
            self._reader = EventFileReader(path)
        if path.stat().st_size > MAX_EPOCH_BYTES:
            self.notes[f"{NAME} is full, so new epochs are not shown until their run ends"] = None
        changed = False
        for size in [None] * CHUNKS if self._is_detailed else [LIST_CHUNK]:
            entries, is_new = self._reader.read(size)
            if is_new:  # the next refresh starts over
                self._stamps.clear()
                return True
            for entry in entries:
                self._add(entry)
            changed |= bool(entries)
        if self._reader.malformed:
            self.notes[f"{NAME} has lines that cannot be read; they are ignored"] = None
        return changed

    def _read_histories(self) -> bool:
        """Read the curves of some runs from the store, as far as no event has described them."""
        if not self._unread or self.manifest is None:
            return False
        batch, self._unread = self._unread[:HISTORIES], self._unread[HISTORIES:]
        store = self.manifest.store
        try:
            self.served.inside(store.out)
        except RefusedError:
            self.notes[
                "The store of this sweep is outside the served folder, so earlier curves are "
                "not shown; to show them, serve the folder that contains both"
            ] = None
            self._unread = []
            return True
        for run_id in batch:
            longest = max(self.cells[index].epochs for index in self._cells_of_run[run_id])
            if self._knows(run_id, longest):
                continue
            folder = store.run_folder(run_id)
            try:
                self.served.run_folder(folder.path)
                epochs = folder.history(longest)
                for epoch in epochs:
                    if epoch.epoch not in self._history.get(run_id, ()):
                        self._add_epoch(run_id, epoch)
                if epochs:
                    self._complete_outcomes(run_id, epochs[-1].epoch)
            except RefusedError as refusal:
                self.notes[str(refusal)] = None
            except UNUSABLE as error:
                self.notes[_malformed(f"runs/{run_id}", error)] = None
            self._update_rows(self._cells_of_run[run_id])
        return True

    def _knows(self, run_id: str, epochs: int) -> bool:
        """Whether all of the first epochs of a run are known, or those until its early end."""
        last = min(epochs, self._ended_early.get(run_id, epochs))
        return all(number in self._history.get(run_id, ()) for number in range(1, last + 1))

    def _complete_outcomes(self, run_id: str, last: int) -> None:
        """Add the accuracy of cells that ended before their epochs were known.

        last: the last epoch of the run in the store.
        """
        for index in self._cells_of_run[run_id]:
            outcome, epochs = self._outcomes.get(index), self.cells[index].epochs
            if outcome and outcome.status == "ok" and outcome.accuracy is None:
                if last < epochs:  # another sweep trained it, so no event says that it ended early
                    self._ended_early.setdefault(run_id, last)
                self._outcomes[index] = self._success(run_id, epochs, outcome.time)

    def _check_launches(self, now: float) -> bool:
        """Find launches that were killed, and return whether there are any new ones."""
        launches = [launch for launch in self.launches.values() if not launch.ended]
        if not launches:
            return False
        try:
            age = abs(now - (self.folder / NAME).stat().st_mtime)
        except OSError:
            age = math.inf
        found = [_has_process(launch.started) for launch in launches]
        changed = False
        for launch, has_process in zip(launches, found, strict=True):
            # In a container, the processes of others are not found, but the file is new. It is also
            # new if another launch changes it, whose process shows that processes can be found.
            is_gone = has_process is False and (age > GONE or any(found))
            alive = age < ALIVE and not is_gone
            if alive != launch.alive:
                launch.alive, changed = alive, True
                for run_id in launch.progress.running if launch.progress else ():
                    self._update_rows(self._cells_of_run.get(run_id, ()))
        return changed

    # ------------------------------------------------------------ events

    def _add(self, entry: Entry) -> None:
        content = entry.content
        if isinstance(content, LaunchStarted):
            progress = self._progress(content, entry.time)
            self.launches[entry.launch] = Launch(content, entry.time, progress)
            return
        launch = self.launches.get(entry.launch)
        if isinstance(content, LaunchEnded):
            if launch:
                launch.ended, launch.alive = True, False
                if launch.progress:
                    self._stop_runs(launch.progress, [*launch.progress.running])
            return
        if isinstance(content, RunsAdded | RoundStarted):
            if launch and launch.progress:
                if isinstance(content, RunsAdded):
                    self._add_runs(launch.progress, content)
                else:
                    self._start_round(launch.progress, content)
            return
        if content.run_id not in self._cells_of_run:
            return
        try:
            self._add_event(content, launch, entry.time)
        except UNUSABLE:
            self.notes[f"{NAME} has events that do not match the sweep; they are ignored"] = None

    def _add_event(self, event: Event, launch: Launch | None, when: float) -> None:
        run_id = event.run_id
        progress = launch.progress if launch else None
        cells = self._cells_of_run[run_id]
        if isinstance(event, EpochEnded):
            self._add_epoch(run_id, event.result)
        elif isinstance(event, Started):
            self._truncate(run_id, event.epoch)
            if event.epoch and run_id not in self._unread:
                self._unread.append(run_id)  # its first epochs were trained by another sweep
            for other in self.launches.values():  # this launch has taken the run over
                if other is not launch and other.progress:
                    self._stop_runs(other.progress, [run_id])
        elif isinstance(event, EndedEarly):
            self._ended_early[run_id] = event.epoch
        if progress and run_id in progress.names:
            progress.update(event, when)
        if isinstance(event, CellFinished):
            for index in cells:
                if self.cells[index].epochs == event.epoch:
                    self._set_outcome(index, self._success(run_id, event.epoch, when))
            if not self._knows(run_id, event.epoch) and run_id not in self._unread:
                self._unread.append(run_id)  # trained by another sweep, or the file is full
        elif isinstance(event, Failed | Dropped):
            requested = launch.started.runs.get(run_id) if launch else None
            for index in cells:
                known = self._outcomes.get(index)
                epochs = self.cells[index].epochs
                if (known and known.status == "ok") or (requested and epochs not in requested):
                    continue
                self._set_outcome(index, self._end(event, run_id, when))
        self._update_rows(cells)

    def _progress(self, started: LaunchStarted, when: float) -> SweepProgress | None:
        """The progress of the runs of a launch; None if they are not known."""
        runs = self._runs(started.runs)
        return SweepProgress(_plan(runs), started.workers, when) if runs else None

    def _runs(self, listed: Mapping[str, tuple[int, ...]]) -> tuple[Run, ...]:
        """Runs with cells of the sweep. listed: by run id, the epochs of these cells."""
        runs = []
        for run_id, epochs in listed.items():
            cells = [self.cells[index] for index in self._cells_of_run.get(run_id, ())]
            cells = sorted((c for c in cells if c.epochs in epochs), key=lambda cell: cell.epochs)
            if cells:
                runs.append(Run(cells[-1], tuple(cell.epochs for cell in cells)))
        return tuple(runs)

    def _add_runs(self, progress: SweepProgress, added: RunsAdded) -> None:
        known = progress.plan.by_id
        runs = [run for run in self._runs(added.runs) if run.id not in known]
        if runs:
            progress.add(_plan((*progress.plan.runs, *runs)))

    def _start_round(self, progress: SweepProgress, started: RoundStarted) -> None:
        known = progress.plan.by_id
        runs = tuple(
            Run(replace(known[run_id].cell, epochs=last), (last,))
            for run_id, (last, _) in started.runs.items()
            if run_id in known
        )
        trained = {run_id: epochs for run_id, (_, epochs) in started.runs.items()}
        self._stop_runs(progress, [*progress.running])
        progress.start_round(
            SearchRound(_text(started.stage), runs, trained, started.later, started.at_most)
        )

    def _stop_runs(self, progress: SweepProgress, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            if progress.running.pop(run_id, None):
                self._update_rows(self._cells_of_run.get(run_id, ()))

    def _add_epoch(self, run_id: str, epoch: Epoch) -> None:
        if not self._is_detailed:
            self._history[run_id] = {epoch.epoch: epoch}
            return
        number = self._run_numbers[run_id]
        self._history.setdefault(run_id, {})[epoch.epoch] = epoch
        self.points.append(_point(number, epoch))

    def _truncate(self, run_id: str, after: int) -> None:
        """Discard the epochs of a run that is trained again after an earlier epoch."""
        history = self._history.get(run_id, {})
        if any(number > after for number in history):
            self._history[run_id] = {n: epoch for n, epoch in history.items() if n <= after}
            self.points.append((self._run_numbers[run_id], after, None, None, None, None))

    def _success(self, run_id: str, epochs: int, when: float) -> Outcome:
        history = self._history.get(run_id, {})
        last = history.get(min(epochs, self._ended_early.get(run_id, epochs)))
        if last is None:
            return Outcome("ok", when, epoch=epochs)
        trained = [epoch.seconds for n, epoch in history.items() if n <= last.epoch]
        return Outcome(
            "ok", when, _number(last.accuracy), _number(last.holdout_accuracy), _number(last.cost),
            _number(sum(trained) / len(trained)), last.epoch,
        )  # fmt: skip

    def _end(self, event: Failed | Dropped, run_id: str, when: float) -> Outcome:
        if isinstance(event, Dropped):
            return Outcome(STOPPED, when, epoch=event.epoch, error=_text(event.reason))
        failure = event.failure
        return Outcome(
            _text(failure.status), when, epoch=max(self._history.get(run_id, {0: None})),
            error=_text(failure.reason), person=_text(failure.person),
        )  # fmt: skip

    # ------------------------------------------------------------ rows

    def _update_rows(self, indices: Iterable[int]) -> None:
        for index in indices:
            row = self._row(index)
            if row != self.rows[index]:
                self.version += 1
                self.rows[index], self.row_versions[index] = row, self.version

    def _row(self, index: int) -> dict[str, Any]:
        """The changing part of a row."""
        cell, outcome = self.cells[index], self._outcomes.get(index)
        state = None
        if outcome is None or outcome.status != "ok":
            running = (
                launch.progress.running.get(cell.run_id)
                for launch in self.launches.values()
                if launch.progress and launch.alive
            )
            state = next(filter(None, running), None)
        if state is not None:
            return {
                "status": "training" if state.start is not None else "waiting",
                "accuracy": None, "at": self._accuracy(state), "cost": _number(state.cost),
                "epoch": min(state.epoch, cell.epochs),
            }  # fmt: skip
        if outcome is None:
            return {"status": "queued"} | self._trained(cell)
        return {
            "status": outcome.status, "accuracy": outcome.accuracy, "holdout": outcome.holdout,
            "cost": outcome.cost, "seconds": outcome.seconds, "epoch": outcome.epoch,
            "error": outcome.error, "person": outcome.person,
            "at": self._trained(cell)["at"] if outcome.status == STOPPED else None,
        }  # fmt: skip

    def _accuracy(self, state: RunProgress) -> float | None:
        """The accuracy of a run in training; at first, that with which it resumed."""
        if state.accuracy is None:
            accuracy: float | None = self._trained(state.run.cell)["at"]
            return accuracy
        return _number(state.accuracy)

    def _trained(self, cell: Cell) -> dict[str, Any]:
        """The last epoch of a cell's curve, and the accuracy after it."""
        last = max((n for n in self._history.get(cell.run_id, ()) if n <= cell.epochs), default=0)
        accuracy = _number(self._history[cell.run_id][last].accuracy) if last else None
        return {"epoch": last, "at": accuracy}

    # ------------------------------------------------------------ what the page gets

    @property
    def is_alive(self) -> bool:
        """Whether a launch still runs."""
        return any(launch.alive for launch in self.launches.values())

    def summary(self) -> dict[str, Any]:
        """What the list of sweeps shows about this one, as JSON values."""
        values: dict[str, Any] = {"sweep": self.name, "error": self.error}
        if self.error or self.manifest is None:
            return values
        active = [launch for launch in self.launches.values() if launch.alive]
        ended = [row for row in self.rows if row["status"] not in ("training", "waiting", "queued")]
        ok = [row for row in ended if row["status"] == "ok"]
        stopped = sum(row["status"] == STOPPED for row in ended)
        if active:
            state = "running"
        elif len(ended) == len(self.rows):
            state = "finished"
        else:
            state = "interrupted"
        searches = [x.progress for x in active if x.progress and x.progress.round]
        return values | {
            "state": state,
            "total": len(self.rows),
            "done": len(ended),
            "failed": len(ended) - len(ok) - stopped,
            "stopped": stopped,
            "fraction": self._fraction(len(ended), searches),
            "left": _left(active),
            "at_most": any(progress.round.at_most for progress in searches if progress.round),
            "stage": _text("; ".join(map(describe_round, searches))),
            "best": _best(ok),
            "started": min((launch.time for launch in active), default=None),
            "changed": self._changed(),
        }

    def _fraction(self, ended: int, searches: list[SweepProgress]) -> float:
        """The part of the sweep that is done, from 0 to 1."""
        if searches:
            return min(progress.fraction for progress in searches)
        parts: Iterable[float] = (
            row["epoch"] / cell.epochs
            for row, cell in zip(self.rows, self.cells, strict=True)
            if row["status"] == "training"
        )
        return (ended + sum(parts)) / max(1, len(self.rows))

    def head(self) -> dict[str, Any]:
        """The progress of the sweep as JSON values."""
        values = self.summary()
        if values["error"]:
            return values
        active = [launch for launch in self.launches.values() if launch.alive]
        running = [
            {
                "run": self._run_numbers[run_id],
                "epoch": state.epoch,
                "resumed": state.resumed,
                "of": state.run.cell.epochs,
                "pace": _number(launch.progress.pace(state.run)),
                "accuracy": self._accuracy(state),
                "cost": _number(state.cost),
                "training": state.start is not None,
            }
            for launch in active
            if launch.progress
            for run_id, state in launch.progress.running.items()
        ]
        workers = [launch.started.workers or 0 for launch in active]
        return values | {
            "running": running,
            "workers": sum(workers) or None,
            "notes": [*self.notes],
            "command": self._command(),
            "report": self._has_report(),
        }

    def snapshot(self) -> dict[str, Any]:
        """The cells, rows and curves as JSON values; long curves are thinned."""
        most = max(20, min(MAX_POINTS, ALL_POINTS // max(1, len(self._history))))
        points = []
        for run_id, history in self._history.items():
            epochs = sorted(history)
            step = -(-len(epochs) // most)
            kept = epochs[::step] + epochs[-1:] * ((len(epochs) - 1) % step > 0)
            points += [_point(self._run_numbers[run_id], history[number]) for number in kept]
        return {
            "generation": self.generation,
            "columns": self.columns,
            "cells": self._static,
            "runs": len(self._run_numbers),
            "rows": [*enumerate(self.rows)],
            "points": points,
        }

    def rows_since(self, version: int) -> list[tuple[int, dict[str, Any]]]:
        """The rows that changed after a version, with their indices."""
        if version == self.version:
            return []
        return [(n, self.rows[n]) for n, last in enumerate(self.row_versions) if last > version]

    def _command(self) -> str:
        launches = self.manifest.launches if self.manifest else ()
        command = launches[-1].get("command") if launches else None
        return _text(command, 2000) if isinstance(command, str) else ""

    def _changed(self) -> float | None:
        stamps = [stamp[0] for stamp in self._stamps.values() if stamp]
        return max(stamps) / 1e9 if stamps else None

    def _has_report(self) -> bool:
        try:
            return self.served.file(self.folder / "report.html") is not None
        except RefusedError:
            return False


def _has_process(started: LaunchStarted) -> bool | None:
    """Whether the process of a launch exists; None if this machine cannot tell."""
    if started.host != socket.gethostname() or os.name != "posix" or started.pid <= 0:
        return None
    try:
        os.kill(started.pid, 0)  # only checks whether the process exists
    except ProcessLookupError:
        return False
    except OverflowError:
        return None
    except OSError:  # it belongs to another user
        return True
    return True


def _plan(runs: tuple[Run, ...]) -> Plan:
    return Plan(tuple(cell for run in runs for cell in run.cells()), 0, 0, runs)


def _best(ok: list[dict[str, Any]]) -> float | None:
    """The test accuracy of the row with rank 1. ok: the finished rows."""
    by = "holdout" if all(row["holdout"] is not None for row in ok) else "accuracy"
    ranked = [row for row in ok if row[by] is not None and row["accuracy"] is not None]
    best: float | None = max(ranked, key=lambda row: row[by])["accuracy"] if ranked else None
    return best


def _left(active: list[Launch]) -> float | None:
    """Seconds that the launches still take; None if that is not known for one of them."""
    times = [launch.progress.seconds_left() if launch.progress else None for launch in active]
    return None if None in times or not times else _number(max(filter(None, times), default=0.0))


def _outcome(record: Record, when: float) -> Outcome:
    return Outcome(
        _text(record["status"]), when, _number(record["accuracy"]), _number(record.get(HOLDOUT)),
        _number(record["train_loss"]), _number(record["seconds_per_epoch"]),
        record.get(EPOCHS_TRAINED) if record.get(EPOCHS_TRAINED) is not None
        else record["epochs"] if record["status"] == "ok" else None,
        _text(record["error"]), _text(record["person"]),
    )  # fmt: skip


def _columns(records: list[Record]) -> list[dict[str, Any]]:
    """The columns of settings: those that the table always shows, and those that vary."""
    always = ("batch", "lr", "epochs")
    names = [*always]
    present = {name for record in records for name in record}
    for name in settings_of(present):
        values = {(record[name], _default(name, record)) for record in records if name in record}
        shown = {_value(value) for value, _ in values if value is not None}
        if len(shown) > 1 and not all(value == default for value, default in values):
            names.append(name)
    return [{"name": n, "heading": heading_of(n), "number": not holds_text(n)} for n in names]


def _default(name: str, record: Mapping[str, Any]) -> Any:
    """The default of an option as its column holds it; for other settings, a value of its own."""
    if not is_option(name):
        return object
    default = option_default(name, record[name.partition(".")[0]])
    if isinstance(default, tuple):
        return f"[{','.join(map(repr, default))}]"
    return default


def _value(value: Any) -> Any:
    """The value of a setting: a number, text, or None."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return _number(value)
    return _text(format_option(value))


def _point(number: int, epoch: Epoch) -> Point:
    return (
        number, epoch.epoch, _number(epoch.cost), _number(epoch.accuracy),
        _number(epoch.test_cost), _number(epoch.holdout_accuracy),
    )  # fmt: skip


def _number(value: Any) -> float | None:
    """A finite number with at most 8 digits; None for anything else."""
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    return float(f"{value:.8g}")


def _text(text: Any, limit: int = MAX_TEXT) -> str:
    line = one_line(str(text)[: 4 * limit])
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _malformed(name: str, error: BaseException) -> str:
    if isinstance(error, StoreError) and str(error):
        return _text(error)
    return f"{name} does not have the expected content ({type(error).__name__}); it is not read"
