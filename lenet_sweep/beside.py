"""Work done in a copy of this process, while the process itself does something else."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def beside(work: Callable[[], T], *, apart: bool = True) -> Iterator[Callable[[], T]]:
    """Do `work` beside the `with`; what it yields, called in there, waits for the result or error.

    The copy is a fork, so that it has everything that was imported and read; the end of the `with`
    waits for it. Where there is no safe fork (only Linux has one), where `apart` is false, and
    where the copy dies, the work is done here when its result is asked for.
    """
    if not apart or sys.platform != "linux":
        yield work
        return
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    copy = context.Process(target=_work, args=(work, theirs), daemon=True)
    copy.start()
    theirs.close()

    def result() -> T:
        try:
            value, error = ours.recv()
        except EOFError:
            return work()
        if error:
            raise error
        done: T = value
        return done

    try:
        yield result
    finally:
        ours.close()
        copy.join()


def _work(work: Callable[[], Any], answer: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells both, and one says so
    try:
        message: tuple[Any, Exception | None] = work(), None
    except Exception as error:  # noqa: BLE001 - raised again where the result is asked for
        message = None, error
    with contextlib.suppress(Exception):  # what cannot be sent is found out there, a second time
        answer.send(message)
