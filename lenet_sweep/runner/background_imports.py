"""Imports modules in a thread while the main thread waits for the workers."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def import_in_background(names: Sequence[str]) -> Iterator[None]:
    """Import modules one after the other, inside the `with`.

    Leaving the `with` waits for the import in progress and skips the rest. Errors are ignored here:
    the regular import of the same module raises them where they can be reported.
    """
    leaving = threading.Event()

    def work() -> None:
        for name in names:
            if leaving.is_set():
                return
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    thread = threading.Thread(target=work, name="imports")
    thread.start()
    try:
        yield
    finally:
        leaving.set()
        thread.join()
