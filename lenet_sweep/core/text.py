"""Formatting of values, durations and lists as text that is safe to print."""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

UNKNOWN = "\N{EN DASH}"  # shown in place of an unknown value


def format_value(value: Any) -> str:
    """A value for use in a message: one printable line of at most 80 characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = to_str(value)
    return replace_unprintable(shorten(text, 80))


def shorten(text: str, limit: int) -> str:
    """The text, or its beginning and '...', in at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def to_str(value: Any) -> str:
    """`str(value)`, or the name of its type if that raises."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - an integer of 5000 digits, or any error of a user's __str__
        return f"<{type(value).__name__}>"


def one_line(text: str) -> str:
    """Untrusted text as one line, with control characters escaped."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def describe_os_error(error: OSError) -> str:
    """The path and the reason, such as '/mnt/x: No space left on device'."""
    place = f"{format_value(error.filename)}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def replace_unprintable(text: str) -> str:
    """The text with control characters and lone surrogates replaced by U+FFFD."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def escape_unencodable(text: str, encoding: str) -> str:
    """The text with characters that the encoding lacks escaped, for logs that are not UTF-8."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def join_command(arguments: Sequence[str]) -> str:
    """A command as text to paste into a shell: cmd or PowerShell on Windows, otherwise POSIX."""
    if os.name != "nt":
        return shlex.join(arguments)
    # cmd takes only double quotes. PowerShell splits unquoted text at commas, among others.
    return " ".join(
        text if re.fullmatch(r'[\w.:=/\\+-]+|(?s:".*")', text) else f'"{text}"'
        for text in (subprocess.list2cmdline([argument]) for argument in arguments)
    )


def format_duration(seconds: float | None) -> str:
    """Hours, minutes and seconds, such as '0:09', '1:02:03' or '120 h'; a dash for None."""
    if seconds is None:
        return UNKNOWN
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours} h"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def pluralize(number: int, thing: str) -> str:
    """A number and its noun, such as '1 cell' or '2 cells'."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def format_option(value: float | bool | str | tuple[float, ...]) -> str:
    """An option's value as typed, rounded to 6 digits: '0.9', 'true', '[0.9,0.999]', 'wide'."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, str)):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ",".join(f"{x:g}" for x in value) + "]"
    return f"{value:g}"


def format_setting(value: str | float | bool | tuple[float, ...] | None) -> str:
    """A value as typed, at full precision: '0.1', 'true', '[0.9,0.999]'; a dash for None."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ",".join(map(format_setting, value)) + "]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e6 else repr(value)
    return str(value)


def join_words(texts: Sequence[str], limit: int = 4, word: str = "and") -> str:
    """Join texts: 'a', 'a and b', 'a, b and c'; beyond `limit` texts, 'a, b, c and 3 more'.

    Texts that contain commas are separated by semicolons.
    """
    comma, last = (", ", f" {word} ")
    if any(", " in text for text in texts):
        comma, last = "; ", f"; {word} "
    if len(texts) > limit:
        texts = [*texts[: limit - 1], f"{len(texts) - limit + 1} more"]
    return last.join(filter(None, [comma.join(texts[:-1]), *texts[-1:]]))


def format_cost(cost: float) -> str:
    """A cost in at most 9 characters, such as '0.0123' or '1.2e-05'; '' for NaN."""
    if math.isnan(cost):
        return ""
    return f"{cost:.4f}" if cost == 0 or 1e-3 <= abs(cost) < 1e4 else f"{cost:.2g}"
