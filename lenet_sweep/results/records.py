"""Records: one table row per cell as a dictionary, read from the store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lenet_sweep.config.registry import OPTION_GROUPS
from lenet_sweep.core.cells import OPTIONAL_SETTINGS, Cell, Choice
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import Failure
from lenet_sweep.results.columns import ACCURACY_AT, EPOCHS_TRAINED, HOLDOUT, STOPPED
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import Store

Record = dict[str, Any]


def stored_record(
    cell: Cell, store: Store, person: str = "", failure: Failure | None = None
) -> Record | None:
    """The record of a cell, from the store; None if the cell has no outcome yet.

    person: named if the store does not say who trained the run. failure: a failure that was just
    reported, which takes precedence over the store.
    """
    folder = store.run_folder(cell.run_id)
    if failure and failure.epoch > cell.epochs:
        failure = None  # it happened after the last epoch of this cell
    snapshot = None if failure else folder.result(cell)
    if not snapshot and not failure:
        failure = folder.failure()
        if failure is None or failure.epoch > cell.epochs:
            return None
    outcome = snapshot or failure
    person = (outcome and outcome.person) or person
    return (
        settings_columns(cell)
        | {"person": person, "cell": cell.id}
        | (_success(snapshot) if snapshot else _failure(failure))
    )


def settings_columns(cell: Cell) -> Record:
    """The columns of the settings and options of a cell."""
    return {
        "batch": cell.batch,
        "lr": cell.lr,
        "epochs": cell.epochs,
        "device": cell.device,
        "loss": cell.loss.name,
        "optimizer": cell.optimizer.name,
        "activation": setting_value(cell, "activation"),
        "seed": cell.seed,
        "engine": cell.engine,
        "dataset": cell.data,
        **{name: setting_value(cell, name) for name in OPTIONAL_SETTINGS},
        **option_values(cell),
    }


def setting_value(cell: Cell, name: str) -> Any:
    """The column of a setting; None if the model of the cell does not have it."""
    if not cell.has_setting(name):
        return None
    value = getattr(cell, name)
    return value.name if isinstance(value, Choice) else value


def option_values(cell: Cell) -> Record:
    """The columns of a cell's options; a pair of numbers is text such as '[0.9,0.999]'."""
    return {
        f"{group}.{name}": f"[{','.join(map(repr, value))}]" if isinstance(value, tuple) else value
        for group in OPTION_GROUPS
        for name, value in getattr(cell, group).options
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
        EPOCHS_TRAINED: last.epoch,
    }


def _failure(failure: Failure | None) -> Record:
    assert failure is not None
    missing = dict.fromkeys(("accuracy", "train_loss", "seconds_per_epoch", "seconds"))
    return {"status": failure.status, "error": failure.reason} | missing


def stopped_record(cell: Cell, store: Store, epoch: int, reason: str, person: str = "") -> Record:
    """The record of a cell that a search stopped after `epoch`.

    It has no accuracy, so that it has no rank. epoch: 0 if it was not trained at all. person: named
    if the store does not say who trained the run.
    """
    snapshot = store.run_folder(cell.run_id).latest(until=cell.epochs)
    history = snapshot.history if snapshot else ()
    person = (snapshot and snapshot.person) or person
    missing = dict.fromkeys(("accuracy", "train_loss", "seconds_per_epoch", "seconds"))
    return (
        settings_columns(cell)
        | {"person": person, "cell": cell.id}
        | missing
        | {
            "status": STOPPED,
            "error": reason,
            EPOCHS_TRAINED: epoch,
            ACCURACY_AT: history[epoch - 1].accuracy if 0 < epoch <= len(history) else None,
        }
    )


def load_record(
    cell: Cell, store: Store, earlier: Mapping[Cell, Record], person: str = ""
) -> Record | None:
    """The record of a cell, from the store or else from `earlier`; None if neither has an outcome.

    earlier: the records of a results.csv. An accuracy there takes precedence over a failure in the
    store, because the cell did finish once. Raises StoreError if the store cannot be read and
    `earlier` does not have the cell.
    """
    old = earlier.get(cell)
    try:
        current = stored_record(cell, store, person)
    except StoreError:
        if old is None:
            raise
        return old
    if old and (current is None or (old["status"] == "ok" and current["status"] != "ok")):
        return old
    if old and old["status"] == STOPPED and current and current["status"] not in ("ok", "diverged"):
        return old  # the search has stopped it after this failure
    return current


def in_store(cell: Cell, record: Record, store: Store) -> bool:
    """Whether the store still has the file behind a record, and it is not known to be damaged."""
    run = store.run_folder(cell.run_id)
    epochs = record.get(EPOCHS_TRAINED) or cell.epochs
    if record["status"] == STOPPED:
        if not record.get(EPOCHS_TRAINED):  # never trained
            return True
        path = run.path
    else:
        path = run.snapshot_path(epochs) if record["status"] == "ok" else run.path / "failure.json"
    return path not in store.damaged and os.path.exists(path)  # noqa: PTH110 - Path.exists may raise
