"""A worker process, which reads runs from standard input and writes events to standard output.

Both are lines of JSON. At the end of its input, the worker checkpoints the run in training and
exits, so that no worker outlives its parent.
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

ANSWER_TIMEOUT = 1.0  # seconds to wait for the answer whether a run should pause


def main() -> None:
    """Train runs until standard input ends. The first line is the context of all runs."""
    # Redirect standard output to standard error, so that a stray print does not mix with events.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    # Only the parent ends a worker. A cluster signals all processes of a job, and a worker that
    # died of such a signal would leave no checkpoint.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2"):
        if hasattr(signal, name):  # Windows lacks some of them
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    context = json.loads(sys.stdin.readline() or "null")
    if context is None:
        return
    stop = threading.Event()
    may_pause = threading.Event()
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    runs: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(runs, stop, may_pause, answers), daemon=True).start()

    from lenet_sweep.training.loop import train  # noqa: PLC0415 - slow; input is read meanwhile

    store = Store(Path(context["out"]))
    data_root = context["data_root"] and Path(context["data_root"])
    while (message := runs.get()) is not None:
        run = Run(cell_from_json(message["cell"]), tuple(message["snapshot_epochs"]))
        for event in train(
            run,
            store.run_folder(run.id),
            data_root,
            retrain=context["retrain"],
            wait=message["wait"],
            stop=stop.is_set,
            environment=context["environment"],
            may_pause=may_pause.is_set,
            should_pause=lambda: _should_pause(answers),
        ):
            try:
                events.write(encode(event) + "\n")
            except BrokenPipeError:  # the parent is gone
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


def _should_pause(answers: queue.SimpleQueue[bool]) -> bool:
    # If the parent is blocked, for example by a terminal, training continues. A late answer is used
    # for the next question; at worst, a run pauses an epoch late or unnecessarily.
    with contextlib.suppress(queue.Empty):
        return answers.get(timeout=ANSWER_TIMEOUT)
    return False


def _stop(stop: threading.Event, answers: queue.SimpleQueue[bool]) -> None:
    stop.set()
    answers.put(False)  # wake a run that waits for an answer
