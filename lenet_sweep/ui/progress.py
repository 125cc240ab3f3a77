"""How far a sweep has come, counted from its events, and how that is said in one line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count, islice

from lenet_sweep.core.cells import Plan, Run, short_names
from lenet_sweep.core.events import (
    CellFinished,
    Damaged,
    EpochEnded,
    Event,
    Failed,
    Failure,
    Finished,
    Paused,
    Progress,
    Requeued,
    Retrying,
    Started,
    Stopped,
    Waiting,
)
from lenet_sweep.core.text import format_duration, one_line, pluralize
from lenet_sweep.results.estimate import Estimate

PREVIEW = 20  # cells that a dry run names
TELLING = 0.1  # share of an epoch after which its speed is taken: the first steps are slow


@dataclass
class RunProgress:
    """A run in progress, or one that waits for another process (`began` is None)."""

    run: Run
    lane: int  # where it is shown: a run that begins takes the place of one that ended
    began: float | None = None
    resumed: int = 0  # epochs that were in the store
    epoch: int = 0  # epochs trained, those included
    part: float = 0.0  # of the epoch in training
    accuracy: float | None = None
    cost: float | None = None  # of the last epoch; within the first one, of the last batch
    timed: list[float] = field(default_factory=list)  # training seconds of each epoch

    @property
    def position(self) -> float:
        return self.epoch + self.part


class SweepProgress:
    """What the events so far add up to. `now` is any clock that counts seconds.

    What is asked while runs train does not go through all of them: a sweep may have 100,000.
    """

    def __init__(self, plan: Plan, workers: int | None, now: float) -> None:
        self.plan = plan
        self.workers = workers
        self.began = now
        self.failed = 0  # cells
        self.running: dict[str, RunProgress] = {}
        self.paused: dict[str, RunProgress] = {}  # between two turns
        self.unstarted = dict(plan.by_id)  # paused ones included
        self._lengths = Counter(map(_length, plan.runs))  # of those not begun
        names = short_names(plan.cells, epochs=False, between=" ")
        self.names = {run.id: names[run.cell] for run in plan.runs}
        self.longest_name = max(map(len, self.names.values()), default=0)
        self.most_epochs = max((run.cell.epochs for run in plan.runs), default=0)
        self._unread = {run.id: set(run.snapshot_epochs) for run in plan.runs}
        self.total = len(plan.cells)
        self.ended = self.total - sum(map(len, self._unread.values()))
        self._pace: dict[str, float] = {}  # seconds per epoch, testing and writing included
        self._paces: dict[int, list[float]] = {}  # by batch size: their sum and number
        self._all_paces = [0.0, 0]

    def unread(self, run_id: str) -> list[int]:
        """The epochs at which a run is still to be read out."""
        return sorted(self._unread[run_id])

    @property
    def share(self) -> float:
        """The cells that ended and what the others have behind them, of all cells."""
        begun = sum(
            min(1.0, track.position / epochs)
            for run_id, track in (self.running | self.paused).items()
            for epochs in self._unread[run_id]
        )
        return (self.ended + begun) / self.total

    def take(self, event: Event, now: float) -> None:
        """Add an event that came at the time `now`."""
        run_id = event.run_id
        match event:
            case Waiting():
                self._track(run_id)
            case Started(epoch=epoch):
                track = self._track(run_id)
                track.began, track.resumed, track.epoch = now, epoch, epoch
            case Progress(epoch=epoch, seen=seen, total=total, loss=loss):
                track = self._track(run_id)
                track.epoch, track.part = epoch - 1, seen / total
                if not track.timed:
                    track.cost = loss
                self._measure(track, now)
            case EpochEnded(result=result):
                track = self._track(run_id)
                track.epoch, track.part = result.epoch, 0.0
                track.cost, track.accuracy = result.cost, result.accuracy
                track.timed.append(result.seconds)
                self._measure(track, now)
            case CellFinished(epoch=epoch):
                self.ended += epoch in self._unread[run_id]
                self._unread[run_id].discard(epoch)
            case Failed():
                self.ended += len(self._unread[run_id])
                self.failed += len(self._unread[run_id])
                self._unread[run_id].clear()
                self._end(run_id)
            case Retrying() | Requeued():
                self._end(run_id)
                self._put_back(run_id)
            case Paused():
                self.paused[run_id] = track = self.running.pop(run_id)
                track.began = None
                self._put_back(run_id)
            case Finished() | Stopped():
                self._end(run_id)

    def _track(self, run_id: str) -> RunProgress:
        if run_id not in self.running:
            taken = {track.lane for track in self.running.values()}
            lane = next(lane for lane in count() if lane not in taken)
            self._begin(run_id)
            track = self.paused.pop(run_id, None) or RunProgress(self.plan.by_id[run_id], lane)
            track.lane = lane
            self.running[run_id] = track
        return self.running[run_id]

    def _begin(self, run_id: str) -> None:
        if self.unstarted.pop(run_id, None):
            length = self._length_left(run_id)
            self._lengths[length] -= 1
            if not self._lengths[length]:
                del self._lengths[length]

    def _put_back(self, run_id: str) -> None:
        self.unstarted[run_id] = self.plan.by_id[run_id]
        self._lengths[self._length_left(run_id)] += 1

    def _length_left(self, run_id: str) -> tuple[int, int]:
        """What the time that a run will take is reckoned from: batch size and epochs to train."""
        batch, epochs = _length(self.plan.by_id[run_id])
        return batch, epochs - (self.paused[run_id].epoch if run_id in self.paused else 0)

    def _end(self, run_id: str) -> None:
        self.running.pop(run_id, None)
        self._begin(run_id)
        self.paused.pop(run_id, None)

    def _measure(self, track: RunProgress, now: float) -> None:
        trained = track.position - track.resumed
        if track.began is None or trained < TELLING:
            return
        run, pace = track.run, (now - track.began) / trained
        for known in (self._all_paces, self._paces.setdefault(run.cell.batch, [0.0, 0])):
            known[0] += pace - self._pace.get(run.id, 0.0)
            known[1] += run.id not in self._pace
        self._pace[run.id] = pace

    def pace(self, run: Run) -> float | None:
        """Seconds per epoch: of this run, else of those of its batch size, else of all."""
        return self._pace[run.id] if run.id in self._pace else self._usual_pace(run.cell.batch)

    def _usual_pace(self, batch: int) -> float | None:
        total, number = self._paces.get(batch, self._all_paces)
        return total / number if number else None

    def run_seconds_left(self, run: Run, position: float) -> float | None:
        """Seconds that a run still needs from this epoch on, None until they can be known."""
        pace = self.pace(run)
        return None if pace is None else pace * (run.cell.epochs - position)

    def seconds_left(self) -> float | None:
        """Seconds that the sweep still needs, None until they can be known.

        The epochs still to train at the pace of each run, shared by the workers, or by as many as
        train now where nobody knows how many there will be; but never less than what the longest
        run needs, since no run can be shared.
        """
        needs = [
            (self.pace(t.run), t.run.cell.epochs - t.position, 1) for t in self.running.values()
        ]
        needs += [
            (self._usual_pace(batch), epochs, number)
            for (batch, epochs), number in self._lengths.items()
        ]
        longest = together = 0.0
        for pace, epochs, number in needs:
            if pace is None:
                return None
            longest = max(longest, pace * epochs)
            together += pace * epochs * number
        return max(longest, together / (self.workers or max(1, len(self.running))))


def _length(run: Run) -> tuple[int, int]:
    """What the time that a run takes is reckoned from: batch size and epochs."""
    return run.cell.batch, run.cell.epochs


# ---------------------------------------------------------------- said in one line


def describe_start(plan: Plan, workers: int | None) -> str:
    """What a sweep is about to do: '6 cells, 6 runs to train, 2 workers'."""
    cells = pluralize(len(plan.cells), "cell")
    if not plan.runs:
        return f"{cells}, nothing to train: the store has every outcome"
    stored = f" ({plan.finished} in the store already)" if plan.finished else ""
    runs = f"{pluralize(len(plan.runs), 'run')} to train"
    return f"{cells}{stored}, {runs}" + (f", {pluralize(workers, 'worker')}" if workers else "")


def describe_plan(plan: Plan, estimate: Estimate | None = None) -> list[str]:
    """What a sweep would train, in lines: how much, how long, the first PREVIEW cells by name."""
    merged = f" ({pluralize(plan.duplicates, 'equal one')} merged)" if plan.duplicates else ""
    lines = [f"{pluralize(len(plan.cells), 'cell')}{merged}, {plan.finished} of them in the store"]
    if plan.runs:
        lines[0] += f"; {pluralize(len(plan.runs), 'run')} to train, "
        lines[0] += f"{pluralize(plan.epochs, 'epoch')} at most"
    if estimate:
        lines.append(_expected(estimate))
    names = short_names(plan.cells)
    cells = (cell for run in plan.runs for cell in run.cells())
    lines += [f"  {names[cell]}" for cell in islice(cells, PREVIEW)]
    more = len(plan.cells) - plan.finished - PREVIEW
    return [*lines, f"  and {more} more"] if more > 0 else lines


def _expected(estimate: Estimate) -> str:
    """'about 12 min on 2 workers, estimated from 6 earlier runs'."""
    time = approximate_duration(estimate.seconds)
    if estimate.workers is None:
        where = "of training in all, shared by the runs that train at the same time"
    else:
        where = f"on {pluralize(estimate.workers, 'worker')}"
    if not estimate.runs:
        return f"{time} {where}; a rough guess, since the store has no comparable run"
    return f"{time} {where}, estimated from {pluralize(estimate.runs, 'earlier run')}"


def approximate_duration(seconds: float) -> str:
    """A rough duration: 'a few seconds', 'about 40 s', 'about 3 h 20 min', 'about 5 days'."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 55:
        return f"about {10 * round(seconds / 10)} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"about {minutes} min"
    tens = round(minutes / 10)
    if tens < 48 * 6:
        return f"about {tens // 6} h" + (f" {tens % 6}0 min" if tens % 6 else "")
    return f"about {round(minutes / 60 / 24)} days"


def describe_end(tally: SweepProgress, now: float) -> str:
    """What a sweep has come to: '6 of 6 cells done, 1 of them failed, in 3:12'."""
    failed = f", {tally.failed} of them failed" if tally.failed else ""
    cells = f"{tally.ended} of {pluralize(tally.total, 'cell')} done"
    return f"{cells}{failed}, in {format_duration(now - tally.began)}"


def describe_problem(event: Damaged | Retrying | Requeued) -> str:
    """What went wrong with a run and is being mended, in one line."""
    if isinstance(event, Damaged):
        return describe_damage(event.path)
    if isinstance(event, Requeued):
        return f"{one_line(event.reason)}; it goes on from its checkpoint when there is room again"
    return f"{describe_failure(event.failure)}; it is tried again after the others (retry {event.attempt})"


def describe_damage(path: str) -> str:
    """What is said of a damaged file."""
    return f"{one_line(path)} was damaged: it is set aside as .damaged and made anew when needed"


def describe_failure(failure: Failure) -> str:
    """'killed in epoch 3: ...', its text from outside made inert."""
    # Why a run diverged says where as well, and on a terminal the line is cut.
    named = failure.status != "diverged" and failure.epoch > 0  # 0: no epoch was reached
    where = f" in epoch {failure.epoch}" if named else ""
    return f"{one_line(failure.status)}{where}: {one_line(failure.reason)}"
