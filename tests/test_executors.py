"""The contract of every place where runs are trained: this machine, Slurm jobs, Ray tasks.

Slurm and Ray are real: their daemons are started here and stopped again. Where one of them cannot
be started its tests are skipped, and say why.
"""

import os
import signal
from pathlib import Path

import pytest
from clusters import Place, interrupt, place, small_runs
from processes import Sweep, assert_kept, finished, linux, results

from lenet_sweep.core.events import (
    ENDS,
    CellFinished,
    EpochEnded,
    Failed,
    Finished,
    Retrying,
    Started,
    Stopped,
)
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.storage.store import Store

pytestmark = [linux, pytest.mark.slow]
LONG = 3000  # epochs that no test waits for the end of


@pytest.fixture(scope="module", params=["local", "slurm", "ray"])
def here(request, tmp_path_factory) -> Place:
    """Every place in turn."""
    with place(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def ends(events) -> dict[str, object]:
    return {event.run_id: event for event in events if isinstance(event, ENDS)}


def trained(run_id: str) -> int:
    """How many epochs of a run have been trained, by whomever."""
    lines = Path(os.environ["RECORD"]).read_text().splitlines()
    return sum(line.split()[:2] == ["epoch", run_id] for line in lines)


def test_numbers_are_those_of_this_machine(here, runs_of, tmp_path) -> None:
    """Wherever a run is trained, its read-outs hold the same bytes."""
    axes = {"lr": [0.1, 0.02], "epochs": [1, 2], "shuffle": True}
    runs, setup = runs_of(**axes)
    seen = list(here.executor.execute(runs, setup))
    assert {type(end) for end in ends(seen).values()} == {Finished}
    assert sum(isinstance(event, Started) for event in seen) == 2  # read-outs are shared
    assert sum(isinstance(event, CellFinished) for event in seen) == 4
    alone, other = small_runs(tmp_path / "alone", setup.data_root, **axes)
    list(LOCAL.execute(alone, other))
    for run in runs:
        for epochs in run.snapshot_epochs:
            found, expected = (
                Store(where.out)
                .run(run.id)
                .read(Store(where.out).run(run.id).snapshot_path(epochs))
                for where in (setup, other)
            )
            assert {k: v.tobytes() for k, v in found.state.items()} == {
                k: v.tobytes() for k, v in expected.state.items()
            }
            assert (found.predictions == expected.predictions).all()


def test_every_kind_of_death_is_a_row_with_its_reason(here, runs_of) -> None:
    """An error, an exit, an abort, a kill each cost one run; what is said of them is the same."""
    runs, setup = runs_of(lr=[0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 1e30, 0.1])
    ended = ends(here.executor.execute(runs, setup))
    told = {
        run.cell.lr: (end.failure.status, end.failure.reason.partition(" with shape")[0])
        for run in runs
        if isinstance(end := ended[run.id], Failed)
    }
    assert told.pop(1e30)[0] == "diverged"
    assert told == {
        0.03: ("failed", "RuntimeError: made to raise"),
        0.04: ("killed", "the worker process was terminated by SIGKILL (out of memory?)"),
        0.05: ("killed", "the worker process was terminated by SIGABRT"),
        0.06: ("failed", "SystemExit: 3"),
        0.07: ("failed", "the worker process exited with status 7"),
        0.08: ("failed", "MemoryError: Unable to allocate 2.00 GiB for an array"),
    }
    assert len(ended) == len(runs)
    for run in runs:
        failure = Store(setup.out).run(run.id).failure()
        assert failure == getattr(ended[run.id], "failure", None)


def test_a_run_that_failed_once_is_tried_again(here, runs_of) -> None:
    """With retries=1 a run that was killed once is trained."""
    Path(os.environ["FAILED_ONCE"]).unlink(missing_ok=True)
    runs, setup = runs_of(lr=[0.11, 0.1], retries=1)
    seen = list(here.executor.execute(runs, setup))
    (retrying,) = (event for event in seen if isinstance(event, Retrying))
    assert (retrying.failure.status, retrying.attempt) == ("killed", 1)
    assert {type(end) for end in ends(seen).values()} == {Finished}


def test_a_run_that_hangs_is_given_up(here, runs_of) -> None:
    """A run without a sign of life is a row as timed out, and the others are trained."""
    runs, setup = runs_of(lr=[0.09, 0.1], timeout=3)
    ended = ends(here.executor.execute(runs, setup))
    (hung,) = (end for end in ended.values() if isinstance(end, Failed))
    assert hung.failure.status == "timed-out"
    assert hung.failure.reason == "no progress for 3 s, so the worker process was killed"
    assert len(ended) == 2


def test_ctrl_c_checkpoints_what_runs(here, runs_of) -> None:
    """Runs in training keep their last finished epoch, and nothing else is begun."""
    runs, setup = runs_of(epochs=LONG, seed=[0, 1, 2], workers=2)
    seen = []
    for event in here.executor.execute(runs, setup):
        seen.append(event)
        if len({e.run_id for e in seen if isinstance(e, EpochEnded)}) == 2:
            interrupt(setup)
    begun = {event.run_id for event in seen if isinstance(event, Started)}
    stopped = {event.run_id for event in seen if isinstance(event, Stopped)}
    assert stopped == begun
    assert len(begun) == 2
    for run_id in begun:
        folder = Store(setup.out).run(run_id)
        told = [e.result.epoch for e in seen if isinstance(e, EpochEnded) and e.run_id == run_id]
        assert folder.read(folder.checkpoint).epoch >= max(told)


WORDS = ("device=cpu", "figures=none", "report=false", "name=it")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_launcher_is_ended_and_started_again(here, tmp_path, small_folder, number) -> None:
    """Whatever ends the launching process, the same command goes on; nothing is lost."""
    words = (
        "-m", "dataset=folder", f"dataset.root={small_folder()}", *WORDS, *here.words,
        "seed=0,1,2", "epochs=20,400", "workers=2",
    )  # fmt: skip
    Path(os.environ["RECORD"]).unlink(missing_ok=True)
    with Sweep(tmp_path, *words) as first:
        first.until("[1/6]")
        os.kill(first.pid, number)
        status, output = first.ends() if number == signal.SIGTERM else (first.wait(60), "")
        assert status == (143 if number == signal.SIGTERM else -9)
        assert ("Stopped by SIGTERM" in output) == (number == signal.SIGTERM)
        before = finished(tmp_path / "outputs")
        assert before
        with Sweep(tmp_path, *words) as second:  # jobs that outlive the first are not to be ended
            status, output = second.ends()
    assert status == 0, output
    frame = results(tmp_path)
    assert list(frame["status"]) == ["ok"] * 6
    assert_kept(before, tmp_path / "outputs")
    assert not list((tmp_path / "outputs").glob("jobs/*.journal"))
    for run_id in set(frame["cell"].str.partition("-e")[0]):
        # From a checkpoint at worst: one is written at each read-out, and when told to end.
        assert trained(run_id) <= 2 * 400 - 20
