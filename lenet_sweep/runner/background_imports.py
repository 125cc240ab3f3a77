"""Modules imported in a thread, while whoever will need them waits for something else."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def import_in_background(names: Sequence[str]) -> Iterator[None]:
    """Import these modules during the `with`, one after the other; its end waits for one at most.

    One that cannot be imported is left to whoever needs it, who can say what is wrong.
    """
    left = threading.Event()

    def work() -> None:
        for name in names:
            if left.is_set():
                return
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    thread = threading.Thread(target=work, name="imports")
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()
