"""Standard output and error that do not fail, so that a sweep continues when they are lost.

A reader that exits (`| head`), a closed descriptor (`>&-`), a full disk or a closed terminal must
not keep a sweep from writing its files. What cannot be written is dropped, and the first error is
kept.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

BROKEN_PIPE = 128 + 13  # the exit status of a command that SIGPIPE ended


class _Descriptor(io.FileIO):
    """A file descriptor that takes every byte, and drops those that cannot be written."""

    error: OSError | None = None

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = self.error or error
            return memoryview(content).nbytes


def make_safe() -> None:
    """Replace sys.stdout and sys.stderr by streams whose writing does not fail."""
    if os.name != "posix":  # a Windows console has streams of its own
        return
    for number in range(3):  # a closed one would be taken by the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        raw = _Descriptor(number, "w", closefd=False)
        if stream is None:  # it was closed
            safe = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "replace")
        elif not isinstance(stream, io.TextIOWrapper) or stream.fileno() != number:
            continue  # it was replaced, for example by an IDE or a test
        else:
            stream.flush()
            by_line = stream.line_buffering or stream.write_through
            safe = io.TextIOWrapper(
                io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=by_line
            )
        setattr(sys, name, safe)


def lost() -> OSError | None:
    """Why standard output could not be written, None where it could."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Descriptor):
        return None
    sys.stdout.flush()
    return raw.error


@contextlib.contextmanager
def silent_children() -> Iterator[None]:
    """Have processes that are started inside the `with` write their standard error nowhere.

    This process's own sys.stderr is as before.
    """
    before = sys.stderr
    before.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        raw = _Descriptor(kept, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(raw), before.encoding, before.errors, line_buffering=True
        )
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def exit_if_lost() -> Iterator[None]:
    """Exit with an own status where all went well but standard output could not be written.

    141 after a broken pipe, as a command that SIGPIPE ends; after anything else 1 and a line on
    standard error.
    """
    status: object = 0
    try:
        yield
    except SystemExit as leaving:
        status = leaving.code
    error = lost()
    if error and not isinstance(error, BrokenPipeError):
        sys.stderr.write(f"error: cannot write to standard output: {error.strerror}\n")
    if error and not status:
        status = BROKEN_PIPE if isinstance(error, BrokenPipeError) else 1
    if status:
        sys.exit(status)  # type: ignore[arg-type]
