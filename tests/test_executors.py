"""Slurm jobs and Ray tasks do what local workers do: the contract of an executor.

Local workers have their own tests in test_local.py, test_cli.py, test_kill.py and test_signals.py.
Slurm and Ray are real: the tests start and stop their daemons. If one of them cannot be started,
its tests are skipped with the reason.
"""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from clusters import (
    FAILURES,
    TargetExecutor,
    failures_of,
    interrupt,
    small_runs,
    start_executor,
)
from processes import Sweep, assert_kept, finished, linux, results

from lenet_sweep.core.events import (
    FINAL_EVENTS,
    CellFinished,
    EpochEnded,
    Failed,
    Finished,
    Interrupted,
    Retrying,
    Started,
)
from lenet_sweep.core.plans import make_plan
from lenet_sweep.core.plans import runs_of as runs_of_cells
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.runner.search_rounds import SearchRounds
from lenet_sweep.search import RunResult
from lenet_sweep.search.halving import Halving
from lenet_sweep.storage.store import Store

pytestmark = [linux, pytest.mark.slow]
LONG = 3000  # epochs; no test waits for the last one


@pytest.fixture(scope="module", params=["slurm", "ray"])
def target(request, tmp_path_factory) -> TargetExecutor:
    """Each executor in turn."""
    with start_executor(request.param, tmp_path_factory.mktemp(request.param)) as executor:
        yield executor


def ends(events) -> dict[str, object]:
    return {event.run_id: event for event in events if isinstance(event, FINAL_EVENTS)}


def epochs_trained(run_id: str) -> int:
    """The number of epochs of a run that any process has trained."""
    lines = Path(os.environ["RECORD"]).read_text().splitlines()
    return sum(line.split()[:2] == ["epoch", run_id] for line in lines)


def test_results_are_those_of_the_local_executor(target, runs_of, tmp_path) -> None:
    """Snapshots are byte-identical whichever executor trains a run."""
    axes = {"lr": [0.1, 0.02], "epochs": [1, 2], "shuffle": True}
    runs, context = runs_of(**axes)
    seen = list(target.executor.execute(runs, context))
    assert {type(end) for end in ends(seen).values()} == {Finished}
    assert sum(isinstance(event, Started) for event in seen) == 2  # cells of a run share training
    assert sum(isinstance(event, CellFinished) for event in seen) == 4
    alone, other = small_runs(tmp_path / "alone", context.data_root, **axes)
    list(LOCAL.execute(alone, other))
    for run in runs:
        for epochs in run.snapshot_epochs:
            actual, expected = (
                Store(where.out)
                .run_folder(run.id)
                .read(Store(where.out).run_folder(run.id).snapshot_path(epochs))
                for where in (context, other)
            )
            assert {k: v.tobytes() for k, v in actual.state.items()} == {
                k: v.tobytes() for k, v in expected.state.items()
            }
            assert (actual.predictions == expected.predictions).all()


@pytest.mark.parametrize("target", ["slurm", "ray", "local"], indirect=True)
def test_a_search_makes_the_same_decisions(target, runs_of) -> None:
    """Each round is trained by the executor, and stops what the curves say."""
    runs, context = runs_of(lr=[0.3, 0.2, 0.1, 0.02], epochs=9, shuffle=True)
    cells = [run.cell for run in runs]
    rounds = SearchRounds(Halving(eta=3, keep=1), make_plan(cells, lambda _: False), {}, context)
    events = rounds.train(target.executor, lambda _: None)
    trained = Counter(event.run_id for event in events if isinstance(event, EpochEnded))
    known = {}
    for run in runs:
        snapshot = Store(context.out).run_folder(run.id).latest(until=9)
        losses = [epoch.test_cost for epoch in snapshot.history]
        known[run.id] = RunResult([epoch.accuracy for epoch in snapshot.history], losses)
    assert rounds.decision == Halving(eta=3, keep=1).decide(runs_of_cells(cells), known)
    assert dict(trained) == rounds.decision.epochs
    assert sorted(trained.values()) == [1, 1, 3, 9]


def test_every_kind_of_failure_has_its_reason(target, runs_of) -> None:
    """An exception, an exit, an abort and a kill each end one run, with the same reasons."""
    runs, context = runs_of(lr=[*FAILURES, 1e30, 0.1])
    ended = ends(target.executor.execute(runs, context))
    failures = failures_of(runs, context, ended)
    assert failures.pop(1e30)[0] == "diverged"
    assert failures == FAILURES
    assert {type(end) for end in ended.values()} == {Failed, Finished}


def test_a_failed_run_is_retried(target, runs_of) -> None:
    """With retries=1, a run that was killed once is trained."""
    Path(os.environ["FAILED_ONCE"]).unlink(missing_ok=True)
    runs, context = runs_of(lr=[0.11, 0.1], retries=1)
    seen = list(target.executor.execute(runs, context))
    (retrying,) = (event for event in seen if isinstance(event, Retrying))
    assert (retrying.failure.status, retrying.attempt) == ("killed", 1)
    assert {type(end) for end in ends(seen).values()} == {Finished}


def test_a_run_that_hangs_is_killed(target, runs_of) -> None:
    """A run without progress ends as timed-out, and the others are trained."""
    runs, context = runs_of(lr=[0.09, 0.1], timeout=3)
    ended = ends(target.executor.execute(runs, context))
    (hung,) = (end for end in ended.values() if isinstance(end, Failed))
    assert hung.failure.status == "timed-out"
    assert hung.failure.reason == "no progress for 3 s, so the worker process was killed"
    assert len(ended) == 2


def test_ctrl_c_checkpoints_running_runs(target, runs_of) -> None:
    """Runs in training save their last finished epoch, and no other run is started."""
    runs, context = runs_of(epochs=LONG, seed=[0, 1, 2], workers=2)
    seen = []
    for event in target.executor.execute(runs, context):
        seen.append(event)
        if len({e.run_id for e in seen if isinstance(e, EpochEnded)}) == 2:
            interrupt(context)
    started = {event.run_id for event in seen if isinstance(event, Started)}
    interrupted = {event.run_id for event in seen if isinstance(event, Interrupted)}
    assert interrupted == started
    assert len(started) == 2
    for run_id in started:
        folder = Store(context.out).run_folder(run_id)
        epochs = [e.result.epoch for e in seen if isinstance(e, EpochEnded) and e.run_id == run_id]
        assert folder.read(folder.checkpoint_path).epoch >= max(epochs)


WORDS = ("device=cpu", "figures=none", "report=false", "name=it")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_launcher_that_ends_can_be_restarted(target, tmp_path, small_folder, number) -> None:
    """However the launching process ends, the same command completes the sweep."""
    words = (
        "-m", "dataset=folder", f"dataset.root={small_folder()}", *WORDS, *target.words,
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
        with Sweep(tmp_path, *words) as second:  # inside, so that surviving jobs are not killed
            status, output = second.ends()
    assert status == 0, output
    frame = results(tmp_path)
    assert list(frame["status"]) == ["ok"] * 6
    assert_kept(before, tmp_path / "outputs")
    assert not list((tmp_path / "outputs").glob("jobs/*.journal"))
    for run_id in set(frame["cell"].str.partition("-e")[0]):
        # The second launch resumes at least from the snapshot at epoch 20.
        assert epochs_trained(run_id) <= 2 * 400 - 20
