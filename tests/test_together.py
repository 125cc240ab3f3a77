"""Concurrent sweeps in one store train each run once."""

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest
from processes import (
    DETERMINISTIC,
    PATIENCE,
    Sweep,
    all_ended,
    assert_same,
    assert_whole,
    leftovers,
    linux,
    results,
)

pytestmark = [linux, pytest.mark.slow]
RECORDER = Path(__file__).parent / "faults_recorder"
EPOCHS = 20


@pytest.fixture
def together(tmp_path, small_folder):
    """A function that starts a sweep in the shared store. The sweeps end with the test."""
    common = (
        "-m", "dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none",
    )  # fmt: skip
    env = {"PYTHONPATH": str(RECORDER), "RECORD": str(tmp_path / "record")}
    with ExitStack() as started:

        def start(*arguments: str, workers: int = 1) -> Sweep:
            words = (*common, f"workers={workers}", *arguments)
            return started.enter_context(Sweep(tmp_path, *words, env=env))

        yield start


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_folder) -> pd.DataFrame:
    """The table of all seeds in this module, from a sweep that ran alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    arguments = (
        "-m", "dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "figures=none",
        "report=false", "seed=range(8)", f"epochs=5,{EPOCHS}",
    )  # fmt: skip
    with Sweep(folder, *arguments) as sweep:
        status, output = sweep.ends()
    assert status == 0, output
    return results(folder)


def record(folder: Path, kind: str) -> Counter[str]:
    """How often each run was started (kind "built"), or one of its epochs trained ("epoch")."""
    lines = (folder / "record").read_text().splitlines()
    return Counter(line.split()[1] for line in lines if line.split()[0] == kind)


def run_ids(frame: pd.DataFrame) -> set[str]:
    return set(frame["cell"].str.partition("-e")[0])


def assert_rows(frame: pd.DataFrame, expected: pd.DataFrame, seeds: set[int]) -> None:
    """The table has the rows of these seeds, with the expected values in all columns but rank."""
    columns = DETERMINISTIC[1:]
    rows = expected[expected["seed"].isin(seeds)]
    pd.testing.assert_frame_equal(frame[columns], rows[columns].reset_index(drop=True))
    assert len(frame) == 2 * len(seeds)


def test_overlapping_grids(together, tmp_path, undisturbed) -> None:
    """Eight sweeps of overlapping grids end with complete tables, and train each run once."""
    grids = [{(n + k) % 8 for k in range(4)} for n in range(8)]
    sweeps = [
        together("seed=" + ",".join(map(str, seeds)), f"epochs=5,{EPOCHS}", f"name=grid{n}")
        for n, seeds in enumerate(grids)
    ]
    for sweep in sweeps:
        status, output = sweep.ends()
        assert status == 0, output
        assert "Traceback" not in output
    for n, seeds in enumerate(grids):
        assert_rows(results(tmp_path, f"grid{n}"), undisturbed, seeds)
    assert record(tmp_path, "built") == dict.fromkeys(run_ids(undisturbed), 1)
    assert record(tmp_path, "epoch") == dict.fromkeys(run_ids(undisturbed), EPOCHS)
    assert_whole(tmp_path / "outputs", undisturbed)
    assert leftovers(tmp_path / "outputs") == []


def test_the_same_command_twice(together, tmp_path, undisturbed) -> None:
    """A command that is started twice gives the same table twice, and trains each run once."""
    arguments = ("seed=0,1,2", f"epochs=5,{EPOCHS}", "name=same")
    first = together(*arguments, workers=2)
    first.until("started")
    first.signal_all(signal.SIGSTOP)  # keeps it from finishing before the second one starts
    second = together(*arguments, workers=2)
    second.until("another process")
    first.signal_all(signal.SIGCONT)
    for sweep in (first, second):
        status, output = sweep.ends()
        assert status == 0, output
    frame = results(tmp_path)
    assert_rows(frame, undisturbed, {0, 1, 2})
    assert record(tmp_path, "built") == dict.fromkeys(run_ids(frame), 1)
    assert record(tmp_path, "epoch") == dict.fromkeys(run_ids(frame), EPOCHS)
    assert_whole(tmp_path / "outputs", undisturbed)


def test_processes_can_share_a_name(together, tmp_path, undisturbed) -> None:
    """The cells of several processes with the same `name` are in one table."""
    sweeps = [
        together(f"seed={n},{n + 1}", f"epochs=5,{EPOCHS}", "name=shared") for n in range(0, 8, 2)
    ]
    for sweep in sweeps:
        status, output = sweep.ends()
        assert status == 0, output
    assert record(tmp_path, "epoch") == dict.fromkeys(run_ids(undisturbed), EPOCHS)
    assert_same(results(tmp_path, "shared"), undisturbed)


HELD = ("seed=0", "epochs=5,150", "name=held", "report=false")


@pytest.fixture
def held(together) -> tuple[Sweep, Sweep]:
    """A suspended sweep that holds the lock of a run, and a second one that waits for it."""
    holder = together(*HELD)
    holder.until("[1/2]")
    holder.signal_all(signal.SIGSTOP)
    waiter = together(*HELD)
    waiter.until("another process")
    return holder, waiter


def test_a_suspended_sweep_keeps_its_run(held, tmp_path) -> None:
    """Another sweep waits for a suspended one, and both finish when it continues."""
    holder, _ = held
    assert sum(record(tmp_path, "built").values()) == 1
    holder.signal_all(signal.SIGCONT)
    for sweep in held:
        status, output = sweep.ends()
        assert status == 0, output
    assert list(record(tmp_path, "built").values()) == [1]
    assert list(record(tmp_path, "epoch").values()) == [150]
    assert list(results(tmp_path)["status"]) == ["ok", "ok"]


def test_the_run_of_a_killed_sweep_is_taken_over(held, tmp_path) -> None:
    """The waiting sweep resumes the run of a sweep that was killed."""
    holder, waiter = held
    holder.kill_all()
    assert holder.wait(PATIENCE) == -signal.SIGKILL
    status, output = waiter.ends()
    assert status == 0, output
    assert "resumed after epoch 5" in output
    assert list(record(tmp_path, "built").values()) == [2]
    assert list(results(tmp_path)["status"]) == ["ok", "ok"]


def test_a_waiting_sweep_can_be_interrupted(held) -> None:
    """Ctrl-C ends a sweep that waits for another one, which then finishes its run."""
    holder, waiter = held
    members = waiter.members()
    os.kill(waiter.pid, signal.SIGINT)
    status, output = waiter.ends()
    assert status == 130, output
    assert "Traceback" not in output
    assert all_ended(members)
    holder.signal_all(signal.SIGCONT)
    status, output = holder.ends()
    assert status == 0, output


# Ways to run several sweeps in one process. `one(n)` sweeps over two seeds, with figures and page,
# and returns the table. No process may be forked: a fork hangs if another thread holds a lock.
IN_ONE_PROCESS = """
import asyncio, os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep import sweep

def forked():
    print("a process with threads was forked", file=sys.stderr)

os.register_at_fork(before=forked)

def one(n):
    table = sweep(
        dataset="folder", **{"dataset.root": sys.argv[1]}, seed=[n, n + 1], epochs=1, device="cpu",
        workers=2, out="outputs", name=f"sweep{n}", progress=False,
    )
    assert list(table["status"]) == ["ok", "ok"], table
    assert (Path(table.attrs["folder"]) / "report.html").exists()
    assert (Path(table.attrs["folder"]) / "figures" / "all-cells.png").exists()
    return table
"""
POOL = """
with ThreadPoolExecutor(3) as pool:
    assert len(list(pool.map(one, [0, 0, 2]))) == 3  # two of them are the same sweep
"""
EVENT_LOOP = """
async def cells():  # as in a notebook: one sweep in the thread of the loop, one in another thread
    other = asyncio.create_task(asyncio.to_thread(one, 2))
    await asyncio.sleep(0)
    one(0)
    await other

asyncio.run(cells())
"""
NESTED = """
from lenet_sweep.config import grids, validation
from lenet_sweep.runner import run
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.ui.observer import TerminalView
from lenet_sweep.executors.local import LOCAL

class Nested(TerminalView):  # its errors end the test
    inner = None

    def on_event(self, event):  # the outer sweep is training
        if self.inner is None:
            self.inner = one(2)

grid = {"dataset": "folder", "dataset.root": sys.argv[1], "seed": [0, 1], "epochs": 1}
cells, options = validation.validate_cells(grids.grid(grid | {"device": "cpu"}), NATIVE)
result = run.run_sweep(cells, options, [Nested()], LOCAL)
assert list(result.sweep.table["status"]) == ["ok", "ok"]
"""


@pytest.mark.parametrize("use", [POOL, EVENT_LOOP, NESTED])
def test_several_sweeps_in_one_process(tmp_path, small_folder, use) -> None:
    """Sweeps in threads of a pool, in an event loop and inside each other write their files."""
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS + use, str(small_folder())],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
