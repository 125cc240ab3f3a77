"""The log view: plain lines with the time of day, for files and cluster logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd

import time
from collections.abc import Callable

from lenet_sweep.core.cells import Plan
from lenet_sweep.core.events import (
    CellFinished,
    Damaged,
    Epoch,
    EpochEnded,
    Event,
    Failed,
    Paused,
    Requeued,
    Retrying,
    Started,
    Stopped,
    Waiting,
)
from lenet_sweep.core.text import format_cost, one_line
from lenet_sweep.ui.console import print_line
from lenet_sweep.ui.progress import (
    SweepProgress,
    describe_end,
    describe_failure,
    describe_problem,
    describe_start,
)

LOG_EVERY = 10.0  # seconds between two epoch lines of a run


class LogView:
    """Plain lines with the time of day, for files and cluster logs."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.time) -> None:
        self._console = console
        self._clock = clock
        self._tally: SweepProgress | None = None
        self._logged: dict[str, float] = {}  # when a run's last epoch line was written
        self._waiting: set[str] = set()
        self._taking_turns = False

    def begin(self, plan: Plan, workers: int | None) -> None:
        if plan.runs:
            self._tally = SweepProgress(plan, workers, self._clock())
        self._print(describe_start(plan, workers))

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
            case CellFinished(epoch=epoch) if epoch in unread:  # else said before it was cut
                track = tally.running.get(run_id)
                accuracy = track.accuracy if track and track.epoch == epoch else None
                outcome = "by another process" if accuracy is None else f"{accuracy:.2f} %"
                self._print(f"{done} {outcome}  {name} epochs {epoch}")
            case Failed(failure=failure):
                cells = f" epochs {', '.join(map(str, unread))}" if unread else ""
                self._print(f"{done} FAILED  {name}{cells}: {describe_failure(failure)}")
            case Retrying() | Damaged() | Requeued():
                self._print(f"{name}  {describe_problem(event)}")
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
        print_line(self._console, f"{now}  {line}")

    def end(self) -> None:
        tally, self._tally = self._tally, None
        if tally:
            self._print(describe_end(tally, self._clock()))
