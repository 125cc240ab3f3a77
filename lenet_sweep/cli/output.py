"""Standard streams whose writes never fail, so that a sweep finishes even if its output is lost.

A reader that exits (`| head`), a closed descriptor (`>&-`), a full disk or a closed terminal must
not keep a sweep from writing its files. Output that cannot be written is dropped; the first error
is kept.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

BROKEN_PIPE = 128 + 13  # exit status of a command that SIGPIPE ends


class _Descriptor(io.FileIO):
    """A file descriptor that accepts every byte and drops those that cannot be written."""

    error: OSError | None = None

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = self.error or error
            return memoryview(content).nbytes


def make_safe() -> None:
    """Replace sys.stdout and sys.stderr with streams whose writes never fail."""
    for number in range(3):  # the next file to be opened would get the number of a closed one
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        raw = _Descriptor(number, "w", closefd=False)
        if stream is None:  # closed by the caller of this process
            safe = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "replace")
        elif not (isinstance(stream, io.TextIOWrapper) and stream.fileno() == number):
            continue  # already replaced, for example by an IDE or a test
        elif not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):
            continue  # the console of Windows
        else:
            stream.flush()
            by_line = stream.line_buffering or stream.write_through
            safe = io.TextIOWrapper(
                io.BufferedWriter(raw),
                stream.encoding,
                # A file in the encoding of Windows lacks most characters.
                "backslashreplace" if stream.errors == "strict" else stream.errors,
                line_buffering=by_line,
            )
        setattr(sys, name, safe)


def lost() -> OSError | None:
    """The first error of writing to standard output, or None."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Descriptor):
        return None
    sys.stdout.flush()
    return raw.error


@contextlib.contextmanager
def silent_children() -> Iterator[None]:
    """Discard the standard error of processes that are started inside the `with`.

    The sys.stderr of this process still works.
    """
    original = sys.stderr
    original.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        raw = _Descriptor(saved, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(raw), original.encoding, original.errors, line_buffering=True
        )
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = original
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


@contextlib.contextmanager
def exit_if_lost() -> Iterator[None]:
    """Exit with a nonzero status if everything succeeded except writing to standard output.

    The status is 141 after a broken pipe, as for a command that SIGPIPE ends. After any other
    error it is 1, and standard error gets a line.
    """
    status: object = 0
    try:
        yield
    except SystemExit as exiting:
        status = exiting.code
    error = lost()
    if error and not isinstance(error, BrokenPipeError):
        sys.stderr.write(f"error: cannot write to standard output: {error.strerror}\n")
    if error and not status:
        status = BROKEN_PIPE if isinstance(error, BrokenPipeError) else 1
    if status:
        sys.exit(status)  # type: ignore[arg-type] # whatever SystemExit.code was
