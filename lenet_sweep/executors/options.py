"""The options of executors: their defaults, help and checks.

An executor takes the fields of a dataclass, each made by `executor_option`, as options that are
given as hydra.launcher.KEY=VALUE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields
from typing import Any, TypeVar

from lenet_sweep.config.checks import finite, integer, reject
from lenet_sweep.config.keys import unknown_key
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

PREFIX = "hydra.launcher"
MAX_AMOUNT = 1e6
Check = Callable[[str, Any], Any]  # (key, typed value) -> value; raises UsageError
T = TypeVar("T")


def executor_option(default: Any, help_text: str, check: Check, *, text: bool = False) -> Any:
    """A field of a dataclass of options, with its default, its help, and the check of its value.

    text: the value is text, or a mapping to text, and is kept as typed: 1.10 is not the number 1.1.
    This is always so for the checks `check_text` and `check_optional_text`.
    """
    text = text or check in (check_text, check_optional_text)
    return field(default=default, metadata={"help": help_text, "check": check, "text": text})


def parse_options(options: type[T], raw: Mapping[str, Any]) -> T:
    """The options given as hydra.launcher.KEY=VALUE, as an instance of the dataclass `options`.

    Raises UsageError, one line, for the first key that does not exist or value that is not allowed.
    """
    by_name = {f.name: f for f in fields(options)}  # type: ignore[arg-type] # T is any dataclass
    for key, value in raw.items():
        if not by_name:
            raise UsageError(
                f"{PREFIX}.{key}={format_value(value)}: this launcher has no options; remove the "
                "key"
            )
        if key not in by_name:
            unknown_key(f"{PREFIX}.{key}", value, [f"{PREFIX}.{name}" for name in by_name])
    return options(
        **{
            name: option.metadata["check"](f"{PREFIX}.{name}", raw.get(name, option.default))
            for name, option in by_name.items()
        }
    )


def describe_options(options: type[Any]) -> list[str]:
    """One line per option, such as 'time: 60   # time limit of a job in minutes'."""
    lines = []
    for option in fields(options):
        setting = f"{option.name}: {'null' if option.default is None else option.default}"
        lines.append(f"{setting:<19} # {option.metadata['help']}")
    return lines


# ---------------------------------------------------------------- checks


def check_text(key: str, value: Any) -> str:
    """One line of printable text, since it becomes a line of a shell script."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        reject(key, value, "text or a number")
    if isinstance(value, float):  # Hydra parsed it inside {...}, so 1.10 became 1.1
        reject(key, value, f"text; put text that looks like a number in quotes: '{value}'")
    if not str(value).isprintable() or not str(value) or len(str(value)) > 200:
        reject(key, value, "one line of up to 200 printable characters")
    return str(value)


def check_optional_text(key: str, value: Any) -> str | None:
    """As `check_text`, but null is allowed."""
    return None if value is None else check_text(key, value)


def integer_check(low: int, high: int, meaning: str) -> Check:
    """A check for a whole number from `low` to `high`; `meaning` describes it in the message."""
    return lambda key, value: integer(key, value, low, high, meaning)


def number_check(allowed: str, least: float = 0.0) -> Check:
    """A check for a number from `least` to MAX_AMOUNT; `allowed` describes it in the message."""

    def check(key: str, value: Any) -> float:
        number = finite(value)
        if number is None or not least <= number <= MAX_AMOUNT:
            reject(key, value, allowed)
        return number

    return check


def check_mapping(key: str, value: Any, allowed: str) -> Mapping[Any, Any]:
    """The value, which must be a mapping; null is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        reject(key, value, allowed)
    return value
