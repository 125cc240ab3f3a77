"""The scheduler of the local workers, with time slicing of the last runs.

As long as enough runs wait to keep all workers busy, each run is trained without a pause, in the
order given. When fewer runs wait than there are workers, some workers would become idle early: five
equal runs on four workers would take as long as eight. From then on, the runs take turns. A run
pauses after an epoch if a waiting run has more time left, and resumes later from its checkpoint.
Longest remaining time first finishes all runs as early as possible if pauses cost nothing, in
max(longest run, sum of all runs / workers) (McNaughton 1959; Pinedo, Scheduling, section 5.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from lenet_sweep.core.cells import Run, relative_epoch
from lenet_sweep.core.events import (
    FINAL_EVENTS,
    EpochEnded,
    Event,
    Failed,
    LockedElsewhere,
    Paused,
    Retrying,
    Started,
)
from lenet_sweep.executors import RetryPolicy

# A pause takes 20 to 30 ms. To be worth it, the waiting run must have more time left than the
# training one by this many seconds, by one epoch, and by this share of what the latter has left.
MIN_GAIN_SECONDS, MIN_GAIN_SHARE = 1.0, 1 / 16


class Scheduler:
    """The runs that are not in training.

    runs: all runs, in the order in which to start them.
    workers: the number of workers whose runs may take turns; 0 disables pausing.
    """

    def __init__(self, runs: Sequence[Run], retries: int, workers: int) -> None:
        self._waiting = deque(runs)  # not started, or paused
        self._failed: deque[Run] = deque()  # to be retried after the others
        self._locked: deque[Run] = deque()  # in training elsewhere; tried last, to use the results
        self._retry_policy = RetryPolicy(retries)
        self._workers = workers
        self._pausing: set[str] = set()  # told to pause, but not yet paused
        self._trained: dict[str, int] = {}  # epochs trained, by run id
        self._timed: dict[str, list[float]] = {}  # seconds and number of timed epochs, by run id
        self._all_timed = [0.0, 0.0]  # seconds and relative duration of all timed epochs

    def __len__(self) -> int:
        return len(self._waiting) + len(self._failed) + len(self._locked)

    @property
    def needs_turns(self) -> bool:
        """Whether runs should take turns: some are waiting, but fewer than there are workers."""
        return 0 < len(self._waiting) < self._workers

    @property
    def paused(self) -> list[Run]:
        """The waiting runs that have been started."""
        return [run for run in self._waiting if run.id in self._trained]

    def next_run(self) -> tuple[Run, bool]:
        """The next run, and whether to wait for another process that trains it.

        Raises IndexError if there is none.
        """
        if self.needs_turns and self._timed:  # among equals, the first one
            run = max(self._waiting, key=self._remaining)
            self._waiting.remove(run)
            return run, False
        for runs in (self._waiting, self._failed):
            if runs:
                return runs.popleft(), False
        return self._locked.popleft(), True

    def update(self, run: Run, event: Event) -> None:
        """Record an event of a run. A paused or locked run is added to the waiting runs."""
        if isinstance(event, Started):
            self._trained[run.id] = event.epoch
        elif isinstance(event, EpochEnded):
            self._trained[run.id] = event.result.epoch
            seconds = event.result.seconds + event.result.test_seconds
            timed = self._timed.setdefault(run.id, [0.0, 0])
            for total, length in ((timed, 1), (self._all_timed, relative_epoch(run.cell))):
                total[0] += seconds
                total[1] += length
        elif isinstance(event, LockedElsewhere):
            self._locked.append(run)
        elif isinstance(event, Paused):
            remaining = tuple(e for e in run.snapshot_epochs if e > self._trained[run.id])
            self._waiting.append(replace(run, snapshot_epochs=remaining))
        if isinstance(event, (*FINAL_EVENTS, Paused)):
            self._pausing.discard(run.id)

    def retry(self, run: Run, failed: Failed) -> Failed | Retrying:
        """Schedule a failed run again, after the others, if it has retries left.

        Returns the event to report: Retrying, or `failed` itself.
        """
        event = self._retry_policy.decide(failed)
        if isinstance(event, Retrying):
            self._failed.append(run)
        return event

    def should_pause(self, run: Run) -> bool:
        """Whether a run, at the end of an epoch, should give its worker to a waiting run."""
        self._pausing.discard(run.id)
        if not self.needs_turns or len(self._waiting) <= len(self._pausing):
            return False
        # Each run that is about to pause has already reserved one of the longest waiting runs.
        waiting = sorted(map(self._remaining, self._waiting), reverse=True)[len(self._pausing)]
        own = self._remaining(run)
        min_gain = max(MIN_GAIN_SECONDS, self._seconds_per_epoch(run), MIN_GAIN_SHARE * own)
        if waiting - own < min_gain:
            return False
        self._pausing.add(run.id)
        return True

    def _remaining(self, run: Run) -> float:
        """The estimated seconds until a run is finished."""
        return self._seconds_per_epoch(run) * (run.cell.epochs - self._trained.get(run.id, 0))

    def _seconds_per_epoch(self, run: Run) -> float:
        """The mean of the run's own epochs, or an estimate from the epochs of all runs."""
        if run.id in self._timed:
            seconds, number = self._timed[run.id]
            return seconds / number
        seconds, length = self._all_timed
        return seconds / length * relative_epoch(run.cell)
