"""Grids: every combination of the values of some keys, as nested dicts."""

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

MOST_CELLS = 10**9  # what max_cells may be set to


def grid(axes: Mapping[str, Any]) -> list[Raw]:
    """Every combination of the given keys' values, the last key varying fastest.

    A list (or tuple, range, array) is an axis, anything else a single value. Keys are those of
    conf/config.yaml, dotted ones ("optimizer.momentum") and "recipe" included. An optimizer
    without a given option has one cell where the others have one for each of its values. Raises
    UsageError for an unknown key.
    """
    base = defaults()
    limit = axes.get("max_cells", base["max_cells"])
    if "recipe" in axes and (both := {"loss", "optimizer"} & set(axes)):
        raise UsageError(recipe_conflict(sorted(both)))
    values = [_as_axis(key, value) for key, value in axes.items()]
    for key, choices in zip(axes, values, strict=True):
        if not choices:
            raise UsageError(f"{format_value(key)}=[]: give at least one value")
    keys = list(axes)
    parts = _by_options(dict(zip(keys, values, strict=True)))
    check_count(sum(math.prod(map(_length, part.values())) for part in parts), limit)
    # Groups first: a dotted key changes the optimizer that the same call chooses.
    order = sorted(range(len(keys)), key=lambda i: "." in keys[i])
    cells = []
    for choice in itertools.chain.from_iterable(itertools.product(*p.values()) for p in parts):
        raw = dict(base)
        for i in order:
            set_key(raw, keys[i], choice[i])
        cells.append(raw)
    return cells


def _by_options(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Sequence[Any]]]:
    """A grid as one grid for the optimizers that have the same of its options.

    Each has a single value for the options that its optimizers do not have.
    """
    chooser = next((key for key in ("recipe", "optimizer") if key in axes), "")
    options = [key for key in axes if is_option(key)]
    if not chooser or not options:
        return [dict(axes)]
    groups: dict[frozenset[str], list[Any]] = {}
    for value in axes[chooser]:
        missing = missing_options(options, _optimizer_name(chooser, value))
        groups.setdefault(missing, []).append(value)
    nowhere = frozenset.intersection(*groups)  # an error, which config.all_settings raises
    return [
        {
            key: chosen if key == chooser else values[:1] if key in missing - nowhere else values
            for key, values in axes.items()
        }
        for missing, chosen in groups.items()
    ]


def _optimizer_name(chooser: str, value: Any) -> str:
    """The optimizer that a value of `recipe` or `optimizer` chooses; "" where there is none."""
    if isinstance(value, Mapping):
        value = value.get("name")
    if not isinstance(value, str):
        return ""
    return RECIPES.get(value, ("", ""))[1] if chooser == "recipe" else value


def _as_axis(key: str, value: Any) -> Sequence[Any]:
    if callable(getattr(type(value), "tolist", None)):  # a NumPy array, a pandas column
        value = value.tolist()
    if isinstance(value, tuple) and key == "optimizer.betas":
        return [value]  # one value that is a pair
    return value if isinstance(value, (list, tuple, range)) else [value]


def _length(values: Sequence[Any]) -> int:
    if isinstance(values, range):  # len() has no number for a long one
        return max(0, -((values.start - values.stop) // values.step))
    return len(values)


def check_count(count: int, limit: Any) -> None:
    """Refuse a grid of more cells than max_cells, before it is expanded. Raises UsageError."""
    most = integer("max_cells", limit, 1, MOST_CELLS, "the most cells that a grid may have")
    if count > MOST_CELLS:
        said = f"{count:,}" if count < 10**18 else "more than 10^18"
        raise UsageError(
            f"the grid has {said} cells, and max_cells={most} allows {most:,}; give fewer values"
        )
    if count > most:
        raise UsageError(
            f"the grid has {count:,} cells, and max_cells={most} allows {most:,}; "
            f"give fewer values, or say that it is meant with max_cells={count}"
        )


def check_length(count: int, most: int) -> None:
    """Refuse a study of more cells than max_cells, as its rows are read. Raises UsageError."""
    if count > most:
        raise UsageError(
            f"the study has more than {most:,} cells, which is all that max_cells={most} allows; "
            "give fewer values, or raise max_cells if it is meant"
        )
