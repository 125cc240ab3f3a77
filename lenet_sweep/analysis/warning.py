"""What a doubt is, and words that the sentences of doubts and conclusions share."""

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
    """Something that weakens a conclusion.

    kind: one word or two, for programs. cells: those concerned. remedy: the command, or the key,
    that would settle it, or "".
    """

    kind: str
    sentence: str
    cells: tuple[Cell, ...]
    severity: Severity
    remedy: str = ""


def percent(result: Result) -> float:
    """The accuracy of a result that has one."""
    assert result.accuracy is not None
    return result.accuracy


def of(number: int, total: int, thing: str = "cell") -> str:
    """'1 of 3 cells'."""
    return f"{number} of {pluralize(total, thing)}"


def has(things: Sequence[object]) -> str:
    """'has' for one thing, else 'have'."""
    return "has" if len(things) == 1 else "have"


def ordinal(number: int) -> str:
    """'1st', '12th', '23rd'."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"
