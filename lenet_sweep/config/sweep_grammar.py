"""Values to sample in Hydra's grammar of overrides: lists, intervals, ranges and their tags."""

from __future__ import annotations

import math
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
    Sweep,
)

from lenet_sweep.config.search_space import Dimension, Interval, Values, list_values
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value


def parse_values(key: str, text: str) -> Dimension:
    """The values of a key from text such as "interval(0,1)" or "choice(1,2)". Raises UsageError."""
    try:
        override = OverridesParser.create().parse_override(f"{key}={text}")
    except Exception as error:  # Hydra's grammar and its functions may raise anything
        raise UsageError(
            f"{key}={format_value(text)}: cannot be parsed; write it as on the command line, such "
            "as interval(0,1), tag(log,interval(1e-4,1e-1)) or int(interval(1,8))"
        ) from error
    if not override.is_sweep_override():
        return Values((override.value(),))
    return to_dimension(override, as_text=False)


def to_dimension(override: Override, *, as_text: bool) -> Dimension:
    """The dimension of an override that has several values.

    as_text: gives values, other than those of intervals, as text that Hydra parses again. Raises
    UsageError for values that cannot be sampled.
    """
    text = format_value(override.input_line)
    sweep: Any = override.value()
    tags = set(sweep.tags) if isinstance(sweep, Sweep) else set()
    if unknown := sorted(tags - {"log", "int"}):
        raise UsageError(f"{text}: there is no tag {unknown[0]}; the tags are log and int")
    if isinstance(sweep, IntervalSweep):
        return _interval(text, sweep, tags)
    if tags:
        raise UsageError(f"{text}: a tag requires an interval, as in tag(log,interval(1e-4,1e-1))")
    if isinstance(sweep, (ChoiceSweep, RangeSweep)):
        sweep.shuffle = False  # the order must be the same in each launch
    try:
        values = override.sweep_string_iterator() if as_text else override.sweep_iterator()
        listed = list_values(text, values)
    except UsageError:
        raise
    except Exception as error:  # a range of infinite numbers, or with a step of 0
        raise UsageError(
            f"{text}: a range requires finite numbers and a step other than 0"
        ) from error
    listed = tuple(v.text if isinstance(v, QuotedString) else v for v in listed)
    return Values(listed, ordered=isinstance(sweep, RangeSweep))


def _interval(text: str, sweep: IntervalSweep, tags: set[str]) -> Interval:
    assert sweep.start is not None
    assert sweep.end is not None
    bounds = (sweep.start, sweep.end)
    if not all(map(math.isfinite, bounds)) or sweep.start >= sweep.end:
        raise UsageError(f"{text}: an interval requires two finite numbers, the smaller one first")
    if "log" in tags and sweep.start <= 0:
        raise UsageError(f"{text}: a logarithm requires numbers above 0")
    whole = "int" in tags or all(isinstance(bound, int) for bound in bounds)
    if whole and not all(float(bound).is_integer() for bound in bounds):
        raise UsageError(f"{text}: with the tag int, the interval requires whole numbers")
    low, high = map(int if whole else float, bounds)
    return Interval(low, high, log="log" in tags, whole=whole)
