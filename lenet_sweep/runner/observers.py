"""Passes the events of a sweep to its observers and removes those that fail."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lenet_sweep.core.events import Event, SearchRound
from lenet_sweep.core.plans import Plan
from lenet_sweep.core.text import one_line, to_str
from lenet_sweep.ui.observer import Observer, TerminalView

if TYPE_CHECKING:
    import pandas as pd


class ObserverGroup(Observer):
    """Calls each observer of a sweep, and removes one that raises an exception.

    A `TerminalView` is not removed; its exceptions are raised here. Observers are called in the
    given order and ended in reverse order. A terminal view that comes first therefore still shows
    the messages about the others.

    errors: one line for each observer that was removed.
    """

    def __init__(self, observers: Iterable[Observer]) -> None:
        self.errors: list[str] = []
        self._active = {id(observer): observer for observer in observers}

    def add(self, observer: Observer) -> None:
        """Add an observer, as the last one."""
        self._active[id(observer)] = observer

    def on_start(self, plan: Plan, workers: int | None) -> None:
        self._call_each("on_start", lambda observer: observer.on_start(plan, workers))

    def on_plan(self, plan: Plan) -> None:
        self._call_each("on_plan", lambda observer: observer.on_plan(plan))

    def on_event(self, event: Event) -> None:
        self._call_each("on_event", lambda observer: observer.on_event(event))

    def on_round(self, search_round: SearchRound) -> None:
        self._call_each("on_round", lambda observer: observer.on_round(search_round))

    def on_table(self, table: pd.DataFrame) -> None:
        def call(observer: Observer) -> None:
            # A copy, so that an observer cannot change the table that the sweep returns.
            observer.on_table(table if isinstance(observer, TerminalView) else table.copy())

        self._call_each("on_table", call)

    def on_message(self, text: str) -> None:
        self._call_each("on_message", lambda observer: observer.on_message(text))

    def on_end(self) -> None:
        with contextlib.ExitStack() as stack:  # ends all of them, even if one raises
            for observer in self._active.values():
                stack.callback(self._end, observer)

    def _end(self, observer: Observer) -> None:
        if self._active.pop(id(observer), None):  # not removed in the meantime
            self._call(observer, "on_end", lambda ending: ending.on_end())

    def _call_each(self, method: str, call: Callable[[Observer], None]) -> None:
        for observer in list(self._active.values()):
            if id(observer) in self._active:  # not removed in the meantime
                self._call(observer, method, call)

    def _call(self, observer: Observer, method: str, call: Callable[[Observer], None]) -> None:
        try:
            call(observer)
        except Exception as error:
            if isinstance(observer, TerminalView):
                raise
            self._active.pop(id(observer), None)
            message = _describe_error(observer, method, error)
            self.errors.append(message)
            self.on_message(message)


def _describe_error(observer: Observer, method: str, error: Exception) -> str:
    """'observer Tracker removed: on_event raised ValueError: no (tracker.py:12)'."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"observer {type(observer).__name__} removed: {method} raised {type(error).__name__}: "
        f"{one_line(to_str(error))} ({frame.filename}:{frame.lineno})"
    )
