"""Keys as they are typed: their groups, their defaults, and grids of them as nested dicts.

A nested dict is shaped like conf/config.yaml, with the groups loss, optimizer and dataset as dicts
that hold at least `name`. The command line (through Hydra) and the Python API both make such dicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from lenet_sweep.config.checks import choice, unknown_key, unknown_option
from lenet_sweep.config.registry import (
    GROUPS,
    OPTIMIZERS,
    RECIPES,
    Raw,
    config_folder,
    group_node,
)

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
