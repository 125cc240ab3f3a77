"""Views show a sweep to a person: they get values and print, and nothing depends on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rich.console import Console

from lenet_sweep.core.cells import Plan
from lenet_sweep.core.events import (
    Event,
)
from lenet_sweep.ui.live_view import LiveView
from lenet_sweep.ui.log_view import LogView
from lenet_sweep.ui.script_view import ScriptView

if TYPE_CHECKING:
    import pandas as pd


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


def choose_view(*, single: bool, console: Console) -> View:
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
