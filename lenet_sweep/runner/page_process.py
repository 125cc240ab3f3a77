"""Starts the live page of a sweep, for serve=true.

The server is a process of its own, so it neither slows the sweep down nor ends it. It ends when
this process does, which closes its standard input.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.text import format_value, one_line

START_TIMEOUT = 20.0  # seconds; it takes half a second on an idle machine
URL_LINE = "Live page: "

_lock = threading.Lock()
_lines: dict[Path, str] = {}  # what the server of each output folder has printed
_servers: dict[Path, subprocess.Popen[bytes]] = {}


def start_page(options: SweepOptions, folder: Path | None) -> str:
    """Start the server of the output folder, unless it runs already.

    folder: of the sweep, if it is not in `out`/sweeps. Returns a line with the URL, or with the
    reason why there is no page; the sweep runs anyway.
    """
    out = options.out.resolve()
    if folder and folder.resolve().parent not in (out, out / "sweeps"):
        return (
            f"serve=true: no live page, because it shows the sweeps in {out / 'sweeps'}, and this "
            f"one is in {format_value(folder)}; choose its folder with out and name"
        )
    with _lock:
        running = _servers.get(out)
        if running is None or running.poll() is not None:
            try:
                _servers[out], _lines[out] = _start(out, options.data_root)
            except OSError as error:
                return f"serve=true: the live page could not be started: {error.strerror}"
        return _lines[out]


def _start(out: Path, data_root: Path | None) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server. Returns it with the line that it printed. Raises OSError."""
    arguments = ["--data", str(data_root.absolute())] if data_root else []
    # Ctrl-C goes to all processes of a terminal; the page should show how the sweep ends.
    own_group: dict[str, Any] = (
        {"start_new_session": True} if os.name == "posix" else {"creationflags": 0x200}
    )
    server = subprocess.Popen(
        [sys.executable, "-m", "lenet_sweep.serve", str(out), "--follow-stdin", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **own_group,
    )
    atexit.register(_end, server)
    lines: list[bytes] = []
    output = server.stdout
    assert output is not None
    reader = threading.Thread(target=lambda: lines.append(output.readline()), daemon=True)
    reader.start()
    reader.join(START_TIMEOUT)
    line = one_line(lines[0].decode(errors="replace")) if lines else "it does not answer"
    if not line.startswith(URL_LINE):
        _end(server)
        line = f"serve=true: the live page could not be started: {line}"
    return server, line


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        server.stdin.close()
        server.wait(2.0)
