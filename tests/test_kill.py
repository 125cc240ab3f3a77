"""Sweeps killed at any moment: no finished result is lost, and the same command completes them."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from processes import (
    PATIENCE,
    Sweep,
    age_temporary_files,
    all_ended,
    assert_kept,
    assert_same,
    assert_whole,
    finished,
    leftovers,
    linux,
    results,
)

from lenet_sweep.storage.store import RunFolder

pytestmark = [linux, pytest.mark.slow]
RECORDER = Path(__file__).parent / "faults_recorder"
IMPORTS = 0.4  # minimum seconds until a launcher uses its first file


@pytest.fixture(scope="module")
def small(small_folder) -> tuple[str, ...]:
    return "-m", "dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "workers=2"


class Undisturbed:
    """A sweep without faults: its table and its duration in seconds."""

    def __init__(self, folder: Path, arguments: tuple[str, ...]) -> None:
        began = time.monotonic()
        with Sweep(folder, *arguments) as sweep:
            status, output = sweep.ends()
        assert status == 0, output
        self.seconds = time.monotonic() - began
        self.arguments = arguments
        self.table = results(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small) -> Undisturbed:
    """Three runs with two snapshots each, with tables and figures."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return Undisturbed(folder, (*small, "seed=0,1,2", "epochs=3,10", "name=it"))


def kill_repeatedly(folder: Path, undisturbed: Undisturbed, kills: int) -> None:
    """Kill all processes of a sweep at random moments, restarting it each time.

    When it ends, its table is checked, and the next sweep starts in an empty folder.
    """
    rng = random.Random(0)
    out = folder / "outputs"
    killed = rounds = 0
    temporary: list[Path] = []
    while killed < kills or out.exists():
        before = finished(out)
        age_temporary_files(out)
        with Sweep(folder, *undisturbed.arguments) as sweep:
            seconds = rng.uniform(IMPORTS, undisturbed.seconds) if killed < kills else PATIENCE
            try:
                output, _ = sweep.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                assert killed < kills, "it does not end"
                sweep.kill_all()
                output, _ = sweep.communicate()
                killed += 1
        assert_kept(before, out)
        assert_whole(out, undisturbed.table)
        if sweep.returncode != -signal.SIGKILL:
            rounds += 1
            assert sweep.returncode == 0, output
            assert_same(results(folder), undisturbed.table)
            temporary += leftovers(out)
            shutil.rmtree(out)
    assert rounds >= 1
    assert temporary == []


def test_all_processes_killed_at_any_moment(tmp_path, undisturbed) -> None:
    """Six kills of all processes, anywhere from planning to figures, lose nothing."""
    kill_repeatedly(tmp_path, undisturbed, kills=6)


@pytest.mark.long
def test_all_processes_killed_very_often(tmp_path, undisturbed) -> None:
    """The same with five hundred kills."""
    kill_repeatedly(tmp_path, undisturbed, kills=500)


@pytest.fixture(scope="module")
def longer(tmp_path_factory, small) -> Undisturbed:
    """Two concurrent runs that train for several seconds."""
    folder = tmp_path_factory.mktemp("longer")
    words = ("seed=0,1", "epochs=1,150", "name=it", "figures=none", "report=false")
    return Undisturbed(folder, (*small, *words))


def wait_for_both_runs(sweep: Sweep) -> None:
    """Wait until both runs have saved the snapshot of their first epoch."""
    for count in (1, 2):
        sweep.until(f"[{count}/4]")


def test_workers_exit_when_their_launcher_is_killed(tmp_path, longer) -> None:
    """Workers without a launcher save their progress and exit."""
    fifo = tmp_path / "record"
    os.mkfifo(fifo)
    env = {"PYTHONPATH": str(RECORDER), "RECORD": str(fifo)}
    # Opened for reading and writing, so that neither side blocks.
    with (
        Sweep(tmp_path, *longer.arguments, env=env) as sweep,
        os.fdopen(os.open(fifo, os.O_RDWR)) as record,
    ):
        epochs: Counter[str] = Counter()  # trained epochs
        while len(epochs) < 2 or min(epochs.values()) < 4:
            kind, run, _ = record.readline().split()
            epochs[run] += kind == "epoch"
        workers = sweep.workers()
        assert len(workers) == 2
        os.kill(sweep.pid, signal.SIGKILL)
        assert all_ended(workers)
        assert sweep.wait(PATIENCE) == -signal.SIGKILL
        assert sweep.members() == []
    out = tmp_path / "outputs"
    assert_whole(out, longer.table)
    runs = [RunFolder(path) for path in (out / "runs").iterdir()]
    reached = [run.latest(until=150).epoch for run in runs]
    assert len(reached) == 2
    assert min(reached) > 1, "epochs after the first snapshot were trained"
    before = finished(out)
    age_temporary_files(out)
    with Sweep(tmp_path, *longer.arguments) as sweep:
        status, output = sweep.ends()
    assert status == 0, output
    for epoch in reached:
        assert epoch == 150 or f"resumed after epoch {epoch}" in output
    assert_kept(before, out)
    assert_same(results(tmp_path), longer.table)
    assert leftovers(out) == []


@pytest.mark.parametrize("number", [1, 2])
def test_killed_workers_are_rows_and_the_same_command_completes_them(
    tmp_path, longer, number
) -> None:
    """One or both workers killed affect only their runs, whose snapshots stay in the table."""
    with Sweep(tmp_path, *longer.arguments) as sweep:
        wait_for_both_runs(sweep)
        for pid in sweep.workers()[:number]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        status, output = sweep.ends()
        assert sweep.members() == []
    assert status == 1, output
    assert "Traceback" not in output
    frame = results(tmp_path)
    assert list(frame["status"]).count("killed") == number
    assert len(frame) == 4
    assert frame["error"].dropna().str.contains("SIGKILL").all()
    out = tmp_path / "outputs"
    assert_whole(out, longer.table)
    before = finished(out)
    age_temporary_files(out)
    with Sweep(tmp_path, *longer.arguments) as sweep:
        status, output = sweep.ends()
    assert status == 0, output
    assert_kept(before, out)
    assert_same(results(tmp_path), longer.table)
    assert leftovers(out) == []
