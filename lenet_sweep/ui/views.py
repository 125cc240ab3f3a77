"""Views show a sweep to a person: they get values and print, and nothing depends on them."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

from lenet_sweep.core.cells import Cell, Plan
from lenet_sweep.core.events import (
    Damaged,
    Epoch,
    EpochEnded,
    Event,
    Failed,
    Finished,
    Paused,
    Progress,
    ReadOut,
    Requeued,
    Retrying,
    Started,
    Stopped,
    Waiting,
)
from lenet_sweep.core.text import escape_unencodable, format_cost, format_duration, one_line
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.training.loop import REPORT_EVERY
from lenet_sweep.ui.live_view import LiveView
from lenet_sweep.ui.progress import Tally, closing, opening, reason, trouble
from lenet_sweep.ui.tables import print_reproduction, print_tables

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LiveView",
    "LogView",
    "QuietView",
    "ScriptView",
    "View",
    "choose",
    "print_reproduction",
    "print_tables",
    "replay",
    "status_console",
]

LOG_EVERY = 10.0  # seconds between two epoch lines of a run


class View(Protocol):
    """Shows a sweep. `begin` comes first, `end` last, also when there was nothing to train."""

    def begin(self, plan: Plan, workers: int | None) -> None:
        """The sweep is about to train the plan's runs, of which there may be none."""

    def show(self, event: Event) -> None:
        """Something happened to a run. Every event comes here, in order."""

    def rows(self, frame: pd.DataFrame) -> None:
        """The ranked table so far, each time that a cell has ended."""

    def say(self, text: str) -> None:
        """One line for the person."""

    def end(self) -> None:
        """Leave the terminal as it was, whatever has happened. May be called again."""


def choose(*, single: bool, console: Console) -> View:
    """The view for one cell or a sweep on this console."""
    if single:
        return ScriptView(console)
    # On a terminal, bars need a cursor that moves and an encoding that has them.
    terminal = console.is_terminal and console.is_interactive
    if console.is_jupyter or (terminal and console.encoding.startswith("utf")):
        return LiveView(console)
    return LogView(console)


class QuietView:
    """Prints nothing."""

    def begin(self, plan: Plan, workers: int | None) -> None:
        pass

    def show(self, event: Event) -> None:
        pass

    def rows(self, frame: pd.DataFrame) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def end(self) -> None:
        pass


class LogView:
    """Plain lines with the time of day, for files and cluster logs."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.time) -> None:
        self._console = console
        self._clock = clock
        self._tally: Tally | None = None
        self._logged: dict[str, float] = {}  # when a run's last epoch line was written
        self._waiting: set[str] = set()
        self._taking_turns = False

    def begin(self, plan: Plan, workers: int | None) -> None:
        if plan.runs:
            self._tally = Tally(plan, workers, self._clock())
        self._print(opening(plan, workers))

    def show(self, event: Event) -> None:
        tally, run_id = self._tally, event.run_id
        assert tally is not None
        unread, paused = tally.unread(run_id), run_id in tally.paused
        tally.take(event, self._clock())
        name, done = tally.names[run_id], f"[{tally.ended}/{tally.total}]"
        match event:
            case Waiting() if run_id not in self._waiting:  # it comes twice a second
                self._waiting.add(run_id)
                self._print(f"{name}  waits for another process that trains it")
            case Started(epoch=0):
                self._print(f"{name}  begins")
            case Started(epoch=epoch) if not paused:  # turns change often
                self._print(f"{name}  goes on after epoch {epoch}")
            case EpochEnded(result=result):
                self._epoch(run_id, name, result)
            case ReadOut(epoch=epoch) if epoch in unread:  # else said before it was cut
                track = tally.running.get(run_id)
                accuracy = track.accuracy if track and track.epoch == epoch else None
                outcome = "by another process" if accuracy is None else f"{accuracy:.2f} %"
                self._print(f"{done} {outcome}  {name} epochs {epoch}")
            case Failed(failure=failure):
                cells = f" epochs {', '.join(map(str, unread))}" if unread else ""
                self._print(f"{done} FAILED  {name}{cells}: {reason(failure)}")
            case Retrying() | Damaged() | Requeued():
                self._print(f"{name}  {trouble(event)}")
            case Paused() if not self._taking_turns:
                self._taking_turns = True
                self._print("the last runs take turns, so that no worker is left without one")
            case Stopped():
                self._print(f"{name}  stopped; what it had trained is in the store")

    def _epoch(self, run_id: str, name: str, result: Epoch) -> None:
        assert self._tally is not None
        track, now = self._tally.running[run_id], self._clock()
        epochs = track.run.cell.epochs
        due = now - self._logged.get(run_id, now) >= LOG_EVERY
        if len(track.timed) == 1 or result.epoch == epochs or due:
            self._logged[run_id] = now
            self._print(
                f"{name}  epoch {result.epoch}/{epochs}  cost {format_cost(result.cost)}  "
                f"{result.accuracy:.2f} %  {result.seconds:.2f} s"
            )

    def rows(self, frame: pd.DataFrame) -> None:
        pass  # each cell has its line, and a log is read from its end

    def say(self, text: str) -> None:
        self._print(one_line(text))

    def _print(self, line: str) -> None:
        now = time.strftime("%H:%M:%S", time.localtime(self._clock()))
        _print_line(self._console, f"{now}  {line}")

    def end(self) -> None:
        tally, self._tally = self._tally, None
        if tally:
            self._print(closing(tally, self._clock()))


class ScriptView:
    """Prints what the report's script prints, in its form.

    status: where a line with the last epoch's accuracy and the time left is kept below it; None
    where that is no terminal.

    `complete` says whether it has come to the accuracy. A run may finish without: if another
    process has trained it, there is only the store to tell of it, with `replay`.
    """

    def __init__(
        self,
        console: Console,
        status: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.complete = False
        self._console = console
        self._status = status
        self._clock = clock
        self._tally: Tally | None = None
        self._accuracy: float | None = None
        self._waiting = False

    def begin(self, plan: Plan, workers: int | None) -> None:
        if self._status and plan.runs:
            self._tally = Tally(plan, workers, self._clock())

    def show(self, event: Event) -> None:
        self._clear_status()
        self._print_event(event)
        if self._tally:
            self._tally.take(event, self._clock())
            self._draw_status(self._tally)

    def _draw_status(self, tally: Tally) -> None:
        track = next(iter(tally.running.values()), None)
        if track is None or track.began is None or self._status is None:
            return
        epochs = track.run.cell.epochs
        parts = [f"epoch {min(track.epoch + 1, epochs)}/{epochs}"]
        if track.accuracy is not None:
            parts.append(f"accuracy {track.accuracy:.2f} % after epoch {track.epoch}")
        left = tally.seconds_left()
        if left is not None:
            parts.append(f"{format_duration(left)} left")
        # The last column stays free: what fills it may wrap.
        self._status.file.write("  ".join(parts)[: self._status.width - 1])
        self._status.file.flush()

    def _clear_status(self) -> None:
        if self._status:
            self._status.file.write("\r\x1b[2K")
            self._status.file.flush()

    def _print_event(self, event: Event) -> None:
        match event:
            case Progress(seen=seen, total=total, loss=loss):
                self._print(f"loss: {loss:>7f} [{seen:>5d}/{total:>5d}]")
            case EpochEnded(result=result):
                self._accuracy = result.accuracy
                self._print("* Calculation time on training set")
                self._print(f": {result.seconds:.3f} sec")
            case Finished() if self._accuracy is not None:
                self.complete = True
                self._print("* Accuracy on test dataset")
                self._print(f": {self._accuracy:.2f}%")
            case Failed(failure=failure):
                self._print(reason(failure))
            case Retrying() | Damaged() | Requeued():
                self._print(trouble(event))
            case Started(epoch=epoch) if epoch:
                self._print(f"goes on after epoch {epoch}, which is in the store")
            case Waiting() if not self._waiting:
                self._waiting = True
                self._print("waits for another process that trains this cell")

    def rows(self, frame: pd.DataFrame) -> None:
        pass

    def say(self, text: str) -> None:
        self._clear_status()
        self._print(one_line(text))

    def end(self) -> None:
        self._clear_status()
        self._status = self._tally = None

    def _print(self, line: str) -> None:
        _print_line(self._console, line)


def status_console() -> Console | None:
    """stderr, where a status line can be kept below what stdout prints: both are terminals."""
    console = Console(stderr=True)
    movable = console.is_terminal and console.is_interactive and not console.legacy_windows
    return console if movable and sys.stdout.isatty() else None


def replay(console: Console, snapshot: Snapshot, cell: Cell, total_images: int) -> None:
    """Print what ScriptView printed when a cell was trained, from what the store has of it."""
    view = ScriptView(console)
    batches = math.ceil(total_images / cell.batch)
    reports = math.ceil(batches / REPORT_EVERY)
    for result in snapshot.history:
        first = (result.epoch - 1) * reports
        for number, loss in enumerate(snapshot.trace[first : first + reports, 1]):
            # The trace's own position is a float32: too coarse to count images after 256 epochs.
            seen = min((number * REPORT_EVERY + 1) * cell.batch, total_images)
            view.show(Progress(cell.run_id, result.epoch, seen, total_images, float(loss)))
        view.show(EpochEnded(cell.run_id, result))
    view.show(Finished(cell.run_id))


def _print_line(console: Console, line: str) -> None:
    console.out(escape_unencodable(line, console.encoding), highlight=False)
