"""The axes of a grid: each cell's settings by the key they are typed with, and their words."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields

from lenet_sweep.config import keys
from lenet_sweep.config.registry import RECIPES, default_lr
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.text import format_setting

Value = str | float | bool | tuple[float, ...] | None  # None: the cell does not have the setting

PLAIN = ("loss", "optimizer", "activation", "dataset", "device", "engine")  # values that explain it


def axes(cell: Cell) -> dict[str, Value]:
    """Every setting of a cell by its key, an optimizer's options and a dataset's limit included."""
    found: dict[str, Value] = {}
    for field in fields(cell):
        value = getattr(cell, field.name)
        if field.name == "optimizer":
            found["optimizer"] = cell.optimizer.name
            found |= {f"optimizer.{name}": option for name, option in cell.optimizer.options}
        elif field.name == "dataset":
            found |= {"dataset": cell.dataset.name, "dataset.limit": cell.dataset.limit}
            found["holdout"] = cell.dataset.holdout
        elif field.name != "classes":  # the names tell them apart
            found[field.name] = value
    return found


def varied(cells: Iterable[Cell]) -> dict[str, list[Value]]:
    """The settings that have several values among the cells, each with its values in order.

    An option that some of the optimizers lack varies if it has several values where it exists.
    """
    every = [axes(cell) for cell in cells]
    names = dict.fromkeys(name for each in every for name in each)
    values = {name: ordered(each.get(name) for each in every) for name in names}
    return {
        name: found
        for name, found in values.items()
        if len({each[name] for each in every if name in each}) > 1
    }


def ordered(values: Iterable[Value]) -> list[Value]:
    """The distinct values: numbers ascending, then the others by their text."""
    return sorted(
        set(values),
        key=lambda v: (
            (0, float(v), "") if isinstance(v, (int, float)) else (1, 0.0, format_setting(v))
        ),
    )


def describe_setting(name: str, value: Value) -> str:
    """A setting in a sentence: 'lr 0.1', 'adam', 'momentum 0.9', 'all training images'."""
    if name == "dataset.limit":
        return "all training images" if value is None else f"the first {value} images"
    if name == "holdout":
        return "nothing held out" if value is None else f"{value} images held out"
    return (
        format_setting(value)
        if name in PLAIN
        else f"{name.rpartition('.')[2]} {format_setting(value)}"
    )


def command(cells: Sequence[Cell], changes: Mapping[str, Sequence[Value]]) -> str:
    """The command that sweeps over every combination of the cells' values, some of them changed.

    Keys at their defaults are left out. An option applies to the optimizers that have it.
    """
    found = [axes(cell) for cell in cells]
    names = dict.fromkeys(name for each in found for name in each)
    values = {name: ordered(each.get(name) for each in found) for name in names}
    values |= {name: list(new) for name, new in changes.items()}
    for name in filter(keys.is_option, values):  # None: of an optimizer without the option
        values[name] = [value for value in values[name] if value is not None]
    words = []
    for name, typed in values.items():
        if name == "lr" and name not in changes and _is_default(name, typed, cells):
            continue
        swept = name in changes or (len(typed) > 1 and name not in ("device", "engine"))
        if not swept and _is_default(name, typed, cells):
            continue
        words.append(
            f"{name}=" + ",".join("null" if v is None else format_setting(v) for v in typed)
        )
    pairs = {(cell.loss, cell.optimizer.name) for cell in cells}
    names_of = [name for name, pair in RECIPES.items() if pair in pairs]
    if len(names_of) == len(pairs) > 1 and not {"loss", "optimizer"} & set(changes):
        words = [w for w in words if not w.startswith(("loss=", "optimizer="))]
        words.insert(0, "recipe=" + ",".join(names_of))
    if any(cell.dataset.name == "folder" for cell in cells):
        words.append("dataset.root=FOLDER")
    if any(cell.classes for cell in cells):
        words.insert(0, "--config-dir=FOLDER")
    many = ["-m"] if any(len(typed) > 1 for typed in values.values()) else []
    return shlex.join(["python", "-m", "lenet_sweep", *many, *words])


def _is_default(name: str, values: Sequence[Value], cells: Sequence[Cell]) -> bool:
    if name in ("device", "engine"):
        return True  # chosen by the machine and the settings, unless they are swept
    if name == "lr":
        return all(cell.lr == default_lr(cell.optimizer) for cell in cells)
    return list(values) == [_default(name, cells)]


def _default(name: str, cells: Sequence[Cell]) -> Value:
    group, _, option = name.partition(".")
    if group == "optimizer" and option:
        every = [dict(cell.optimizer.defaults) for cell in cells]
        return next(options[option] for options in every if option in options)
    node = keys.defaults().get(group)
    value: Value = node[option or "name"] if isinstance(node, dict) else node
    return value
