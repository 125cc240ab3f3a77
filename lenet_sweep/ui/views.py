"""Chooses the view that shows a sweep."""

from __future__ import annotations

from rich.console import Console

from lenet_sweep.ui.live_view import LiveView
from lenet_sweep.ui.log_view import LogView
from lenet_sweep.ui.observer import TerminalView


def choose_view(console: Console) -> TerminalView:
    """The view of a sweep: live on a terminal and in a notebook, otherwise log lines."""
    # The bars need a terminal with a movable cursor and an encoding that has their characters.
    terminal = console.is_terminal and console.is_interactive
    if console.is_jupyter or (terminal and console.encoding.startswith("utf")):
        return LiveView(console)
    return LogView(console)
