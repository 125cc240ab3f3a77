"""Grids: the combinations of the values of several keys, as nested dicts shaped like config.yaml.

The number of cells is checked against max_cells before a grid is expanded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lenet_sweep.config.checks import integer, recipe_conflict
from lenet_sweep.config.keys import defaults, is_option, missing_options, set_key
from lenet_sweep.config.registry import RECIPES, Raw
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

MOST_CELLS = 10**9  # the largest value of max_cells


def grid(axes: Mapping[str, Any]) -> list[Raw]:
    """All combinations of the values of the given keys; the last key varies fastest.

    axes: keys of conf/config.yaml, including "recipe" and dotted keys such as
        "optimizer.momentum". A list, tuple, range, or array is an axis; anything else is one value.

    An option of an optimizer is an axis only for the optimizers that have it: the others get one
    cell instead of one per value. Raises UsageError for an unknown key, an empty axis, and a grid
    with more than max_cells cells.
    """
    base = defaults()
    limit = axes.get("max_cells", base["max_cells"])
    if "recipe" in axes and (both := {"loss", "optimizer"} & set(axes)):
        raise UsageError(recipe_conflict(sorted(both)))
    values = {key: _as_axis(key, value) for key, value in axes.items()}
    for key, axis in values.items():
        if not axis:
            raise UsageError(f"{format_value(key)}=[]: give at least one value")
    subgrids = _split_by_options(values)
    check_count(sum(math.prod(map(_length, subgrid.values())) for subgrid in subgrids), limit)
    keys = list(axes)
    # Groups first: a dotted key changes the optimizer that the same call selects.
    order = sorted(range(len(keys)), key=lambda i: "." in keys[i])
    cells = []
    for point in itertools.chain.from_iterable(itertools.product(*s.values()) for s in subgrids):
        raw = dict(base)
        for i in order:
            set_key(raw, keys[i], point[i])
        cells.append(raw)
    return cells


def _split_by_options(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Sequence[Any]]]:
    """Split a grid into one grid per set of optimizers that have the same of its options.

    Options that the optimizers of a grid do not have are reduced to one value there.
    """
    selector = next((key for key in ("recipe", "optimizer") if key in axes), "")
    options = [key for key in axes if is_option(key)]
    if not selector or not options:
        return [dict(axes)]
    groups: dict[frozenset[str], list[Any]] = {}
    for value in axes[selector]:
        missing = missing_options(options, _optimizer_name(selector, value))
        groups.setdefault(missing, []).append(value)
    # Options that no optimizer has keep all their values: validation rejects them.
    missing_everywhere = frozenset.intersection(*groups)
    subgrids = []
    for missing, selected in groups.items():
        unused = missing - missing_everywhere
        subgrid = {key: values[:1] if key in unused else values for key, values in axes.items()}
        subgrids.append(subgrid | {selector: selected})
    return subgrids


def _optimizer_name(selector: str, value: Any) -> str:
    """The optimizer that a value of `recipe` or `optimizer` selects; "" for an invalid value."""
    if isinstance(value, Mapping):
        value = value.get("name")
    if not isinstance(value, str):
        return ""
    return RECIPES.get(value, ("", ""))[1] if selector == "recipe" else value


def _as_axis(key: str, value: Any) -> Sequence[Any]:
    if callable(getattr(type(value), "tolist", None)):  # a NumPy array, a pandas column
        value = value.tolist()
    if isinstance(value, tuple) and key == "optimizer.betas":
        return [value]  # a single value, which is a pair
    return value if isinstance(value, (list, tuple, range)) else [value]


def _length(values: Sequence[Any]) -> int:
    if isinstance(values, range):  # len() raises OverflowError for a range longer than sys.maxsize
        return max(0, -((values.start - values.stop) // values.step))
    return len(values)


def check_count(count: int, limit: Any) -> None:
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


def check_length(count: int, most: int) -> None:
    """Raise UsageError if a study has more than `most` (max_cells) cells."""
    if count > most:
        raise UsageError(
            f"the study has more than max_cells={most} cells; "
            "give fewer values, or raise max_cells if this is intended"
        )
