"""Searches decide which runs of a sweep to train, and for how many epochs.

May import every subpackage from core to clean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from lenet_sweep.core.plans import Run


@dataclass(frozen=True)
class RunResult:
    """The results of a run so far, on the images that rank: held out, or else the test images.

    accuracies: percent, after each epoch. losses: the mean loss after each epoch; None where it was
    not recorded. seconds: of training and tests, together. failed: whether the run ended with an
    error or diverged. failed_in: the first epoch that will have no result then; 0: all epochs after
    these. ended_early: whether the run ended after the last of these epochs, because of its
    patience. correct: reads whether each image was correct after the last epoch, (images,), or None
    if that is not known.
    """

    accuracies: Sequence[float] = ()
    losses: Sequence[float | None] = ()
    seconds: float = 0.0
    failed: bool = False
    failed_in: int = 0
    ended_early: bool = False
    correct: Callable[[], NDArray[Any] | None] = field(default=lambda: None, compare=False)

    def has_ended(self, epoch: int) -> bool:
        """Whether the result after this epoch is known, or will never be."""
        failed = self.failed and epoch >= self.failed_in
        return failed or self.ended_early or len(self.accuracies) >= epoch


NO_RESULT = RunResult()


@dataclass(frozen=True)
class Stop:
    """A run that the search does not train further than `epoch`, and why."""

    epoch: int
    reason: str


@dataclass(frozen=True)
class Decision:
    """What a search decides from the results so far.

    epochs: by run id, the number of epochs that each run needs. The other runs are not trained.
    stops: by run id, the runs that were stopped. messages: one line for each earlier decision.

    stage: what is trained now, such as 'rung 2 of 3, epoch 33: 14 of 40 settings'; empty if the
    search has ended. later: what it is expected to train after that, as in `SearchRound`.
    """

    epochs: Mapping[str, int]
    stops: Mapping[str, Stop] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    stage: str = ""
    later: tuple[tuple[int, int], ...] = ()
    later_at_most: bool = False  # an upper limit


class Search(Protocol):
    """Decides which runs of a sweep to train, and for how many epochs."""

    def decide(self, runs: Sequence[Run], results: Mapping[str, RunResult]) -> Decision:
        """The decision for these runs, a pure function of its arguments.

        runs: all runs of the sweep, in the order of their cells, each up to its last epoch.
        results: by run id; a run without an entry has not been trained. Results after later epochs
            than the search asked for do not change the decision.

        The sweep trains the runs and asks again, until every run has the epochs that it needs.
        """
        ...

    def describe(self, runs: Sequence[Run]) -> list[str]:
        """What the search would do with these runs, in lines, for a dry run and at the start.

        Raises UsageError if a budget is too small.
        """
        ...


def is_complete(decision: Decision, results: Mapping[str, RunResult]) -> bool:
    """Whether every run has the epochs that it needs, so that the search has ended."""
    return all(
        results.get(run_id, NO_RESULT).has_ended(epochs)
        for run_id, epochs in decision.epochs.items()
    )
