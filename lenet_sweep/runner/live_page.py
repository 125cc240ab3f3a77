"""Starts the live page of a sweep, for serve=true.

The server is a process of its own, so it neither slows the sweep down nor ends it. It ends when
this process does, which closes its standard input.
"""

from __future__ import annotations

import atexit
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.text import format_value, one_line

START_TIMEOUT = 2.0  # seconds that a sweep waits; it takes half a second on an idle machine
URL_LINE = "Live page: "


@dataclass
class _Server:
    """A server. line: the last line that it has printed, or the one with the page's URL."""

    process: subprocess.Popen[bytes]
    line: str = "the server did not respond"
    answered: threading.Event = field(default_factory=threading.Event)
    ended: bool = False  # by this process

    def read(self) -> None:
        """Read the output to its end, so that the server never waits for a reader."""
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for content in output:
                line = one_line(content.decode(errors="replace"))
                if line and not self.answered.is_set():
                    self.line = line
                if line.startswith(URL_LINE):
                    self.answered.set()
        self.answered.set()

    def describe(self) -> str:
        """A line with the URL, or with the reason why there is none."""
        if self.line.startswith(URL_LINE):
            return self.line
        return f"serve=true: the live page could not be started: {self.line}"


_lock = threading.Lock()
_servers: dict[Path, _Server] = {}  # by output folder


def start_live_page(
    options: SweepOptions, folder: Path | None, on_message: Callable[[str], None]
) -> None:
    """Start the server of the output folder, unless it runs already.

    folder: of the sweep, if it is not in `out`/sweeps. on_message: gets a line with the URL, or the
    reason why there is no page; the sweep runs anyway. If the server takes long, it gets a line now
    and, in another thread, the URL when it is known.
    """
    out = options.out.resolve()
    if folder and folder.resolve().parent not in (out, out / "sweeps"):
        on_message(
            f"serve=true: the live page was not started: it shows only the sweeps in "
            f"{out / 'sweeps'}, but this sweep is in {format_value(folder)}; choose its "
            "folder with out and name, not with hydra.sweep.dir or hydra.run.dir"
        )
        return
    with _lock:
        server = _servers.get(out)
        if server is None or server.process.poll() is not None:
            try:
                server = _servers[out] = _start(out, options.data_root)
            except OSError as error:
                on_message(f"serve=true: the live page could not be started: {error.strerror}")
                return
    if server.answered.wait(START_TIMEOUT):
        on_message(server.describe())
        return
    on_message("serve=true: the live page is starting; its URL follows")
    threading.Thread(target=_report_later, args=(server, on_message), daemon=True).start()


def _report_later(server: _Server, on_message: Callable[[str], None]) -> None:
    server.answered.wait()
    if not server.ended:
        on_message(server.describe())


def _start(out: Path, data_root: Path | None) -> _Server:
    """Start a server, and a thread that reads what it prints. Raises OSError."""
    arguments = ["--data", str(data_root.absolute())] if data_root else []
    process = subprocess.Popen(
        [sys.executable, "-m", "lenet_sweep.serve", str(out), "--follow-stdin", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Ctrl-C goes to all processes of a terminal; the page should show how the sweep ends.
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
    )
    server = _Server(process)
    atexit.register(_end, server)
    threading.Thread(target=server.read, name="live page", daemon=True).start()
    return server


def _end(server: _Server) -> None:
    server.ended = True
    assert server.process.stdin is not None
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        server.process.stdin.close()
        server.process.wait(2.0)
