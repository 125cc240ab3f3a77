"""How long the runs of a plan will take, estimated from what runs in the store took."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from statistics import fmean, median
from typing import Any

from lenet_sweep.config.registry import cell_from_json
from lenet_sweep.core.cells import Cell, Plan, relative_epoch
from lenet_sweep.core.errors import StoreError, UsageError
from lenet_sweep.storage.store import Store

LOOKED_AT = 200  # runs in the store: a dry run answers at once in a large store too
APART = 30  # an epoch so many times as long or short is of other costs, such as starting

# Seconds to train on 60,000 images in batches of 64, for when nothing was measured: on a core with
# AVX-512 (docs/native-engine.md), and on the report's laptop. A guess within a factor of three.
ROUGHLY = {("native", "cpu"): 0.7, ("torch", "cpu"): 9.0, ("torch", "mps"): 8.0,
           ("torch", "cuda"): 3.0}  # fmt: skip
ROUGH_TEST = 0.1  # seconds of an epoch's test, as a share of the above


@dataclass(frozen=True)
class Measured:
    """What an epoch of one run took: `per_unit` is training seconds by `relative_epoch`."""

    cell: Cell
    processor: str
    per_unit: float
    test_seconds: float


@dataclass(frozen=True)
class Estimate:
    """Seconds that a plan takes on `workers` (None: on one), from what `runs` runs took.

    runs: 0 if no run could be compared; `seconds` is then a rough guess.
    """

    seconds: float
    workers: int | None
    runs: int


def estimate(plan: Plan, store: Store, workers: int | None, processor: str) -> Estimate:
    """How long the plan's runs will take, by the headers of files in the store."""
    try:
        stored = store.run_ids()
    except OSError:  # it cannot be listed
        stored = set()
    measured = _measured(plan, store, stored)
    used: set[str] = set()
    known: dict[Any, tuple[float, float, list[str]]] = {}
    needs = []
    for run in plan.runs:
        cell = run.cell
        kind = (cell.engine, cell.device, cell.optimizer.name, cell.activation, cell.batch,
                cell.dataset)  # fmt: skip
        if kind not in known:
            known[kind] = _pace(cell, measured, processor)
        per_unit, test_seconds, sources = known[kind]
        used.update(sources)
        begun = len(store.run(run.id).history(cell.epochs)) if run.id in stored else 0
        epoch = per_unit * relative_epoch(cell) + test_seconds
        needs.append((cell.epochs - begun) * epoch)
    together = min(workers or 1, len(needs)) or 1
    seconds = max([sum(needs) / together, *needs])
    return Estimate(seconds, None if workers is None else together, len(used))


def _measured(plan: Plan, store: Store, stored: set[str]) -> list[Measured]:
    """Runs of the plan's own cells first, then others in no particular order."""
    own = dict.fromkeys(cell.run_id for cell in plan.cells)
    candidates = (run_id for ids in (own, sorted(stored)) for run_id in ids if run_id in stored)
    found = []
    for run_id in islice(dict.fromkeys(candidates), LOOKED_AT):
        folder = Store(store.out).run(run_id)  # what is damaged is not the plan's concern
        try:
            described, history = folder.description(), folder.history()
            if described is None or not history:
                continue
            cell = cell_from_json(described["settings"] | {"epochs": len(history)})
            processor = str(described["environment"].get("processor"))
        except (KeyError, TypeError, AttributeError, UsageError, StoreError):
            continue  # unreadable, or of another version
        seconds = fmean(epoch.seconds for epoch in history)
        test_seconds = fmean(epoch.test_seconds for epoch in history)
        found.append(Measured(cell, processor, seconds / relative_epoch(cell), test_seconds))
    return found


def _pace(
    cell: Cell, measured: Iterable[Measured], processor: str
) -> tuple[float, float, list[str]]:
    """Seconds per unit and of a test, by the runs most like this cell; the ids of these runs."""
    comparable = [
        m
        for m in measured
        if (m.cell.engine, m.cell.device) == (cell.engine, cell.device)
        and 1 / APART <= relative_epoch(m.cell) / relative_epoch(cell) <= APART
    ]
    if not comparable:
        standard = 60_000 * (1 + 16 / 64)
        seconds = ROUGHLY.get((cell.engine, cell.device), ROUGHLY["torch", "cpu"])
        return seconds / standard, ROUGH_TEST * seconds, []

    def likeness(other: Measured) -> tuple[bool, ...]:
        return (
            other.processor == processor,
            other.cell.dataset == cell.dataset,
            other.cell.optimizer.name == cell.optimizer.name,
            other.cell.activation == cell.activation,
            other.cell.batch == cell.batch,
        )

    most = max(map(likeness, comparable))
    alike = [m for m in comparable if likeness(m) == most]

    def usual(value: Callable[[Measured], float]) -> float:
        return median(map(value, alike))

    ids = [m.cell.run_id for m in alike]
    return usual(lambda m: m.per_unit), usual(lambda m: m.test_seconds), ids
