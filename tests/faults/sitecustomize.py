"""Put on PYTHONPATH by tests: cells with certain learning rates fail when they begin."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np

from lenet_sweep.training import engines


def exhaust():
    """Ask for more memory than this worker may have from now on."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**26, limits[1]))
    try:
        np.ones(2**28)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def fail_once():
    """Raise the first time that a cell gets here, which a file remembers."""
    if not Path(os.environ["FAILED_ONCE"]).exists():
        Path(os.environ["FAILED_ONCE"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)


FAULTS = {
    0.03: lambda: (_ for _ in ()).throw(RuntimeError("made to raise")),
    0.04: lambda: os.kill(os.getpid(), signal.SIGKILL),
    0.05: os.abort,
    0.06: lambda: sys.exit(3),
    0.07: lambda: os._exit(7),
    0.08: exhaust,
    0.09: lambda: time.sleep(3600),
    0.11: fail_once,
}
_build = engines.build_engine


def build(cell, images):
    if cell.lr in FAULTS:
        FAULTS[cell.lr]()
    return _build(cell, images)


engines.build_engine = build
