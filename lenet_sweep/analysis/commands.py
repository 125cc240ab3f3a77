"""Commands that train given cells, and similar ones that a warning suggests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import prod
from pathlib import Path

from lenet_sweep.analysis.axes import Value, axes, is_default, is_unchanged_option, ordered
from lenet_sweep.config.registry import RECIPES
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.text import format_setting, join_command
from lenet_sweep.data.catalog import OWN_DATASETS
from lenet_sweep.results.columns import is_partial

ROOT_PLACEHOLDER = "dataset.root=FOLDER"  # in commands for a user's own images
# Text that Hydra reads as typed, without quotes.
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./:\\+-]+")


def command(cells: Sequence[Cell], changes: Mapping[str, Sequence[Value]]) -> str:
    """The command that sweeps over all combinations of the cells' values, with some changed.

    changes: new values by key. Keys at their defaults are left out. If the cells are a grid with
    pairs, so are those of the command.
    """
    by_cell = [axes(cell) for cell in cells]
    names = dict.fromkeys(name for settings in by_cell for name in settings)
    values = {name: ordered(settings.get(name) for settings in by_cell) for name in names}
    values |= {name: list(new) for name, new in changes.items()}
    for name in filter(is_partial, values):  # None: a choice without the setting
        values[name] = [value for value in values[name] if value is not None]
    listed: dict[str, Sequence[Value]] = {}
    for name, choices in values.items():
        if name == "lr" and name not in changes and is_default(name, choices, cells):
            continue
        swept = name in changes or (len(choices) > 1 and name not in ("device", "engine"))
        if name not in changes and is_unchanged_option(name, cells):
            continue
        if not swept and is_default(name, choices, cells):
            continue
        listed[name] = choices
    columns = {
        name: tuple(settings[name] for settings in by_cell)
        for name in listed
        if name not in changes and all(name in settings for settings in by_cell)
    }
    pairs = _pairs(columns)
    recipes = [name for name, pair in RECIPES.items() if pair in _recipes_of(cells)]
    in_recipe = {"loss", "optimizer"}
    others = [pair for pair in pairs if set(pair) != in_recipe]
    separate = in_recipe.isdisjoint([*changes, *chain.from_iterable(others)])
    if len(recipes) == len(_recipes_of(cells)) > 1 and separate:
        pairs = others
        listed = {"recipe": recipes} | {k: v for k, v in listed.items() if k not in in_recipe}
    for first, *partners in pairs:
        for name in partners:
            partner = dict(zip(columns[first], columns[name], strict=True))
            listed[name] = [partner[value] for value in listed[first]]
    overrides = [
        f"{name}=" + ",".join("null" if v is None else format_setting(v) for v in choices)
        for name, choices in listed.items()
    ]
    lists = [f"[{','.join(pair)}]" for pair in pairs]
    if lists:
        overrides.append(f"pair={lists[0] if len(lists) == 1 else '[' + ','.join(lists) + ']'}")
    if any(cell.dataset.name in OWN_DATASETS for cell in cells):
        overrides.append(ROOT_PLACEHOLDER)
    if any(cell.classes for cell in cells):
        overrides.insert(0, "--config-dir=FOLDER")
    if any(cell.model_source for cell in cells):
        overrides.insert(0, "--models=FILE.py")
    multirun = ["-m"] if any(len(choices) > 1 for choices in values.values()) else []
    return join_command(["python", "-m", "lenet_sweep", *multirun, *overrides])


def with_folders(text: str, data_root: Path | None, out: Path | None) -> str:
    """A command with the folders of its images and of the store; None: unknown or the default."""
    if data_root:
        text = text.replace(ROOT_PLACEHOLDER, _folder("dataset.root", data_root))
    return f"{text} {_folder('out', out)}" if out else text


def _folder(key: str, path: Path) -> str:
    """An override for a shell. In quotes of Hydra, backslashes are special only before a quote."""
    value = str(path)
    if not PLAIN_PATH.fullmatch(value):
        escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
        value = f"'{escaped}'"
    return join_command([f"{key}={value}"])


def _recipes_of(cells: Iterable[Cell]) -> set[tuple[str, str]]:
    """The pairs of loss and optimizer of the cells."""
    return {(cell.loss.name, cell.optimizer.name) for cell in cells}


def _pairs(columns: Mapping[str, Sequence[Value]]) -> list[list[str]]:
    """The settings of which each value occurs with one value of the others only.

    columns: the value of each setting in each cell. Empty if the cells are not a full grid of these
    pairs and the other settings; a command would then train other cells in either form.
    """
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, column in columns.items():
        numbers = {value: number for number, value in enumerate(dict.fromkeys(column))}
        groups.setdefault(tuple(numbers[value] for value in column), []).append(name)
    cells = len(set(zip(*columns.values(), strict=True)))
    if prod(len(set(values)) for values in groups) != cells:
        return []
    return [names for values, names in groups.items() if len(names) > 1 and len(set(values)) > 1]
