"""A cache for the results of checks."""

from __future__ import annotations

import marshal
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class CheckCache:
    """Caches the results of checks, since the cells of a large grid have few distinct values."""

    def __init__(self) -> None:
        self._results: dict[Any, tuple[Any, Any]] = {}

    def __call__(self, check: Callable[..., T], *values: Any) -> T:
        """`check(*values)`, called once for equal values. Errors are not cached."""
        return self.for_equal(identity(values), check, *values)

    def for_equal(self, key: Hashable, check: Callable[..., T], *values: Any) -> T:
        """`check(*values)`, called once for equal keys."""
        key = check, key
        if key not in self._results:
            # Keep the values alive: the id of a deleted object may be reused.
            self._results[key] = values, check(*values)
        result: T = self._results[key][1]
        return result


def identity(values: tuple[Any, ...]) -> Hashable:
    """A hashable key for the cache, in which 1, 1.0, and True differ."""
    try:
        return marshal.dumps(values)  # supports plain values only, also nested ones
    except ValueError:
        return tuple(map(_identity_of_one, values))


def _identity_of_one(value: Any) -> Hashable:
    try:
        return marshal.dumps(value)
    except ValueError:
        return id(value)
