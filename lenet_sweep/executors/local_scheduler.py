"""The order in which the local workers train runs, and how many threads each run gets."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from lenet_sweep.core.events import Failed, Retrying
from lenet_sweep.core.plans import Run
from lenet_sweep.executors import RetryPolicy


class Scheduler:
    """The runs that are not in training, in the order in which to start them."""

    def __init__(self, runs: Sequence[Run], retry_policy: RetryPolicy) -> None:
        self._waiting = deque(runs)
        self._failed: deque[Run] = deque()  # to be retried after the others
        self._locked: deque[Run] = deque()  # in training elsewhere; tried last, to use the results
        self._retry_policy = retry_policy

    def __len__(self) -> int:
        return len(self._waiting) + len(self._failed) + len(self._locked)

    def next_run(self) -> tuple[Run, bool]:
        """The next run, and whether to wait for another process that trains it.

        Raises IndexError if there is none.
        """
        for runs in (self._waiting, self._failed):
            if runs:
                return runs.popleft(), False
        return self._locked.popleft(), True

    def try_last(self, run: Run) -> None:
        """Schedule a run that another process is training, after all others."""
        self._locked.append(run)

    def retry(self, run: Run, failed: Failed) -> Failed | Retrying:
        """Schedule a failed run again, after the others, if it has retries left.

        Returns the event to report: Retrying, or `failed` itself.
        """
        event = self._retry_policy.decide(failed)
        if isinstance(event, Retrying):
            self._failed.append(run)
        return event


def divide_cores(cores: int, runs: Sequence[Run]) -> list[int]:
    """The number of threads for each of the runs in training, so that they fill the cores.

    Only the native engine uses several threads. Each run gets at least one, even if there are more
    runs than cores.
    """
    native = [run.cell.engine == "native" for run in runs]
    free = cores - native.count(False)
    share, extra = divmod(max(free, sum(native)), max(1, sum(native)))
    threads = []
    for is_native in native:
        threads.append(share + (extra > 0) if is_native else 1)
        extra -= is_native
    return threads
