"""Estimate how long a plan will take, from the times of runs in the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean, median
from typing import Any

from lenet_sweep.config.registry import cell_from_json
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError, UsageError
from lenet_sweep.core.plans import Plan, relative_epoch
from lenet_sweep.storage.store import Store

MAX_RUNS_READ = 200  # so that a dry run is fast in a large store, too
MAX_RATIO = 30  # epochs that are longer or shorter by more are dominated by other costs

# Typical seconds per epoch (60,000 images, batch size 64) if no run is comparable: on a core with
# AVX-512 (docs/native-engine.md), and on the report's laptop. Accurate within a factor of three.
TYPICAL_SECONDS = {("native", "cpu"): 0.7, ("torch", "cpu"): 9.0, ("torch", "mps"): 8.0,
                   ("torch", "cuda"): 3.0}  # fmt: skip
THREAD_GAIN = 0.8  # what each thread after the first adds to the speed of a run
MAX_THREADS = 8  # of a run of the native engine
TYPICAL_TEST_SHARE = 0.1  # time to test after an epoch, as a share of the above


@dataclass(frozen=True)
class Measured:
    """Mean times of one epoch of a run, in seconds.

    per_unit: training time on one thread, divided by `relative_epoch` of its cell. test_seconds:
        also on one thread.
    """

    cell: Cell
    processor: str
    per_unit: float
    test_seconds: float


@dataclass(frozen=True)
class Estimate:
    """The estimated time of a plan, in seconds.

    workers: runs that train at the same time; None if unknown, `seconds` is then for one worker.
    runs: the number of runs that the estimate is based on; 0 means a rough guess.
    """

    seconds: float
    workers: int | None
    runs: int


def estimate(
    plan: Plan,
    store: Store,
    workers: int | None,
    processor: str,
    threads: int = 1,
    threads_per_run: int = MAX_THREADS,
    later: Sequence[tuple[int, int]] = (),
    *,
    retrain: bool = False,
) -> Estimate:
    """Estimate the time of a plan from the headers of snapshots in the store.

    workers: None if unknown. processor: the name of this machine's processor. threads: of all runs
    in training, together. threads_per_run: at most; only the native engine uses more than one.
    later: the rounds of a search that follow, each as a number of runs and the epochs of each run;
    their epochs take the mean time of those in the plan. retrain: whether the epochs in the store
    are trained again.
    """
    try:
        stored = store.run_ids()
    except OSError:  # the folder cannot be listed
        stored = set()
    measured = _measured(plan, store, stored)
    used: set[str] = set()
    paces: dict[Any, tuple[float, float, list[str]]] = {}
    durations, all_seconds = [], []
    for run in plan.runs:
        cell = run.cell
        kind = (cell.engine, cell.device, cell.model, cell.model_source, cell.optimizer.name,
                cell.activation, cell.batch, cell.dataset)  # fmt: skip
        if kind not in paces:
            paces[kind] = _pace(cell, measured, processor)
        per_unit, test_seconds, sources = paces[kind]
        used.update(sources)
        is_resumed = run.id in stored and not retrain
        trained = len(store.run_folder(run.id).history(cell.epochs)) if is_resumed else 0
        epoch_seconds = per_unit * relative_epoch(cell) + test_seconds
        durations.append((cell.epochs - trained) * epoch_seconds)
        all_seconds.append(epoch_seconds)
    rounds = [durations, *([epochs * fmean(all_seconds)] * runs for runs, epochs in later)]
    native = all(run.cell.engine == "native" for run in plan.runs)
    seconds = sum(_duration(d, workers, threads, threads_per_run, native=native) for d in rounds)
    parallel = min(workers or 1, max(map(len, rounds))) or 1
    return Estimate(seconds, None if workers is None else parallel, len(used))


def _duration(
    runs: Sequence[float], workers: int | None, threads: int, threads_per_run: int, *, native: bool
) -> float:
    """The time of runs that take so many seconds on one thread each. native: of that engine."""
    parallel = min(workers or 1, len(runs)) or 1
    if not native:
        return max([sum(runs) / parallel, *runs])
    longest = max(runs, default=0.0) / _speed(min(threads, threads_per_run))
    return max(sum(runs) / parallel / _speed(threads / parallel), longest)


def _speed(threads: float) -> float:
    """The speed of a run with this many threads, relative to one thread."""
    return 1 + THREAD_GAIN * max(0.0, min(threads, MAX_THREADS) - 1)


def _measured(plan: Plan, store: Store, stored: set[str]) -> list[Measured]:
    """The times of stored runs, those of the plan's own cells first."""
    own = dict.fromkeys(cell.run_id for cell in plan.cells)
    candidates = (run_id for ids in (own, sorted(stored)) for run_id in ids if run_id in stored)
    measured = []
    for run_id in islice(dict.fromkeys(candidates), MAX_RUNS_READ):
        # A separate Store, so that damage found here is not reported.
        folder = Store(store.out).run_folder(run_id)
        try:
            description, history = folder.description(), folder.history()
            if description is None or not history:
                continue
            cell = cell_from_json(description["settings"] | {"epochs": len(history)})
            processor = str(description["environment"].get("processor"))
        except (KeyError, TypeError, AttributeError, UsageError, StoreError):
            continue  # damaged, or written by another version
        seconds = fmean(epoch.seconds * _speed(epoch.threads) for epoch in history)
        test_seconds = fmean(epoch.test_seconds * _speed(epoch.threads) for epoch in history)
        measured.append(Measured(cell, processor, seconds / relative_epoch(cell), test_seconds))
    return measured


def _pace(
    cell: Cell, measured: Iterable[Measured], processor: str
) -> tuple[float, float, list[str]]:
    """Medians over the most similar runs: seconds per unit, seconds per test; ids of these runs."""
    comparable = [
        m
        for m in measured
        if (m.cell.engine, m.cell.device) == (cell.engine, cell.device)
        and 1 / MAX_RATIO <= relative_epoch(m.cell) / relative_epoch(cell) <= MAX_RATIO
    ]
    if not comparable:
        units = 60_000 * (1 + 16 / 64)  # `relative_epoch` of a typical cell
        seconds = TYPICAL_SECONDS.get((cell.engine, cell.device), TYPICAL_SECONDS["torch", "cpu"])
        return seconds / units, TYPICAL_TEST_SHARE * seconds, []

    def similarity(other: Measured) -> tuple[bool, ...]:
        return (
            other.processor == processor,
            (other.cell.model.name, other.cell.model_source)
            == (cell.model.name, cell.model_source),
            other.cell.dataset == cell.dataset,
            other.cell.optimizer.name == cell.optimizer.name,
            other.cell.activation == cell.activation,
            other.cell.batch == cell.batch,
        )

    highest = max(map(similarity, comparable))
    similar = [m for m in comparable if similarity(m) == highest]
    return (
        median(m.per_unit for m in similar),
        median(m.test_seconds for m in similar),
        [m.cell.run_id for m in similar],
    )
