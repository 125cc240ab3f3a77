"""The log view: plain lines with the time of day, for files and cluster logs."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

from lenet_sweep.core.events import (
    CellFinished,
    Damaged,
    EndedEarly,
    Epoch,
    EpochEnded,
    Event,
    Failed,
    Interrupted,
    Requeued,
    Retrying,
    SearchRound,
    Started,
    Waiting,
)
from lenet_sweep.core.plans import Plan
from lenet_sweep.core.text import format_cost, one_line
from lenet_sweep.ui.console import print_line
from lenet_sweep.ui.observer import TerminalView
from lenet_sweep.ui.progress import (
    SweepProgress,
    describe_early_end,
    describe_end,
    describe_failure,
    describe_problem,
    describe_round,
    describe_start,
    describe_time_left,
)

LOG_EVERY = 10.0  # seconds between two epoch lines of a run


class LogView(TerminalView):
    """Prints plain lines with the time of day, for files and cluster logs."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.time) -> None:
        self._console = console
        self._clock = clock
        self._progress: SweepProgress | None = None
        self._logged: dict[str, float] = {}  # by run: the time of its last epoch line
        self._waiting: set[str] = set()

    def on_start(self, plan: Plan, workers: int | None) -> None:
        if plan.runs:
            self._progress = SweepProgress(plan, workers, self._clock())
        self._print(describe_start(plan, workers))

    def on_plan(self, plan: Plan) -> None:
        if self._progress:
            self._progress.add(plan)

    def on_event(self, event: Event) -> None:
        progress, run_id = self._progress, event.run_id
        assert progress is not None
        pending = progress.pending(run_id)
        progress.update(event, self._clock())
        name, done = progress.names[run_id], f"[{progress.ended}/{progress.total}]"
        match event:
            case Waiting() if run_id not in self._waiting:  # this event repeats twice a second
                self._waiting.add(run_id)
                self._print(f"{name}  waiting for another process that is training it")
            case Started(epoch=0):
                self._print(f"{name}  started")
            case Started(epoch=epoch):
                self._print(f"{name}  resumed after epoch {epoch}")
            case EpochEnded(result=result):
                self._print_epoch(run_id, name, result)
            case EndedEarly():
                self._print(f"{name}  {describe_early_end(event)}")
            case CellFinished(epoch=epoch) if epoch in pending:  # else printed before a retry
                state = progress.running.get(run_id)
                trained_here = state and (state.epoch == epoch or state.ended_early)
                accuracy = state.accuracy if state and trained_here else None
                outcome = "trained by another process" if accuracy is None else f"{accuracy:.2f}%"
                self._print(f"{done} {outcome}  {name} epochs {epoch}")
            case Failed(failure=failure):
                cells = f" epochs {', '.join(map(str, pending))}" if pending else ""
                self._print(f"{done} FAILED  {name}{cells}: {describe_failure(failure)}")
            case Retrying() | Damaged() | Requeued():
                self._print(f"{name}  {describe_problem(event)}")
            case Interrupted():
                self._print(f"{name}  interrupted; its progress is saved in the store")

    def on_round(self, search_round: SearchRound) -> None:
        if self._progress:
            self._progress.start_round(search_round)
            left = describe_time_left(self._progress)
            self._print(describe_round(self._progress) + (f"; {left}" if left else ""))

    def _print_epoch(self, run_id: str, name: str, result: Epoch) -> None:
        assert self._progress is not None
        state, now = self._progress.running[run_id], self._clock()
        epochs = state.run.cell.epochs
        due = now - self._logged.get(run_id, now) >= LOG_EVERY
        if len(state.epoch_seconds) == 1 or result.epoch == epochs or due:
            self._logged[run_id] = now
            self._print(
                f"{name}  epoch {result.epoch}/{epochs}  cost {format_cost(result.cost)}  "
                f"{result.accuracy:.2f}%  {result.seconds:.2f} s"
            )

    def on_message(self, text: str) -> None:
        self._print(one_line(text))

    def on_end(self) -> None:
        progress, self._progress = self._progress, None
        if progress:
            self._print(describe_end(progress, self._clock()))

    def _print(self, line: str) -> None:
        now = time.strftime("%H:%M:%S", time.localtime(self._clock()))
        print_line(self._console, f"{now}  {line}")
