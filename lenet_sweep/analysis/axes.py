"""The settings of each cell by command-line key, and which of them vary: the axes of a grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

from lenet_sweep.config import keys
from lenet_sweep.config.registry import (
    MODEL_GROUPS,
    choice_name,
    default_lr,
    default_of_model,
)
from lenet_sweep.core.cells import (
    MNIST_SIZE,
    OPTIONAL_SETTINGS,
    Cell,
    Choice,
    Dataset,
    describe_optional,
)
from lenet_sweep.core.text import format_setting
from lenet_sweep.data.catalog import IMAGE_FOLDER

Value = str | float | bool | tuple[float, ...] | None  # None: the cell lacks the setting

HIDDEN = ("classes", "horizon", "model_source")  # fields that the names and the epochs imply
# Their values are clear without the name of the key.
UNNAMED = ("loss", "optimizer", "activation", "schedule", "dataset", "device", "engine")


def axes(cell: Cell) -> dict[str, Value]:
    """All settings of a cell by command-line key, including options of loss and optimizer."""
    settings: dict[str, Value] = {}
    for field in fields(cell):
        value = getattr(cell, field.name)
        if field.name in HIDDEN or not cell.has_setting(field.name):
            continue
        if isinstance(value, Choice):
            settings[field.name] = value.name
            settings |= {f"{field.name}.{name}": option for name, option in value.options}
        elif field.name == "dataset":
            settings |= {"dataset": cell.dataset.name, "dataset.limit": cell.dataset.limit}
            settings["dataset.size"] = _chosen_size(cell.dataset)
            settings["holdout"] = cell.dataset.holdout
        else:
            settings[field.name] = value
    return settings


def _chosen_size(dataset: Dataset) -> int | None:
    """The value of dataset.size; None if it is the default, or if the files have the size."""
    chosen = dataset.name == IMAGE_FOLDER and dataset.size != MNIST_SIZE
    return dataset.size[0] if chosen else None


def varied(cells: Iterable[Cell]) -> dict[str, list[Value]]:
    """The settings with more than one value among the cells, and these values in order.

    An option that not every choice has varies if it has several values where it exists; None
    stands for the cells without it. Defaults that differ between choices do not count, such as the
    activations of the models, and neither does the engine if the other settings decide it.
    """
    cells = list(cells)
    by_cell = [axes(cell) for cell in cells]
    names = dict.fromkeys(name for settings in by_cell for name in settings)
    if len({cell.engine for cell in cells}) > 1 and not _engine_is_swept(cells):
        del names["engine"]
    for name in MODEL_GROUPS:
        if len({cell.model for cell in cells}) > 1 and is_default(name, (), cells):
            names.pop(name, None)  # the models of users have none
    return {
        name: ordered(settings.get(name) for settings in by_cell)
        for name in names
        if len({settings[name] for settings in by_cell if name in settings}) > 1
        and not is_unchanged_option(name, cells)
    }


def _engine_is_swept(cells: Iterable[Cell]) -> bool:
    """Whether two of the cells differ only in the engine."""
    distinct = set(cells)
    return len({replace(cell, engine="") for cell in distinct}) < len(distinct)


def is_unchanged_option(name: str, cells: Sequence[Cell]) -> bool:
    """Whether a setting is an option that has the default of its choice in every cell."""
    group, _, option = name.partition(".")
    return keys.is_option(name) and not any(option in getattr(c, group).changed for c in cells)


def ordered(values: Iterable[Value]) -> list[Value]:
    """The distinct values: numbers in ascending order, then the others sorted by their text."""
    return sorted(
        set(values),
        key=lambda v: (
            (0, float(v), "") if isinstance(v, (int, float)) else (1, 0.0, format_setting(v))
        ),
    )


def describe_setting(name: str, value: Value) -> str:
    """A setting as part of a sentence: 'lr 0.1', 'adam', 'momentum 0.9', 'all training images'."""
    if name == "dataset.limit":
        return "all training images" if value is None else f"the first {value} images"
    if name == "dataset.size":
        return f"images of {value or 28} x {value or 28} pixels"
    if name == "holdout":
        return "nothing held out" if value is None else f"{value} images held out"
    if name in OPTIONAL_SETTINGS and name not in UNNAMED:
        return describe_optional(name, value)
    return (
        format_setting(value)
        if name in UNNAMED
        else f"{name.rpartition('.')[2]} {format_setting(value)}"
    )


def is_default(name: str, values: Sequence[Value], cells: Sequence[Cell]) -> bool:
    """Whether a command that trains these cells can leave out a key with these values."""
    if name in ("device", "engine"):
        return True  # unless swept, the machine and the other settings decide
    if name == "lr":
        return all(cell.lr == default_lr(cell.optimizer) for cell in cells)
    if name in MODEL_GROUPS:
        return all(
            choice_name(getattr(cell, name)) == default_of_model(cell.model, name)
            for cell in cells
            if cell.has_setting(name)
        )
    return not keys.is_option(name) and list(values) == [_default(name)]


def _default(name: str) -> Value:
    group, _, option = name.partition(".")
    node = keys.defaults().get(group)
    value: Value = node[option or "name"] if isinstance(node, dict) else node
    return value
