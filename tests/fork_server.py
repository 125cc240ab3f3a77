"""Runs command lines in forked processes, so that everything is imported only once.

Started by tests/processes.py and tests/forked_commands.py. Each input line is a JSON object with
the arguments, the folder and the output file of a process, and may have a file for its errors and
an environment and resource limits. The answer is its exit status, or null if it did not end in
time.
"""

import json
import os
import resource
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import NoReturn

# The imports of a sweep, done once for all of them.
import matplotlib.figure  # noqa: F401
import pandas.io.formats.style  # noqa: F401
import safetensors.numpy  # noqa: F401
import scipy.special  # noqa: F401
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

from lenet_sweep import __main__
from lenet_sweep.cli import commands, main  # noqa: F401
from lenet_sweep.report import figure_set, page, page_files  # noqa: F401


def serve() -> None:
    Plugins.instance()  # Hydra finds plugins and builds its grammar once per process
    OverridesParser.create().parse_overrides(["a=1,2", "b.c=[1]"])
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run_job(job)
        ending = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(ending, select.POLLIN)
        ended = poll.poll(1000 * job["timeout"])
        os.close(ending)
        if not ended:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{status if ended else 'null'}\n")
        sys.stdout.flush()


def run_job(job: dict) -> NoReturn:
    """Run the sweep in this process."""
    os.chdir(job["folder"])
    sys.path[0] = job["folder"]  # as with -m
    if "env" in job:
        os.environ.clear()
        os.environ |= job["env"]
    create = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    output = os.open(job["output"], create, 0o666)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(os.open(job["errors"], create, 0o666) if "errors" in job else output, 2)
    for name, limit in job.get("limits", {}).items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    sys.argv[1:] = job["arguments"]
    sys.orig_argv[:] = [sys.executable, "-m", "lenet_sweep", *job["arguments"]]
    if job["target"]:  # the fault signals this process
        with Path(job["target"]).open("r+b") as plan:
            plan.seek(job["target_at"])
            plan.write(os.getpid().to_bytes(8, sys.byteorder))
    status = 1
    try:
        __main__.main()
        status = 0
    except SystemExit as ended:
        status = ended.code
    except BaseException:  # noqa: BLE001 - like the interpreter
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # skip the teardown, which is slow


if __name__ == "__main__":
    serve()
