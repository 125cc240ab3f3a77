"""The search space of a call of `lenet_sweep.sweep`: keyword arguments with several values."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lenet_sweep.config import grids
from lenet_sweep.config.keys import chosen_names, depends_on_choice, missing_options
from lenet_sweep.config.registry import OPTION_GROUPS, Raw
from lenet_sweep.config.search_space import (
    TRAINED,
    Composed,
    Dimension,
    Point,
    SearchSpace,
    Values,
    check_dimensions,
    check_key,
    list_values,
)
from lenet_sweep.core.text import format_value

_SWEEP = re.compile(r"\s*(tag|int|float|interval|range|choice)\(")


def settings_space(
    settings: Mapping[str, Any],
    search: str,
    validate: Callable[[Sequence[Raw], Mapping[str, Collection[str]]], Composed],
) -> tuple[SearchSpace, Raw, dict[str, set[str]]]:
    """The search space of keyword arguments.

    validate: see `SearchSpace.compose`; from raw settings and the choices of all cells by group.

    Returns the space, the raw settings of one cell with the values that are not sampled, and the
    choices of all cells, by group. Raises UsageError for keys and values that cannot be sampled.
    """
    dimensions: dict[str, Dimension] = {}
    fixed: dict[str, Any] = {}
    for key, value in settings.items():
        dimension = None if key in TRAINED else _dimension(key, value)
        if dimension is None:
            fixed[key] = value
        else:
            check_key(key, f"{key}={format_value(value)}", search)
            dimensions[key] = dimension
    check_dimensions(dimensions, search)
    groups = [key for key in dimensions if key == "recipe" or key in OPTION_GROUPS]
    selectors = [key for key in groups if not depends_on_choice(key)]
    base = grids.grid(fixed)[0]
    selected = chosen_names(base)
    chosen = {group: {name} for group, name in selected.items()}
    for key in groups:
        by_value = [grids.choices_of({key: value}) for value in dimensions[key].probes()]
        for group in {group for choices in by_value for group in choices} & chosen.keys():
            chosen[group] = {choices[group] for choices in by_value if group in choices}
    options = [key for key in dimensions if depends_on_choice(key)]

    def missing(point: Point) -> Collection[str]:
        return missing_options(options, selected | grids.choices_of(point))

    def compose(point: Point) -> Composed:
        return validate(grids.grid({**fixed, **point}), chosen)

    return SearchSpace(dimensions, selectors, missing, compose), base, chosen


def _dimension(key: str, value: Any) -> Dimension | None:
    """The dimension of a keyword argument; None if it has one value."""
    if isinstance(value, str) and _SWEEP.match(value):
        from lenet_sweep.config.sweep_grammar import parse_values  # noqa: PLC0415 - imports Hydra

        return parse_values(key, value)
    values = grids.as_axis(key, value)
    if not isinstance(values, range) and len(values) == 1:
        return None
    listed = list_values(f"{key}={format_value(value)}", values)
    return Values(listed, ordered=isinstance(value, range))
