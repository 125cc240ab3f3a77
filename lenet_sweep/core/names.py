"""Short names of cells: the settings in which they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from lenet_sweep.core.cells import OPTIONAL_SETTINGS, Cell, describe_optional

# The text of each setting in a line, most important first: where space is short, the last ones are
# cut.
_SETTING_TEXTS: Mapping[str, Callable[[Any], str]] = {
    "lr": "lr {:g}".format,
    "batch": "batch {}".format,
    "epochs": "epochs {}".format,
    "optimizer": str,
    "loss": str,
    "activation": str,
    **{name: partial(describe_optional, name) for name in OPTIONAL_SETTINGS},
    "seed": "seed {}".format,
    "data": str,
    "device": str,
    "engine": str,
}


def _distinct(cells: Iterable[Cell], names: Iterable[str]) -> set[tuple[Any, ...]]:
    return {tuple(getattr(cell, name) for name in names) for cell in cells}


def short_names(
    cells: Iterable[Cell], *, epochs: bool = True, between: str = ", "
) -> dict[Cell, str]:
    """A short name for each cell: the settings that differ, such as 'lr 0.1, batch 64'.

    `epochs=False` names the runs of the cells, leaving out the epochs except where a schedule
    depends on them.
    """

    def has(cell: Cell, name: str) -> bool:
        if name == "epochs" and not epochs:
            return cell.horizon is not None
        return cell.has_setting(name)

    cells = list(cells)
    values = {
        name: {getattr(cell, name) for cell in cells if has(cell, name)} for name in _SETTING_TEXTS
    }
    names = [name for name in _SETTING_TEXTS if len(values[name]) > 1]
    for name, decisive in (("loss", "optimizer"), ("activation", "model"), ("pool", "model")):
        if decisive in names and len(_distinct(cells, [decisive, name])) == len(values[decisive]):
            names = [other for other in names if other != name]  # it is implied
    without_engine = [name for name in names if name != "engine"]
    if len(_distinct(cells, without_engine)) == len(_distinct(cells, names)):
        names = without_engine  # the other settings decide the engine
    names = names or ["lr", "batch"]
    texts = {name: {value: _SETTING_TEXTS[name](value) for value in values[name]} for name in names}
    return {
        cell: between.join(texts[name][getattr(cell, name)] for name in names if has(cell, name))
        for cell in cells
    }
