"""Runs that take scheduler, so that the workers of a sweep end together."""

import contextlib
import heapq
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from clusters import interrupt, small_runs
from hypothesis import example, given
from hypothesis import strategies as st
from processes import PATIENCE

from lenet_sweep.config.keys import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import Run
from lenet_sweep.core.events import (
    ENDS,
    CellFinished,
    Epoch,
    EpochEnded,
    Event,
    Finished,
    Paused,
    Retrying,
    Started,
    Stopped,
    Waiting,
    decode,
)
from lenet_sweep.executors import RunContext, local, scheduler
from lenet_sweep.storage.store import Store
from lenet_sweep.training.engines import support
from lenet_sweep.training.engines.support import NATIVE

PAUSE = 0.02  # seconds that a change takes
FAULTS = Path(__file__).parent / "faults"

# The rule on paper: a simulation ------------------------------------------------------------------


def runs_of_lengths(epochs: Sequence[int]) -> list[Run]:
    """Runs that differ in their seed, with so many epochs each, longest first."""
    cells = []
    for seed, length in enumerate(sorted(epochs, reverse=True)):
        (cell,), _ = validate_cells(grid({"device": "cpu", "seed": seed, "epochs": length}), NATIVE)
        cells.append(cell)
    return [Run(cell, tuple(range(1, cell.epochs + 1))) for cell in cells]


def simulated(runs: Sequence[Run], paces: Sequence[float], workers: int) -> tuple[float, int, dict]:
    """Seconds that a sweep takes whose epochs take `paces`, pauses in it, epochs of each run."""
    pace = {run.id: seconds for run, seconds in zip(runs, paces, strict=True)}
    trained = dict.fromkeys(pace, 0)
    queue = scheduler.Scheduler(runs, retries=0, workers=workers)
    number = itertools.count()
    coming: list[tuple[float, int, Run, bool]] = []  # when, of which run, whether it then pauses
    pauses = 0

    def expect(when: float, run: Run, *, paused: bool = False) -> None:
        heapq.heappush(coming, (when, next(number), run, paused))

    def begin(now: float) -> None:
        if queue:
            run, _ = queue.next_run()
            queue.update(run, Started(run.id, trained[run.id]))
            expect(now + pace[run.id], run)

    for _ in range(workers):
        begin(0.0)
    now = 0.0
    while coming:
        now, _, run, paused = heapq.heappop(coming)
        if paused:
            pauses += 1
            queue.update(run, Paused(run.id))
            begin(now)
            continue
        trained[run.id] += 1
        result = Epoch(trained[run.id], 0.1, 99.0, 0.1, pace[run.id], 0.0)
        queue.update(run, EpochEnded(run.id, result))
        should_pause = trained[run.id] < run.cell.epochs and queue.should_pause(run)
        if trained[run.id] in run.snapshot_epochs:
            queue.update(run, CellFinished(run.id, trained[run.id]))
        if trained[run.id] == run.cell.epochs:
            queue.update(run, Finished(run.id))
            begin(now)
        elif should_pause:
            expect(now + PAUSE, run, paused=True)
        else:
            expect(now + pace[run.id], run)
    return now, pauses, trained


def bound(runs: Sequence[Run], paces: Sequence[float], workers: int) -> float:
    """No schedule is shorter: a run takes what it takes, and all of them share the workers."""
    lengths = [run.cell.epochs * pace for run, pace in zip(runs, paces, strict=True)]
    return max(*lengths, sum(lengths) / workers)


@pytest.mark.parametrize(
    ("epochs", "workers", "whole"),
    [([10] * 3, 2, 4 / 3), ([10] * 9, 8, 16 / 9), ([100] * 6, 4, 4 / 3), ([10] * 96, 64, 4 / 3)],
)
def test_equal_runs_that_workers_cannot_share_evenly(epochs, workers, whole) -> None:
    """Nine runs on eight workers need not take the time of sixteen."""
    runs, paces = runs_of_lengths(epochs), [1.0] * len(epochs)
    seconds, _, _ = simulated(runs, paces, workers)
    least = bound(runs, paces, workers)
    assert whole * least == pytest.approx(-(-len(epochs) // workers) * epochs[0])  # in one go each
    assert seconds < 1.1 * least


@given(
    st.lists(st.tuples(st.integers(1, 60), st.floats(0.1, 3.0)), min_size=1, max_size=12),
    st.integers(1, 8),
)
@example([(10, 1.2)] * 3 + [(10, 1.02)] * 3, 2)
def test_every_epoch_is_trained_once_and_no_time_is_lost(lengths, workers) -> None:
    """Whatever the runs are, each is trained whole, and the sweep ends near the earliest end.

    The rule reckons what a run not begun has to go from the pace of others, so that no more can be
    said than what holds for runs in one go (Graham 1966).
    """
    runs = runs_of_lengths([epochs for epochs, _ in lengths])
    paces = [pace for _, pace in lengths]
    seconds, _, trained = simulated(runs, paces, workers)
    assert trained == {run.id: run.cell.epochs for run in runs}
    longest = max(run.cell.epochs * pace for run, pace in zip(runs, paces, strict=True))
    together = sum(run.cell.epochs * pace for run, pace in zip(runs, paces, strict=True))
    assert seconds <= together / workers + longest + 1e-9


@given(st.integers(1, 40), st.floats(0.02, 3.0), st.integers(1, 12), st.integers(1, 8))
@example(100, 0.5, 3, 2)
def test_turns_of_equal_runs_are_never_later_than_runs_in_one_go(epochs, pace, number, workers):
    """Taking turns gains, or costs what the changes take, and these are few."""
    runs = runs_of_lengths([epochs] * number)
    seconds, pauses, _ = simulated(runs, [pace] * number, workers)
    assert seconds <= -(-number // workers) * epochs * pace + pauses * PAUSE + 1e-6
    assert pauses * scheduler.MIN_GAIN_SECONDS <= epochs * pace * number + 1e-6


@pytest.mark.parametrize(
    ("epochs", "paces", "workers", "most"),
    [
        ([10] * 6, [0.5] * 5 + [1.0], 5, 4),  # 14 if several made room for the same run
        ([50, 20, 20, 20, 10, 10, 5, 5], [0.5, 1.0, 1.5, 1.5, 1.0, 0.5, 1.5, 1.5], 5, 9),  # or 15
    ],
)
def test_changes_are_few(epochs, paces, workers, most) -> None:
    """One run makes room for a waiting one, and that is the one with the furthest to go."""
    _, pauses, _ = simulated(runs_of_lengths(epochs), paces, workers)
    assert pauses <= most


def test_the_order_given_holds_where_no_turns_are_taken() -> None:
    """On a GPU, or trained anew, the last runs begin as planned: the longest in seconds first."""
    runs = []
    for batch, epochs in ((4, 12), (4, 10), (256, 15)):
        settings = {"device": "cpu", "batch": batch, "epochs": epochs}
        (cell,), _ = validate_cells(grid(settings | {"seed": len(runs)}), NATIVE)
        runs.append(Run(cell, (cell.epochs,)))
    for workers in (0, 3):  # with turns it is the same order, since the plan knows what is long
        queue = scheduler.Scheduler(runs, retries=0, workers=workers)
        first, _ = queue.next_run()
        queue.update(first, EpochEnded(first.id, Epoch(1, 0.1, 99.0, 0.1, 5.0, 0.1)))
        assert [queue.next_run()[0] for _ in runs[1:]] == runs[1:]


def test_enough_runs_are_each_trained_in_one_go() -> None:
    """While every worker has a next run, and where all are equal and come out even, none pauses."""
    runs = runs_of_lengths([10] * 40)
    assert simulated(runs, [1.0] * 40, workers=8)[:2] == (50.0, 0)


# In processes -------------------------------------------------------------------------------------


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs take turns of an epoch or two, however short."""
    monkeypatch.setattr(scheduler, "MIN_GAIN_SECONDS", 0.0)
    monkeypatch.setattr(scheduler, "MIN_GAIN_SHARE", 0.0)


@contextlib.contextmanager
def killed_if_it_hangs(process: subprocess.Popen[str]) -> Iterator[None]:
    """End it where the test would wait for ever."""
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    yield
    timer.cancel()


def of_kind(events: Sequence[Event], kind: type[Event]) -> list[str]:
    return [event.run_id for event in events if isinstance(event, kind)]


def said_by_a_worker(
    run: Run, setup: RunContext, patience: float, until: Callable[[Event], bool]
) -> list[Event]:
    """The events of a worker that is to ask, is never answered, and loses its parent at last."""
    common = {"out": str(setup.out), "data_root": str(setup.data_root), "retrain": False}
    begin = {"cell": run.cell.to_json(), "snapshot_epochs": run.snapshot_epochs, "wait": False}
    code = f"from lenet_sweep.executors import worker; worker.ANSWER_TIMEOUT = {patience}; worker.main()"
    with (
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as worker,
        killed_if_it_hangs(worker),
    ):
        for message in (common | {"environment": {}}, {"may_pause": True}, begin):
            worker.stdin.write(json.dumps(message) + "\n")
        worker.stdin.flush()
        seen = []
        for line in worker.stdout:
            seen.append(decode(line))
            if until(seen[-1]):
                worker.stdin.close()
    return seen


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("engine", ["native", "torch"])
def test_runs_in_turns_have_the_numbers_of_runs_in_one_go(tmp_path, small_folder, engine) -> None:
    """Three runs on two workers pause and go on, and no bit of their results shows it."""
    if engine == "native" and support.missing():
        pytest.skip(support.missing())
    found = []
    for out, workers in (("turns", 2), ("one go", 1)):
        axes = {"lr": [0.1, 0.02, 0.01], "epochs": [4, 8], "workers": workers, "engine": engine}
        runs, setup = small_runs(tmp_path / out, small_folder(), **axes)
        seen = list(local.execute(runs, setup))
        assert sorted(of_kind(seen, Finished)) == sorted(run.id for run in runs)
        assert bool(of_kind(seen, Paused)) == (workers == 2)
        for run in runs:
            folder = Store(setup.out).run(run.id)
            assert not folder.checkpoint.exists()
            for epoch in (4, 8):
                snapshot = folder.read(folder.snapshot_path(epoch))
                costs = [result.cost for result in snapshot.history]
                weights = [snapshot.state[name].tobytes() for name in sorted(snapshot.state)]
                found.append((out, epoch, costs, weights))
    assert [each[1:] for each in found[:6]] == [each[1:] for each in found[6:]]


@pytest.mark.usefixtures("often")
def test_a_paused_run_that_another_sweep_took_is_waited_for(runs_of) -> None:
    """A paused run is free, as one not begun is: whoever takes it, its result is taken."""
    runs, setup = runs_of(seed=[0, 1, 2], epochs=40, workers=2)
    lock, seen = None, []
    for event in local.execute(runs, setup):
        seen.append(event)
        if isinstance(event, Paused) and not lock and not of_kind(seen, Waiting):
            lock = Store(setup.out).run(event.run_id).claim(timeout=0)
        if isinstance(event, Waiting) and lock:
            lock.release()
            lock = None
    assert of_kind(seen, Waiting)
    assert sorted(of_kind(seen, Finished)) == sorted(run.id for run in runs)


@pytest.mark.usefixtures("often")
def test_stopping_while_a_run_is_paused(runs_of) -> None:
    """What a paused run had trained is kept when the sweep is stopped, and is gone on from."""
    runs, setup = runs_of(seed=[0, 1, 2], epochs=500, workers=2)
    seen = []
    for event in local.execute(runs, setup):
        seen.append(event)
        if isinstance(event, Paused) and not setup.stop.is_set():
            paused = event.run_id
            interrupt(setup)
    trained = [e.result.epoch for e in seen if isinstance(e, EpochEnded) and e.run_id == paused]
    folder = Store(setup.out).run(paused)
    assert folder.read(folder.checkpoint).epoch == max(trained)
    assert sorted(of_kind(seen, Stopped)) == sorted(run.id for run in runs)


@pytest.mark.usefixtures("often")
def test_a_new_worker_takes_turns_too(runs_of, monkeypatch, tmp_path) -> None:
    """The worker in place of one that died asks as it did, and the failed run comes last."""
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    monkeypatch.setenv("FAILED_ONCE", str(tmp_path / "failed"))
    axes = {"lr": [0.11, 0.2, 0.3, 0.4, 0.5], "epochs": 150, "workers": 3, "retries": 1}
    (fails, *others), setup = runs_of(**axes)
    seen = list(local.execute([*others, fails], setup))
    assert sorted(of_kind(seen, Finished)) == sorted(run.id for run in (fails, *others))
    assert of_kind(seen, ENDS)[-1] == fails.id
    died = next(n for n, event in enumerate(seen) if isinstance(event, Retrying))
    ended = next(n for n, event in enumerate(seen) if isinstance(event, Finished))
    later = [e for e in seen[died:ended] if isinstance(e, EpochEnded) and e.result.epoch < 150]
    assert {event.run_id for event in later} == {run.id for run in others}  # on all three workers
    assert all(event.waits_for_answer for event in later)


@pytest.mark.parametrize(("epochs", "workers"), [(30, 2), (1, 1)])
def test_a_launcher_that_is_held_up_ends_no_run(runs_of, epochs: int, workers: int) -> None:
    """A worker that asks, or has said that it is done, is not taken for one that hangs."""
    runs, setup = runs_of(seed=[0, 1, 2], epochs=epochs, workers=workers, timeout=4.0)
    held_up = False
    seen = []
    for event in local.execute(runs, setup):
        seen.append(event)
        if not held_up and (getattr(event, "waits_for_answer", False) or epochs == 1):
            held_up = True
            time.sleep(2 * setup.timeout)  # as a pager or a slow disk would
    assert held_up
    assert sorted(of_kind(seen, Finished)) == sorted(run.id for run in runs)


def test_training_goes_on_where_nobody_answers(runs_of) -> None:
    """A launcher that is held up does not hold up training."""
    (run,), setup = runs_of(epochs=4)
    seen = said_by_a_worker(run, setup, 0.01, until=lambda event: isinstance(event, Finished))
    assert [e.waits_for_answer for e in seen if isinstance(e, EpochEnded)] == [
        True,
        True,
        True,
        False,
    ]
    assert isinstance(seen[-1], Finished)


def test_a_worker_whose_parent_dies_while_it_asks_keeps_its_epoch(runs_of) -> None:
    """A run that waits to be told whether it goes on is checkpointed when nobody can tell it."""
    (run,), setup = runs_of(epochs=50)
    seen = said_by_a_worker(run, setup, PATIENCE, until=lambda event: isinstance(event, EpochEnded))
    assert isinstance(seen[-1], Stopped)
    folder = Store(setup.out).run(run.id)
    assert folder.read(folder.checkpoint).epoch == 1
