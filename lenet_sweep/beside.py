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
    """Do `work` beside the `with`; what it yields, called in there, waits for the result.

    The copy is a fork, so that it has everything that was imported and read; the end of the `with`
    waits for it. Where there is no safe fork (only Linux has one), where `apart` is false, and
    where the copy fails or dies, the work is done here when its result is asked for, so that what
    goes wrong is raised as it would be without a copy.
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
            done: T = ours.recv()
        except EOFError:
            return work()
        return done

    try:
        yield result
    finally:
        ours.close()
        copy.join()


def _work(work: Callable[[], Any], answer: Connection) -> None:
    # Ctrl-C reaches both: this one goes without a word, unless it was told not to listen.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.suppress(Exception):  # it is raised where the result is asked for
        answer.send(work())
