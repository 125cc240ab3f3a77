"""Runs as Ray tasks, on this machine or on a Ray cluster whose nodes share a disk."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lenet_sweep.config.launchers import RayOptions
from lenet_sweep.core.errors import UsageError
from lenet_sweep.executors import Executor, RunContext, cluster
from lenet_sweep.executors.cluster import JobExit, RefusedError
from lenet_sweep.executors.job import run_job
from lenet_sweep.executors.local import ONE_THREAD

# A task takes milliseconds to be queued; with more of them at once nothing is won.
AT_ONCE = 1000
KNOCK_WITHIN = 10.0  # seconds


def executor(resources: RayOptions) -> Executor:
    """Runs as Ray tasks with these resources."""
    return Executor(
        execute=lambda runs, context: cluster.execute(runs, context, Ray(resources)),
        room=lambda _: None,
        check=check,
    )


def check() -> None:
    """Raise UsageError where there is no Ray."""
    try:
        # Ray tells its makers of each start, unless it is told not to before it is imported.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise UsageError(
            "hydra/launcher=lenet_ray: needs the package ray, which is not installed; "
            "pip install 'lenet-sweep[ray]'"
        ) from error


class Ray:
    """A Ray cluster, as a service that runs jobs."""

    name = "Ray"
    poll_interval = 0.5
    survives_launch = False  # tasks end with the process that submitted them

    def __init__(self, resources: RayOptions) -> None:
        self.resources = resources
        self.runs_per_job = resources.runs_per_job
        self._tasks: dict[str, Any] = {}  # their references, by id

    def begin(self, context: RunContext) -> None:
        import ray  # noqa: PLC0415 - an extra

        self.context = context
        address = self.resources.address or os.environ.get("RAY_ADDRESS")
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            check_reachable(address)
            ray.init(
                address=address,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                ignore_reinit_error=True,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"hydra.launcher.address={address or 'null'}: Ray does not answer there: "
                f"{str(error).partition(chr(10))[0]}"
            ) from error
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():  # Ray takes SIGTERM for its own
                signal.signal(number, handler)
        wanted = self.resources
        self._work = ray.remote(run_job).options(
            name="lenet-sweep",
            num_cpus=wanted.cpus,
            num_gpus=wanted.gpus,
            memory=round(wanted.memory * 1e9) or None,
            resources=dict(wanted.resources or {}) or None,
            max_retries=0,  # here it is counted and said
            runtime_env={"env_vars": dict(ONE_THREAD)},
        )

    def room(self, jobs: int) -> int:
        return (self.context.workers or AT_ONCE) - jobs

    def submit(self, orders: Sequence[Mapping[str, Any]]) -> list[str]:
        try:
            references = [self._work.remote(ordered) for ordered in orders]
        except ValueError as error:
            raise RefusedError(f"Ray does not take the tasks: {error}") from error
        ids = [reference.hex() for reference in references]
        self._tasks |= dict(zip(ids, references, strict=True))
        return ids

    def finished(self, jobs: Iterable[str]) -> dict[str, JobExit]:
        import ray  # noqa: PLC0415 - an extra

        tasks = {self._tasks[job]: job for job in jobs}
        ended, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=0, fetch_local=False)
        return {tasks[reference]: _ending(reference) for reference in ended}

    def describe_pending(self, jobs: Iterable[str]) -> str:  # noqa: ARG002 - all ask for the same
        import ray  # noqa: PLC0415 - an extra

        wanted = self.resources
        asked = {"CPU": wanted.cpus, "GPU": wanted.gpus, "memory": wanted.memory * 1e9}
        asked |= wanted.resources or {}
        known: Any = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = [node["Resources"] for node in known if node["Alive"]]
        if any(all(node.get(k, 0) >= v for k, v in asked.items()) for node in nodes):
            return "until there is room"
        needs = ", ".join(f"{name} {value:g}" for name, value in asked.items() if value)
        return f"for a node with {needs}, which Ray has none of"

    def cancel(self, jobs: Iterable[str]) -> None:
        import ray  # noqa: PLC0415 - an extra

        for job in jobs:
            ray.cancel(self._tasks[job], force=False)

    def end(self) -> None:
        import ray  # noqa: PLC0415 - an extra

        self._tasks.clear()
        with contextlib.suppress(Exception):  # the sweep is over, whatever Ray makes of it
            ray.shutdown()

    def describe_remaining(self, jobs: Sequence[str]) -> str:
        return f"{len(jobs)} Ray tasks end with it; they go on from their checkpoints"


def check_reachable(address: str | None) -> None:
    """Raise OSError where nobody listens: Ray would try for minutes. ValueError: a Ray client's."""
    if address and "://" in address:
        raise ValueError("start the sweep on a node of the cluster, with auto or host:port")
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=KNOCK_WITHIN).close()


def _ending(reference: Any) -> JobExit:
    import ray  # noqa: PLC0415 - an extra
    from ray import exceptions  # noqa: PLC0415 - an extra

    try:
        ray.get(reference)
    except exceptions.TaskCancelledError:
        return JobExit("its Ray task was cancelled")
    except exceptions.NodeDiedError:
        return JobExit("the node of its Ray task was lost")
    except exceptions.OutOfMemoryError as error:
        return JobExit("Ray ended its task: its node was out of memory", said=str(error))
    except exceptions.WorkerCrashedError as error:
        return JobExit("the process of its Ray task was ended, or its node lost", said=str(error))
    except exceptions.RayTaskError as error:
        return JobExit(f"its Ray task failed: {_cause(error)}", "failed", str(error))
    except exceptions.RayError as error:
        return JobExit(f"its Ray task was lost: {type(error).__name__}", said=str(error))
    return JobExit("", "failed")


def _cause(error: Any) -> str:
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {cause}".partition("\n")[0]
