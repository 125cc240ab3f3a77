"""Which cells an engine supports, as an allow-list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import Any

from lenet_sweep.core.cells import Cell, Choice, Dataset
from lenet_sweep.core.text import format_value

ANY = None
Values = tuple[Any, ...] | Callable[[Any], bool] | None  # allowed values, a condition, or ANY


@dataclass(frozen=True)
class EngineSupport:
    """The allow-list of an engine. The torch engine trains everything else."""

    name: str
    settings: Mapping[str, Values]  # by field of Cell
    # By field of Cell (loss, optimizer), name of the choice, and option.
    choices: Mapping[str, Mapping[str, Mapping[str, Values]]]
    unavailable_reason: Callable[[], str | None]  # why this installation lacks the engine, or None

    def unsupported_reason(self, cell: Cell) -> str | None:
        """Why this engine cannot train a cell; None if it can."""
        for key, value, allowed in self._settings(cell):
            if allowed is ANY or (allowed(value) if callable(allowed) else value in allowed):
                continue
            reason = f"the {self.name} engine does not support {key}={format_value(value)}"
            if isinstance(allowed, tuple) and allowed:
                reason += f" (only {', '.join(map(format_value, allowed))})"
            return reason
        return self.unavailable_reason()

    def relevant_settings(self, cell: Cell) -> tuple[Any, ...]:
        """The settings of a cell that `unsupported_reason` depends on."""
        values: tuple[Any, ...] = self._relevant_getter(cell)
        return values

    @cached_property
    def _relevant_getter(self) -> attrgetter[tuple[Any, ...]]:
        irrelevant = {key for key, allowed in self.settings.items() if allowed is ANY}
        if irrelevant.issuperset(f"dataset.{part.name}" for part in fields(Dataset)):
            irrelevant.add("dataset")
        return attrgetter(*(field.name for field in fields(Cell) if field.name not in irrelevant))

    def _settings(self, cell: Cell) -> Iterator[tuple[str, Any, Values]]:
        """The key, the value and the allowed values of each setting of a cell."""
        for field in fields(cell):
            value = getattr(cell, field.name)
            if self.settings.get(field.name, ()) is ANY:
                continue
            if isinstance(value, Choice):
                allowed = self.choices.get(field.name, {})
                yield field.name, value.name, tuple(allowed)
                options = allowed.get(value.name, {})
                for option, chosen in value.options:
                    yield f"{field.name}.{option}", chosen, options.get(option, ())
            elif field.name == "dataset":
                for part in fields(value):
                    key = f"dataset.{part.name}"
                    yield key, getattr(value, part.name), self.settings.get(key, ())
            else:
                yield field.name, value, self.settings.get(field.name, ())
