"""`python -m lenet_sweep.serve [DIR]`: a page that shows the sweeps of a folder while they run."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_sweep.core.command import Parser, report_error, say
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

if TYPE_CHECKING:
    from lenet_sweep.serve.server import PageServer

PORT = 8765  # unless it is in use


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the URL, and serve the page until Ctrl-C; returns the exit status.

    After an error, the status is 1 or 2 and standard error has one line.
    """
    parser = Parser(
        prog="python -m lenet_sweep.serve",
        description="Show the sweeps of an output folder in the browser while they run.",
    )
    parser.add_argument("folder", nargs="?", metavar="DIR", type=Path, default=Path("outputs"),
                        help="the output folder of the sweeps (default: outputs)")  # fmt: skip
    parser.add_argument("--port", type=int, metavar="N",
                        help=f"the port of the URL (default: {PORT}, or another one if it is "
                        "in use)")  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="DIR",
                        help="the folder of the test images (default: the cache folder)",
                        )  # fmt: skip
    # For a sweep with serve=true: the server ends when its standard input is closed.
    parser.add_argument("--follow-stdin", action="store_true", help=argparse.SUPPRESS)
    try:
        options = parser.parse_args(arguments)
        _check(options.folder, options.port, exists=not options.follow_stdin)
        server = _server(options.folder, options.port, options.data)
    except (UsageError, OSError) as error:
        return report_error(error)
    for number in {signal.SIGINT, signal.SIGTERM}:
        signal.signal(number, lambda *_: _end(server))
    say(
        f"Live page: {server.url}"
        if options.follow_stdin
        else f"Live page of {options.folder}: {server.url}  (press Ctrl-C to stop the server)"
    )
    sys.stdout.flush()  # it may be a pipe
    if options.follow_stdin:
        threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
    server.serve_forever()
    server.server_close()
    return 0


def _check(folder: Path, port: int | None, *, exists: bool) -> None:
    """Raise UsageError if an argument is not valid. exists: whether the folder must exist."""
    if port is not None and not 1 <= port <= 65535:
        raise UsageError(f"--port {port}: must be from 1 to 65535")
    if exists and not folder.is_dir():
        raise UsageError(
            f"{format_value(folder)}: there is no such folder; give the output folder of your "
            "sweeps (out), such as outputs"
        )


def _server(folder: Path, port: int | None, data: Path | None) -> PageServer:
    from lenet_sweep.serve.server import PageServer  # noqa: PLC0415 - slow; not for --help

    try:
        return PageServer(folder, PORT if port is None else port, data)
    except OSError as error:
        if port is None:
            return PageServer(folder, 0, data)
        raise UsageError(
            f"--port {port}: {error.strerror}; choose another port, or omit --port"
        ) from error


def _end(server: PageServer) -> None:
    """End `serve_forever`, which must be called in another thread."""
    threading.Thread(target=server.shutdown, daemon=True).start()


def _end_with_stdin(server: PageServer) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
