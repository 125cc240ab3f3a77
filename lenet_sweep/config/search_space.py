"""The space of a search that samples settings: the values that each key may have.

The command line and the Python API both build a `SearchSpace`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from lenet_sweep.config.keys import SWEEP_KEYS
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import to_str

TRAINED = ("seed", "epochs")  # every trial trains all of their values
IMAGES = ("dataset", "holdout")  # accuracies on different images cannot be compared

MAX_VALUES = 10_000  # of a list or a range

Point: TypeAlias = Mapping[str, Any]  # a value for each key that applies
Params: TypeAlias = Mapping[str, float]  # a point as numbers; see `Values` and `Interval`


@dataclass(frozen=True)
class Values:
    """One of several values. As a number, it is its index.

    ordered: whether neighbors are similar, as in a range.
    """

    values: tuple[Any, ...]
    ordered: bool = False

    def value(self, number: float) -> Any:
        """The value with this index."""
        return self.values[int(number)]

    def probes(self) -> Sequence[Any]:
        """Values that have to be valid."""
        return self.values

    def __str__(self) -> str:
        texts = [to_str(value) for value in self.values]
        return ", ".join(texts if len(texts) <= 8 else [*texts[:6], "...", texts[-1]])


@dataclass(frozen=True)
class Interval:
    """A number from `low` to `high`, both included. As a number, it is itself.

    log: uniform in its logarithm. whole: only whole numbers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def round(self, number: float) -> float:
        """The number with few digits, so that it is easy to type, and inside the interval."""
        if self.whole:
            return int(number)
        digits = 3 - math.floor(math.log10(self.high - self.low))
        rounded = float(f"{number:.4g}") if self.log else round(number, digits)
        return min(max(rounded, self.low), self.high)

    def value(self, number: float) -> float:
        """The number itself."""
        return number

    def probes(self) -> Sequence[float]:
        """Values that have to be valid; the last one is not a whole number, unless all are."""
        inside = self.low + 0.381966 * (self.high - self.low)
        return (self.low, self.high) if self.whole else (self.low, self.high, inside)

    def __str__(self) -> str:
        kinds = ["whole"] * self.whole + ["log"] * self.log
        return f"{self.low:g} to {self.high:g}" + (f" ({', '.join(kinds)})" if kinds else "")


Dimension: TypeAlias = Values | Interval
Composed: TypeAlias = tuple[Sequence[Cell], Sequence[str]]  # see SearchSpace.compose


@dataclass(frozen=True)
class SearchSpace:
    """The settings that a search may sample.

    dimensions: by key. selectors: the keys among them that select choices, such as `optimizer`.
    missing: the keys that do not apply, because the choices of a point lack these options, given
        the part of the point with the selectors.
    compose: the cells of a point, with all seeds and epochs, and notes for the user on how they are
        trained. Raises UsageError if the point is invalid.
    """

    dimensions: Mapping[str, Dimension]
    selectors: Collection[str]
    missing: Callable[[Point], Collection[str]]
    compose: Callable[[Point], Composed]

    def point(self, params: Params) -> Point:
        """The point with these numbers."""
        return {key: self.dimensions[key].value(number) for key, number in params.items()}

    def check(self, points: Sequence[Point]) -> None:
        """Raise UsageError for a value of a key that is invalid in each of these points.

        The numbers from other intervals are their ends: whether the numbers inside are valid is
        the question of those keys.
        """
        ends = [self._at_end(point, end) for point in points for end in (0, 1)]
        for key, dimension in self.dimensions.items():
            having = [point for point in ends if key in point]
            for number, value in enumerate(dimension.probes()):
                error = self._error(key, value, having)
                if error and isinstance(dimension, Interval) and number == 2:
                    low, high = (f"{bound:g}" for bound in (dimension.low, dimension.high))
                    name = key.lstrip("+")
                    raise UsageError(
                        f"{name}=interval({low},{high}): {name} must be a whole number; use "
                        f"int(interval({low},{high}))"
                    ) from error
                if error:
                    raise error

    def _at_end(self, point: Point, end: int) -> Point:
        """The point with the lower (0) or upper (1) end of each interval."""
        dimensions = self.dimensions.items()
        intervals = {k: d.probes()[end] for k, d in dimensions if isinstance(d, Interval)}
        return {key: intervals.get(key, value) for key, value in point.items()}

    def _error(self, key: str, value: Any, points: Iterable[Point]) -> UsageError | None:
        error = None
        for point in points:
            try:
                self.compose({**point, key: value})
            except UsageError as rejected:
                error = rejected
            else:
                return None
        return error

    def lines(self) -> list[str]:
        """The keys and their values, one per line."""
        names = {key: key.lstrip("+") for key in self.dimensions}
        width = max(map(len, names.values()))
        return [f"  {names[key]:<{width}}  {d}" for key, d in self.dimensions.items()]


def list_values(text: str, values: Iterable[Any]) -> tuple[Any, ...]:
    """The values of a setting. Raises UsageError if there are none or too many."""
    listed = tuple(islice(values, MAX_VALUES + 1))
    if not 0 < len(listed) <= MAX_VALUES:
        raise UsageError(
            f"{text}: must have 1 to {MAX_VALUES} values; to sample from more numbers, use "
            "int(interval(LOW,HIGH))"
        )
    return listed


def check_key(key: str, text: str, search: str) -> None:
    """Raise UsageError if a search cannot sample a key. text: the setting, as it was typed."""
    first = key.partition(".")[0]
    if key in SWEEP_KEYS or first == "search":
        raise UsageError(f"{key} cannot be swept: it applies to the whole sweep; give one value")
    if first in IMAGES:
        raise UsageError(
            f"{text}: search={search} cannot sample {key}, since accuracies on different images "
            "cannot be compared; give one value"
        )


def check_dimensions(dimensions: Collection[str], search: str) -> None:
    """Raise UsageError if there is nothing to sample."""
    if not dimensions:
        raise UsageError(
            f"search={search}: no key has several values; give at least one list or interval, such "
            "as lr=tag(log,interval(1e-4,1e-1))"
        )


def needs_values(text: str, key: str) -> UsageError:
    """The error for an interval where values are required."""
    if key in TRAINED:
        return UsageError(
            f"{text}: {key} cannot be sampled, since each trial trains all of its values; give "
            f"values, such as {key}=1,2"
        )
    return UsageError(
        f"{text}: an interval requires search=tpe or search=random; otherwise give values, such as "
        f"{key}=1,2"
    )
