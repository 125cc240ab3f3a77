"""The progress of a sweep, computed from its events, and descriptions of it in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count, islice

from lenet_sweep.core.events import (
    CellFinished,
    Damaged,
    EndedEarly,
    EpochEnded,
    Event,
    Failed,
    Failure,
    Finished,
    Interrupted,
    Progress,
    Requeued,
    Retrying,
    SearchRound,
    Started,
    Stopped,
    Waiting,
)
from lenet_sweep.core.names import short_names
from lenet_sweep.core.plans import Plan, Run
from lenet_sweep.core.text import format_duration, one_line, pluralize
from lenet_sweep.results.estimate import Estimate

PREVIEW = 20  # cells that a dry run names
MIN_TRAINED = 0.1  # epochs to train before a run's pace is measured, as the first steps are slow


@dataclass
class RunProgress:
    """The progress of a run that trains or waits for another process.

    start: when training started, None if it does not train here. lane: the line of the display.
    """

    run: Run
    lane: int
    start: float | None = None
    resumed: int = 0  # epochs that were in the store at the start
    epoch: int = 0  # trained epochs, including these
    part: float = 0.0  # fraction of the epoch in training
    ended_early: bool = False  # after `epoch` epochs, because of its patience
    accuracy: float | None = None
    cost: float | None = None  # of the last epoch; during the first one, of the last batch
    epoch_seconds: list[float] = field(default_factory=list)  # training time of each epoch

    @property
    def position(self) -> float:
        """Trained epochs, including the fraction of the current one."""
        return self.epoch + self.part


class SweepProgress:
    """The progress of a sweep according to the events so far.

    `start` and `now` are times in seconds of the same clock, any one. A sweep may have 100,000
    runs, so everything that is called during training avoids loops over all of them.
    """

    def __init__(self, plan: Plan, workers: int | None, start: float) -> None:
        self.plan = plan
        self.workers = workers
        self.start = start
        self.failed = 0  # cells
        self.stopped = 0  # cells, by a search
        self.skipped = 0  # epochs of the full grid that a search does not train
        self.round: SearchRound | None = None  # of a search
        self._runs: Mapping[str, Run] = plan.by_id  # those of the round
        self.running: dict[str, RunProgress] = {}
        self.unstarted = dict(self._runs)
        self._lengths = Counter(map(self._length, plan.runs))  # of the runs in `unstarted`
        self._trained = 0.0  # epochs that runs have trained in a search, without those in training
        self._name()
        self._pending = {run.id: set(run.snapshot_epochs) for run in plan.runs}
        self.total = len(plan.cells)
        self.ended = self.total - sum(map(len, self._pending.values()))
        self._pace: dict[str, float] = {}  # seconds per epoch, including tests and checkpoints
        self._batch_paces: dict[int, list[float]] = {}  # by batch size: [sum, number] of paces
        self._all_paces = [0.0, 0]

    def add(self, plan: Plan) -> None:
        """Add the cells and runs of a plan that has more of them."""
        new = [run for run in plan.runs if run.id not in self._pending]
        finished = len(plan.cells) - self.total - sum(len(run.snapshot_epochs) for run in new)
        self.plan = plan
        self.total = len(plan.cells)
        self.ended += finished
        self._pending |= {run.id: set(run.snapshot_epochs) for run in new}
        self._name()

    def _name(self) -> None:
        names = short_names(self.plan.cells, epochs=False, between=" ")
        self.names = {run.id: names[run.cell] for run in self.plan.runs}
        self.longest_name = max(map(len, self.names.values()), default=0)
        self.most_epochs = max((run.cell.epochs for run in self.plan.runs), default=0)

    def pending(self, run_id: str) -> list[int]:
        """The epochs of a run's cells that have not ended, in ascending order."""
        return sorted(self._pending[run_id])

    @property
    def fraction(self) -> float:
        """The part of the sweep that is done, from 0 to 1.

        Each cell counts as much as any other: 1 when it has ended, before that its trained part.
        A search counts epochs: those that it has trained, of all that it is expected to train.
        """
        if self.round:
            done = self._trained + sum(
                state.position - state.resumed for state in self.running.values()
            )
            left = sum(state.run.cell.epochs - state.position for state in self.running.values())
            left += sum(epochs * number for (_, epochs), number in self._lengths.items())
            left += sum(epochs * number for number, epochs in self.round.later)
            return done / (done + left) if done + left else 1.0
        started = sum(
            min(1.0, state.position / epochs)
            for run_id, state in self.running.items()
            for epochs in self._pending[run_id]
        )
        return (self.ended + started) / self.total

    def start_round(self, search_round: SearchRound) -> None:
        """A search trains these runs now, and decides again when they have ended."""
        self.round = search_round
        self._runs = {run.id: run for run in search_round.runs}
        self.unstarted = dict(self._runs)
        self._lengths = Counter(map(self._length, search_round.runs))

    def update(self, event: Event, now: float) -> None:
        """Add an event that arrived at the time `now`."""
        run_id = event.run_id
        match event:
            case Waiting():
                self._state(run_id)
            case Started(epoch=epoch):
                state = self._state(run_id)
                state.start, state.resumed, state.epoch = now, epoch, epoch
            case Progress(epoch=epoch, seen=seen, total=total, loss=loss):
                state = self._state(run_id)
                state.epoch, state.part = epoch - 1, seen / total
                if not state.epoch_seconds:
                    state.cost = loss
                self._measure(state, now)
            case EpochEnded(result=result):
                state = self._state(run_id)
                state.epoch, state.part = result.epoch, 0.0
                state.cost, state.accuracy = result.cost, result.accuracy
                state.epoch_seconds.append(result.seconds)
                self._measure(state, now)
            case EndedEarly():
                self._state(run_id).ended_early = True
            case CellFinished(epoch=epoch):
                self.ended += epoch in self._pending[run_id]
                self._pending[run_id].discard(epoch)
            case Failed():
                self.ended += len(self._pending[run_id])
                self.failed += len(self._pending[run_id])
                self._pending[run_id].clear()
                self._end(run_id)
            case Retrying() | Requeued():
                self._end(run_id)
                self._put_back(run_id)
            case Finished() | Interrupted():
                self._end(run_id)
            case Stopped(epoch=epoch):
                self.skipped += self.plan.by_id[run_id].cell.epochs - epoch
                self.ended += len(self._pending[run_id])
                self.stopped += len(self._pending[run_id])
                self._pending[run_id].clear()
                self._end(run_id)

    def _state(self, run_id: str) -> RunProgress:
        """The state of a run in training; a new one gets the first free lane."""
        if run_id not in self.running:
            used = {state.lane for state in self.running.values()}
            lane = next(lane for lane in count() if lane not in used)
            self._remove_unstarted(run_id)
            self.running[run_id] = RunProgress(self._runs[run_id], lane)
        return self.running[run_id]

    def _remove_unstarted(self, run_id: str) -> None:
        if self.unstarted.pop(run_id, None):
            length = self._length(self._runs[run_id])
            self._lengths[length] -= 1
            if not self._lengths[length]:
                del self._lengths[length]

    def _put_back(self, run_id: str) -> None:
        self.unstarted[run_id] = self._runs[run_id]
        self._lengths[self._length(self._runs[run_id])] += 1

    def _end(self, run_id: str) -> None:
        state = self.running.pop(run_id, None)
        if state:
            self._trained += state.position - state.resumed
        self._remove_unstarted(run_id)

    def _length(self, run: Run) -> tuple[int, int]:
        """Batch size and epochs to train, which determine how long a run takes."""
        trained = self.round.trained.get(run.id, 0) if self.round else 0
        return run.cell.batch, run.cell.epochs - trained

    def _measure(self, state: RunProgress, now: float) -> None:
        trained = state.position - state.resumed
        if state.start is None or trained < MIN_TRAINED:
            return
        run, pace = state.run, (now - state.start) / trained
        for paces in (self._all_paces, self._batch_paces.setdefault(run.cell.batch, [0.0, 0])):
            paces[0] += pace - self._pace.get(run.id, 0.0)
            paces[1] += run.id not in self._pace
        self._pace[run.id] = pace

    def pace(self, run: Run) -> float | None:
        """Seconds per epoch of a run: its own, or the mean over its batch size, or over all runs.

        None until a run has been measured.
        """
        return self._pace[run.id] if run.id in self._pace else self._mean_pace(run.cell.batch)

    def _mean_pace(self, batch: int) -> float | None:
        total, number = self._batch_paces.get(batch, self._all_paces)
        return total / number if number else None

    def run_seconds_left(self, run: Run, position: float) -> float | None:
        """Seconds that a run still takes after `position` epochs, None if no pace is known."""
        pace = self.pace(run)
        return None if pace is None else pace * (run.cell.epochs - position)

    def seconds_left(self) -> float | None:
        """Seconds that the sweep still takes, None if the pace of a run is not known.

        The remaining epochs of each run take its pace, and are divided among the workers, or among
        as many as train now if their number is not known. Since a run cannot be divided, the result
        is at least the time of the longest run. The later rounds of a search take the mean pace.
        """
        remaining = [
            (self.pace(state.run), state.run.cell.epochs - state.position, 1)
            for state in self.running.values()
        ]
        remaining += [
            (self._mean_pace(batch), epochs, number)
            for (batch, epochs), number in self._lengths.items()
        ]
        longest = total = 0.0
        for pace, epochs, number in remaining:
            if pace is None:
                return None
            longest = max(longest, pace * epochs)
            total += pace * epochs * number
        workers = self.workers or max(1, len(self.running))
        left = max(longest, total / workers)
        if self.round and self._all_paces[1]:
            pace = self._all_paces[0] / self._all_paces[1]
            for runs, epochs in self.round.later:
                left += pace * epochs * max(1.0, runs / workers)
        return left


# ---------------------------------------------------------------- descriptions in one line


def describe_start(plan: Plan, workers: int | None) -> str:
    """What a sweep is about to do: '6 cells, 6 runs to train, 2 workers'."""
    cells = pluralize(len(plan.cells), "cell")
    if not plan.runs:
        return f"{cells}, nothing to train: all results are in the store"
    finished = f" ({plan.finished} already in the store)" if plan.finished else ""
    runs = f"{pluralize(len(plan.runs), 'run')} to train"
    return f"{cells}{finished}, {runs}" + (f", {pluralize(workers, 'worker')}" if workers else "")


@dataclass(frozen=True)
class SearchPlan:
    """What a search would do.

    lines: its rule. epochs: that it would train, at most if `at_most`. later: the rounds after the
    first one, as in `SearchRound`.
    """

    lines: tuple[str, ...]
    epochs: int
    later: tuple[tuple[int, int], ...]
    at_most: bool


def describe_plan(
    plan: Plan, estimate: Estimate | None = None, search: SearchPlan | None = None
) -> list[str]:
    """What a sweep would train, in lines: the numbers, the time, the first PREVIEW cells."""
    merged = f" ({pluralize(plan.duplicates, 'duplicate')} merged)" if plan.duplicates else ""
    lines = [f"{pluralize(len(plan.cells), 'cell')}{merged}, {plan.finished} in the store"]
    if plan.runs:
        lines[0] += f"; {pluralize(len(plan.runs), 'run')} to train, "
        lines[0] += f"at most {pluralize(plan.epochs, 'epoch')}"
    if search:
        lines += search.lines
        amount = f"{'at most' if search.at_most else 'about'} {search.epochs:,} more epochs"
        amount = amount if search.epochs else "no more epochs"
        lines[0] = lines[0].partition(";")[0] + f"; the search would train {amount} "
        lines[0] += f"(the full grid has {plan.grid_epochs:,})"
    if estimate:
        lines.append(_describe_estimate(estimate))
    if any(run.cell.patience for run in plan.runs):
        lines[-1] += "; less if runs end early (patience)"
    names = short_names(plan.cells)
    cells = (cell for run in plan.runs for cell in run.cells())
    lines += [f"  {names[cell]}" for cell in islice(cells, PREVIEW)]
    more = sum(len(run.snapshot_epochs) for run in plan.runs) - PREVIEW
    return [*lines, f"  and {more} more"] if more > 0 else lines


def _describe_estimate(estimate: Estimate) -> str:
    """'about 12 min on 2 workers, estimated from 6 earlier runs'."""
    time = approximate_duration(estimate.seconds)
    if estimate.workers is None:
        where = "of training in total, divided among the runs that train at the same time"
    else:
        where = f"on {pluralize(estimate.workers, 'worker')}"
    if not estimate.runs:
        return f"{time} {where}; a rough guess, because the store has no comparable run"
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


def describe_round(progress: SweepProgress) -> str:
    """What a search trains now: 'rung 2 of 3, epoch 33: 14 of 40 settings; 572 epochs skipped'."""
    stage = progress.round.stage if progress.round else ""
    return f"{stage}; {progress.skipped:,} epochs skipped so far" if progress.skipped else stage


def describe_time_left(progress: SweepProgress) -> str:
    """How long a search will still take: 'about 12 min left'; '' if no pace is known."""
    seconds = progress.seconds_left()
    if seconds is None:
        return ""
    time = approximate_duration(seconds)
    at_most = progress.round and progress.round.at_most
    return f"at most {time.removeprefix('about ')} left" if at_most else f"{time} left"


def describe_end(progress: SweepProgress, now: float) -> str:
    """What a sweep has done: '6 of 6 cells done in 3:12, 1 failed'."""
    failed = f", {progress.failed} failed" if progress.failed else ""
    cells = f"{progress.ended} of {pluralize(progress.total, 'cell')} done"
    stopped = ""
    if progress.stopped:
        share = 100 * progress.skipped / progress.plan.grid_epochs
        stopped = f", {progress.stopped} stopped by the search ({share:.0f}% of the epochs skipped)"
    return f"{cells} in {format_duration(now - progress.start)}{failed}{stopped}"


def describe_early_end(event: EndedEarly) -> str:
    """'ended after epoch 7: accuracy did not improve for 3 epochs'."""
    epochs = pluralize(event.patience, "epoch")
    return f"ended after epoch {event.epoch}: accuracy did not improve for {epochs}"


def describe_problem(event: Damaged | Retrying | Requeued) -> str:
    """A problem with a run that does not end it, in one line."""
    if isinstance(event, Damaged):
        return describe_damage(event.path)
    if isinstance(event, Requeued):
        return f"{one_line(event.reason)}; it will resume from its checkpoint"
    failure = describe_failure(event.failure)
    return f"{failure}; it will be retried after the other runs (retry {event.attempt})"


def describe_damage(path: str) -> str:
    """The message about a damaged file."""
    return (
        f"{one_line(path)} was damaged: it has been renamed to *.damaged and will be rebuilt when "
        "needed"
    )


def describe_failure(failure: Failure) -> str:
    """'killed in epoch 3: ...', with control characters in the reason escaped."""
    # The reason of a diverged run names the epoch, and the live view truncates the line.
    has_epoch = failure.status != "diverged" and failure.epoch > 0  # 0: failed before an epoch
    where = f" in epoch {failure.epoch}" if has_epoch else ""
    return f"{one_line(failure.status)}{where}: {one_line(failure.reason)}"
