"""Places where runs are trained, as the tests need them: this machine, Slurm, Ray. All are real."""

import importlib.util
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from slurm_here import NotHereError, slurm

from lenet_sweep.config.keys import grid
from lenet_sweep.config.launchers import RayOptions, SlurmOptions, parse
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import make_plan
from lenet_sweep.executors import Executor, RunContext
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.training.engines.support import NATIVE

TESTS = Path(__file__).parent
# Cells with certain learning rates fail, and what is trained is recorded, wherever it runs.
FAULTS = TESTS / "faults_and_recorder"
# Ray asks cloud services where it is, and writes a token into the home folder, unless told not to.
RAY_ALONE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    "RAY_AUTH_MODE": "disabled",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "no_proxy": "localhost,127.0.0.1",
}


@dataclass(frozen=True)
class Place:
    """Where runs are trained. words: what is typed to have them there."""

    name: str
    executor: Executor
    words: tuple[str, ...]
    cluster: object = None  # of Ray


def slurm_options(**changed):
    return parse(SlurmOptions, {"time": 10, "memory": 1} | changed)


def ray_options(**changed):
    return parse(RayOptions, changed)


@contextmanager
def place(name: str, folder: Path) -> Iterator[Place]:
    """A place of this name, with its files in `folder`; without it the test is skipped."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(FAULTS))
        environment.setenv("RECORD", str(folder / "record"))
        environment.setenv("FAILED_ONCE", str(folder / "failed-once"))
        if name == "local":
            yield Place(name, LOCAL, ())
        elif name == "slurm":
            with _slurm_place(folder, environment) as found:
                yield found
        else:
            with _ray_place(environment) as found:
                yield found


@contextmanager
def _slurm_place(folder: Path, environment: pytest.MonkeyPatch) -> Iterator[Place]:
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is not installed (extra: slurm)")
    from lenet_sweep.executors import slurm as slurm_jobs  # noqa: PLC0415 - an extra

    try:
        running = slurm(folder)
        variables = running.__enter__()
    except NotHereError as error:
        pytest.skip(f"no Slurm: {error}")
    try:
        for key, value in variables.items():
            environment.setenv(key, value)
        environment.setattr(slurm_jobs.Slurm, "poll_interval", 0.5)
        words = ("hydra/launcher=lenet_slurm", "hydra.launcher.memory=1")
        yield Place("slurm", slurm_jobs.executor(slurm_options()), words)
    finally:
        running.__exit__(None, None, None)


@contextmanager
def _ray_place(environment: pytest.MonkeyPatch) -> Iterator[Place]:
    for key, value in RAY_ALONE.items():
        environment.setenv(key, value)
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed (extra: ray)")
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

    from lenet_sweep.executors import ray  # noqa: PLC0415 - see above

    try:
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        cluster.add_node(num_cpus=1)
    except Exception as error:  # noqa: BLE001 - whatever it is that keeps Ray from starting
        pytest.skip(f"no Ray: {error}")
    try:
        words = ("hydra/launcher=lenet_ray", f"hydra.launcher.address={cluster.address}")
        resources = ray_options(address=cluster.address)
        yield Place("ray", ray.executor(resources), words, cluster)
    finally:
        cluster.shutdown()


def small_runs(folder: Path, data: Path, **axes):
    """Runs of a grid on small data, and the setup to execute them with; both change with `axes`."""
    how = {"workers": 2, "retrain": False, "timeout": None, "retries": 0}
    how |= {key: axes.pop(key) for key in list(axes) if key in how}
    settings = {"dataset": "folder", "dataset.root": str(data), "device": "cpu", "epochs": 1}
    cells, options = validate_cells(grid(settings | axes), NATIVE)
    setup = RunContext(
        out=folder / "out",
        data_root=options.data_root,
        environment={"person": "Ada"},
        stop=threading.Event(),
        signals=[],
        say=print,
        **how,
    )
    return make_plan(cells, lambda _: False).runs, setup


def interrupt(setup: RunContext) -> None:
    """What Ctrl-C does to a sweep."""
    setup.signals.append(signal.SIGINT)
    setup.stop.set()
