"""Threads: the runs in training share the cores, and results do not depend on it."""

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import engine_check
import pytest
from clusters import small_runs
from hypothesis import given
from hypothesis import strategies as st
from processes import TIMEOUT

from lenet_sweep import sweep
from lenet_sweep.config.grids import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.events import EpochEnded, Finished
from lenet_sweep.core.plans import Run
from lenet_sweep.executors import local
from lenet_sweep.executors.job import Task, job_payload, run_job
from lenet_sweep.executors.local_scheduler import divide_cores
from lenet_sweep.machine import devices
from lenet_sweep.storage.store import Store
from lenet_sweep.training.engines import support
from lenet_sweep.training.engines.support import NATIVE

needs_native = pytest.mark.skipif(
    support.unavailable_reason() is not None, reason="there is no native engine"
)


@pytest.fixture
def runs_of(tmp_path, small_folder):
    """Create runs on small data, and their context."""
    return lambda **axes: small_runs(tmp_path, small_folder(), **axes)


def threads_of(store: Store, run: Run) -> list[int]:
    """The number of threads that a stored run used in each epoch."""
    return [epoch.threads for epoch in store.run_folder(run.id).history()]


@given(st.integers(1, 64), st.lists(st.sampled_from(["native", "torch"]), max_size=70))
def test_runs_divide_the_cores(cores: int, engines: list[str]) -> None:
    """All cores are used, as evenly as possible, and torch uses one thread."""
    (cell,), _ = validate_cells(grid({"device": "cpu"}), NATIVE)
    runs = [Run(replace(cell, engine=engine), (cell.epochs,)) for engine in engines]
    threads = divide_cores(cores, runs)
    by_engine: dict[str, list[int]] = {"native": [], "torch": []}
    for engine, number in zip(engines, threads, strict=True):
        by_engine[engine].append(number)
    assert set(by_engine["torch"]) <= {1}
    if native := by_engine["native"]:
        assert sum(threads) == max(cores, len(runs))
        assert max(native) - min(native) <= 1


@needs_native
def test_the_last_run_gets_the_cores_of_those_that_ended(runs_of, monkeypatch) -> None:
    """A run uses one thread while all cores are busy, and all cores when it trains alone."""
    monkeypatch.setattr(devices, "cpu_count", lambda: 2)
    runs, context = runs_of(epochs=[2, 300], seed=[0, 1], workers=2)
    long, short = (next(run for run in runs if run.cell.seed == seed) for seed in (0, 1))
    short = Run(short.cell, (2,))
    seen = list(local.execute([long, short], context))
    assert sum(isinstance(event, Finished) for event in seen) == 2
    threads = threads_of(Store(context.out), long)
    assert threads[-1] == 2
    assert threads == sorted(threads)


@needs_native
def test_threads_can_be_set(runs_of, tmp_path, small_folder) -> None:
    """threads=3 is what each run uses, on the command line and in a job."""
    data = {"dataset": "folder", "dataset.root": small_folder(), "device": "cpu", "epochs": 20}
    sweep(**data, threads=3, out=tmp_path / "sweep", report=False, figures="none", progress=False)
    (run_id,) = Store(tmp_path / "sweep").run_ids()
    assert Store(tmp_path / "sweep").run_folder(run_id).history()[-1].threads == 3

    (run,), context = runs_of(epochs=20)
    run_job(job_payload([Task(run, tmp_path / "journal")], context, threads=3))
    assert threads_of(Store(context.out), run)[-1] == 3


def test_a_blocked_launcher_kills_no_run(runs_of) -> None:
    """A worker whose events are not read is not taken for one that hangs."""
    runs, context = runs_of(seed=[0, 1, 2], workers=2, timeout=TIMEOUT)
    blocked = False
    seen = []
    for event in local.execute(runs, context):
        seen.append(event)
        if isinstance(event, EpochEnded) and not blocked:
            blocked = True
            time.sleep(1.5 * context.timeout)  # like a pager or a slow disk
    assert sum(isinstance(event, Finished) for event in seen) == 3


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_threads_have_no_data_race(tmp_path: Path, sanitizer: str) -> None:
    """The thread sanitizer finds no race, and 1, 2, 3 and 8 threads give the same bits."""
    compiler = shutil.which("c++")
    if not compiler:
        pytest.skip("there is no C++ compiler")
    flags = ["-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    program = engine_check.build(compiler, tmp_path / "engine_check", *flags)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr
