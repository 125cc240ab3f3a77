"""Grids: the combinations of the values of several keys, as nested dicts shaped like config.yaml.

The number of cells is checked against max_cells before a grid is expanded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, TypeVar

from lenet_sweep.config.checks import integer
from lenet_sweep.config.keys import (
    SWEEP_KEYS,
    choices_set_by,
    defaults,
    depends_on_choice,
    missing_options,
    recipe_conflict,
    set_key,
)
from lenet_sweep.config.pairs import Pair, paired_axes, parse_pairs
from lenet_sweep.config.registry import OPTION_DEFAULTS, OPTION_GROUPS, Raw
from lenet_sweep.config.search_space import needs_values
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

MOST_CELLS = 10**9  # the largest value of max_cells
T = TypeVar("T")


def grid(axes: Mapping[str, Any]) -> list[Raw]:
    """All combinations of the values of the given keys; the last key varies fastest.

    axes: keys of conf/config.yaml, including "recipe" and dotted keys such as
        "optimizer.momentum". A list, tuple, range, or array is an axis; anything else is one value.
        "pair" names the keys whose values are used together; see `pairs.parse_pairs`.

    An option is an axis only for the choices that have it: the others get one cell instead of one
    per value. The same holds for settings that a user's model does not have.

    Raises UsageError for an unknown key, an empty axis, an invalid pair, and a grid with more than
    max_cells cells.
    """
    base = defaults()
    if "recipe" in axes and (both := {"loss", "optimizer"} & set(axes)):
        raise UsageError(recipe_conflict(sorted(both)))
    values = {key: as_axis(key, value) for key, value in axes.items()}
    for key, axis in values.items():
        if not axis:
            raise UsageError(f"{format_value(key)}=[]: give at least one value")
        if key not in SWEEP_KEYS and isinstance(axis[0], str) and "interval(" in axis[0]:
            raise needs_values(f"{key}={format_value(axis[0])}", key)
    cells = []
    for point in expand(
        {key: _length(axis) for key, axis in values.items()},
        values.__getitem__,
        selectors=[
            key
            for key in axes
            if key == "recipe" or (key in OPTION_GROUPS and not depends_on_choice(key))
        ],
        choices_of=choices_of,
        limit=axes.get("max_cells", base["max_cells"]),
        pairs=parse_pairs(axes.get("pair")),
    ):
        raw = dict(base)
        # Groups first: a dotted key changes the choice that the same call selects.
        for key in sorted(point, key=lambda key: "." in key):
            set_key(raw, key, point[key])
        cells.append(raw)
    return cells


def expand(
    lengths: Mapping[str, int],
    values_of: Callable[[str], Sequence[T]],
    *,
    selectors: Collection[str],
    choices_of: Callable[[Mapping[str, T]], Mapping[str, str]],
    limit: Any,
    pairs: Sequence[Pair] = (),
) -> Iterator[dict[str, T]]:
    """The points of a grid, as a value for each axis; the last axis varies fastest.

    The points of choices that lack an option of the grid have only its first value, which they
    ignore. So do those of a user's model for the settings that only our own models have.

    lengths: the number of values of each axis, by key. values_of: the values of an axis; called
    after the number of points was checked. selectors: the axes that may select choices.
    choices_of: the choice of each group, given values of the selectors. limit: max_cells.
    pairs: axes whose values are used together; an option in a pair counts as an axis where another
    one of the pair does.

    Raises UsageError for a grid of more than `limit` points, and for an invalid pair.
    """
    axes = paired_axes(lengths, pairs)
    sizes = {axis: lengths[axis[0]] for axis in axes}

    def values_of_all(chosen: Iterable[Pair]) -> dict[Pair, Sequence[tuple[T, ...]]]:
        return {axis: list(zip(*map(values_of, axis), strict=True)) for axis in chosen}

    options = {key: key.lstrip("+") for key in lengths if key not in selectors}
    options = {key: option for key, option in options.items() if depends_on_choice(option)}
    if not options or not any(lengths[key] > 1 for key in selectors):
        check_grid_size(prod(sizes.values()), limit)
        yield from _product(values_of_all(axes))
        return
    selecting = [axis for axis in axes if any(key in selectors for key in axis)]
    check_grid_size(prod(sizes[axis] for axis in selecting), limit)
    selections = list(_product(values_of_all(selecting)))
    missing = [
        missing_options(
            options.values(), choices_of({k: v for k, v in chosen.items() if k in selectors})
        )
        for chosen in selections
    ]
    # An option that no choice has stays in every point, to be reported by the validation.
    unknown = frozenset.intersection(*missing)
    others = [axis for axis in axes if axis not in selecting]
    ignored = [
        {axis for axis in others if all(options.get(key) in m - unknown for key in axis)}
        for m in missing
    ]
    check_grid_size(
        sum(prod(sizes[axis] for axis in others if axis not in dropped) for dropped in ignored),
        limit,
    )
    values = values_of_all(others)
    for chosen, dropped in zip(selections, ignored, strict=True):
        yield from _product({
            axis: values[axis][: 1 if axis in dropped else None] if axis in values
            else [tuple(chosen[key] for key in axis)]
            for axis in axes
        })  # fmt: skip


def _product(axes: Mapping[Pair, Sequence[tuple[T, ...]]]) -> Iterator[dict[str, T]]:
    keys = [key for axis in axes for key in axis]
    for point in itertools.product(*axes.values()):
        yield dict(zip(keys, itertools.chain.from_iterable(point), strict=True))


def choices_of(selected: Mapping[str, Any]) -> dict[str, str]:
    """The choices that values of `recipe` and of groups select; none for an invalid value."""
    names: dict[str, str] = {}
    for key, value in selected.items():
        names |= choices_set_by(key, value.get("name") if isinstance(value, Mapping) else value)
    return names


def as_axis(key: str, value: Any) -> Sequence[Any]:
    """The values of a key: a list, tuple, range or array, or else the one value."""
    if callable(getattr(type(value), "tolist", None)):  # a NumPy array, a pandas column
        value = value.tolist()
    if key in ("pair", "tracker"):  # their values may be lists
        return [value]
    if isinstance(value, tuple) and isinstance(OPTION_DEFAULTS.get(key), tuple):
        return [value]  # a single value of an option that is a pair
    return value if isinstance(value, (list, tuple, range)) else [value]


def _length(values: Sequence[Any]) -> int:
    if isinstance(values, range):  # len() raises OverflowError for a range longer than sys.maxsize
        return max(0, -((values.start - values.stop) // values.step))
    return len(values)


def check_grid_size(count: int, limit: Any) -> None:
    """Raise UsageError if a grid has more than `limit` (max_cells) cells."""
    most = integer("max_cells", limit, 1, MOST_CELLS, "cells of a grid")
    if count > MOST_CELLS:
        cells = f"{count:,}" if count < 10**18 else "more than 10^18"
        raise UsageError(
            f"the grid has {cells} cells, which exceeds max_cells={most}; give fewer values "
            f"(max_cells can be at most {MOST_CELLS})"
        )
    if count > most:
        raise UsageError(
            f"the grid has {count:,} cells, which exceeds max_cells={most}; "
            f"give fewer values, or set max_cells={count} if this is intended"
        )


def check_study_size(count: int, most: int) -> None:
    """Raise UsageError if a study has more than `most` (max_cells) cells."""
    if count > most:
        raise UsageError(
            f"the study has more than max_cells={most} cells; "
            "give fewer values, or raise max_cells if this is intended"
        )
