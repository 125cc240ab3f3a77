"""A worker process: reads runs from standard input, trains them, writes events to standard output.

Both are lines of JSON. The worker ends when its input does, so that none outlives its parent; a
run in training is then checkpointed first.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from lenet_sweep.config.registry import cell_from_json
from lenet_sweep.core.cells import Run
from lenet_sweep.core.events import encode
from lenet_sweep.storage.store import Store

PATIENCE = 1.0  # seconds that a run waits to be told whether it goes on


def main() -> None:
    """Serve runs until standard input ends. The first line it reads is its setup."""
    # A stray print must not end up among the events.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    # To end is the parent's to say: a cluster tells all processes of a job, and one that died of
    # it would leave no checkpoint.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2"):
        if hasattr(signal, name):  # not all of them on Windows
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    context = json.loads(sys.stdin.readline() or "null")
    if context is None:
        return
    stop = threading.Event()
    may_pause = threading.Event()
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    runs: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(runs, stop, may_pause, answers), daemon=True).start()

    from lenet_sweep.training.loop import train  # noqa: PLC0415 - the parent may send runs meanwhile

    store = Store(Path(context["out"]))
    data_root = context["data_root"] and Path(context["data_root"])
    while (message := runs.get()) is not None:
        run = Run(cell_from_json(message["cell"]), tuple(message["snapshot_epochs"]))
        for event in train(
            run,
            store.run(run.id),
            data_root,
            retrain=context["retrain"],
            wait=message["wait"],
            stop=stop.is_set,
            environment=context["environment"],
            may_pause=may_pause.is_set,
            should_pause=lambda: _answer(answers),
        ):
            try:
                events.write(encode(event) + "\n")
            except BrokenPipeError:  # the parent is gone: checkpoint at the next occasion
                stop.set()


def _listen(
    runs: queue.SimpleQueue[dict[str, Any] | None],
    stop: threading.Event,
    may_pause: threading.Event,
    answers: queue.SimpleQueue[bool],
) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message == "stop":
            _stop(stop, answers)
        elif "may_pause" in message:
            may_pause.set() if message["may_pause"] else may_pause.clear()
        elif "pause" in message:
            answers.put(message["pause"])
        else:
            runs.put(message)
    _stop(stop, answers)
    runs.put(None)


def _answer(answers: queue.SimpleQueue[bool]) -> bool:
    # Where the parent is held up, by a terminal say, training goes on. An answer that comes too
    # late is taken for the next: at worst a run makes room an epoch later, or in vain.
    with contextlib.suppress(queue.Empty):
        return answers.get(timeout=PATIENCE)
    return False


def _stop(stop: threading.Event, answers: queue.SimpleQueue[bool]) -> None:
    stop.set()
    answers.put(False)  # a run that waits to be told whether it goes on hears of it
