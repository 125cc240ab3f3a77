"""Signals that end a sweep: SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal was closed)."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from lenet_sweep.core.errors import InterruptedBySignal


class Interrupts:
    """The signals that this process received so far.

    stop: set by the first one. received: all of them, in order.

    The first signal raises InterruptedBySignal, or only sets `stop` inside a `with deferred()`.
    A closed terminal sends SIGHUP twice, from the kernel and from the shell, and schedulers repeat
    SIGTERM, so later signals are ignored; only a second Ctrl-C raises again.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.received: list[signal.Signals] = []
        self._deferred = 0
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Have the first signal set `stop` instead of raising."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    @property
    def insisted(self) -> bool:
        """Whether Ctrl-C was pressed again."""
        return self.received.count(signal.SIGINT) > 1

    def handle(self, number: int, _: object) -> None:
        """Receive a signal."""
        self.received.append(signal.Signals(number))
        if self.received[-1].name == "SIGHUP":  # the terminal is gone: writing to it is an error
            for descriptor in self._terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        first = not self.stop.is_set()
        self.stop.set()
        if (first and not self._deferred) or (number == signal.SIGINT and self.insisted):
            raise InterruptedBySignal(self.received[0])


_handling: list[Interrupts] = []  # of the main thread: one at most


@contextlib.contextmanager
def handle_signals(*, process_ends: bool = False) -> Iterator[Interrupts]:
    """Handle the signals that end a sweep, inside the `with`; a nested one shares the outer's.

    Only the main thread can: in another one no signal is ever received. One that is ignored, as
    SIGHUP is under nohup, stays ignored.
    process_ends: nothing but the end of the process follows; a signal that is repeated until then
    does not change its exit status.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Interrupts()
        return
    if _handling:
        yield _handling[0]
        return
    before: dict[signal.Signals, Any] = {}
    interrupts = Interrupts()
    _handling.append(interrupts)
    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # not all of them on Windows
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, interrupts.handle)
        yield interrupts
    finally:
        _handling.clear()
        for number, earlier in before.items():
            ignored = process_ends and interrupts.received and number != signal.SIGINT
            signal.signal(number, signal.SIG_IGN if ignored else earlier)
