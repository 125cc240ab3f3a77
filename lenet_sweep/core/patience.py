"""Early ends: a run with patience ends when its accuracy has stopped improving."""

from __future__ import annotations

from collections.abc import Sequence

from lenet_sweep.core.events import Epoch


def ranking_accuracies(history: Sequence[Epoch]) -> list[float]:
    """The accuracy after each epoch, on held-out images if there are any, else on test images."""
    return [
        epoch.accuracy if epoch.holdout_accuracy is None else epoch.holdout_accuracy
        for epoch in history
    ]


def is_exhausted(history: Sequence[Epoch], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no better accuracy than the best one before.

    The accuracy is that on held-out images if there are any, otherwise on the test images. None
    never ends a run. The decision depends only on the history, so a resumed run ends in the same
    epoch.
    """
    if patience is None or not history:
        return False
    accuracies = ranking_accuracies(history)
    return len(accuracies) - accuracies.index(max(accuracies)) > patience
