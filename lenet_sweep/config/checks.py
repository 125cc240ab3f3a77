"""Checks of single values, and the messages for keys and values that are not allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from lenet_sweep.config import suggestions
from lenet_sweep.config.registry import OPTIMIZERS
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, join_words, to_str


def reject(key: str, value: Any, allowed: str) -> NoReturn:
    """Raise UsageError for a value that is not allowed: 'KEY=VALUE: must be ALLOWED'."""
    raise UsageError(f"{key}={format_value(value)}: must be {allowed}")


def choice(key: str, value: Any, allowed: Iterable[str]) -> str:
    """The value, which must be one of the allowed names.

    Raises UsageError, which suggests the nearest name, for any other value.
    """
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        suggestion = suggestions.for_value(key, to_str(value), allowed)
        hint = f"; did you mean {key}={suggestion}?" if suggestion else ""
        reject(key, value, f"one of {', '.join(allowed)}{hint}")
    return value


def integer(key: str, value: Any, low: int, high: int, meaning: str) -> int:
    """The value as an int, which must be a whole number from `low` to `high`.

    Floats and text are accepted if they are whole numbers: 1e2, "100". `meaning` describes the
    number in the message. Raises UsageError for any other value.
    """
    number = finite(value)
    if number is None or not number.is_integer() or not low <= number <= high:
        reject(key, value, f"a whole number from {low} to {high} ({meaning})")
    return int(number)


def finite(value: Any) -> float | None:
    """The value as a float, or None if it is not a finite number. Numbers as text are accepted."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except Exception:  # noqa: BLE001 - a value from Python may be any object and raise anything
        return None
    return number + 0.0 if math.isfinite(number) else None  # + 0.0 turns -0.0 into 0.0


def unknown_key(key: Any, value: Any, valid_keys: Iterable[str]) -> NoReturn:
    """Raise UsageError for a key that does not exist, and suggest the nearest valid key."""
    key = to_str(key)
    if key == "study":
        raise UsageError(
            f"study={format_value(value)}: add a study with a plus sign, as in +study=report"
        )
    if key.startswith("optimizer."):
        unknown_option(key.removeprefix("optimizer."), value)
    valid_keys = list(valid_keys)
    suggestion = suggestions.for_key(key, valid_keys)
    hint = f"did you mean {suggestion}?" if suggestion else f"the keys are {', '.join(valid_keys)}"
    raise UsageError(
        f"{format_value(key)}={format_value(value)}: there is no key {format_value(key)}; {hint}"
    )


def unknown_option(option: str, value: Any) -> NoReturn:
    """Raise UsageError for an option that the selected optimizer does not have."""
    text, option = format_value(value), format_value(option)
    if option == "lr":
        raise UsageError(f"optimizer.lr={text}: the learning rate is a separate key; use lr={text}")
    takes = "; ".join(f"{name} takes {', '.join(s.options)}" for name, s in OPTIMIZERS.items())
    options = [f"optimizer.{name}" for s in OPTIMIZERS.values() for name in s.options]
    suggestion = suggestions.for_value("optimizer.", f"optimizer.{option}", options)
    hint = ""
    if suggestion and suggestion != f"optimizer.{option}":
        hint = f"; did you mean {suggestion}?"
    raise UsageError(
        f"optimizer.{option}={text}: the optimizer has no option {option}; {takes}{hint}"
    )


def recipe_conflict(keys: Sequence[str]) -> str:
    """The message for a recipe that is given together with `loss`, `optimizer`, or both."""
    given = join_words(keys)
    return (
        f"recipe cannot be combined with {given}, because a recipe sets loss and optimizer; "
        f"use either recipe or {given}"
    )
