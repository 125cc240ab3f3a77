"""Local workers: what one of them suffers stays its own, and their number changes no result."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from clusters import small_runs
from processes import all_ended

from lenet_sweep.core.cells import Run
from lenet_sweep.core.events import (
    ENDS,
    EpochEnded,
    Failed,
    Finished,
    Retrying,
    Started,
    Stopped,
    Waiting,
)
from lenet_sweep.executors import local
from lenet_sweep.storage.store import Store

FAULTS = Path(__file__).parent / "faults"


def ends(events) -> dict[str, object]:
    return {event.run_id: event for event in events if isinstance(event, ENDS)}


def costs(runs: tuple[Run, ...], out: Path) -> list[float]:
    folders = [(Store(out).run(run.id), run.cell.epochs) for run in runs]
    return [f.read(f.snapshot_path(epochs)).history[-1].cost for f, epochs in folders]


def test_every_run_ends_once(runs_of) -> None:
    """Each run of a grid is trained to its end, whatever the number of workers."""
    runs, setup = runs_of(lr=[0.1, 0.01, 0.001], workers=2)
    ended = ends(local.execute(runs, setup))
    assert {type(e) for e in ended.values()} == {Finished}
    assert set(ended) == {run.id for run in runs}


def test_results_do_not_depend_on_the_number_of_workers(tmp_path, small_folder) -> None:
    """One worker and two give the same numbers."""
    found = []
    for out, workers in (("one", 1), ("two", 2)):
        axes = {"lr": [0.1, 0.02], "epochs": 2, "workers": workers}
        runs, setup = small_runs(tmp_path / out, small_folder(), **axes)
        list(local.execute(runs, setup))
        found.append(costs(runs, setup.out))
    assert found[0] == found[1]
    assert len(set(found[0])) == 2  # and they are not just all alike


def test_runs_begin_in_the_order_given(runs_of) -> None:
    """The plan's order, longest first, is the order in which runs are begun."""
    runs, setup = runs_of(seed=[3, 1, 2], workers=1)
    begun = [e.run_id for e in local.execute(runs, setup) if isinstance(e, Started)]
    assert begun == [run.id for run in runs]


@pytest.mark.parametrize(
    ("lr", "status", "reason"),
    [
        (0.03, "failed", "RuntimeError: made to raise"),
        (0.04, "killed", "the worker process was terminated by SIGKILL (out of memory?)"),
        (0.05, "killed", "the worker process was terminated by SIGABRT"),
        (0.06, "failed", "SystemExit: 3"),
        (0.07, "failed", "the worker process exited with status 7"),
        (0.08, "failed", "MemoryError: Unable to allocate 2.00 GiB"),
    ],
)
def test_a_run_that_dies_leaves_the_others_alone(
    runs_of, monkeypatch, lr: float, status: str, reason: str
) -> None:
    """A raised error, an exit, an abort and a kill each cost one run, with the reason kept."""
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    runs, setup = runs_of(lr=[lr, 0.1, 0.01], workers=1)
    ended = ends(local.execute(runs, setup))
    failed = {runs_id: e for runs_id, e in ended.items() if isinstance(e, Failed)}
    (victim,) = (run for run in runs if run.cell.lr == lr)
    assert set(failed) == {victim.id}
    assert failed[victim.id].failure.status == status
    assert failed[victim.id].failure.reason.startswith(reason)
    assert len(ended) == 3
    assert Store(setup.out).run(victim.id).failure() == failed[victim.id].failure


def test_a_run_that_failed_is_tried_again(runs_of, monkeypatch, tmp_path) -> None:
    """With retries=1 a run that was killed once is trained, after the others."""
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    monkeypatch.setenv("FAILED_ONCE", str(tmp_path / "failed"))
    runs, setup = runs_of(lr=[0.11, 0.2, 0.3], workers=1, retries=1)
    seen = list(local.execute(runs, setup))
    (retrying,) = (e for e in seen if isinstance(e, Retrying))
    assert (retrying.run_id, retrying.attempt) == (runs[0].id, 1)
    assert retrying.failure.status == "killed"
    assert list(ends(seen)) == [runs[1].id, runs[2].id, runs[0].id]
    assert {type(e) for e in ends(seen).values()} == {Finished}
    assert Store(setup.out).run(runs[0].id).failure() is None


def test_retries_come_to_an_end(runs_of, monkeypatch) -> None:
    """A run that always fails is tried as often as was asked for, and then is failed."""
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    runs, setup = runs_of(lr=[0.03, 0.04], workers=2, retries=2)
    seen = list(local.execute(runs, setup))
    for run in runs:
        mine = [e for e in seen if e.run_id == run.id and isinstance(e, (Retrying, Failed))]
        assert [getattr(e, "attempt", None) for e in mine] == [1, 2, None]


def test_a_diverged_run_is_not_tried_again(runs_of) -> None:
    """The same settings diverge again: no retry is spent on them."""
    runs, setup = runs_of(lr=[1e30], retries=3)
    seen = list(local.execute(runs, setup))
    assert not [e for e in seen if isinstance(e, Retrying)]
    assert seen[-1].failure.status == "diverged"


def test_a_run_of_another_process_is_left_for_last(runs_of) -> None:
    """What another sweep is training is not waited for while there is anything else to train."""
    runs, setup = runs_of(seed=[0, 1, 2], workers=1)
    lock = Store(setup.out).run(runs[0].id).claim(timeout=0)
    seen = []
    for event in local.execute(runs, setup):
        seen.append(event)
        if isinstance(event, Waiting) and lock:
            assert set(ends(seen)) == {runs[1].id, runs[2].id}
            lock.release()
            lock = None
    assert lock is None
    assert list(ends(seen)) == [runs[1].id, runs[2].id, runs[0].id]
    assert {type(e) for e in ends(seen).values()} == {Finished}


def test_an_abort_leaves_the_traceback_of_its_place(runs_of, monkeypatch) -> None:
    """Whoever looks at a crash sees the Python line it happened in."""
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    runs, setup = runs_of(lr=0.05)
    (event,) = ends(local.execute(runs, setup)).values()
    assert "sitecustomize.py" in event.failure.traceback


def test_a_run_that_hangs_is_given_up(runs_of) -> None:
    """A run without a sign of life ends as timed out, and the others are trained."""
    runs, setup = runs_of(seed=[0, 1], epochs=500, workers=1, timeout=4)
    ended: dict[str, object] = {}
    stopped = False
    for event in local.execute(runs, setup):
        if isinstance(event, EpochEnded) and not stopped:
            stopped = True
            os.kill(_only_child(), signal.SIGSTOP)
        if isinstance(event, EpochEnded) and event.run_id == runs[1].id:
            setup.stop.set()  # it lives: enough seen
        if isinstance(event, ENDS):
            ended[event.run_id] = event
    first = ended[runs[0].id]
    assert isinstance(first, Failed)
    assert (first.failure.status, first.failure.epoch) == ("timed-out", 2)
    assert first.failure.reason == "no progress for 4 s, so the worker process was killed"
    assert isinstance(ended[runs[1].id], Stopped)


def test_a_worker_that_dies_at_its_start_is_a_failed_run(runs_of, tmp_path, monkeypatch) -> None:
    """A process that dies before it has touched the store costs one run and not the sweep."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "numpy.py").write_text("import os; os._exit(9)")
    monkeypatch.syspath_prepend(str(broken))
    runs, setup = runs_of(seed=[0, 1], workers=1)
    ended = ends(local.execute(runs, setup))
    assert len(ended) == 2
    for run in runs:
        assert isinstance(ended[run.id], Failed)
        assert ended[run.id].failure.reason == "the worker process exited with status 9"
        assert Store(setup.out).run(run.id).failure() == ended[run.id].failure


def test_a_worker_killed_in_training_keeps_its_read_outs(runs_of) -> None:
    """What a run had read out before its process was killed is in the store."""
    runs, setup = runs_of(epochs=[1, 500], workers=1)
    killed = False
    ended = None
    for event in local.execute(runs, setup):
        if isinstance(event, EpochEnded) and event.result.epoch == 2 and not killed:
            killed = True
            os.kill(_only_child(), signal.SIGKILL)
        ended = event
    assert isinstance(ended, Failed)
    assert ended.failure.status == "killed"
    assert ended.failure.epoch >= 3
    assert Store(setup.out).run(runs[0].id).has(1)


def test_stopping_checkpoints_all_runs(runs_of) -> None:
    """Asked to stop, workers keep their last finished epoch, and nothing else is begun."""
    runs, setup = runs_of(epochs=500, seed=[0, 1, 2, 3], workers=2)
    seen = []
    for event in local.execute(runs, setup):
        seen.append(event)
        trained = {e.run_id for e in seen if isinstance(e, EpochEnded)}
        if len(trained) == 2:
            setup.stop.set()
    stopped = [e for e in seen if isinstance(e, Stopped)]
    assert len(stopped) == 2
    for event in stopped:
        folder = Store(setup.out).run(event.run_id)
        epochs = [
            e.result.epoch for e in seen if isinstance(e, EpochEnded) and e.run_id == event.run_id
        ]
        assert folder.read(folder.checkpoint).epoch == max(epochs)
    assert not any(Store(setup.out).run(run.id).path.exists() for run in runs[2:])


def test_no_worker_outlives_its_sweep(runs_of) -> None:
    """When the sweep is over, or abandoned in the middle, its processes are gone."""
    runs, setup = runs_of(epochs=500, workers=2, seed=[0, 1])
    events = local.execute(runs, setup)
    next(events)
    children = _children()
    assert len(children) == 2
    events.close()
    assert _children() == []


def test_an_idle_worker_that_hangs_does_not_outlive_an_interrupt(runs_of) -> None:
    """Who presses Ctrl-C again leaves no worker behind, not even an idle one."""
    (first, second), setup = runs_of(epochs=500, workers=2, seed=[0, 1])
    short = Run(replace(first.cell, epochs=1), (1,))
    events = local.execute([short, second], setup)
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
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    states = {int(pid): Path(f"/proc/{pid}/stat").read_text().split()[2] for pid in listed}
    return [pid for pid, state in states.items() if state != "Z"]


def _only_child() -> int:
    (pid,) = _children()
    return pid
