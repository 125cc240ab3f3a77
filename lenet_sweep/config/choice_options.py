"""The options of a choice, such as the momentum of an optimizer: their defaults and limits.

A file of conf/ defines them: a key and its default, and a comment with the help text and the
limits, such as `momentum: 0.0 # fraction of the previous step; min 0`. Those of a model of the user
are the arguments of its class; see `own_models`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lenet_sweep.config import checks
from lenet_sweep.config.checks import boolean, finite, reject
from lenet_sweep.config.files import ConfigFile
from lenet_sweep.core.cells import OptionValue
from lenet_sweep.core.errors import UsageError

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {">": operator.gt, "=": operator.eq}
ANY_LENGTH = "any length"
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_LIMIT = re.compile(rf"(min|max|above|below) {_NUMBER}")
_ONE_OF = re.compile(rf"one of ({_NUMBER}(?:, {_NUMBER})*)")
_REQUIREMENT = re.compile(rf"(\w+) ([>=]) {_NUMBER}")


@dataclass(frozen=True)
class Requirement:
    """A value of another option that an option requires, such as 'momentum > 0'."""

    option: str
    comparison: str  # > or =
    value: float

    def is_met(self, options: Mapping[str, Any]) -> bool:
        """Whether the values of a choice's options meet the requirement."""
        return _OPERATORS[self.comparison](options[self.option], self.value)


@dataclass(frozen=True)
class ChoiceOption:
    """An option of a choice.

    default: its type is the type of the option: bool, int, float, str, or a tuple of floats of this
        length, or of any length (any_length).
    min, max: the smallest and the largest number allowed. above, below: all numbers must be
    greater, or less, than this. one_of: the only numbers allowed; () allows all.
    whole: only whole numbers are allowed.
    """

    default: OptionValue
    help: str
    min: float | None = None
    max: float | None = None
    above: float | None = None
    below: float | None = None
    requires: tuple[Requirement, ...] = ()
    one_of: tuple[float, ...] = ()
    any_length: bool = False
    whole: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values for messages, such as 'a number of at least 0'."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return "text of up to 100 printable characters"
        if isinstance(self.default, int):
            return f"a whole number, like its default {self.default}"
        is_list = isinstance(self.default, tuple)
        noun = "whole number" if self.whole else "number"
        kind = f"{len(self.default)} {noun}s" if isinstance(self.default, tuple) else f"a {noun}"
        if self.any_length:
            kind = f"a list of 1 or more {noun}s"
        if self.one_of:
            numbers = f"one of {', '.join(f'{number:g}' for number in self.one_of)}"
            return f"{kind}, each {numbers}" if is_list else numbers
        if self.min is not None and self.max is not None:
            return f"{kind}{', each' if is_list else ''} from {self.min:g} to {self.max:g}"
        limits = [f"at least {self.min:g}"] if self.min is not None else []
        limits += [f"greater than {self.above:g}"] if self.above is not None else []
        limits += [f"at most {self.max:g}"] if self.max is not None else []
        limits += [f"less than {self.below:g}"] if self.below is not None else []
        if not limits:
            return kind
        if len(limits) == 1 and not is_list:
            return f"{kind} of {limits[0]}" if "at" in limits[0].split() else f"{kind} {limits[0]}"
        return f"{kind}, {'each ' if is_list else ''}{' and '.join(limits)}"

    def check(self, key: str, value: Any) -> OptionValue:
        """The value in the type of the option. Raises UsageError if it is not allowed."""
        if isinstance(self.default, bool):
            return boolean(key, value)
        if isinstance(self.default, str):
            return self._text(key, value)
        if isinstance(self.default, int):
            return self._integer(key, value)
        if not isinstance(self.default, tuple):
            return self._number(key, value, value)
        items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
        if not items or (len(items) != len(self.default) and not self.any_length):
            reject(key, value, self.allowed)
        return tuple(self._number(key, value, item) for item in items)

    def _text(self, key: str, value: Any) -> str:
        if not isinstance(value, str):
            reject(key, value, self.allowed)
        return checks.text(key, value) or ""

    def _integer(self, key: str, value: Any) -> int:
        number = finite(value)
        if number is None or not number.is_integer():
            reject(key, value, self.allowed)
        return value if isinstance(value, int) else int(number)

    def _number(self, key: str, value: Any, item: Any) -> float:
        number = finite(item)
        if number is None:
            reject(key, value, self.allowed)
        if (
            (self.min is not None and number < self.min)
            or (self.max is not None and number > self.max)
            or (self.above is not None and number <= self.above)
            or (self.below is not None and number >= self.below)
            or (self.one_of and number not in self.one_of)
            or (self.whole and not number.is_integer())
        ):
            reject(key, value, self.allowed)
        return number


def check_options(
    group: str, options: Mapping[str, ChoiceOption], given: Mapping[str, Any]
) -> dict[str, OptionValue]:
    """The value of each option of a choice; the default where none is given.

    Raises UsageError for a value that is not allowed, or not together with the others.
    """
    values = {
        name: option.check(f"{group}.{name}", given.get(name, option.default))
        for name, option in options.items()
    }
    for name, option in options.items():
        is_met = all(requirement.is_met(values) for requirement in option.requires)
        if not is_met and values[name] != option.default:
            requirements = " and ".join(
                f"{group}.{r.option} {r.comparison} {r.value:g}" for r in option.requires
            )
            value = str(values[name]).lower()
            raise UsageError(f"{group}.{name}={value}: requires {requirements}")
    return values


def parse_options(file: ConfigFile, names: Sequence[str]) -> dict[str, ChoiceOption]:
    """The options that a file defines. Raises UsageError for an invalid default or limit."""
    options = {name: _parse_option(file, name) for name in names}
    for name, option in options.items():
        for requirement in option.requires:
            if requirement.option not in options:
                raise UsageError(
                    f"{file.path}: {name}: requires {requirement.option}, which is not an option "
                    f"of this file; its options are {', '.join(options)}"
                )
    return options


def _parse_option(file: ConfigFile, name: str) -> ChoiceOption:
    """An option from its default and its comment, such as 'L2 penalty; min 0'."""
    default = file.values[name]
    numbers = default if isinstance(default, list) and default else [default]
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise file.error(
            name, "the default of an option must be a number, a list of numbers, true, or false"
        )
    text, *rules = file.comments.get(name, "").split("; ")
    limits: dict[str, float] = {}
    any_length = False
    one_of: tuple[float, ...] = ()
    whole = False
    requires: tuple[Requirement, ...] = ()
    for rule in rules:
        if match := _LIMIT.fullmatch(rule):
            limits[match[1]] = float(match[2])
        elif rule == ANY_LENGTH and isinstance(default, list):
            any_length = True
        elif match := _ONE_OF.fullmatch(rule):
            one_of = tuple(map(float, match[1].split(", ")))
        elif rule == "whole":
            whole = True
        elif rule.startswith("requires "):
            parts = rule.removeprefix("requires ").split(", ")
            matches = [_REQUIREMENT.fullmatch(part) for part in parts]
            requires = tuple(Requirement(m[1], m[2], float(m[3])) for m in matches if m)
            if len(requires) < len(parts):
                raise UsageError(
                    f"{file.path}: {name}: cannot parse {rule!r}; write 'requires OPTION > NUMBER' "
                    "or 'requires OPTION = NUMBER'"
                )
        else:
            raise UsageError(
                f"{file.path}: {name}: cannot parse {rule!r}; after a semicolon, a comment can "
                "have 'min NUMBER', 'max NUMBER', 'above NUMBER', 'below NUMBER', 'one of "
                f"NUMBER, NUMBER', 'whole', '{ANY_LENGTH}' (of a list), or 'requires OPTION > "
                "NUMBER'"
            )
    if isinstance(default, list):
        default = tuple(map(float, default))
    elif not isinstance(default, bool):
        default = float(default)
    return ChoiceOption(
        default,
        text,
        **limits,
        one_of=one_of,
        whole=whole,
        any_length=any_length,
        requires=requires,
    )
