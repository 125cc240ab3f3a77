"""Checks of single values, and the messages for what is not allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from lenet_sweep.config import suggestions
from lenet_sweep.config.registry import OPTIMIZERS
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, to_str


def unknown_key(key: Any, value: Any, known: Iterable[str]) -> NoReturn:
    """Raise the UsageError for a key that is not there, with the nearest one that is."""
    key = to_str(key)
    if key == "study":
        raise UsageError(
            f"study={format_value(value)}: a study is added, with a plus: +study=report"
        )
    if key.startswith("optimizer."):
        unknown_option(key.removeprefix("optimizer."), value)
    known = list(known)
    near = suggestions.for_key(key, known)
    hint = f"did you mean {near}?" if near else f"the keys are {', '.join(known)}"
    raise UsageError(
        f"{format_value(key)}={format_value(value)}: there is no key {format_value(key)}; {hint}"
    )


def unknown_option(option: str, value: Any) -> NoReturn:
    """Raise the UsageError for an option that the chosen optimizer does not have."""
    text, option = format_value(value), format_value(option)
    if option == "lr":
        raise UsageError(f"optimizer.lr={text}: the learning rate is a key of its own, lr={text}")
    takes = "; ".join(f"{name} takes {', '.join(s.options)}" for name, s in OPTIMIZERS.items())
    options = [f"optimizer.{name}" for s in OPTIMIZERS.values() for name in s.options]
    near = suggestions.for_value("optimizer.", f"optimizer.{option}", options)
    hint = f"; did you mean {near}?" if near and near != f"optimizer.{option}" else ""
    raise UsageError(
        f"optimizer.{option}={text}: the optimizer has no option {option}; {takes}{hint}"
    )


def recipe_conflict(keys: Sequence[str]) -> str:
    """The message for a recipe given together with what it already fixes."""
    return (
        f"recipe and {' and '.join(keys)} are given together: a recipe fixes loss and optimizer; "
        "give the recipe alone, or loss and optimizer without it"
    )


def integer(key: str, value: Any, low: int, high: int, meaning: str) -> int:
    """The value, if it is a whole number from low to high, 1e2 and "100" included.

    Raises UsageError.
    """
    number = finite(value)
    if number is None or not number.is_integer() or not low <= number <= high:
        reject(key, value, f"a whole number from {low} to {high}, {meaning}")
    return int(number)


def finite(value: Any) -> float | None:
    """The value as a float, None where it is not a finite number. Text counts if it is one."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except Exception:  # noqa: BLE001 - from Python the value may be any object
        return None
    return number + 0.0 if math.isfinite(number) else None  # + 0.0 makes -0.0 the same as 0.0


def choice(key: str, value: Any, allowed: Iterable[str]) -> str:
    """The value, if it is one of the allowed names; otherwise UsageError with the nearest one."""
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        near = suggestions.for_value(key, to_str(value), allowed)
        hint = f"; did you mean {key}={near}?" if near else ""
        reject(key, value, f"one of {', '.join(allowed)}{hint}")
    return value


def reject(key: str, value: Any, allowed: str) -> NoReturn:
    """Raise the UsageError for a value that is not allowed."""
    raise UsageError(f"{key}={format_value(value)}: must be {allowed}")
