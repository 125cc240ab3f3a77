"""The script view: prints what the script of the report prints, for a single cell."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

from rich.console import Console

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import (
    Damaged,
    EndedEarly,
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
from lenet_sweep.core.plans import Plan
from lenet_sweep.core.text import format_duration, one_line
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.training.loop import REPORT_EVERY
from lenet_sweep.ui.console import print_line
from lenet_sweep.ui.observer import TerminalView
from lenet_sweep.ui.progress import (
    SweepProgress,
    describe_early_end,
    describe_failure,
    describe_problem,
)


class ScriptView(TerminalView):
    """Prints the lines of the report's script, in its format.

    status: the console of the status line below, with the accuracy of the last epoch and the time
    left. None: no status line.

    complete: whether the final accuracy was printed. A run that another process trained finishes
    without it; `replay` then prints the lines from the store.
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
        self._progress: SweepProgress | None = None
        self._accuracy: float | None = None
        self._waiting = False

    def on_start(self, plan: Plan, workers: int | None) -> None:
        if self._status and plan.runs:
            self._progress = SweepProgress(plan, workers, self._clock())

    def on_event(self, event: Event) -> None:
        self._clear_status()
        self._print_event(event)
        if self._progress:
            self._progress.update(event, self._clock())
            self._draw_status(self._progress)

    def _draw_status(self, progress: SweepProgress) -> None:
        state = next(iter(progress.running.values()), None)
        if state is None or state.start is None or self._status is None:
            return
        epochs = state.run.cell.epochs
        parts = [f"epoch {min(state.epoch + 1, epochs)}/{epochs}"]
        if state.accuracy is not None:
            parts.append(f"accuracy {state.accuracy:.2f}% after epoch {state.epoch}")
        left = progress.seconds_left()
        if left is not None:
            parts.append(f"{format_duration(left)} left")
        # The last column stays empty: text there can make a terminal wrap.
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
            case EndedEarly():
                self._print(describe_early_end(event))
            case Finished() if self._accuracy is not None:
                self.complete = True
                self._print("* Accuracy on test dataset")
                self._print(f": {self._accuracy:.2f}%")
            case Failed(failure=failure):
                self._print(describe_failure(failure))
            case Retrying() | Damaged() | Requeued():
                self._print(describe_problem(event))
            case Started(epoch=epoch) if epoch:
                self._print(f"resumed after epoch {epoch}")
            case Waiting() if not self._waiting:
                self._waiting = True
                self._print("waiting for another process that is training this cell")

    def on_message(self, text: str) -> None:
        self._clear_status()
        self._print(one_line(text))

    def on_end(self) -> None:
        self._clear_status()
        self._status = self._progress = None

    def _print(self, line: str) -> None:
        print_line(self._console, line)


def status_console() -> Console | None:
    """The console of the status line: stderr if it and stdout are terminals, otherwise None."""
    console = Console(stderr=True)
    movable = console.is_terminal and console.is_interactive and not console.legacy_windows
    return console if movable and sys.stdout.isatty() else None


def replay(console: Console, snapshot: Snapshot, cell: Cell, total_images: int) -> None:
    """Print what ScriptView printed when a cell was trained, from its snapshot in the store.

    total_images: the number of training images in an epoch.
    """
    view = ScriptView(console)
    batches = math.ceil(total_images / cell.batch)
    reports = math.ceil(batches / REPORT_EVERY)
    for result in snapshot.history:
        first = (result.epoch - 1) * reports
        for number, loss in enumerate(snapshot.trace[first : first + reports, 1]):
            # Positions in the trace are float32, too coarse to count images after 256 epochs.
            seen = min((number * REPORT_EVERY + 1) * cell.batch, total_images)
            view.on_event(Progress(cell.run_id, result.epoch, seen, total_images, float(loss)))
        view.on_event(EpochEnded(cell.run_id, result))
    if cell.patience and snapshot.epoch < cell.epochs:
        view.on_event(EndedEarly(cell.run_id, snapshot.epoch, cell.patience))
    view.on_event(Finished(cell.run_id))
