"""The cells of a sweep while it runs, from its events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import CellFinished, EpochEnded, Event, Failed, Started, Stopped
from lenet_sweep.core.names import short_names
from lenet_sweep.core.patience import ranking_accuracies
from lenet_sweep.core.plans import Plan
from lenet_sweep.core.text import one_line
from lenet_sweep.results.columns import STOPPED
from lenet_sweep.storage.store import Store
from lenet_sweep.track import RUNNING, TrackedCell, TrackedSweep
from lenet_sweep.track.collect import History, parameters_of


class LiveCells:
    """The cells that this launch trains, with their epochs and outcomes so far.

    person: who trains them.
    """

    def __init__(self, sweep: TrackedSweep, person: str) -> None:
        self._sweep, self._person = sweep, person
        self._store = Store(sweep.store)
        self._cells: dict[str, list[Cell]] = {}  # by run id
        self._histories: dict[str, History] = {}  # by run id
        self._outcomes: dict[Cell, tuple[str, str]] = {}  # status and error
        self._changed: dict[str, None] = {}  # run ids, in order
        self._taken: dict[Cell, tuple[int, str]] = {}  # number of epochs, and status

    @cached_property
    def _names(self) -> Mapping[Cell, str]:
        return short_names(self._sweep.cells)

    def history(self, run_id: str) -> History:
        """The epochs of a run, as far as they are known here."""
        return self._histories.get(run_id, ())

    def update(self, message: Plan | Event) -> None:
        """Take in the plan of the launch, or one of its events."""
        if isinstance(message, Plan):
            self._cells |= {run.id: run.cells() for run in message.runs}
            return
        run_id = message.run_id
        cells = self._cells.get(run_id, [])
        open_cells = [cell for cell in cells if cell not in self._outcomes]
        if isinstance(message, Started):
            self._histories[run_id] = self._stored(run_id, message.epoch)
            for cell in cells:  # a retry, or a continuation by a search
                if cell.epochs > message.epoch:
                    self._outcomes.pop(cell, None)
        elif isinstance(message, EpochEnded):
            before = self.history(run_id)[: message.result.epoch - 1]
            if len(before) < message.result.epoch - 1:  # an event was lost
                before = self._stored(run_id, message.result.epoch - 1)
            if len(before) == message.result.epoch - 1:
                self._histories[run_id] = (*before, message.result)
        elif isinstance(message, CellFinished):
            finished = [cell for cell in cells if cell.epochs == message.epoch]
            self._outcomes |= dict.fromkeys(finished, ("ok", ""))
            for cell in finished:
                if not self.history(run_id):  # another process has trained it
                    self._histories[run_id] = self._stored(run_id, cell.epochs)
        elif isinstance(message, Failed):
            failure = message.failure
            self._outcomes |= dict.fromkeys(open_cells, (failure.status, one_line(failure.reason)))
        elif isinstance(message, Stopped):
            self._outcomes |= dict.fromkeys(open_cells, (STOPPED, one_line(message.reason)))
        self._changed[run_id] = None

    def _stored(self, run_id: str, epoch: int) -> History:
        return self._store.run_folder(run_id).history(until=epoch) if epoch else ()

    def take_changed(self) -> Iterator[TrackedCell]:
        """The cells that have new epochs or another status since the last call."""
        for run_id in self._changed:
            for cell in self._cells.get(run_id, []):
                history = self.history(run_id)[: cell.epochs]
                status, error = self._outcomes.get(cell, (RUNNING, ""))
                state = len(history), status
                if self._taken.get(cell) == state:
                    continue
                self._taken[cell] = state
                is_ok = status == "ok" and history
                accuracy = ranking_accuracies(history)[-1] if is_ok else None
                yield TrackedCell(
                    cell=cell,
                    name=self._names[cell],
                    settings=parameters_of(cell),
                    history=history,
                    status=status,
                    error=error,
                    accuracy=accuracy,
                    person=self._person,
                )
        self._changed.clear()
