"""The edge: whatever was typed becomes a validated Cell and Options, or one line that says why not.

Command line and Python API meet here as plain nested dicts shaped like conf/config.yaml, with the
groups loss, optimizer and dataset as dicts that hold at least `name`.
"""

from __future__ import annotations

import difflib
import getpass
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import OmegaConf

from lenet_sweep import devices
from lenet_sweep.cells import ENGINE_VERSIONS, Cell
from lenet_sweep.datasets import DATASETS, Dataset, find_dataset
from lenet_sweep.engines.choice import refusal as native_refusal
from lenet_sweep.errors import UsageError
from lenet_sweep.recipes import ACTIVATIONS, LOSSES, OPTIMIZERS, RECIPES, Optimizer, Option

Raw = dict[str, Any]
Found = dict[tuple[str, Path | None, int | None], Dataset]

GROUPS: Mapping[str, Sequence[str]] = {
    "loss": tuple(LOSSES),
    "optimizer": tuple(OPTIMIZERS),
    "dataset": (*DATASETS, "folder"),  # "folder": IDX files of the user's own
}


@dataclass(frozen=True)
class Options:
    """How a sweep is run. Nothing in here changes a number, so none of it is part of a cell."""

    person: str
    workers: int | None  # None: as many as the machine has room for
    timeout: float | None  # seconds without a sign of life before a run is given up
    reuse: bool
    dry_run: bool
    figures: str  # best, all or none
    out: Path
    name: str | None  # None: date and a hash of the cells
    data_root: Path | None  # None: the user's cache folder
    notes: tuple[str, ...] = ()  # what a person should know about how the cells were read


# ---------------------------------------------------------------- from keys to nested dicts


def config_folder() -> Path:
    """conf/: inside an installed package, beside it in a checkout."""
    installed = Path(__file__).parent / "conf"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "conf"


def group_node(group: str, name: str) -> Raw:
    """The content of one option of a config group, with every default filled in."""
    if group == "optimizer":
        return {"name": name} | {k: _plain(o.default) for k, o in OPTIMIZERS[name].options.items()}
    if group == "dataset":
        return {"name": name, "root": None, "limit": None}
    return {"name": name}


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
    conf/config.yaml, dotted ones ("optimizer.momentum") and "recipe" included. Raises UsageError
    for an unknown key.
    """
    base = defaults()
    if "recipe" in axes and (both := {"loss", "optimizer"} & set(axes)):
        raise UsageError(recipe_conflict(sorted(both)))
    values = [_as_axis(key, value) for key, value in axes.items()]
    for key, choices in zip(axes, values, strict=True):
        if not choices:
            raise UsageError(f"{key}=[]: give at least one value")
    # Groups first: a dotted key changes the optimizer that the same call chooses.
    order = sorted(range(len(values)), key=lambda i: "." in list(axes)[i])
    keys = list(axes)
    cells = []
    for choice in itertools.product(*values):
        raw = deepcopy(base)
        for i in order:
            set_key(raw, keys[i], choice[i])
        cells.append(raw)
    return cells


def _as_axis(key: str, value: Any) -> list[Any]:
    if hasattr(value, "tolist"):  # a NumPy array or a pandas column
        value = value.tolist()
    if isinstance(value, tuple) and key == "optimizer.betas":
        return [value]  # one value that is a pair
    return list(value) if isinstance(value, (list, tuple, range)) else [value]


def set_key(raw: Raw, key: str, value: Any) -> None:
    """Set one key of a nested dict in place. Raises UsageError where there is no such key."""
    if key == "recipe":
        loss, optimizer = RECIPES[choice("recipe", value, RECIPES)]
        raw["loss"], raw["optimizer"] = group_node("loss", loss), group_node("optimizer", optimizer)
    elif key in GROUPS:
        if isinstance(value, Mapping):  # a group with its options, as the Python API may give it
            node = group_node(key, choice(key, value.get("name"), GROUPS[key]))
            raw[key] = node | dict(value)
        else:
            raw[key] = group_node(key, choice(key, value, GROUPS[key]))
    else:
        node, *path = raw, *key.split(".")
        for part in path[:-1]:
            node = node.get(part, {}) if isinstance(node, dict) else {}
        if not isinstance(node, dict) or path[-1] not in node:
            unknown_key(key, value, known_keys(raw))
        node[path[-1]] = value


def known_keys(raw: Raw) -> list[str]:
    """All keys that can be set, dotted where they are nested."""
    keys = [k for k in raw if k not in GROUPS]
    nested = [f"{g}.{k}" for g in GROUPS for k in raw[g] if k != "name"]
    return [*GROUPS, "recipe", *keys, *nested]


def unknown_key(key: str, value: Any, known: Iterable[str]) -> NoReturn:
    """Raise the UsageError for a key that is not there, with the nearest one that is."""
    if key.startswith("optimizer."):
        option = key.removeprefix("optimizer.")
        if option == "lr":
            text = _show(value)
            raise UsageError(f"{key}={text}: the learning rate is a key of its own, lr={text}")
        takes = "; ".join(f"{name} takes {', '.join(s.options)}" for name, s in OPTIMIZERS.items())
        raise UsageError(f"{key}={_show(value)}: the optimizer has no option {option}; {takes}")
    known = list(known)
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
    raise UsageError(f"{key}={_show(value)}: there is no key {key}; {hint}")


def recipe_conflict(keys: Sequence[str]) -> str:
    """The message for a recipe given together with what it already fixes."""
    return (
        f"recipe and {' and '.join(keys)} are given together: a recipe fixes loss and optimizer; "
        "give the recipe alone, or loss and optimizer without it"
    )


# ---------------------------------------------------------------- from nested dicts to settings


def settings(raw: Mapping[str, Any], found: Found | None = None) -> tuple[Cell, Options]:
    """Validate a nested dict shaped like conf/config.yaml.

    `found` remembers datasets between calls: finding one of the user's own reads its files.
    Raises UsageError, one line, for the first key whose value is not allowed.
    """
    template = _defaults()
    for key in raw:
        if key not in template:
            unknown_key(key, raw[key], known_keys(template))
    for key in template:
        if key not in raw:
            raise UsageError(f"{key} is missing; it cannot be removed, only changed")
    optimizer = _optimizer(raw["optimizer"])
    data_root = _path("dataset.root", _member(raw["dataset"], "dataset", "root"))
    activation = choice("activation", raw["activation"], ACTIVATIONS)
    device = _device(raw["device"])
    refusal = native_refusal(optimizer, activation, device)
    engine = _engine(raw["engine"], refusal)
    cell = Cell(
        loss=choice("loss", _member(raw["loss"], "loss", "name"), LOSSES),
        optimizer=optimizer,
        activation=activation,
        lr=_lr(raw["lr"], optimizer),
        batch=_integer("batch", raw["batch"], 1, 1_000_000, "images per step"),
        epochs=_integer("epochs", raw["epochs"], 1, 100_000, "passes over the training images"),
        seed=_integer("seed", raw["seed"], 0, 2**32 - 1, "of the initial weights"),
        shuffle=_boolean("shuffle", raw["shuffle"]),
        dataset=_dataset(raw["dataset"], data_root, {} if found is None else found),
        device=device,
        engine=engine,
    )
    options = Options(
        person=_text("person", raw["person"]) or _login_name(),
        workers=_workers(raw["workers"]),
        timeout=_timeout(raw["timeout"]),
        reuse=_boolean("reuse", raw["reuse"]),
        dry_run=_boolean("dry_run", raw["dry_run"]),
        figures=choice("figures", raw["figures"], ("best", "all", "none")),
        out=_path("out", raw["out"]) or Path("outputs"),
        name=_name(raw["name"]),
        data_root=data_root,
        # On an accelerator nobody expects the engine for the CPU.
        notes=(f"torch trains: {refusal}",)
        if refusal and raw["engine"] == "auto" and device == "cpu"
        else (),
    )
    return cell, options


def all_settings(raws: Iterable[Mapping[str, Any]]) -> tuple[list[Cell], Options]:
    """The cell of each nested dict, and the options that they share.

    Raises UsageError for a value that is not allowed, and where an option differs between them.
    """
    found: Found = {}
    validated = [settings(raw, found) for raw in raws]
    if not validated:
        raise UsageError("the grid has no cell: give each key at least one value")
    cells, options = [cell for cell, _ in validated], [options for _, options in validated]
    for other in options[1:]:
        for field in fields(Options):
            same = getattr(other, field.name) == getattr(options[0], field.name)
            if not same and field.name != "notes":
                key = "dataset.root" if field.name == "data_root" else field.name
                raise UsageError(
                    f"{key} has several values, and is one for the whole sweep; give one value"
                )
    notes = dict.fromkeys(note for each in options for note in each.notes)
    return cells, replace(options[0], notes=tuple(notes))


def _optimizer(node: Any) -> Optimizer:
    name = choice("optimizer", _member(node, "optimizer", "name"), OPTIMIZERS)
    spec = OPTIMIZERS[name]
    given = {k: v for k, v in node.items() if k != "name"}
    for key, value in given.items():
        if key not in spec.options:
            unknown_key(f"optimizer.{key}", value, [f"optimizer.{k}" for k in spec.options])
    options = {
        key: _option(f"optimizer.{key}", given.get(key, option.default), option)
        for key, option in spec.options.items()
    }
    if conflict := spec.conflict(options):
        raise UsageError(conflict)
    return Optimizer(name, tuple(options.items()))


def _option(key: str, value: Any, option: Option) -> float | bool | tuple[float, ...]:
    if isinstance(option.default, bool):
        return _boolean(key, value)
    if isinstance(option.default, tuple):
        items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
        numbers = [_finite(item) for item in items]
        if len(items) == len(option.default) and all(
            n is not None and option.accepts(n) for n in numbers
        ):
            return tuple(n for n in numbers if n is not None)
        _reject(key, value, option.allowed)
    number = _finite(value)
    if number is None or not option.accepts(number):
        _reject(key, value, option.allowed)
    return number


def _dataset(node: Any, root: Path | None, found: Found) -> Dataset:
    name = choice("dataset", _member(node, "dataset", "name"), GROUPS["dataset"])
    for key in node:
        if key not in ("name", "root", "limit"):
            unknown_key(f"dataset.{key}", node[key], ["dataset.root", "dataset.limit"])
    limit = _member(node, "dataset", "limit")
    if limit is not None:
        limit = _integer("dataset.limit", limit, 1, 10**9, "the first training images to use")
    if (name, root, limit) not in found:
        found[name, root, limit] = find_dataset(name, root, limit)
    return found[name, root, limit]


def _lr(value: Any, optimizer: Optimizer) -> float:
    if value is None:
        return OPTIMIZERS[optimizer.name].default_lr
    number = _finite(value)
    if number is None or number <= 0:
        _reject("lr", value, "a number above 0, the learning rate, for example lr=0.01")
    return number


def _device(value: Any) -> str:
    name = choice("device", value, ("auto", *devices.KINDS))
    available = devices.available()
    if name == "auto":
        return available[0]
    if name not in available:
        raise UsageError(
            f"device={name}: not on this machine; available here: {', '.join(available)}. "
            "Take one of these, or device=auto"
        )
    return name


def _engine(value: Any, refusal: str | None) -> str:
    name = choice("engine", value, ("auto", *ENGINE_VERSIONS))
    if name == "native" and refusal:
        raise UsageError(f"engine=native: {refusal}; take engine=torch or engine=auto")
    return ("torch" if refusal else "native") if name == "auto" else name


def _workers(value: Any) -> int | None:
    if value == "auto":
        return None
    number = _finite(value)
    if number is None or not number.is_integer() or not 1 <= number <= 1024:
        _reject("workers", value, "auto, or a whole number from 1 to 1024: runs at the same time")
    return int(number)


def _timeout(value: Any) -> float | None:
    if value is None:
        return None
    number = _finite(value)
    if number is None or number <= 0:
        _reject("timeout", value, "a number of seconds above 0, or null for no limit")
    return number


def _name(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        _reject("name", value, "up to 100 letters, digits, '.', '_' or '-', not starting with '.'")
    return text


def _text(key: str, value: Any) -> str | None:
    if value is None:
        return None
    text = str(value)
    if isinstance(value, (Mapping, list)) or not text.isprintable() or len(text) > 100:
        _reject(key, value, "one line of up to 100 printable characters")
    if "${" in text:
        _reject(key, value, "plain text; ${...} is not filled in here")
    return text


def _path(key: str, value: Any) -> Path | None:
    if value is None:
        return None
    if isinstance(value, (Mapping, list)) or not str(value).isprintable() or not str(value):
        _reject(key, value, "the path of a folder")
    if "${" in str(value):
        _reject(key, value, "a plain path; ${...} is not filled in here")
    return Path(str(value)).expanduser()


def _integer(key: str, value: Any, low: int, high: int, meaning: str) -> int:
    number = _finite(value)
    if number is None or not number.is_integer() or not low <= number <= high:
        _reject(key, value, f"a whole number from {low} to {high}, {meaning}")
    return int(number)


def _boolean(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        _reject(key, value, f"true or false, for example {key}=true")
    return value


def choice(key: str, value: Any, allowed: Iterable[str]) -> str:
    """The value, if it is one of the allowed names; otherwise UsageError with the nearest one."""
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"; did you mean {key}={near[0]}?" if near else ""
        _reject(key, value, f"one of {', '.join(allowed)}{hint}")
    return value


def _finite(value: Any) -> float | None:
    """The value as a float, None where it is not a finite number. Text counts if it is one."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number + 0.0 if math.isfinite(number) else None  # + 0.0 makes -0.0 the same as 0.0


def _member(node: Any, group: str, key: str) -> Any:
    if not isinstance(node, Mapping) or key not in node:
        _reject(group, node, f"one of {', '.join(GROUPS[group])}")
    return node[key]


def _reject(key: str, value: Any, allowed: str) -> NoReturn:
    raise UsageError(f"{key}={_show(value)}: must be {allowed}")


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return text if len(text) <= 80 else text[:77] + "..."


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no entry in the user database, as in some containers
        return "unknown"
