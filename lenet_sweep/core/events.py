"""The events of a run: training yields them, executors pass them on and views display them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from lenet_sweep.core.plans import Run


@dataclass(frozen=True)
class Epoch:
    """The results of one epoch of a run. Costs are means per image; times are in seconds."""

    epoch: int
    cost: float
    accuracy: float  # on the test set, percent
    test_cost: float
    seconds: float  # training only
    test_seconds: float
    holdout_accuracy: float | None = None  # percent; None if no images are held out
    threads: int = 1  # at the end of the epoch; they change as other runs start and end
    holdout_cost: float | None = None  # None also in the histories of earlier versions


@dataclass(frozen=True)
class Failure:
    """Why a run did not finish. `epoch` is the epoch in which it failed, counted from 1."""

    status: str  # diverged, failed, killed, timed-out
    epoch: int
    reason: str
    traceback: str = ""
    person: str = ""  # who trained it


@dataclass(frozen=True)
class Waiting:
    """Another process is training this run; its result will be used."""

    run_id: str


@dataclass(frozen=True)
class LockedElsewhere:
    """Another process is training this run; the executor tries it again later. Never displayed."""

    run_id: str


@dataclass(frozen=True)
class Damaged:
    """A file of this run is damaged. It is moved to `<name>.damaged` and rebuilt."""

    run_id: str
    path: str


@dataclass(frozen=True)
class Started:
    """Training starts after the first `epoch` epochs, which are already in the store."""

    run_id: str
    epoch: int


@dataclass(frozen=True)
class Progress:
    """The loss of a batch, after `seen` of the epoch's `total` training images."""

    run_id: str
    epoch: int
    seen: int
    total: int
    loss: float


@dataclass(frozen=True)
class EpochEnded:
    """An epoch was trained and tested."""

    run_id: str
    result: Epoch


@dataclass(frozen=True)
class EndedEarly:
    """The run ended after `epoch`: the accuracy was no better for `patience` epochs.

    CellFinished follows for each cell with more epochs, which has the result of this epoch.
    """

    run_id: str
    epoch: int
    patience: int


@dataclass(frozen=True)
class CellFinished:
    """The cell of this run that has `epoch` epochs is in the store.

    The event has no result: a reader takes it from the snapshot in the store, which is verified.
    """

    run_id: str
    epoch: int


@dataclass(frozen=True)
class Finished:
    """All snapshots of the run are in the store."""

    run_id: str


@dataclass(frozen=True)
class Failed:
    """The run ended before all of its snapshots were saved."""

    run_id: str
    failure: Failure


@dataclass(frozen=True)
class Retrying:
    """The run failed and will be retried. `attempt` counts the retries, starting at 1."""

    run_id: str
    failure: Failure
    attempt: int


@dataclass(frozen=True)
class Requeued:
    """The scheduler of the cluster interrupted the run, which will resume later."""

    run_id: str
    reason: str


@dataclass(frozen=True)
class Interrupted:
    """The run was interrupted, for example by Ctrl-C; its progress is in the store."""

    run_id: str


@dataclass(frozen=True)
class Stopped:
    """The search stopped this run after `epoch`, 0 if it was not trained at all."""

    run_id: str
    epoch: int
    reason: str


Event = (
    Waiting | LockedElsewhere | Damaged | Started | Progress | EpochEnded | EndedEarly
    | CellFinished | Finished | Failed | Retrying | Requeued | Interrupted | Stopped
)  # fmt: skip
FINAL_EVENTS = (Finished, Failed, Interrupted)  # the last event of each run is one of these


@dataclass(frozen=True)
class SearchRound:
    """The runs that a search trains before it decides again.

    This is not an event of a run, so observers get it by `on_round`. stage: such as 'rung 2 of 3,
    epoch 33: 14 of 40 settings'. runs: each up to the last epoch of this round. trained: by run id,
    the epochs that the store has at the start. later: the rounds that are expected to follow, each
    as a number of runs and the epochs of each run. at_most: whether `later` is an upper limit.
    """

    stage: str
    runs: tuple[Run, ...]
    trained: Mapping[str, int]
    later: tuple[tuple[int, int], ...] = ()
    at_most: bool = False


def epoch_begun(event: Event) -> int | None:
    """The epoch that starts with this event, or None if the event does not start one."""
    if isinstance(event, Started):
        return event.epoch + 1
    return event.result.epoch + 1 if isinstance(event, EpochEnded) else None


_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def to_json(event: Event) -> dict[str, Any]:
    """The event as JSON values; `from_json` is the inverse."""
    return {"kind": type(event).__name__} | asdict(event)


def from_json(values: Mapping[str, Any]) -> Event:
    """The event that `to_json` wrote. Raises ValueError, KeyError or TypeError for other values."""
    arguments = dict(values)
    kind = _KINDS[arguments.pop("kind")]
    if kind is EpochEnded:
        arguments["result"] = Epoch(**arguments["result"])
    if "failure" in arguments:
        arguments["failure"] = Failure(**arguments["failure"])
    event: Event = kind(**arguments)
    return event


def encode(event: Event) -> str:
    """The event as one line of JSON."""
    return json.dumps(to_json(event))


def decode(line: str) -> Event:
    """Decode a line of `encode`. Raises ValueError, KeyError or TypeError for any other text."""
    return from_json(json.loads(line))
