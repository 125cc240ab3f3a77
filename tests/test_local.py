"""Local workers: failures stay isolated, and the number of workers does not change results."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from clusters import FAILURES, failures_of, small_runs
from processes import TIMEOUT, all_ended

from lenet_sweep.core.events import (
    FINAL_EVENTS,
    EpochEnded,
    Failed,
    Finished,
    Interrupted,
    Retrying,
    Started,
    Waiting,
)
from lenet_sweep.core.plans import Run
from lenet_sweep.executors import local
from lenet_sweep.storage.store import Store

FAULTS = Path(__file__).parent / "faults"


def ends(events) -> dict[str, object]:
    return {event.run_id: event for event in events if isinstance(event, FINAL_EVENTS)}


def costs(runs: tuple[Run, ...], out: Path) -> list[float]:
    folders = [(Store(out).run_folder(run.id), run.cell.epochs) for run in runs]
    return [f.read(f.snapshot_path(epochs)).history[-1].cost for f, epochs in folders]


def test_every_run_ends_once(runs_of) -> None:
    """Each run of a grid is trained to its end."""
    runs, context = runs_of(lr=[0.1, 0.01, 0.001], workers=2)
    ended = ends(local.execute(runs, context))
    assert {type(e) for e in ended.values()} == {Finished}
    assert set(ended) == {run.id for run in runs}


def test_results_do_not_depend_on_the_number_of_workers(tmp_path, small_folder) -> None:
    """One worker and two give the same numbers."""
    results = []
    for out, workers in (("one", 1), ("two", 2)):
        axes = {"lr": [0.1, 0.02], "epochs": 2, "workers": workers}
        runs, context = small_runs(tmp_path / out, small_folder(), **axes)
        list(local.execute(runs, context))
        results.append(costs(runs, context.out))
    assert results[0] == results[1]
    assert len(set(results[0])) == 2  # and differ between runs


def test_runs_start_in_the_order_given(runs_of) -> None:
    """Runs are started in the order of the plan, longest first."""
    runs, context = runs_of(seed=[3, 1, 2], workers=1)
    started = [e.run_id for e in local.execute(runs, context) if isinstance(e, Started)]
    assert started == [run.id for run in runs]


def test_a_run_that_dies_does_not_affect_others(runs_of, monkeypatch) -> None:
    """Each way to fail ends one run, with its reason in the store, and the others finish."""
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    runs, context = runs_of(lr=[0.1, *FAILURES, 1e30, 0.01], workers=1)
    ended = ends(local.execute(runs, context))
    failures = failures_of(runs, context, ended)
    assert failures.pop(1e30)[0] == "diverged"
    assert failures == FAILURES
    assert {type(end) for end in ended.values()} == {Failed, Finished}


def test_retries_are_limited(runs_of, monkeypatch) -> None:
    """A run that always fails is retried as often as requested, and then fails."""
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    runs, context = runs_of(lr=[0.03, 0.04], workers=2, retries=2)
    seen = list(local.execute(runs, context))
    for run in runs:
        own_events = [e for e in seen if e.run_id == run.id and isinstance(e, (Retrying, Failed))]
        assert [getattr(e, "attempt", None) for e in own_events] == [1, 2, None]


def test_retries_are_counted_over_the_rounds_of_a_search(runs_of, monkeypatch) -> None:
    """A run that used up its retries in one round has none in the next one."""
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    runs, context = runs_of(lr=[0.03], retries=1)
    kinds = [{type(e) for e in local.execute(runs, context)} for _ in range(2)]
    assert [Retrying in each for each in kinds] == [True, False]


def test_a_diverged_run_is_not_retried(runs_of) -> None:
    """The same settings would diverge again."""
    runs, context = runs_of(lr=[1e30], retries=3)
    seen = list(local.execute(runs, context))
    assert not [e for e in seen if isinstance(e, Retrying)]
    assert seen[-1].failure.status == "diverged"


def test_a_run_of_another_process_comes_last(runs_of) -> None:
    """A sweep waits for another one only when it has nothing else to train."""
    runs, context = runs_of(seed=[0, 1, 2], workers=1)
    lock = Store(context.out).run_folder(runs[0].id).claim(timeout=0)
    seen = []
    for event in local.execute(runs, context):
        seen.append(event)
        if isinstance(event, Waiting) and lock:
            assert set(ends(seen)) == {runs[1].id, runs[2].id}
            lock.release()
            lock = None
    assert lock is None
    assert list(ends(seen)) == [runs[1].id, runs[2].id, runs[0].id]
    assert {type(e) for e in ends(seen).values()} == {Finished}


def test_an_abort_records_a_traceback(runs_of, monkeypatch) -> None:
    """The failure of a crashed process names the Python line."""
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    runs, context = runs_of(lr=0.05)
    (event,) = ends(local.execute(runs, context)).values()
    assert "sitecustomize.py" in event.failure.traceback


def test_a_run_that_hangs_is_killed(runs_of) -> None:
    """A run without progress ends as timed-out, and the others are trained."""
    runs, context = runs_of(seed=[0, 1], epochs=500, workers=1, timeout=TIMEOUT)
    ended: dict[str, object] = {}
    stopped = False
    for event in local.execute(runs, context):
        if isinstance(event, EpochEnded) and not stopped:
            stopped = True
            os.kill(_only_child(), signal.SIGSTOP)
        if isinstance(event, EpochEnded) and event.run_id == runs[1].id:
            context.stop.set()  # the second run trains
        if isinstance(event, FINAL_EVENTS):
            ended[event.run_id] = event
    first = ended[runs[0].id]
    assert isinstance(first, Failed)
    assert (first.failure.status, first.failure.epoch) == ("timed-out", 2)
    assert first.failure.reason == f"no progress for {TIMEOUT} s, so the worker process was killed"
    assert isinstance(ended[runs[1].id], Interrupted)


def test_a_worker_that_dies_at_its_start_is_a_failed_run(runs_of, tmp_path, monkeypatch) -> None:
    """A process that dies before it uses the store ends one run, not the sweep."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "numpy.py").write_text("import os; os._exit(9)")
    monkeypatch.syspath_prepend(str(broken))
    runs, context = runs_of(seed=[0, 1], workers=1)
    ended = ends(local.execute(runs, context))
    assert len(ended) == 2
    for run in runs:
        assert isinstance(ended[run.id], Failed)
        assert ended[run.id].failure.reason == "the worker process exited with status 9"
        assert Store(context.out).run_folder(run.id).failure() == ended[run.id].failure


def test_a_worker_killed_in_training_keeps_its_snapshots(runs_of) -> None:
    """Snapshots saved before the process was killed are in the store."""
    runs, context = runs_of(epochs=[1, 500], workers=1)
    killed = False
    ended = None
    for event in local.execute(runs, context):
        if isinstance(event, EpochEnded) and event.result.epoch == 2 and not killed:
            killed = True
            os.kill(_only_child(), signal.SIGKILL)
        ended = event
    assert isinstance(ended, Failed)
    assert ended.failure.status == "killed"
    assert ended.failure.epoch >= 3
    assert Store(context.out).run_folder(runs[0].id).has_intact_snapshot(1)


def test_stopping_checkpoints_all_runs(runs_of) -> None:
    """Workers save their last finished epoch, and no other run is started."""
    runs, context = runs_of(epochs=500, seed=[0, 1, 2, 3], workers=2)
    seen = []
    for event in local.execute(runs, context):
        seen.append(event)
        trained = {e.run_id for e in seen if isinstance(e, EpochEnded)}
        if len(trained) == 2:
            context.stop.set()
    interrupted = [e for e in seen if isinstance(e, Interrupted)]
    assert len(interrupted) == 2
    for event in interrupted:
        folder = Store(context.out).run_folder(event.run_id)
        epochs = [
            e.result.epoch for e in seen if isinstance(e, EpochEnded) and e.run_id == event.run_id
        ]
        assert folder.read(folder.checkpoint_path).epoch == max(epochs)
    assert not any(Store(context.out).run_folder(run.id).path.exists() for run in runs[2:])


def test_no_worker_outlives_its_sweep(runs_of) -> None:
    """When the sweep ends or is abandoned, its processes have ended."""
    runs, context = runs_of(epochs=500, workers=2, seed=[0, 1])
    events = local.execute(runs, context)
    next(events)
    children = _children()
    assert len(children) == 2
    events.close()
    assert _children() == []


def test_an_idle_worker_that_hangs_does_not_outlive_an_interrupt(runs_of) -> None:
    """A second Ctrl-C leaves no worker behind, not even an idle one that hangs."""
    (first, second), context = runs_of(epochs=500, workers=2, seed=[0, 1])
    short = Run(replace(first.cell, epochs=1), (1,))
    events = local.execute([short, second], context)
    while not isinstance(next(events), Finished):
        pass
    children = _children()
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            events.throw(KeyboardInterrupt())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all_ended(children)


def _children() -> list[int]:
    """The children of this process, without the one in which `run_forked` runs commands."""
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    listed = [n for n in listed if "fork_server" not in Path(f"/proc/{n}/cmdline").read_text()]
    states = {int(pid): Path(f"/proc/{pid}/stat").read_text().split()[2] for pid in listed}
    return [pid for pid, state in states.items() if state != "Z"]


def _only_child() -> int:
    (pid,) = _children()
    return pid
