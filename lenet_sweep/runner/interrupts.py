"""Handles the signals that end a sweep: SIGINT (Ctrl-C), SIGTERM, SIGHUP (closed terminal).

On Windows, SIGBREAK (Ctrl-Break) is another one, and there is no SIGHUP.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from lenet_sweep.core.errors import InterruptedBySignal


class Interrupts:
    """The signals that this process has received.

    stop: set by the first one. received: all of them, in order.

    The first signal raises InterruptedBySignal, or only sets `stop` inside a `with deferred()`.
    Later ones are ignored, since a closed terminal sends SIGHUP twice (from the kernel and from the
    shell) and schedulers repeat SIGTERM. Only a second Ctrl-C raises again.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.received: list[signal.Signals] = []
        self._deferred = 0
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the first signal set `stop` instead of raising an exception."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    @property
    def force_quit(self) -> bool:
        """Whether Ctrl-C was pressed more than once, to exit without waiting."""
        return self.received.count(signal.SIGINT) > 1

    def handle(self, number: int, _: object) -> None:
        """The signal handler. Raises InterruptedBySignal, as the class describes."""
        self.received.append(signal.Signals(number))
        if self.received[-1].name == "SIGHUP":  # writing to the closed terminal would fail
            for descriptor in self._terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        first = not self.stop.is_set()
        self.stop.set()
        if (first and not self._deferred) or (number == signal.SIGINT and self.force_quit):
            raise InterruptedBySignal(self.received[0])


_active: list[Interrupts] = []  # the one of the main thread, if any


@contextlib.contextmanager
def handle_signals(*, process_ends: bool = False) -> Iterator[Interrupts]:
    """Handle the signals that end a sweep, inside the `with`.

    A nested call yields the same object as the outer one. Only the main thread receives signals; in
    other threads nothing is handled. Signals that are ignored stay ignored, such as SIGHUP under
    nohup.

    process_ends: whether the process exits after the `with`. If so, a signal that is repeated until
    then does not change its exit status.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Interrupts()
        return
    if _active:
        yield _active[0]
        return
    previous: dict[signal.Signals, Any] = {}
    unraisable_hook = sys.unraisablehook

    def hook(lost: sys.UnraisableHookArgs) -> None:
        # In a weak reference's callback, such as those of imports, Python drops the exception.
        # Nothing is lost, since `received` has the signal and the next step sees it.
        if not isinstance(lost.exc_value, InterruptedBySignal):
            unraisable_hook(lost)

    interrupts = Interrupts()
    _active.append(interrupts)
    try:
        sys.unraisablehook = hook
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)  # no system has all of them
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, interrupts.handle)
        yield interrupts
    finally:
        _active.clear()
        sys.unraisablehook = unraisable_hook
        for number, handler in previous.items():
            ignore = process_ends and interrupts.received and number != signal.SIGINT
            signal.signal(number, signal.SIG_IGN if ignore else handler)
