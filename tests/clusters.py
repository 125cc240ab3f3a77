"""The executors as needed by tests: local, Slurm, Ray. Slurm and Ray are real."""

import importlib.util
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from slurm_here import UnavailableError, slurm

from lenet_sweep.config.grids import grid
from lenet_sweep.config.own_models import locations_of
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.plans import Run, make_plan
from lenet_sweep.executors import Executor, RunContext
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.executors.options import parse_options
from lenet_sweep.executors.ray import RayOptions
from lenet_sweep.executors.slurm import SlurmOptions
from lenet_sweep.storage.store import Store
from lenet_sweep.training.engines.support import NATIVE

TESTS = Path(__file__).parent
# Makes cells with certain learning rates fail, and records trained epochs, on any executor.
FAULTS = TESTS / "faults_and_recorder"
# Status and start of the reason of a run with each of these learning rates.
FAILURES = {
    0.03: ("failed", "RuntimeError: made to raise"),
    0.04: ("killed", "the worker process was terminated by SIGKILL (out of memory?)"),
    0.05: ("killed", "the worker process was terminated by SIGABRT"),
    0.06: ("failed", "SystemExit: 3"),
    0.07: ("failed", "the worker process exited with status 7"),
    0.08: ("failed", "MemoryError: Unable to allocate 2.00 GiB for an array"),
}
# Keep Ray from querying cloud services and from writing a token into the home folder.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    "RAY_AUTH_MODE": "disabled",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "localhost,127.0.0.1",
}


@dataclass(frozen=True)
class TargetExecutor:
    """An executor under test. words: the overrides that select it on the command line."""

    name: str
    executor: Executor
    words: tuple[str, ...]
    cluster: object = None  # a ray.cluster_utils.Cluster, for Ray only


def slurm_options(**changed):
    return parse_options(SlurmOptions, {"time": 10, "memory": 1} | changed)


def ray_options(**changed):
    return parse_options(RayOptions, changed)


@contextmanager
def start_executor(name: str, folder: Path) -> Iterator[TargetExecutor]:
    """Start the executor with this name, with its files in `folder`; skip the test if
    impossible.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(FAULTS))
        environment.setenv("RECORD", str(folder / "record"))
        environment.setenv("FAILED_ONCE", str(folder / "failed-once"))
        if name == "local":
            yield TargetExecutor(name, LOCAL, ())
        elif name == "slurm":
            with _start_slurm(folder, environment) as target:
                yield target
        else:
            with _start_ray(environment) as target:
                yield target


@contextmanager
def _start_slurm(folder: Path, environment: pytest.MonkeyPatch) -> Iterator[TargetExecutor]:
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is not installed (extra: slurm)")
    from lenet_sweep.executors import slurm as slurm_jobs  # noqa: PLC0415 - an optional extra

    try:
        running = slurm(folder)
        variables = running.__enter__()
    except UnavailableError as error:
        pytest.skip(f"no Slurm: {error}")
    try:
        for key, value in variables.items():
            environment.setenv(key, value)
        environment.setattr(slurm_jobs.Slurm, "poll_interval", 0.5)
        words = ("hydra/launcher=lenet_slurm", "hydra.launcher.memory=1")
        yield TargetExecutor("slurm", slurm_jobs.create(slurm_options()), words)
    finally:
        running.__exit__(None, None, None)


@contextmanager
def _start_ray(environment: pytest.MonkeyPatch) -> Iterator[TargetExecutor]:
    for key, value in RAY_ENVIRONMENT.items():
        environment.setenv(key, value)
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed (extra: ray)")
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an optional extra

    from lenet_sweep.executors import ray  # noqa: PLC0415 - an optional extra

    try:
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        cluster.add_node(num_cpus=1)
    except Exception as error:  # noqa: BLE001 - any error means that Ray cannot start
        pytest.skip(f"no Ray: {error}")
    try:
        words = ("hydra/launcher=lenet_ray", f"hydra.launcher.address={cluster.address}")
        resources = ray_options(address=cluster.address)
        yield TargetExecutor("ray", ray.create(resources), words, cluster)
    finally:
        cluster.shutdown()


def small_runs(folder: Path, data: Path, **axes):
    """Runs of a grid on small data, and their context. `axes` may change the settings of both."""
    context_settings = {
        "workers": 2, "threads": None, "retrain": False, "timeout": None, "retries": 0,
    }  # fmt: skip
    context_settings |= {key: axes.pop(key) for key in list(axes) if key in context_settings}
    settings = {"dataset": "folder", "dataset.root": str(data), "device": "cpu", "epochs": 1}
    cells, options = validate_cells(grid(settings | axes), NATIVE)
    context = RunContext(
        out=folder / "out",
        data_root=options.data_root,
        environment={"person": "Ada"},
        stop=threading.Event(),
        signals=[],
        on_message=print,
        models=locations_of(cells),
        **context_settings,
    )
    return make_plan(cells, lambda _: False).runs, context


def failures_of(
    runs: Sequence[Run], context: RunContext, ended: Mapping[str, object]
) -> dict[float, tuple[str, str]]:
    """The status and the reason of each failed run, by learning rate.

    Asserts that the store has the same failures. ended: the last event of each run.
    """
    failures = {}
    for run in runs:
        failure = getattr(ended[run.id], "failure", None)
        assert Store(context.out).run_folder(run.id).failure() == failure
        if failure:
            reason, _, _ = failure.reason.partition(" with shape")
            failures[run.cell.lr] = failure.status, reason
    return failures


def interrupt(context: RunContext) -> None:
    """Do what Ctrl-C does to a sweep."""
    context.signals.append(signal.SIGINT)
    context.stop.set()
