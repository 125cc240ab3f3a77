"""Keys as they are typed: their groups, their defaults, and grids of them as nested dicts.

A nested dict is shaped like conf/config.yaml, with the groups loss, optimizer and dataset as dicts
that hold at least `name`. The command line (through Hydra) and the Python API both make such dicts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any, NoReturn

from omegaconf import OmegaConf

from lenet_sweep.config import suggestions
from lenet_sweep.config.registry import (
    GROUPS,
    OPTIMIZERS,
    RECIPES,
    Raw,
    config_folder,
    group_node,
)
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, to_str

MOST_CELLS = 10**9  # what max_cells may be set to

# Keys that take text or a path: what looks like a number or a boolean is text there too.
TEXT_KEYS = frozenset({
    "name", "person", "out", "dataset.root",
    *(f"study.{key}" for key in ("title", "source", "claims.says")),
    *(f"study.{part}.reported_{what}" for part in ("rows", "common") for what in ("by", "on")),
    *(f"study.{part}.dataset.root" for part in ("rows", "common")),
    *(f"hydra.launcher.{key}" for key in (
        "account", "address", "comment", "constraint", "exclude", "mail_type", "mail_user", "name",
        "nodelist", "partition", "qos", "reservation", "submitit_folder",
    )),
})  # fmt: skip


def takes_text(key: str, *, flag: bool = False) -> bool:
    """Whether a dotted key takes text; so do the options of sbatch, and a grid of a text key.

    flag: the value is true or false, which an option of sbatch may be.
    """
    tail = key.removeprefix("hydra.sweeper.params.")
    return tail in TEXT_KEYS or (key.startswith("hydra.launcher.sbatch.") and not flag)


def defaults() -> Raw:
    """conf/config.yaml as a nested dict, without what only Hydra reads."""
    return deepcopy(_defaults())


@cache
def _defaults() -> Raw:
    raw = OmegaConf.to_container(OmegaConf.load(config_folder() / "config.yaml"))
    assert isinstance(raw, dict)
    del raw["hydra"]
    chosen: Raw = {}
    for entry in raw.pop("defaults"):
        chosen |= entry if isinstance(entry, dict) else {}
    return {str(k): v for k, v in raw.items()} | {g: group_node(g, chosen[g]) for g in GROUPS}


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


def is_option(key: str) -> bool:
    """Whether a key is an option of an optimizer: 'optimizer.momentum'."""
    return key.startswith("optimizer.")


def missing_options(options: Iterable[str], optimizer: str) -> frozenset[str]:
    """Those of the options ('optimizer.momentum') that an optimizer does not have.

    None of an unknown optimizer: the error is about its name.
    """
    if optimizer not in OPTIMIZERS:
        return frozenset()
    has = OPTIMIZERS[optimizer].options
    return frozenset(key for key in options if key.removeprefix("optimizer.") not in has)


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


def set_key(raw: Raw, key: str, value: Any) -> None:
    """Set one key of `raw`. Raises UsageError where there is no such key.

    The dicts inside `raw` are replaced, never changed in place: the cells of a grid share them.
    An option of an optimizer is set if any optimizer has it: `config.all_settings` decides.
    """
    if key == "recipe":
        loss, optimizer = RECIPES[choice("recipe", value, RECIPES)]
        raw["loss"], raw["optimizer"] = group_node("loss", loss), group_node("optimizer", optimizer)
    elif key in GROUPS:
        if isinstance(value, Mapping):  # a group with its options, as the Python API may give it
            node = group_node(key, choice(key, value.get("name"), GROUPS[key]))
            if key == "optimizer":
                for option in value:
                    if option not in node:
                        unknown_option(option, value[option])
            raw[key] = node | dict(value)
        else:
            raw[key] = group_node(key, choice(key, value, GROUPS[key]))
    elif is_option(key) and isinstance(raw.get("optimizer"), dict):
        option = key.removeprefix("optimizer.")
        if not any(option in spec.options for spec in OPTIMIZERS.values()):
            unknown_option(option, value)
        raw["optimizer"] = raw["optimizer"] | {option: value}
    else:
        node, (*parents, last) = raw, key.split(".")
        for part in parents:
            if not isinstance(node.get(part), dict):
                unknown_key(key, value, known_keys(raw))
            node[part] = dict(node[part])
            node = node[part]
        if last not in node:
            unknown_key(key, value, known_keys(raw))
        node[last] = value


def known_keys(raw: Raw) -> list[str]:
    """All keys that can be set, dotted where they are nested."""
    keys = [k for k in raw if k not in GROUPS]
    nested = [f"{g}.{k}" for g in GROUPS for k in raw.get(g, ()) if k != "name"]
    return [*GROUPS, "recipe", *keys, *nested]


def unknown_key(key: Any, value: Any, known: Iterable[str]) -> NoReturn:
    """Raise the UsageError for a key that is not there, with the nearest one that is."""
    key = to_str(key)
    if key == "study":
        raise UsageError(
            f"study={format_value(value)}: a study is added, with a plus: +study=report"
        )
    if key.startswith("optimizer."):
        unknown_option(key.removeprefix("optimizer."), value)
    known = list(known)
    near = suggestions.for_key(key, known)
    hint = f"did you mean {near}?" if near else f"the keys are {', '.join(known)}"
    raise UsageError(
        f"{format_value(key)}={format_value(value)}: there is no key {format_value(key)}; {hint}"
    )


def unknown_option(option: str, value: Any) -> NoReturn:
    """Raise the UsageError for an option that the chosen optimizer does not have."""
    text, option = format_value(value), format_value(option)
    if option == "lr":
        raise UsageError(f"optimizer.lr={text}: the learning rate is a key of its own, lr={text}")
    takes = "; ".join(f"{name} takes {', '.join(s.options)}" for name, s in OPTIMIZERS.items())
    options = [f"optimizer.{name}" for s in OPTIMIZERS.values() for name in s.options]
    near = suggestions.for_value("optimizer.", f"optimizer.{option}", options)
    hint = f"; did you mean {near}?" if near and near != f"optimizer.{option}" else ""
    raise UsageError(
        f"optimizer.{option}={text}: the optimizer has no option {option}; {takes}{hint}"
    )


def recipe_conflict(keys: Sequence[str]) -> str:
    """The message for a recipe given together with what it already fixes."""
    return (
        f"recipe and {' and '.join(keys)} are given together: a recipe fixes loss and optimizer; "
        "give the recipe alone, or loss and optimizer without it"
    )


# ---------------------------------------------------------------- numbers


def integer(key: str, value: Any, low: int, high: int, meaning: str) -> int:
    """The value, if it is a whole number from low to high, 1e2 and "100" included.

    Raises UsageError.
    """
    number = finite(value)
    if number is None or not number.is_integer() or not low <= number <= high:
        reject(key, value, f"a whole number from {low} to {high}, {meaning}")
    return int(number)


def finite(value: Any) -> float | None:
    """The value as a float, None where it is not a finite number. Text counts if it is one."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except Exception:  # noqa: BLE001 - from Python the value may be any object
        return None
    return number + 0.0 if math.isfinite(number) else None  # + 0.0 makes -0.0 the same as 0.0


# ---------------------------------------------------------------- messages


def choice(key: str, value: Any, allowed: Iterable[str]) -> str:
    """The value, if it is one of the allowed names; otherwise UsageError with the nearest one."""
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        near = suggestions.for_value(key, to_str(value), allowed)
        hint = f"; did you mean {key}={near}?" if near else ""
        reject(key, value, f"one of {', '.join(allowed)}{hint}")
    return value


def reject(key: str, value: Any, allowed: str) -> NoReturn:
    """Raise the UsageError for a value that is not allowed."""
    raise UsageError(f"{key}={format_value(value)}: must be {allowed}")
