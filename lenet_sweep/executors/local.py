"""The local executor: supervised worker processes, each of which trains one run at a time.

Workers share no lock, queue or pool, so a worker that dies affects only its own run. They are plain
subprocesses, because multiprocessing would import the user's script again in each of them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import IO

from lenet_sweep.core.events import (
    FINAL_EVENTS,
    Event,
    Failed,
    Failure,
    LockedElsewhere,
    Retrying,
    decode,
    epoch_begun,
)
from lenet_sweep.core.plans import Run
from lenet_sweep.executors import Executor, RunContext
from lenet_sweep.executors.local_scheduler import Scheduler, divide_cores
from lenet_sweep.executors.registry import register_executor
from lenet_sweep.machine import devices
from lenet_sweep.storage.store import Store

STOP_WITHIN = 3.0  # seconds for workers to save checkpoints before they are killed
CLOSE_WITHIN = 1.0  # seconds for all workers to exit
# The garbage collector is off during the imports, for the reason given in lenet_sweep.__main__.
BOOT = (
    "import gc, json, sys; gc.disable(); sys.path[:] = json.loads(sys.argv[1]); "
    "from lenet_sweep.executors.local_worker import main; main(); gc.freeze()"
)
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)

# Sent by the reader thread of a worker; None means that the worker's output has ended.
Message = tuple["_Worker", Event | None]


class _Worker:
    """A worker process, its current run, and the thread that reads its events."""

    def __init__(
        self,
        number: int,
        context: RunContext,
        gpus: Sequence[str],
        messages: queue.SimpleQueue[Message],
    ) -> None:
        self.number = number
        self.run: Run | None = None
        self.threads = 1
        self.epoch = 1  # in training; recorded if the run fails
        self.last_progress = time.monotonic()
        self.hung = False
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        one_gpu = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
        self.process = subprocess.Popen(
            [sys.executable, "-c", BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            encoding="utf-8",
            env=os.environ | ONE_THREAD | {"PYTHONFAULTHANDLER": "1"} | one_gpu,
            # Ctrl-C reaches only the parent, which sends "stop".
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
        self.send(
            {
                "out": str(context.out.absolute()),
                "data_root": context.data_root and str(context.data_root.absolute()),
                "retrain": context.retrain,
                "environment": dict(context.environment),
                "models": {digest: asdict(model) for digest, model in context.models.items()},
            }
        )
        threading.Thread(target=self._read, args=(messages,), daemon=True).start()

    def send(self, message: object) -> None:
        assert self.process.stdin is not None
        # It died, which its reader thread reports. Windows has another error than BrokenPipeError.
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def begin_next(self, scheduler: Scheduler) -> None:
        run, wait = scheduler.next_run()
        self.run, self.epoch, self.last_progress = run, 1, time.monotonic()
        self.send(run.to_json() | {"wait": wait})

    def use_threads(self, number: int) -> None:
        if number != self.threads:
            self.threads = number
            self.send({"threads": number})

    def kill_unresponsive(self) -> None:
        self.hung = True
        self.process.kill()

    def reap(self, context: RunContext) -> Failed | None:
        """Clean up after a worker whose output has ended. Returns the failure of its run."""
        try:  # a worker closes its output before it exits, and the exit status is needed
            code = self.process.wait(timeout=CLOSE_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        failed = Failed(self.run.id, self._cause_of_death(code, context)) if self.run else None
        if failed:
            Store(context.out).run_folder(failed.run_id).write_failure(failed.failure)
        self.dismiss()
        self.close(time.monotonic())
        return failed

    def _cause_of_death(self, code: int, context: RunContext) -> Failure:
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - 8000))
        stderr = self.errors.read().decode(errors="replace")
        status = "failed"
        if self.hung:
            status = "timed-out"
            reason = f"no progress for {context.timeout:g} s, so the worker process was killed"
        elif code < 0:
            name = _signal_name(-code)
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            status, reason = "killed", f"the worker process was terminated by {name}{hint}"
        else:
            reason = f"the worker process exited with status {code}"
        return Failure(status, self.epoch, reason, stderr, context.person)

    def dismiss(self) -> None:
        """End the worker by closing its input. A worker that is training is killed."""
        if self.run:
            self.process.kill()
        if self.process.stdin:
            with contextlib.suppress(OSError):  # as in `send`
                self.process.stdin.close()

    def close(self, deadline: float) -> None:
        try:
            self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.errors.close()

    def _read(self, messages: queue.SimpleQueue[Message]) -> None:
        assert self.process.stdout is not None
        # These errors mean an incomplete line of a worker that died, or a closed file at the end of
        # the sweep.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            for line in self.process.stdout:
                self.last_progress = time.monotonic()
                messages.put((self, decode(line)))
        messages.put((self, None))


class _Pool:
    """The workers of a sweep, which train its runs."""

    def __init__(self, runs: Sequence[Run], context: RunContext) -> None:
        number = min(context.workers or capacity({run.cell.device for run in runs}), len(runs))
        # A single worker keeps the GPUs it sees, which the cluster has selected if this is a job.
        on_gpus = number > 1 and any(run.cell.device == "cuda" for run in runs)
        self.context = context
        self.scheduler = Scheduler(runs, context.retry_policy)
        self.gpus = devices.visible_gpus() if on_gpus else ()
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.cores = devices.cpu_count()
        self.stop_deadline = math.inf
        self.workers: list[_Worker] = []
        self._number = number

    def _start_worker(self, number: int) -> _Worker:
        return _Worker(number, self.context, self.gpus, self.messages)

    def train(self) -> Iterator[Event]:
        for number in range(self._number):
            self.workers.append(self._start_worker(number))
        for worker in self.workers:
            worker.begin_next(self.scheduler)
        while any(worker.run for worker in self.workers) and time.monotonic() < self.stop_deadline:
            self._instruct()
            try:
                worker, message = self.messages.get(timeout=0.1)
            except queue.Empty:
                continue
            event = self._handle(worker, message) if worker in self.workers else None
            if event and not isinstance(event, LockedElsewhere):
                yield event

    def _instruct(self) -> None:
        """Tell workers to stop, or to use other numbers of threads. Kill those that hang."""
        if self.context.stop.is_set() and self.stop_deadline == math.inf:
            self.stop_deadline = time.monotonic() + STOP_WITHIN
            for worker in self.workers:
                worker.send("stop")
        timeout = self.context.timeout
        # Unread messages may hold progress that a worker seems to lack.
        if timeout and self.messages.empty():
            for worker in self.workers:
                if worker.run and time.monotonic() - worker.last_progress > timeout:
                    worker.kill_unresponsive()
        training = [(worker, worker.run) for worker in self.workers if worker.run]
        numbers = divide_cores(self.cores, [run for _, run in training])
        for (worker, _), number in zip(training, numbers, strict=True):
            worker.use_threads(self.context.threads or number)

    def _handle(self, worker: _Worker, event: Event | None) -> Event | None:
        """Handle an event of a worker, or its death (None). Returns the event to report."""
        if event is None:
            self.workers.remove(worker)
            event = worker.reap(self.context)
            if event is None:
                return None
        stopping = self.context.stop.is_set()
        worker.epoch = epoch_begun(event) or worker.epoch
        run = worker.run
        assert run is not None
        if isinstance(event, LockedElsewhere):
            self.scheduler.try_last(run)
        if isinstance(event, Failed) and not stopping:
            event = self.scheduler.retry(run, event)
        if isinstance(event, (*FINAL_EVENTS, LockedElsewhere, Retrying)):
            worker.run = None
            if self.scheduler and not stopping:
                if worker not in self.workers:
                    worker = self._start_worker(worker.number)
                    self.workers.append(worker)
                worker.begin_next(self.scheduler)
        return event

    def kill(self) -> None:
        for worker in self.workers:
            worker.process.kill()

    def close(self) -> None:
        for worker in self.workers:
            worker.dismiss()
        deadline = time.monotonic() + CLOSE_WITHIN
        for worker in self.workers:
            worker.close(deadline)


def capacity(kinds: Iterable[str]) -> int:
    """The number of concurrent runs that fill this machine."""
    return max(map(devices.default_workers, kinds))


def execute(runs: Sequence[Run], context: RunContext) -> Iterator[Event]:
    """Train the runs in `context.workers` processes, starting them in the order given.

    If fewer runs than cores are training, they share the cores, and each run uses several threads.
    A run whose worker dies yields Failed, which is recorded in the store, and a new worker is
    started. Runs that other processes are training are tried last, when their results may be
    available; this way, the same command on several machines shares the work. When `context.stop`
    is set, workers get STOP_WITHIN seconds to save checkpoints.
    """
    pool = _Pool(runs, context)
    try:
        yield from pool.train()
    except BaseException:  # interrupted or abandoned: do not wait even for idle workers
        pool.kill()
        raise
    finally:
        pool.close()


LOCAL = Executor(execute, capacity, check=lambda: None)


@dataclass(frozen=True)
class LocalOptions:
    """Runs train in worker processes on this machine (the default)."""


@register_executor("local", LocalOptions)
def create(_: LocalOptions) -> Executor:
    """The executor of this machine, which has no options."""
    return LOCAL


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no name
        return f"signal {number}"
