"""The runs that no worker has, and whose turn it is.

As long as enough runs wait to keep every worker busy, each is trained in one go, in the order
given. Then there are not enough to go round: five equal runs would take four workers as long as
eight. So from there on the runs take turns: one gives its worker to a waiting one that has further
to go, and goes on later from its checkpoint. Longest remaining time first ends all workers as
early as can be, in max(longest run, all runs / workers), where to change costs nothing (McNaughton
1959; Pinedo, Scheduling, section 5.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from lenet_sweep.core.cells import Run, relative_epoch
from lenet_sweep.core.events import (
    ENDS,
    EpochEnded,
    Event,
    Failed,
    LockedElsewhere,
    Paused,
    Retrying,
    Started,
)
from lenet_sweep.executors import RetryPolicy

# What a waiting run must have further to go for it to be worth a change, which takes 20 to 30 ms:
# so many seconds, one epoch, and this share of what the other has to go.
SECONDS, SHARE = 1.0, 1 / 16


class Scheduler:
    """The runs that no worker has. `workers`: how many take turns; 0: none, all in one go."""

    def __init__(self, runs: Sequence[Run], retries: int, workers: int) -> None:
        self._waiting = deque(runs)  # not begun, or paused
        self._failed: deque[Run] = deque()  # to be tried again, after the others
        self._busy: deque[Run] = deque()  # other processes train them: they may be done by then
        self._attempts = RetryPolicy(retries)
        self._workers = workers
        self._leaving: set[str] = set()  # told to give way, and about to
        self._trained: dict[str, int] = {}  # epochs that each run has behind it
        self._timed: dict[str, list[float]] = {}  # their seconds here, and their number
        self._all_timed = [0.0, 0.0]  # the seconds of all, and how long they are (relative_epoch)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._failed) + len(self._busy)

    @property
    def needs_turns(self) -> bool:
        """Whether there are runs, but not enough to go round: they should take turns."""
        return 0 < len(self._waiting) < self._workers

    @property
    def paused(self) -> list[Run]:
        """Those that have begun."""
        return [run for run in self._waiting if run.id in self._trained]

    def next_run(self) -> tuple[Run, bool]:
        """The next run, and whether to wait for another process that trains it.

        Raises IndexError where there is none.
        """
        if self.needs_turns and self._timed:  # of those with as far to go, the first
            run = max(self._waiting, key=self._left)
            self._waiting.remove(run)
            return run, False
        for runs in (self._waiting, self._failed):
            if runs:
                return runs.popleft(), False
        return self._busy.popleft(), True

    def update(self, run: Run, event: Event) -> None:
        """Learn from an event of a run; one that others train or that was paused is put back."""
        if isinstance(event, Started):
            self._trained[run.id] = event.epoch
        elif isinstance(event, EpochEnded):
            self._trained[run.id] = event.result.epoch
            seconds = event.result.seconds + event.result.test_seconds
            timed = self._timed.setdefault(run.id, [0.0, 0])
            for total, more in ((timed, 1), (self._all_timed, relative_epoch(run.cell))):
                total[0] += seconds
                total[1] += more
        elif isinstance(event, LockedElsewhere):
            self._busy.append(run)
        elif isinstance(event, Paused):
            ahead = tuple(epoch for epoch in run.snapshot_epochs if epoch > self._trained[run.id])
            self._waiting.append(replace(run, snapshot_epochs=ahead))
        if isinstance(event, (*ENDS, Paused)):
            self._leaving.discard(run.id)

    def retry(self, run: Run, failed: Failed) -> Failed | Retrying:
        """Put a failed run behind the others, if it has attempts left; what is to be said of it."""
        said = self._attempts.judge(failed)
        if isinstance(said, Retrying):
            self._failed.append(run)
        return said

    def should_pause(self, run: Run) -> bool:
        """Whether a run, at the end of an epoch, is to make room for one of those that wait."""
        self._leaving.discard(run.id)
        if not self.needs_turns or len(self._waiting) <= len(self._leaving):
            return False
        waiting = sorted(map(self._left, self._waiting), reverse=True)[len(self._leaving)]
        own = self._left(run)
        if waiting - own < max(SECONDS, self._pace(run), SHARE * own):
            return False
        self._leaving.add(run.id)
        return True

    def _left(self, run: Run) -> float:
        """Seconds that a run still has to go."""
        return self._pace(run) * (run.cell.epochs - self._trained.get(run.id, 0))

    def _pace(self, run: Run) -> float:
        """Seconds that an epoch of a run takes: its own, else reckoned from those of all runs."""
        if run.id in self._timed:
            seconds, number = self._timed[run.id]
            return seconds / number
        seconds, length = self._all_timed
        return seconds / length * relative_epoch(run.cell)
