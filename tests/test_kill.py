"""Killed at any moment: nothing finished is lost, nothing is half, and the same command goes on."""

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
    all_ended,
    an_hour_passes,
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
IMPORTS = 0.4  # seconds at least until a launcher touches its first file


@pytest.fixture(scope="module")
def small(small_folder) -> tuple[str, ...]:
    return "-m", "dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "workers=2"


class Undisturbed:
    """A sweep that nothing happens to: its table, and the seconds it takes."""

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
    """Some runs with two read-outs each, with tables and figures."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return Undisturbed(folder, (*small, "seed=0,1,2", "epochs=3,10", "name=it"))


def killings(folder: Path, undisturbed: Undisturbed, kills: int) -> None:
    """Kill all processes of a sweep at moments over its whole life, each time starting it again.

    Once it comes to its end its table is judged, and the next begins in an empty folder.
    """
    rng = random.Random(0)
    out = folder / "outputs"
    done = rounds = 0
    left: list[Path] = []
    while done < kills or out.exists():
        before = finished(out)
        an_hour_passes(out)
        with Sweep(folder, *undisturbed.arguments) as sweep:
            moment = rng.uniform(IMPORTS, undisturbed.seconds) if done < kills else PATIENCE
            try:
                output, _ = sweep.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                assert done < kills, "it does not end"
                sweep.kill_all()
                output, _ = sweep.communicate()
                done += 1
        assert_kept(before, out)
        assert_whole(out, undisturbed.table)
        if sweep.returncode != -signal.SIGKILL:
            rounds += 1
            assert sweep.returncode == 0, output
            assert_same(results(folder), undisturbed.table)
            left += leftovers(out)
            shutil.rmtree(out)
    assert rounds >= 1
    assert left == []


def test_all_processes_killed_at_any_moment(tmp_path, undisturbed) -> None:
    """Twenty kills of all processes at once, anywhere from planning to figures, cost nothing."""
    killings(tmp_path, undisturbed, kills=20)


@pytest.mark.long
def test_all_processes_killed_very_often(tmp_path, undisturbed) -> None:
    """The same with five hundred."""
    killings(tmp_path, undisturbed, kills=500)


@pytest.fixture(scope="module")
def longer(tmp_path_factory, small) -> Undisturbed:
    """Two runs that are in training for seconds, both at the same time."""
    folder = tmp_path_factory.mktemp("longer")
    return Undisturbed(folder, (*small, "seed=0,1", "epochs=1,150", "name=it", "figures=none"))


def both_in_training(sweep: Sweep) -> None:
    """Wait until both runs have read out their first epoch."""
    for count in (1, 2):
        sweep.until(f"[{count}/4]")


def test_workers_leave_when_their_launcher_is_killed(tmp_path, longer) -> None:
    """Without their launcher the workers keep what they have trained, and none stays behind."""
    fifo = tmp_path / "record"
    os.mkfifo(fifo)
    env = {"PYTHONPATH": str(RECORDER), "RECORD": str(fifo)}
    # Open for both, so that neither side waits for the other.
    with (
        Sweep(tmp_path, *longer.arguments, env=env) as sweep,
        os.fdopen(os.open(fifo, os.O_RDWR)) as noted,
    ):
        begun: Counter[str] = Counter()  # epochs of which the training has ended
        while len(begun) < 2 or min(begun.values()) < 4:
            kind, run, _ = noted.readline().split()
            begun[run] += kind == "epoch"
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
    assert min(reached) > 1, "more than the read-out at epoch 1 had been trained"
    before = finished(out)
    an_hour_passes(out)
    with Sweep(tmp_path, *longer.arguments) as sweep:
        status, output = sweep.ends()
    assert status == 0, output
    for epoch in reached:
        assert epoch == 150 or f"resumed after epoch {epoch}" in output
    assert_kept(before, out)
    assert_same(results(tmp_path), longer.table)
    assert leftovers(out) == []


@pytest.mark.parametrize("number", [1, 2])
def test_killed_workers_are_rows_and_the_same_command_goes_on(tmp_path, longer, number) -> None:
    """One or all workers killed cost their runs alone; what they had read out is in the table."""
    with Sweep(tmp_path, *longer.arguments) as sweep:
        both_in_training(sweep)
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
    an_hour_passes(out)
    with Sweep(tmp_path, *longer.arguments) as sweep:
        status, output = sweep.ends()
    assert status == 0, output
    assert_kept(before, out)
    assert_same(results(tmp_path), longer.table)
    assert leftovers(out) == []
