"""From the store to the ranked table: one row a cell, best first; CSV, Markdown and LaTeX.

pandas is imported where it is used: it takes as long as all else that runs need to begin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lenet_sweep.core.cells import Cell, Optimizer
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import Failure
from lenet_sweep.results.columns import HOLDOUT
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import Store

if TYPE_CHECKING:
    pass


Record = dict[str, Any]


def record(
    cell: Cell, store: Store, person: str = "", failure: Failure | None = None
) -> Record | None:
    """The row of a cell, from the store; None where the cell has no outcome yet.

    The person is whoever trained the run; who asks (`person`) where it did not come so far.
    failure: of just now, which counts more than what the store has of the cell.
    """
    folder = store.run(cell.run_id)
    if failure and failure.epoch > cell.epochs:
        failure = None  # in a later epoch: it says nothing of this cell
    snapshot = None if failure else folder.read(folder.snapshot_path(cell.epochs))
    if not snapshot and not failure:
        failure = folder.failure()
        if failure is None or failure.epoch > cell.epochs:
            return None
    outcome = snapshot or failure
    person = (outcome and outcome.person) or person
    return settings_columns(cell, person) | (_success(snapshot) if snapshot else _failure(failure))


def settings_columns(cell: Cell, person: str) -> Record:
    return {
        "batch": cell.batch,
        "lr": cell.lr,
        "epochs": cell.epochs,
        "person": person,
        "device": cell.device,
        "loss": cell.loss,
        "optimizer": cell.optimizer.name,
        "activation": cell.activation,
        "seed": cell.seed,
        "engine": cell.engine,
        "dataset": cell.data,
        "cell": cell.id,
        **option_values(cell.optimizer),
    }


def option_values(optimizer: Optimizer) -> Record:
    """The columns of an optimizer's options; a pair of numbers is text, '[0.9,0.999]'."""
    return {
        f"optimizer.{name}": f"[{','.join(map(repr, value))}]"
        if isinstance(value, tuple)
        else value
        for name, value in optimizer.options
    }


def _success(snapshot: Snapshot) -> Record:
    last = snapshot.history[-1]
    training = [epoch.seconds for epoch in snapshot.history]
    testing = [epoch.test_seconds for epoch in snapshot.history]
    return {
        "status": "ok",
        "accuracy": last.accuracy,
        "train_loss": last.cost,
        "seconds_per_epoch": sum(training) / len(training),
        "seconds": sum(training) + sum(testing),
        "error": "",
        HOLDOUT: last.holdout_accuracy,
    }


def _failure(failure: Failure | None) -> Record:
    assert failure is not None
    nothing = dict.fromkeys(("accuracy", "train_loss", "seconds_per_epoch", "seconds"))
    return {"status": failure.status, "error": failure.reason} | nothing


def known_record(
    cell: Cell, store: Store, kept: Mapping[Cell, Record], person: str = ""
) -> Record | None:
    """The row of a cell from the store, else the one in `kept`; None where neither has an outcome.

    An accuracy in `kept` counts more than a failure in the store: the cell did finish once.
    """
    before = kept.get(cell)
    try:
        found = record(cell, store, person)
    except StoreError:  # the store cannot be read
        if before is None:
            raise
        return before
    if before and (found is None or (before["status"] == "ok" and found["status"] != "ok")):
        return before
    return found


def in_store(cell: Cell, row: Record, store: Store) -> bool:
    """Whether the store has the file that a row is from, and has not found it damaged."""
    run = store.run(cell.run_id)
    path = run.snapshot_path(cell.epochs) if row["status"] == "ok" else run.path / "failure.json"
    return path not in store.damaged and os.path.exists(path)  # noqa: PTH110 - False, not an error


# ---------------------------------------------------------------- written
