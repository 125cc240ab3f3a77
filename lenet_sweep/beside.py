"""Work done in a copy of this process, while the process itself does something else."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")

PR_SET_PDEATHSIG = 1  # prctl(2): a signal for when the parent dies


@contextlib.contextmanager
def beside(work: Callable[[], T], *, apart: bool = True) -> Iterator[Callable[[], T]]:
    """Do `work` beside the `with`; what it yields, called in there, waits for the result.

    The copy is a fork, so that it has everything that was imported and read. The end of the `with`
    waits for it, but where this process is told to end: so is the copy then, and when this process
    dies. Where there is no safe fork (only Linux has one), where `apart` is false, and where the
    copy cannot be made, fails or dies, the work is done here when its result is asked for, so that
    what goes wrong is raised as it would be without a copy.
    """
    if not apart or sys.platform != "linux":
        yield work
        return
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    copy = context.Process(target=_work, args=(work, theirs, os.getpid()), daemon=True)
    started = True
    try:
        copy.start()
    except (OSError, AssertionError):  # no more processes, or this one may have no children
        started = False
    theirs.close()
    if not started:
        ours.close()
        yield work
        return

    def result() -> T:
        try:
            done: T = ours.recv()
        except EOFError:
            return work()
        return done

    try:
        yield result
    except Exception:
        raise
    except BaseException:  # Ctrl-C or another signal
        copy.kill()
        raise
    finally:
        ours.close()
        copy.join()


def _work(work: Callable[[], Any], answer: Connection, parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has died before that
        return
    # A signal may reach both: this one goes without a word, unless it was told not to listen.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(Exception):  # it is raised where the result is asked for
        answer.send(work())
