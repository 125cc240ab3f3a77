"""Signals that end a sweep: heard in good order, or raised where others run the jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from lenet_sweep.errors import InterruptedBySignal


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP interrupt as SIGINT does: for when launchers of Hydra's run the jobs."""

    def handle(number: int, _: object) -> None:
        raise InterruptedBySignal(number)

    with _handling(handle, "SIGTERM", "SIGHUP"):
        yield


@contextlib.contextmanager
def stop_on_signals() -> Iterator[tuple[threading.Event, list[signal.Signals]]]:
    """An event that a signal to end sets, and the signals received; the second one interrupts."""
    stop = threading.Event()
    received: list[signal.Signals] = []
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def handle(number: int, _: object) -> None:
        received.append(signal.Signals(number))
        if received[-1].name == "SIGHUP":  # the terminal is gone: writing to it would be an error
            for descriptor in terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        if stop.is_set():
            raise InterruptedBySignal(received[0])
        stop.set()

    with _handling(handle, "SIGINT", "SIGTERM", "SIGHUP"):
        yield stop, received


@contextlib.contextmanager
def _handling(handler: Callable[[int, object], None], *names: str) -> Iterator[None]:
    """Have the handler hear these signals, as far as this thread and this system may."""
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no other one may handle signals
        for number in (signal.Signals[n] for n in names if hasattr(signal, n)):  # not on Windows
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has asked for
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
