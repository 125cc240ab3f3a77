"""The script view: the output of the report's script, for a single cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd

import math
import sys
import time
from collections.abc import Callable

from lenet_sweep.core.cells import Cell, Plan
from lenet_sweep.core.events import (
    Damaged,
    EpochEnded,
    Event,
    Failed,
    Finished,
    Progress,
    Requeued,
    Retrying,
    Started,
    Waiting,
)
from lenet_sweep.core.text import format_duration, one_line
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.training.loop import REPORT_EVERY
from lenet_sweep.ui.console import print_line
from lenet_sweep.ui.progress import SweepProgress, describe_failure, describe_problem


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
        self._tally: SweepProgress | None = None
        self._accuracy: float | None = None
        self._waiting = False

    def begin(self, plan: Plan, workers: int | None) -> None:
        if self._status and plan.runs:
            self._tally = SweepProgress(plan, workers, self._clock())

    def show(self, event: Event) -> None:
        self._clear_status()
        self._print_event(event)
        if self._tally:
            self._tally.take(event, self._clock())
            self._draw_status(self._tally)

    def _draw_status(self, tally: SweepProgress) -> None:
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
                self._print(describe_failure(failure))
            case Retrying() | Damaged() | Requeued():
                self._print(describe_problem(event))
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
        print_line(self._console, line)


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
