"""Values as text: one line each, safe to print, in the same words everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

UNKNOWN = "\N{EN DASH}"  # stands for a value that is not known


def format_value(value: Any) -> str:
    """A value as it may stand in a message: one line, inert, not too long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = to_str(value)
    return replace_unprintable(text if len(text) <= 80 else text[:77] + "...")


def to_str(value: Any) -> str:
    """`str(value)`, or the name of its type where that is all that can be had."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a number of 5000 digits, an object that does not want to
        return f"<{type(value).__name__}>"


def one_line(text: str) -> str:
    """Text from outside as one line that can only be read: control characters are spelled out."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def describe_os_error(error: OSError) -> str:
    """What failed, and where: '/mnt/x: No space left on device'."""
    place = f"{format_value(error.filename)}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def replace_unprintable(text: str) -> str:
    """The text with what a terminal would act on replaced: control characters, lost surrogates."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def escape_unencodable(text: str, encoding: str) -> str:
    """The text with what an encoding lacks spelled out: a log may lack a letter of a name."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def format_duration(seconds: float | None) -> str:
    """Hours, minutes and seconds: '0:09', '1:02:03', '120 h'."""
    if seconds is None:
        return UNKNOWN
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours} h"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def pluralize(number: int, thing: str) -> str:
    """'1 cell', '2 cells'."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def format_option(value: float | bool | tuple[float, ...]) -> str:
    """An option's value as it is typed, numbers shortened: '0.9', 'true', '[0.9,0.999]'."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ",".join(f"{x:g}" for x in value) + "]"
    return f"{value:g}"


def format_setting(value: str | float | bool | tuple[float, ...] | None) -> str:
    """A value as it is typed: '0.1', 'true', '[0.9,0.999]'; a dash for a missing one."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ",".join(map(format_setting, value)) + "]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e6 else repr(value)
    return str(value)


def join_words(texts: Sequence[str], limit: int = 4) -> str:
    """'a', 'a and b', 'a, b and c', of more than `limit` the first ones 'and 3 more'.

    Semicolons where a text has commas of its own: 'lr 0.1, batch 32; and lr 0.1, batch 64'.
    """
    comma, last = ("; ", "; and ") if any(", " in text for text in texts) else (", ", " and ")
    if len(texts) > limit:
        texts = [*texts[: limit - 1], f"{len(texts) - limit + 1} more"]
    return last.join(filter(None, [comma.join(texts[:-1]), *texts[-1:]]))


def format_cost(cost: float) -> str:
    """A cost in at most 9 characters: '0.0123', '1.2e-05', '6.1e+30'; '' for none."""
    if math.isnan(cost):
        return ""
    return f"{cost:.4f}" if cost == 0 or 1e-3 <= abs(cost) < 1e4 else f"{cost:.2g}"
