"""Runs command lines in forked processes, because imports take most of the time of short ones."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from processes import PATIENCE


@cache
def _server() -> subprocess.Popen[str]:
    """The process that forks, started by the first command."""
    server = subprocess.Popen(
        [sys.executable, Path(__file__).parent / "fork_server.py"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[str]) -> None:
    server.stdin.close()
    server.wait()
    server.stdout.close()


def run_forked(
    *arguments: str,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    limits: dict[str, int] | None = None,
) -> subprocess.CompletedProcess[str]:
    """What `python -m lenet_sweep` with these arguments returns and prints.

    env: changes of the environment. Variables that Python reads when it starts have an effect
    only on worker processes.
    limits: resource limits by name, such as RLIMIT_CPU.
    """
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        job = {
            "arguments": arguments, "folder": str(cwd or Path.cwd()), "output": str(output),
            "errors": str(errors), "env": os.environ | (env or {}), "limits": limits or {},
            "target": None, "timeout": PATIENCE,
        }  # fmt: skip
        server = _server()
        print(json.dumps(job), file=server.stdin, flush=True)
        status = json.loads(server.stdout.readline())
        return subprocess.CompletedProcess(
            arguments, status, output.read_text("utf-8"), errors.read_text("utf-8")
        )
