"""Executors run the runs of a plan and yield their events. Each is a function in its own module."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_sweep.cells import Run
from lenet_sweep.events import Event


@dataclass(frozen=True)
class Setup:
    """What every run of a sweep has in common. `stop` is set to end the sweep early."""

    out: Path
    data_root: Path | None
    workers: int
    gpus: Sequence[str]  # as CUDA_VISIBLE_DEVICES names them; workers get one each, in turn
    fresh: bool  # train anew even what the store has
    timeout: float | None  # seconds without a sign of life before a run is given up
    retries: int  # how often a run that failed is tried again
    environment: Mapping[str, Any]
    stop: threading.Event


# Yields each run's events; the last one of a run is one of events.ENDS. Runs that were not
# begun when `stop` was set yield nothing.
Executor = Callable[[Sequence[Run], Setup], Iterator[Event]]
