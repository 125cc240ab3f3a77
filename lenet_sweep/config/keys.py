"""The keys that a user can set, and their defaults, as nested dicts shaped like conf/config.yaml.

The config groups, such as loss and optimizer, are dicts that have at least the key `name`. The
command line, through Hydra, and the Python API both produce such dicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from lenet_sweep.config.checks import choice, unknown_key, unknown_option
from lenet_sweep.config.registry import (
    FILE_KEYS,
    GROUPS,
    OPTIMIZERS,
    RECIPES,
    Raw,
    config_folder,
    group_node,
)

# Keys whose values are text or paths, even if they look like numbers or booleans.
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
    """Whether the values of a dotted key are text, also if the key is an axis of a grid.

    flag: the value is true or false. It is then not text for an option of sbatch.
    """
    name = key.removeprefix("hydra.sweeper.params.")
    return name in TEXT_KEYS or (key.startswith("hydra.launcher.sbatch.") and not flag)


def defaults() -> Raw:
    """conf/config.yaml as a nested dict, without the keys that only Hydra reads."""
    return deepcopy(_defaults())


@cache
def _defaults() -> Raw:
    raw = OmegaConf.to_container(OmegaConf.load(config_folder() / "config.yaml"))
    assert isinstance(raw, dict)
    del raw["hydra"]
    selected: Raw = {}
    for entry in raw.pop("defaults"):
        selected |= entry if isinstance(entry, dict) else {}
    return {str(k): v for k, v in raw.items()} | {g: group_node(g, selected[g]) for g in GROUPS}


def is_option(key: str) -> bool:
    """Whether a key is an option of an optimizer, such as 'optimizer.momentum'."""
    return key.startswith("optimizer.")


def missing_options(options: Iterable[str], optimizer: str) -> frozenset[str]:
    """The options, such as 'optimizer.momentum', that an optimizer does not have.

    Empty for an unknown optimizer, whose name is rejected elsewhere.
    """
    if optimizer not in OPTIMIZERS:
        return frozenset()
    valid = OPTIMIZERS[optimizer].options
    return frozenset(key for key in options if key.removeprefix("optimizer.") not in valid)


def set_key(raw: Raw, key: str, value: Any) -> None:
    """Set one key of `raw` in place. Raises UsageError if the key does not exist.

    The dicts inside `raw` are replaced, never changed in place, since the cells of a grid share
    them. An option is set if any optimizer has it; `validate_cells` checks that it is used.
    """
    if key == "recipe":
        loss, optimizer = RECIPES[choice("recipe", value, RECIPES)]
        raw["loss"], raw["optimizer"] = group_node("loss", loss), group_node("optimizer", optimizer)
    elif key in GROUPS:
        if isinstance(value, Mapping):  # a group with its options, from the Python API
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
    """All keys that can be set; nested keys are dotted."""
    keys = [k for k in raw if k not in GROUPS]
    nested = [f"{g}.{k}" for g in GROUPS for k in raw.get(g, ()) if k not in FILE_KEYS]
    return [*GROUPS, "recipe", *keys, *nested]
