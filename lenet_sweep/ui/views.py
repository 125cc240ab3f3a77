"""Chooses the view that shows a sweep."""

from __future__ import annotations

from rich.console import Console

from lenet_sweep.ui.live_view import LiveView
from lenet_sweep.ui.log_view import LogView
from lenet_sweep.ui.observer import TerminalView
from lenet_sweep.ui.script_view import ScriptView


def choose_view(*, single: bool, console: Console) -> TerminalView:
    """The view for one cell (`single`) or for a sweep, on this console.

    A sweep has the live view on a terminal and in a notebook, otherwise the log view.
    """
    if single:
        return ScriptView(console)
    # The bars need a terminal with a movable cursor and an encoding that has their characters.
    terminal = console.is_terminal and console.is_interactive
    if console.is_jupyter or (terminal and console.encoding.startswith("utf")):
        return LiveView(console)
    return LogView(console)
