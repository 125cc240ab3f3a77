"""Values from files of other people as JSON values: short text and finite numbers."""

from __future__ import annotations

import math
from typing import Any

from lenet_sweep.core.events import Epoch
from lenet_sweep.core.text import format_option, one_line, shorten

MAX_TEXT = 300  # characters

# Of a curve: the number of the run, the epoch, cost, accuracy, test cost and held-out accuracy.
Point = tuple[int, int, float | None, float | None, float | None, float | None]


def finite_number(value: Any) -> float | None:
    """A finite number with at most 8 digits; None for anything else."""
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    return float(f"{value:.8g}")


def short_text(text: Any, limit: int = MAX_TEXT) -> str:
    return shorten(one_line(str(text)[: 4 * limit]), limit)


def setting_value(value: Any) -> Any:
    """The value of a setting: a number, text, or None."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return finite_number(value)
    return short_text(format_option(value))


def curve_point(number: int, epoch: Epoch) -> Point:
    return (
        number, epoch.epoch, finite_number(epoch.cost), finite_number(epoch.accuracy),
        finite_number(epoch.test_cost), finite_number(epoch.holdout_accuracy),
    )  # fmt: skip
