"""The Ray executor: runs as Ray tasks, on this machine or on a cluster whose nodes share a disk."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lenet_sweep.config.checks import reject
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, pluralize
from lenet_sweep.executors import Executor, RunContext, cluster
from lenet_sweep.executors.cluster import JobExit, RejectedError
from lenet_sweep.executors.job import run_job
from lenet_sweep.executors.local import ONE_THREAD
from lenet_sweep.executors.options import (
    Check,
    check_mapping,
    check_optional_text,
    executor_option,
    integer_check,
    number_check,
)
from lenet_sweep.executors.registry import register_executor

MAX_TASKS = 1000  # queued at once; queuing takes milliseconds, so more would gain nothing
CONNECT_TIMEOUT = 10.0  # seconds
RAY_RESOURCES = ("CPU", "GPU", "memory", "object_store_memory")  # not custom resources


def _amount(allowed: str) -> Check:
    """A number of CPUs, GPUs, or custom resources of Ray: a fraction below 1 or a whole number."""
    check_number = number_check(allowed)

    def check(key: str, value: Any) -> float:
        number: float = check_number(key, value)
        if number > 1 and not number.is_integer():
            reject(key, value, "a whole number, or a fraction below 1")
        return number

    return check


def _resources(key: str, value: Any) -> dict[str, float]:
    """Custom resources of Ray by name."""
    resources = check_mapping(key, value, "numbers by name, such as {big: 1}")
    for name in resources:
        if name in RAY_RESOURCES or not isinstance(name, str) or not name.isidentifier():
            reject(
                key, format_value(dict(resources)), "numbers by name, such as {big: 1}; CPU, GPU, "
                "and memory are set with cpus, gpus, and memory",
            )  # fmt: skip
    check = _amount("a number from 0 to 1000000")
    return {str(name): check(f"{key}.{name}", number) for name, number in resources.items()}


@dataclass(frozen=True)
class RayOptions:
    """Each run is a Ray task; `out` must be on a disk that all nodes share.

    `workers` limits the tasks that run at the same time (auto: as many as fit into the cluster).
    """

    address: str | None = executor_option(
        None, "auto or host:port of a cluster; null: RAY_ADDRESS, or else Ray on this machine",
        check_optional_text,
    )  # fmt: skip
    cpus: float = executor_option(
        1, "CPU cores per task (can be a fraction); a run uses that many threads",
        _amount("a number of cores per task, from 0 to 1000000"),
    )  # fmt: skip
    memory: float = executor_option(
        0,
        "memory that a task reserves, in GB; 0: none",
        number_check("a number of GB per task, from 0 to 1000000"),
    )
    gpus: float = executor_option(
        0, "GPUs per task (can be a fraction, such as 0.25); above 0, device=auto selects cuda",
        _amount("a number of GPUs per task, from 0 to 1000000"),
    )  # fmt: skip
    runs_per_job: int = executor_option(
        1, "runs that a task trains one after the other; use more if runs are short",
        integer_check(1, 100_000, "runs per task"),
    )  # fmt: skip
    resources: Mapping[str, float] | None = executor_option(
        None, "other resources per task by name, such as {big: 1}", _resources
    )


@register_executor("ray", RayOptions)
def create(resources: RayOptions) -> Executor:
    """An executor that trains runs as Ray tasks with these resources."""
    connection = Connection()
    return Executor(
        execute=lambda runs, context: cluster.execute(runs, context, Ray(resources, connection)),
        capacity=lambda _: None,
        check=check,
        devices=("cuda", "cpu") if resources.gpus else ("cpu",),
        session=connection.keep,
    )


def check() -> None:
    """Raise UsageError if Ray is not installed."""
    try:
        # Disable Ray's usage statistics, which must happen before it is imported.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray  # noqa: F401, PLC0415 - an optional extra
    except ImportError as error:
        raise UsageError(
            "hydra/launcher=lenet_ray: requires the package ray, which is not installed; "
            "run: pip install 'lenet-sweep[ray]'"
        ) from error


class Connection:
    """The connection of this process to Ray, which takes seconds to start."""

    def __init__(self) -> None:
        self._kept = False

    @contextlib.contextmanager
    def keep(self) -> Iterator[None]:
        """A context in which the connection stays open unless the sweep is interrupted."""
        outer, self._kept = self._kept, True
        try:
            yield
        finally:
            self._kept = outer
            self.close()

    def close(self, *, interrupted: bool = False) -> None:
        """Close the connection if it is not kept open, or if the sweep is interrupted."""
        import ray  # noqa: PLC0415 - an optional extra

        if interrupted or not self._kept:
            with contextlib.suppress(Exception):  # the sweep is over, so errors do not matter
                ray.shutdown()


class Ray:
    """A Ray cluster as a ClusterBackend."""

    name = "Ray"
    job_name = "Ray task"
    poll_interval = 0.5
    survives_launch = False  # Ray ends tasks with the process that submitted them

    def __init__(self, resources: RayOptions, connection: Connection) -> None:
        self.resources = resources
        self.connection = connection
        self.runs_per_job = resources.runs_per_job
        self.threads = max(1, int(resources.cpus))
        self._tasks: dict[str, Any] = {}  # references by id

    def connect(self, context: RunContext) -> None:
        import ray  # noqa: PLC0415 - an optional extra

        self.context = context
        address = self.resources.address or os.environ.get("RAY_ADDRESS")
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
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
                f"hydra.launcher.address={address or 'null'}: cannot connect to Ray: "
                f"{str(error).partition(chr(10))[0]}"
            ) from error
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray replaces the handler of SIGTERM
                signal.signal(number, handler)
        resources = self.resources
        self._remote_job = ray.remote(run_job).options(
            name="lenet-sweep",
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            memory=round(resources.memory * 1e9) or None,
            resources=dict(resources.resources or {}) or None,
            max_retries=0,  # retries are counted and reported by lenet-sweep
            runtime_env={"env_vars": dict(ONE_THREAD)},
        )

    def free_slots(self, jobs: int) -> int:
        return (self.context.workers or MAX_TASKS) - jobs

    def submit(self, payloads: Sequence[Mapping[str, Any]]) -> list[str]:
        try:
            references = [self._remote_job.remote(payload) for payload in payloads]
        except ValueError as error:
            raise RejectedError(f"Ray rejected the tasks: {error}") from error
        ids = [reference.hex() for reference in references]
        self._tasks |= dict(zip(ids, references, strict=True))
        return ids

    def finished(self, jobs: Iterable[str]) -> dict[str, JobExit]:
        import ray  # noqa: PLC0415 - an optional extra

        tasks = {self._tasks[job]: job for job in jobs}
        ended, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=0, fetch_local=False)
        return {tasks[reference]: _job_exit(reference) for reference in ended}

    def describe_pending(self, jobs: Iterable[str]) -> str:  # noqa: ARG002 - all jobs are alike
        import ray  # noqa: PLC0415 - an optional extra

        wanted = self.resources
        required = {"CPU": wanted.cpus, "GPU": wanted.gpus, "memory": wanted.memory * 1e9}
        required |= wanted.resources or {}
        all_nodes: Any = ray.nodes()  # type: ignore[no-untyped-call]  # Ray has no annotations
        nodes = [node["Resources"] for node in all_nodes if node["Alive"]]
        if any(all(node.get(k, 0) >= v for k, v in required.items()) for node in nodes):
            return "all nodes are busy"
        resources = ", ".join(f"{name} {value:g}" for name, value in required.items() if value)
        return f"no node of the cluster has {resources}"

    def cancel(self, jobs: Iterable[str]) -> None:
        import ray  # noqa: PLC0415 - an optional extra

        for job in jobs:
            ray.cancel(self._tasks[job], force=False)

    def disconnect(self) -> None:
        self._tasks.clear()
        self.connection.close(interrupted=self.context.stop.is_set())

    def describe_remaining(self, jobs: Sequence[str]) -> str:
        tasks = pluralize(len(jobs), "Ray task")
        return f"{tasks} will end with this process; the same command resumes them from checkpoints"


def check_reachable(address: str | None) -> None:
    """Check that a server listens at `address`; Ray itself would retry for minutes.

    Raises OSError if there is none, and ValueError for the address of a Ray client.
    """
    if address and "://" in address:
        raise ValueError(
            "Ray clients are not supported; start the sweep on a node of the cluster, "
            "with address auto or host:port"
        )
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()


def _job_exit(reference: Any) -> JobExit:
    import ray  # noqa: PLC0415 - an optional extra
    from ray import exceptions  # noqa: PLC0415 - an optional extra

    try:
        ray.get(reference)
    except exceptions.TaskCancelledError:
        return JobExit("its Ray task was canceled")
    except exceptions.NodeDiedError:
        return JobExit("the node of its Ray task was lost")
    except exceptions.OutOfMemoryError as error:
        return JobExit("Ray killed its task because the node was out of memory", output=str(error))
    except exceptions.WorkerCrashedError as error:
        return JobExit("the process of its Ray task died, or its node was lost", output=str(error))
    except exceptions.RayTaskError as error:
        return JobExit(f"its Ray task failed: {_cause(error)}", "failed", str(error))
    except exceptions.RayError as error:
        return JobExit(f"its Ray task was lost: {type(error).__name__}", output=str(error))
    return JobExit("", "failed")


def _cause(error: Any) -> str:
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {cause}".partition("\n")[0]
