"""The type of a warning, and wording helpers shared by warnings and conclusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lenet_sweep.analysis.statistics import Result
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.text import pluralize

Severity = Literal["note", "caution", "serious"]


@dataclass(frozen=True)
class ResultWarning:
    """Something that weakens a conclusion drawn from the results.

    kind: a short identifier for programs, such as 'one seed'. cells: the cells concerned. remedy:
    the command, or the setting to add to it, that would settle the matter; "" if there is none.
    """

    kind: str
    sentence: str
    cells: tuple[Cell, ...]
    severity: Severity
    remedy: str = ""


def accuracy_of(result: Result) -> float:
    """The accuracy in percent of a result that has one."""
    assert result.accuracy is not None
    return result.accuracy


def count_of(number: int, total: int, thing: str = "cell") -> str:
    """'1 of 3 cells'."""
    return f"{number} of {pluralize(total, thing)}"


def has_or_have(things: Sequence[object]) -> str:
    """'has' for one thing, otherwise 'have'."""
    return "has" if len(things) == 1 else "have"


def ordinal(number: int) -> str:
    """'1st', '12th', '23rd'."""
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else suffix}"
