"""A worker process, which reads runs from standard input and writes events to standard output.

Both are lines of JSON. At the end of its input, the worker checkpoints the run in training and
exits, so that no worker outlives its parent.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import signal
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_sweep.config.model_source import ModelLocation
from lenet_sweep.config.own_models import add_locations
from lenet_sweep.config.registry import run_from_json
from lenet_sweep.core.events import encode
from lenet_sweep.storage.store import Store


def main() -> None:
    """Train runs until standard input ends. The first line is the context of all runs."""
    # Redirect standard output to standard error, so that a stray print does not mix with events.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    # On Windows, importing numpy waits for standard input if another thread is reading it. So this
    # worker reads a copy, and standard input is empty.
    messages = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Only the parent ends a worker. A cluster signals all processes of a job, and a worker that
    # died of such a signal would leave no checkpoint.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2", "SIGBREAK"):
        if hasattr(signal, name):  # no system has all of them
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    context = json.loads(messages.readline() or "null")
    if context is None:
        return
    runs: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    instructions = _Instructions()
    threading.Thread(target=_listen, args=(messages, runs, instructions), daemon=True).start()

    from lenet_sweep.training.loop import train  # noqa: PLC0415 - slow; input is read meanwhile

    gc.freeze()  # what was imported lives until the end
    gc.enable()  # after BOOT has disabled it
    store = Store(Path(context["out"]))
    add_locations({d: ModelLocation(**model) for d, model in context["models"].items()})
    data_root = context["data_root"] and Path(context["data_root"])
    while (message := runs.get()) is not None:
        run = run_from_json(message)
        for event in train(
            run,
            store.run_folder(run.id),
            data_root,
            retrain=context["retrain"],
            wait=message["wait"],
            stop=lambda: instructions.stop,
            environment=context["environment"],
            threads=lambda: instructions.threads,
        ):
            try:
                events.write(encode(event) + "\n")
            except OSError:  # the parent is gone
                instructions.stop = True


@dataclass
class _Instructions:
    """What the parent last said about the run in training."""

    stop: bool = False
    threads: int = 1


def _listen(
    messages: Iterable[str],
    runs: queue.SimpleQueue[dict[str, Any] | None],
    instructions: _Instructions,
) -> None:
    for line in messages:
        message = json.loads(line)
        if message == "stop":
            instructions.stop = True
        elif "threads" in message:
            instructions.threads = message["threads"]
        else:
            runs.put(message)
    instructions.stop = True
    runs.put(None)
