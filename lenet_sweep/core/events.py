"""What happens to a run, as values: training yields them, executors pass them on, views show."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import get_args


@dataclass(frozen=True)
class Epoch:
    """What one epoch of a run left. Costs are means per image; times are in seconds."""

    epoch: int
    cost: float
    accuracy: float  # on the test set, percent
    test_cost: float
    seconds: float  # training alone
    test_seconds: float
    holdout_accuracy: float | None = None  # percent; None where no images are held out


@dataclass(frozen=True)
class Failure:
    """Why a run did not finish. `epoch` is the epoch it failed in, counted from 1."""

    status: str  # diverged, failed, killed, timed-out
    epoch: int
    reason: str
    traceback: str = ""
    person: str = ""  # who trained it


@dataclass(frozen=True)
class Waiting:
    """Another process is training this run; its result will be taken."""

    run_id: str


@dataclass(frozen=True)
class LockedElsewhere:
    """Another process is training this run; the executor puts it back. Never shown."""

    run_id: str


@dataclass(frozen=True)
class Damaged:
    """A file of this run was not what had been written. It is moved aside and made anew."""

    run_id: str
    path: str


@dataclass(frozen=True)
class Started:
    """Training begins after `epoch` epochs that are already in the store."""

    run_id: str
    epoch: int


@dataclass(frozen=True)
class Progress:
    """The loss of the batch that ended with image `seen` of `total` in this epoch."""

    run_id: str
    epoch: int
    seen: int
    total: int
    loss: float


@dataclass(frozen=True)
class EpochEnded:
    """An epoch was trained and tested. `asks`: the run waits to be told whether it goes on."""

    run_id: str
    result: Epoch
    waits_for_answer: bool = False


@dataclass(frozen=True)
class CellFinished:
    """The cell of this run with these epochs is in the store."""

    run_id: str
    epoch: int


@dataclass(frozen=True)
class Finished:
    """Every read-out of the run is in the store."""

    run_id: str


@dataclass(frozen=True)
class Failed:
    """The run ended without some of its read-outs."""

    run_id: str
    failure: Failure


@dataclass(frozen=True)
class Retrying:
    """The run failed and will be tried again, for the `attempt`-th time after the first."""

    run_id: str
    failure: Failure
    attempt: int


@dataclass(frozen=True)
class Requeued:
    """The run was cut by whoever schedules it, which is no fault of it, and will go on."""

    run_id: str
    reason: str


@dataclass(frozen=True)
class Paused:
    """The run made room for one that has further to go; it will go on from its checkpoint."""

    run_id: str


@dataclass(frozen=True)
class Stopped:
    """The run was asked to stop; what it had trained is in the store."""

    run_id: str


Event = (
    Waiting | LockedElsewhere | Damaged | Started | Progress | EpochEnded | CellFinished
    | Finished | Failed | Retrying | Requeued | Paused | Stopped
)  # fmt: skip
ENDS = (Finished, Failed, Stopped)  # each run yields exactly one of these, as its last event


def epoch_begun(event: Event) -> int | None:
    """The epoch that a run is in from this event on; None where the event does not change it."""
    if isinstance(event, Started):
        return event.epoch + 1
    return event.result.epoch + 1 if isinstance(event, EpochEnded) else None


_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def encode(event: Event) -> str:
    """The event as one line of JSON."""
    return json.dumps({"kind": type(event).__name__} | asdict(event))


def decode(line: str) -> Event:
    """The event that `encode` wrote. Raises ValueError, KeyError or TypeError on anything else."""
    values = json.loads(line)
    kind = _KINDS[values.pop("kind")]
    if kind is EpochEnded:
        values["result"] = Epoch(**values["result"])
    if "failure" in values:
        values["failure"] = Failure(**values["failure"])
    event: Event = kind(**values)
    return event
