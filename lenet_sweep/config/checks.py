"""Checks of single values: each returns the value in its type, or raises UsageError."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from lenet_sweep.config import suggestions
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, to_str

PLAIN = (str, int, float)  # types of text: Hydra parses person=7 as a number


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
        one_of = "one of " if len(allowed) > 1 else ""
        reject(key, value, f"{one_of}{', '.join(allowed)}{hint}")
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


def number(key: str, value: Any, low: float, high: float, meaning: str) -> float:
    """The value as a float from `low` to `high`. `meaning` describes it in the message.

    Raises UsageError for any other value.
    """
    result = finite(value)
    if result is None or not low <= result <= high:
        reject(key, value, f"a number from {low:g} to {high:g} ({meaning})")
    return result


def positive(key: str, value: Any, allowed: str) -> float:
    """The value as a float, which must be above 0. `allowed` describes it in the message."""
    number = finite(value)
    if number is None or number <= 0:
        reject(key, value, allowed)
    return number


def finite(value: Any) -> float | None:
    """The value as a float, or None if it is not a finite number. Numbers as text are accepted."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except Exception:  # noqa: BLE001 - a value from Python may be any object and raise anything
        return None
    return number + 0.0 if math.isfinite(number) else None  # + 0.0 turns -0.0 into 0.0


def boolean(key: str, value: Any) -> bool:
    """The value, which must be true or false."""
    if not isinstance(value, bool):
        reject(key, value, f"true or false, for example {key}=true")
    return value


def text(key: str, value: Any) -> str | None:
    """The value as one line of text; None if it is not given."""
    if value is None:
        return None
    typed = to_str(value)
    if (
        not isinstance(value, PLAIN)
        or isinstance(value, bool)
        or not typed.isprintable()
        or len(typed) > 100
    ):
        reject(key, value, "one line of up to 100 printable characters")
    if "${" in typed:
        reject(key, value, "plain text; ${...} is resolved only on the command line")
    return typed


def folder(key: str, value: Any) -> Path | None:
    """The value as the path of a folder; None if it is not given."""
    if value is None:
        return None
    text = to_str(value)
    if (
        not isinstance(value, (*PLAIN, Path))
        or isinstance(value, bool)
        or not text.isprintable()
        or not text
    ):
        reject(key, value, "the path of a folder")
    if len(text) > 1000 or any(len(part) > 200 for part in Path(text).parts):
        reject(key, value, "a path of at most 1000 characters, with at most 200 in each name")
    if "${" in text:
        reject(key, value, "a plain path; ${...} is resolved only on the command line")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~name of an unknown user
        reject(key, value, "the path of a folder; this home directory does not exist")


def folder_name(key: str, value: Any) -> str | None:
    """The value as the name of a folder on any system; None if it is not given."""
    if value is None:
        return None
    text = to_str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        reject(
            key,
            value,
            "up to 100 letters, digits, '.', '_' or '-', starting with a letter or digit",
        )
    reserved = r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?"  # names of devices on Windows
    if re.fullmatch(reserved, text, re.IGNORECASE) or text.endswith("."):
        reject(key, value, "a folder name that is also valid on Windows; choose another name")
    return text
