"""The searches by name. Their options and defaults are in the files of conf/search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lenet_sweep.core.cells import Choice
from lenet_sweep.core.errors import UsageError
from lenet_sweep.search import Search
from lenet_sweep.search.budget import BudgetedHalving, TimedHalving
from lenet_sweep.search.halving import Halving
from lenet_sweep.search.racing import Racing
from lenet_sweep.search.sampling import samples


def _halving(
    eta: float, first: float, keep: float, margin: float, epochs: float, minutes: float
) -> Search:
    halving = Halving(eta, int(first) or None, keep, margin)
    if minutes and epochs:
        raise UsageError(
            f"search.minutes={minutes:g}: cannot be combined with "
            f"search.epochs={epochs:g}; give only one of them"
        )
    if minutes:
        return TimedHalving(halving, minutes)
    return BudgetedHalving(halving, int(epochs)) if epochs else halving


def _racing(first: float, alpha: float) -> Search:
    return Racing(int(first), alpha)


_SEARCHES: Mapping[str, Callable[..., Search]] = {
    "halving": _halving,
    "halving_fast": _halving,
    "racing": _racing,
}


def make_search(choice: Choice) -> Search | None:
    """The search with the options of a choice of the group `search`.

    None for the grid, and for a search that samples settings; see `sampling.make_sampling`.
    """
    if choice.name == "grid" or samples(choice.name):
        return None
    options: dict[str, Any] = dict(choice.options)
    return _SEARCHES[choice.name](**options)
