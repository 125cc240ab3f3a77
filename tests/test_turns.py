"""Time slicing: the last runs take turns, so that all workers finish at the same time."""

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
from processes import PATIENCE, TIMEOUT

from lenet_sweep.config.grids import grid
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import Run
from lenet_sweep.core.events import (
    FINAL_EVENTS,
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

PAUSE = 0.02  # seconds that a pause takes
FAULTS = Path(__file__).parent / "faults"

# Simulation -------------------------------------------------------------------------------------


def runs_of_lengths(epochs: Sequence[int]) -> list[Run]:
    """Runs with this many epochs, which differ in their seed, longest first."""
    cells = []
    for seed, length in enumerate(sorted(epochs, reverse=True)):
        (cell,), _ = validate_cells(grid({"device": "cpu", "seed": seed, "epochs": length}), NATIVE)
        cells.append(cell)
    return [Run(cell, tuple(range(1, cell.epochs + 1))) for cell in cells]


def simulate(runs: Sequence[Run], paces: Sequence[float], workers: int) -> tuple[float, int, dict]:
    """The seconds of a sweep whose epochs take `paces` s, its pauses, and the epochs of each
    run.
    """
    pace = {run.id: seconds for run, seconds in zip(runs, paces, strict=True)}
    trained = dict.fromkeys(pace, 0)
    queue = scheduler.Scheduler(runs, retries=0, workers=workers)
    number = itertools.count()
    pending: list[tuple[float, int, Run, bool]] = []  # time, order, run, whether it pauses
    pauses = 0

    def schedule(when: float, run: Run, *, paused: bool = False) -> None:
        heapq.heappush(pending, (when, next(number), run, paused))

    def begin(now: float) -> None:
        if queue:
            run, _ = queue.next_run()
            queue.update(run, Started(run.id, trained[run.id]))
            schedule(now + pace[run.id], run)

    for _ in range(workers):
        begin(0.0)
    now = 0.0
    while pending:
        now, _, run, paused = heapq.heappop(pending)
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
            schedule(now + PAUSE, run, paused=True)
        else:
            schedule(now + pace[run.id], run)
    return now, pauses, trained


def lower_bound(runs: Sequence[Run], paces: Sequence[float], workers: int) -> float:
    """The minimum time of any schedule: the longest run, and all runs divided among the workers."""
    lengths = [run.cell.epochs * pace for run, pace in zip(runs, paces, strict=True)]
    return max(*lengths, sum(lengths) / workers)


@pytest.mark.parametrize(
    ("epochs", "workers", "ratio"),
    [([10] * 3, 2, 4 / 3), ([10] * 9, 8, 16 / 9), ([100] * 6, 4, 4 / 3), ([10] * 96, 64, 4 / 3)],
)
def test_equal_runs_that_workers_cannot_share_evenly(epochs, workers, ratio) -> None:
    """Nine equal runs on eight workers take much less time than sixteen would."""
    runs, paces = runs_of_lengths(epochs), [1.0] * len(epochs)
    seconds, _, _ = simulate(runs, paces, workers)
    least = lower_bound(runs, paces, workers)
    assert ratio * least == pytest.approx(-(-len(epochs) // workers) * epochs[0])  # without pauses
    assert seconds < 1.1 * least


@given(
    st.lists(st.tuples(st.integers(1, 60), st.floats(0.1, 3.0)), min_size=1, max_size=12),
    st.integers(1, 8),
)
@example([(10, 1.2)] * 3 + [(10, 1.02)] * 3, 2)
def test_every_epoch_is_trained_once_within_the_bound(lengths, workers) -> None:
    """Any runs are trained completely, within the bound of list scheduling.

    The time of a run that has not started is estimated from other runs, so only the bound for runs
    without pauses is guaranteed (Graham 1966).
    """
    runs = runs_of_lengths([epochs for epochs, _ in lengths])
    paces = [pace for _, pace in lengths]
    seconds, _, trained = simulate(runs, paces, workers)
    assert trained == {run.id: run.cell.epochs for run in runs}
    longest = max(run.cell.epochs * pace for run, pace in zip(runs, paces, strict=True))
    together = sum(run.cell.epochs * pace for run, pace in zip(runs, paces, strict=True))
    assert seconds <= together / workers + longest + 1e-9


@given(st.integers(1, 40), st.floats(0.02, 3.0), st.integers(1, 12), st.integers(1, 8))
@example(100, 0.5, 3, 2)
def test_taking_turns_is_never_slower_for_equal_runs(epochs, pace, number, workers):
    """Taking turns saves time, or costs at most the time of its few pauses."""
    runs = runs_of_lengths([epochs] * number)
    seconds, pauses, _ = simulate(runs, [pace] * number, workers)
    assert seconds <= -(-number // workers) * epochs * pace + pauses * PAUSE + 1e-6
    assert pauses * scheduler.MIN_GAIN_SECONDS <= epochs * pace * number + 1e-6


@pytest.mark.parametrize(
    ("epochs", "paces", "workers", "most"),
    [
        ([10] * 6, [0.5] * 5 + [1.0], 5, 4),  # 14 if several paused for the same run
        ([50, 20, 20, 20, 10, 10, 5, 5], [0.5, 1.0, 1.5, 1.5, 1.0, 0.5, 1.5, 1.5], 5, 9),  # or 15
    ],
)
def test_pauses_are_few(epochs, paces, workers, most) -> None:
    """One run pauses for each waiting run, namely for the one with the most time left."""
    _, pauses, _ = simulate(runs_of_lengths(epochs), paces, workers)
    assert pauses <= most


def test_without_turns_the_given_order_is_kept() -> None:
    """On a GPU or with reuse=false, the last runs start in the planned order, longest first."""
    runs = []
    for batch, epochs in ((4, 12), (4, 10), (256, 15)):
        settings = {"device": "cpu", "batch": batch, "epochs": epochs}
        (cell,), _ = validate_cells(grid(settings | {"seed": len(runs)}), NATIVE)
        runs.append(Run(cell, (cell.epochs,)))
    for workers in (0, 3):  # with turns the order is the same
        queue = scheduler.Scheduler(runs, retries=0, workers=workers)
        first, _ = queue.next_run()
        queue.update(first, EpochEnded(first.id, Epoch(1, 0.1, 99.0, 0.1, 5.0, 0.1)))
        assert [queue.next_run()[0] for _ in runs[1:]] == runs[1:]


def test_no_run_pauses_while_enough_runs_wait() -> None:
    """Nor does any run pause if equal runs divide evenly among the workers."""
    runs = runs_of_lengths([10] * 40)
    assert simulate(runs, [1.0] * 40, workers=8)[:2] == (50.0, 0)


# Real workers -------------------------------------------------------------------------------------


@pytest.fixture
def frequent_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs take turns after an epoch or two, however short."""
    monkeypatch.setattr(scheduler, "MIN_GAIN_SECONDS", 0.0)
    monkeypatch.setattr(scheduler, "MIN_GAIN_SHARE", 0.0)


@contextlib.contextmanager
def kill_if_it_hangs(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the process if the test would otherwise wait forever."""
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    yield
    timer.cancel()


def of_kind(events: Sequence[Event], kind: type[Event]) -> list[str]:
    return [event.run_id for event in events if isinstance(event, kind)]


def events_of_a_worker(
    run: Run, context: RunContext, answer_timeout: float, until: Callable[[Event], bool]
) -> list[Event]:
    """The events of a worker that asks whether to pause, gets no answer, and loses its parent."""
    common = {"out": str(context.out), "data_root": str(context.data_root), "retrain": False}
    begin = {"cell": run.cell.to_json(), "snapshot_epochs": run.snapshot_epochs, "wait": False}
    code = (
        "from lenet_sweep.executors import worker; "
        f"worker.ANSWER_TIMEOUT = {answer_timeout}; worker.main()"
    )
    with (
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as worker,
        kill_if_it_hangs(worker),
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


@pytest.mark.usefixtures("frequent_pauses")
@pytest.mark.parametrize("engine", ["native", "torch"])
def test_taking_turns_does_not_change_results(tmp_path, small_folder, engine) -> None:
    """Three runs on two workers pause and resume, with bit-identical results."""
    if engine == "native" and support.unavailable_reason():
        pytest.skip(support.unavailable_reason())
    results = []
    for out, workers in (("turns", 2), ("no turns", 1)):
        axes = {"lr": [0.1, 0.02, 0.01], "epochs": [4, 8], "workers": workers, "engine": engine}
        runs, context = small_runs(tmp_path / out, small_folder(), **axes)
        seen = list(local.execute(runs, context))
        assert sorted(of_kind(seen, Finished)) == sorted(run.id for run in runs)
        assert bool(of_kind(seen, Paused)) == (workers == 2)
        for run in runs:
            folder = Store(context.out).run_folder(run.id)
            assert not folder.checkpoint_path.exists()
            for epoch in (4, 8):
                snapshot = folder.read(folder.snapshot_path(epoch))
                costs = [result.cost for result in snapshot.history]
                weights = [snapshot.state[name].tobytes() for name in sorted(snapshot.state)]
                results.append((out, epoch, costs, weights))
    assert [each[1:] for each in results[:6]] == [each[1:] for each in results[6:]]


@pytest.mark.usefixtures("frequent_pauses")
def test_a_paused_run_may_be_trained_by_another_sweep(runs_of) -> None:
    """A paused run is unlocked; if another sweep trains it, its result is used."""
    runs, context = runs_of(seed=[0, 1, 2], epochs=40, workers=2)
    lock, seen = None, []
    for event in local.execute(runs, context):
        seen.append(event)
        if isinstance(event, Paused) and not lock and not of_kind(seen, Waiting):
            lock = Store(context.out).run_folder(event.run_id).claim(timeout=0)
        if isinstance(event, Waiting) and lock:
            lock.release()
            lock = None
    assert of_kind(seen, Waiting)
    assert sorted(of_kind(seen, Finished)) == sorted(run.id for run in runs)


@pytest.mark.usefixtures("frequent_pauses")
def test_stopping_while_a_run_is_paused(runs_of) -> None:
    """When the sweep is stopped, the progress of a paused run is kept."""
    runs, context = runs_of(seed=[0, 1, 2], epochs=500, workers=2)
    seen = []
    for event in local.execute(runs, context):
        seen.append(event)
        if isinstance(event, Paused) and not context.stop.is_set():
            paused = event.run_id
            interrupt(context)
    trained = [e.result.epoch for e in seen if isinstance(e, EpochEnded) and e.run_id == paused]
    folder = Store(context.out).run_folder(paused)
    assert folder.read(folder.checkpoint_path).epoch == max(trained)
    assert sorted(of_kind(seen, Stopped)) == sorted(run.id for run in runs)


@pytest.mark.usefixtures("frequent_pauses")
def test_a_new_worker_takes_turns_too(runs_of, monkeypatch, tmp_path) -> None:
    """The replacement of a dead worker also asks whether to pause; the failed run comes last."""
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    monkeypatch.setenv("FAILED_ONCE", str(tmp_path / "failed"))
    axes = {"lr": [0.11, 0.2, 0.3, 0.4, 0.5], "epochs": 150, "workers": 3, "retries": 1}
    (fails, *others), context = runs_of(**axes)
    seen = list(local.execute([*others, fails], context))
    assert sorted(of_kind(seen, Finished)) == sorted(run.id for run in (fails, *others))
    assert of_kind(seen, FINAL_EVENTS)[-1] == fails.id
    died = next(n for n, event in enumerate(seen) if isinstance(event, Retrying))
    ended = next(n for n, event in enumerate(seen) if isinstance(event, Finished))
    later = [e for e in seen[died:ended] if isinstance(e, EpochEnded) and e.result.epoch < 150]
    assert {event.run_id for event in later} == {run.id for run in others}  # on all three workers
    assert all(event.waits_for_answer for event in later)


@pytest.mark.parametrize(("epochs", "workers"), [(30, 2), (1, 1)])
def test_a_blocked_launcher_kills_no_run(runs_of, epochs: int, workers: int) -> None:
    """A worker that waits for the launcher is not taken for one that hangs."""
    runs, context = runs_of(seed=[0, 1, 2], epochs=epochs, workers=workers, timeout=TIMEOUT)
    blocked = False
    seen = []
    for event in local.execute(runs, context):
        seen.append(event)
        if not blocked and (getattr(event, "waits_for_answer", False) or epochs == 1):
            blocked = True
            time.sleep(2 * context.timeout)  # like a pager or a slow disk
    assert blocked
    assert sorted(of_kind(seen, Finished)) == sorted(run.id for run in runs)


def test_training_continues_without_an_answer(runs_of) -> None:
    """A blocked launcher does not block training."""
    (run,), context = runs_of(epochs=4)
    seen = events_of_a_worker(run, context, 0.01, until=lambda event: isinstance(event, Finished))
    assert [e.waits_for_answer for e in seen if isinstance(e, EpochEnded)] == [
        True,
        True,
        True,
        False,
    ]
    assert isinstance(seen[-1], Finished)


def test_a_worker_that_waits_for_an_answer_survives_its_parent(runs_of) -> None:
    """A run that waits for an answer is checkpointed when the parent dies."""
    (run,), context = runs_of(epochs=50)
    seen = events_of_a_worker(
        run, context, PATIENCE, until=lambda event: isinstance(event, EpochEnded)
    )
    assert isinstance(seen[-1], Stopped)
    folder = Store(context.out).run_folder(run.id)
    assert folder.read(folder.checkpoint_path).epoch == 1
