"""The interface of everything that follows a sweep, such as a view or a tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lenet_sweep.core.events import Event, SearchRound
from lenet_sweep.core.plans import Plan

if TYPE_CHECKING:
    import pandas as pd


class Observer:
    """Follows a sweep: its events, its table and its messages.

    A subclass overrides only the methods it needs; the others do nothing. The sweep calls them one
    at a time, in the thread that runs it, and waits until they return.

    If a method raises an exception, the sweep reports it as a message, removes the observer and
    continues. Only an exception of a `TerminalView` ends the sweep.
    """

    def on_start(self, plan: Plan, workers: int | None) -> None:
        """Called once, before training.

        plan: the cells and the runs to train; there may be no runs. workers: how many runs train at
        the same time, or None if this is not known.
        """

    def on_plan(self, plan: Plan) -> None:
        """Called when a search has sampled more cells, before the events of their runs.

        plan: all cells so far, and the runs of all of them.
        """

    def on_event(self, event: Event) -> None:
        """Called with each event of each run, in order; `lenet_sweep.core.events` lists them."""

    def on_round(self, search_round: SearchRound) -> None:
        """Called when a search starts to train the next runs, before their events."""

    def on_table(self, table: pd.DataFrame) -> None:
        """Called with the ranked table so far, as cells end, and once more with the final table.

        The columns are those of results.csv. Accuracies are in percent; the best cell is first.
        """

    def on_message(self, text: str) -> None:
        """Called with a line of text for the user."""

    def on_end(self) -> None:
        """Called last, even if the sweep is interrupted or fails."""


class TerminalView(Observer):
    """An observer that shows the sweep on the terminal where it was started."""
