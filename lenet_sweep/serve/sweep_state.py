"""The state of a sweep: cells, outcomes, curves and launches, and the rows of the live page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lenet_sweep.config.keys import is_option
from lenet_sweep.config.registry import option_default
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import (
    CellFinished,
    EndedEarly,
    Epoch,
    EpochEnded,
    Event,
    Failed,
    SearchRound,
    Started,
    Stopped,
)
from lenet_sweep.core.names import short_names
from lenet_sweep.core.plans import Plan, Run
from lenet_sweep.results.columns import (
    EPOCHS_TRAINED,
    HOLDOUT,
    STOPPED,
    heading_of,
    holds_text,
    settings_of,
)
from lenet_sweep.results.event_file import (
    NAME,
    Entry,
    LaunchEnded,
    LaunchStarted,
    RoundStarted,
    RunsAdded,
)
from lenet_sweep.results.records import Record, settings_columns
from lenet_sweep.serve.json_values import (
    Point,
    curve_point,
    finite_number,
    setting_value,
    short_text,
)
from lenet_sweep.serve.served_folder import UNUSABLE
from lenet_sweep.ui.progress import RunProgress, SweepProgress


@dataclass
class LiveLaunch:
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
class RowOutcome:
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


class SweepState:
    """The state of a sweep, to which events and results are added. It reads no file.

    cells: without duplicates. detailed: whether to keep the curves, not only the last epoch of each
    run. version: increases with each change of a row; row_versions has that of each row's last
    change. points: of the curves, in the order in which they became known; one without numbers
    discards the later points of its run. unread: runs of which the store may have more epochs.
    notes: what the page says about the files, without duplicates.
    """

    def __init__(self, cells: Sequence[Cell], *, detailed: bool) -> None:
        self.cells = tuple(cells)
        self.detailed = detailed
        self.launches: dict[str, LiveLaunch] = {}
        self.notes: dict[str, None] = {}
        self.points: list[Point] = []
        self.history: dict[str, dict[int, Epoch]] = {}
        self.run_numbers: dict[str, int] = {}
        self.cells_of_run: dict[str, list[int]] = {}
        self._outcomes: dict[int, RowOutcome] = {}
        self._ended_early: dict[str, int] = {}
        for index, cell in enumerate(self.cells):
            self.run_numbers.setdefault(cell.run_id, len(self.run_numbers))
            self.cells_of_run.setdefault(cell.run_id, []).append(index)
        self.unread = [*self.cells_of_run]
        self.version = 0
        self.rows: list[dict[str, Any]] = [{} for _ in self.cells]
        self.row_versions = [0 for _ in self.cells]
        self._update_rows(range(len(self.cells)))
        records = [settings_columns(cell) for cell in self.cells]
        self.columns = _columns(records)
        names = short_names(self.cells)
        run_names = short_names(self.cells, epochs=False)
        self.run_names = [
            short_text(run_names[self.cells[cells[0]]]) for cells in self.cells_of_run.values()
        ]
        self.settings = [
            {
                "id": cell.id,
                "run": self.run_numbers[cell.run_id],
                "name": short_text(names[cell]),
                "epochs": cell.epochs,
                "values": [setting_value(record.get(column["name"])) for column in self.columns],
            }
            for cell, record in zip(self.cells, records, strict=True)
        ]

    @property
    def is_alive(self) -> bool:
        """Whether a launch still runs."""
        return any(launch.alive for launch in self.launches.values())

    # ------------------------------------------------------------ from the table and the store

    def add_record(self, index: int, record: Record, when: float) -> None:
        """Add a row of results.csv. when: the file's time; a newer event takes precedence."""
        self._set_outcome(index, _outcome(record, when))

    def add_history(self, run_id: str, epochs: Iterable[Epoch]) -> None:
        """Add the epochs of a run in the store as far as no event has described them."""
        last = 0
        try:
            for epoch in epochs:
                last = epoch.epoch
                if last not in self.history.get(run_id, ()):
                    self._add_epoch(run_id, epoch)
            if last:
                self._complete_outcomes(run_id, last)
        finally:  # a forged history may raise an exception halfway
            self._update_rows(self.cells_of_run[run_id])

    def _set_outcome(self, index: int, outcome: RowOutcome) -> None:
        """Set the outcome of a cell, unless a newer one is known."""
        known = self._outcomes.get(index)
        if known and known.time > outcome.time:
            return
        self._outcomes[index] = outcome
        self._update_rows([index])

    def knows(self, run_id: str, epochs: int) -> bool:
        """Whether all of the first epochs of a run are known, or those until its early end."""
        last = min(epochs, self._ended_early.get(run_id, epochs))
        return all(number in self.history.get(run_id, ()) for number in range(1, last + 1))

    def _complete_outcomes(self, run_id: str, last: int) -> None:
        """Add the accuracy of cells that ended before their epochs were known.

        last: the last epoch of the run in the store.
        """
        for index in self.cells_of_run[run_id]:
            outcome, epochs = self._outcomes.get(index), self.cells[index].epochs
            if outcome and outcome.status == "ok" and outcome.accuracy is None:
                if last < epochs:  # another sweep trained it, so no event says that it ended early
                    self._ended_early.setdefault(run_id, last)
                self._outcomes[index] = self._success(run_id, epochs, outcome.time)

    def set_alive(self, launch: LiveLaunch, alive: bool) -> bool:
        """Set whether a launch still runs, and return whether that is new."""
        if alive == launch.alive:
            return False
        launch.alive = alive
        for run_id in launch.progress.running if launch.progress else ():
            self._update_rows(self.cells_of_run.get(run_id, ()))
        return True

    # ------------------------------------------------------------ from events.jsonl

    def add(self, entry: Entry) -> None:
        """Add an entry of events.jsonl."""
        content = entry.content
        if isinstance(content, LaunchStarted):
            progress = self._progress(content, entry.time)
            self.launches[entry.launch] = LiveLaunch(content, entry.time, progress)
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
        if content.run_id not in self.cells_of_run:
            return
        try:
            self._add_event(content, launch, entry.time)
        except UNUSABLE:
            self.notes[f"{NAME} has events that do not match the sweep; they are ignored"] = None

    def _add_event(self, event: Event, launch: LiveLaunch | None, when: float) -> None:
        run_id = event.run_id
        progress = launch.progress if launch else None
        cells = self.cells_of_run[run_id]
        if isinstance(event, EpochEnded):
            self._add_epoch(run_id, event.result)
        elif isinstance(event, Started):
            self._truncate(run_id, event.epoch)
            if event.epoch and run_id not in self.unread:
                self.unread.append(run_id)  # its first epochs were trained by another sweep
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
            if not self.knows(run_id, event.epoch) and run_id not in self.unread:
                self.unread.append(run_id)  # trained by another sweep, or the file is full
        elif isinstance(event, Failed | Stopped):
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
            cells = [self.cells[index] for index in self.cells_of_run.get(run_id, ())]
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
            SearchRound(short_text(started.stage), runs, trained, started.later, started.at_most)
        )

    def _stop_runs(self, progress: SweepProgress, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            if progress.running.pop(run_id, None):
                self._update_rows(self.cells_of_run.get(run_id, ()))

    def _add_epoch(self, run_id: str, epoch: Epoch) -> None:
        if not self.detailed:
            self.history[run_id] = {epoch.epoch: epoch}
            return
        number = self.run_numbers[run_id]
        self.history.setdefault(run_id, {})[epoch.epoch] = epoch
        self.points.append(curve_point(number, epoch))

    def _truncate(self, run_id: str, after: int) -> None:
        """Discard the epochs of a run that is trained again after an earlier epoch."""
        history = self.history.get(run_id, {})
        if any(number > after for number in history):
            self.history[run_id] = {n: epoch for n, epoch in history.items() if n <= after}
            self.points.append((self.run_numbers[run_id], after, None, None, None, None))

    def _success(self, run_id: str, epochs: int, when: float) -> RowOutcome:
        history = self.history.get(run_id, {})
        last = history.get(min(epochs, self._ended_early.get(run_id, epochs)))
        if last is None:
            return RowOutcome("ok", when, epoch=epochs)
        trained = [epoch.seconds for n, epoch in history.items() if n <= last.epoch]
        return RowOutcome(
            "ok",
            when,
            accuracy=finite_number(last.accuracy),
            holdout=finite_number(last.holdout_accuracy),
            cost=finite_number(last.cost),
            seconds=finite_number(sum(trained) / len(trained)),
            epoch=last.epoch,
        )

    def _end(self, event: Failed | Stopped, run_id: str, when: float) -> RowOutcome:
        if isinstance(event, Stopped):
            return RowOutcome(STOPPED, when, epoch=event.epoch, error=short_text(event.reason))
        failure = event.failure
        return RowOutcome(
            short_text(failure.status), when, epoch=max(self.history.get(run_id, {0: None})),
            error=short_text(failure.reason), person=short_text(failure.person),
        )  # fmt: skip

    # ------------------------------------------------------------ rows

    def rows_since(self, version: int) -> list[tuple[int, dict[str, Any]]]:
        """The rows that changed after a version, with their indices."""
        if version == self.version:
            return []
        return [(n, self.rows[n]) for n, last in enumerate(self.row_versions) if last > version]

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
                "accuracy": None, "at": self.accuracy_of(state), "cost": finite_number(state.cost),
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

    def accuracy_of(self, state: RunProgress) -> float | None:
        """The accuracy of a run in training; at first, that with which it resumed."""
        if state.accuracy is None:
            accuracy: float | None = self._trained(state.run.cell)["at"]
            return accuracy
        return finite_number(state.accuracy)

    def _trained(self, cell: Cell) -> dict[str, Any]:
        """The last epoch of a cell's curve, and the accuracy after it."""
        last = max((n for n in self.history.get(cell.run_id, ()) if n <= cell.epochs), default=0)
        accuracy = finite_number(self.history[cell.run_id][last].accuracy) if last else None
        return {"epoch": last, "at": accuracy}


def _plan(runs: tuple[Run, ...]) -> Plan:
    return Plan(tuple(cell for run in runs for cell in run.cells()), 0, 0, runs)


def _outcome(record: Record, when: float) -> RowOutcome:
    trained = record.get(EPOCHS_TRAINED)
    if trained is None and record["status"] == "ok":
        trained = record["epochs"]
    return RowOutcome(
        short_text(record["status"]),
        when,
        accuracy=finite_number(record["accuracy"]),
        holdout=finite_number(record.get(HOLDOUT)),
        cost=finite_number(record["train_loss"]),
        seconds=finite_number(record["seconds_per_epoch"]),
        epoch=trained,
        error=short_text(record["error"]),
        person=short_text(record["person"]),
    )


def _columns(records: list[Record]) -> list[dict[str, Any]]:
    """The columns of settings: those that the table always shows, and those that vary."""
    always = ("batch", "lr", "epochs")
    names = [*always]
    present = {name for record in records for name in record}
    for name in settings_of(present):
        values = {(record[name], _default(name, record)) for record in records if name in record}
        shown = {setting_value(value) for value, _ in values if value is not None}
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
