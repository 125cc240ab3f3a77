"""Put on PYTHONPATH by tests: cells with certain learning rates fail when they begin."""

import os
import signal
import sys

from lenet_sweep import engines

FAULTS = {
    0.03: lambda: (_ for _ in ()).throw(RuntimeError("made to raise")),
    0.04: lambda: os.kill(os.getpid(), signal.SIGKILL),
    0.05: os.abort,
    0.06: lambda: sys.exit(3),
    0.07: lambda: os._exit(7),
}
_build = engines.build


def build(cell, images):
    if cell.lr in FAULTS:
        FAULTS[cell.lr]()
    return _build(cell, images)


engines.build = build
