"""The keys that a user can set, and their defaults, as nested dicts shaped like conf/config.yaml.

The config groups, such as loss and optimizer, are dicts that have at least the key `name`. The
command line, through Hydra, and the Python API both produce such dicts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache
from itertools import chain
from typing import Any, NoReturn

from omegaconf import OmegaConf

from lenet_sweep.config import suggestions
from lenet_sweep.config.checks import choice
from lenet_sweep.config.files import config_folder
from lenet_sweep.config.registry import GROUPS, OPTION_GROUPS, RECIPES, Group, Raw
from lenet_sweep.core.cells import NETWORK_SETTINGS
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, join_words, to_str

_OPTION_PREFIXES = tuple(f"{group}." for group in OPTION_GROUPS)
# Keys that apply to a whole sweep; they are fields of `SweepOptions`. The others describe a cell.
SWEEP_KEYS = (
    "workers", "threads", "person", "timeout", "retries", "reuse", "dry_run", "pair", "max_cells",
    "search", "rows", "report", "figures", "figure_format", "figure_width", "serve", "tracker",
    "out", "name",
)  # fmt: skip


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
    nodes = {g: group_node(g, name) if (name := selected[g]) else None for g in GROUPS}
    return {str(k): v for k, v in raw.items()} | nodes


def group_node(group: str, name: str) -> Raw:
    """A copy of the content of one file of a config group."""
    return GROUPS[group].choices[name].to_node()


def is_option(key: str) -> bool:
    """Whether a key is an option of a choice, such as 'optimizer.momentum'."""
    return key.startswith(_OPTION_PREFIXES)


def depends_on_choice(key: str) -> bool:
    """Whether a key applies to some choices only: an option, or one of NETWORK_SETTINGS.

    A user's model does not have the latter.
    """
    return is_option(key) or (key in NETWORK_SETTINGS and has_own_models())


def has_own_models() -> bool:
    """Whether a user has added a model."""
    return not all(choice.shipped for choice in GROUPS["model"].choices.values())


def missing_options(options: Iterable[str], choices: Mapping[str, str]) -> frozenset[str]:
    """The options, such as 'optimizer.momentum', that the choices do not have.

    For a model of a user, these may also be NETWORK_SETTINGS.

    choices: the name of the choice of each group. An unknown name lacks no option; it is rejected
    elsewhere.
    """
    missing = set()
    for key in options:
        group, _, option = key.partition(".")
        group = "model" if key in NETWORK_SETTINGS else group
        choice = GROUPS[group].choices.get(choices.get(group, ""))
        if choice and (option not in choice.options if option else not choice.shipped):
            missing.add(key)
    return frozenset(missing)


def owners(key: str) -> list[str]:
    """The choices that have an option, such as ['sgd'] for 'optimizer.momentum'.

    For one of NETWORK_SETTINGS, these are the models of this package.
    """
    if key in NETWORK_SETTINGS:
        return [name for name, choice in GROUPS["model"].choices.items() if choice.shipped]
    group, _, option = key.partition(".")
    return [name for name, choice in GROUPS[group].choices.items() if option in choice.options]


def chosen_names(raw: Mapping[str, Any]) -> dict[str, str]:
    """The choice of each group with options in a nested dict shaped like conf/config.yaml."""
    nodes = ((group, raw.get(group)) for group in OPTION_GROUPS)
    return {group: to_str(n.get("name", "")) for group, n in nodes if isinstance(n, Mapping)}


def groups_set_by(key: str) -> set[str]:
    """The config groups that a key selects or changes."""
    if key == "recipe":
        return {"loss", "optimizer"}
    return {key.partition(".")[0]} & set(GROUPS)


def choices_set_by(key: str, name: object) -> dict[str, str]:
    """The choices that a group or `recipe` with this value selects; none for an invalid value."""
    if not isinstance(name, str):
        return {}
    if key == "recipe" and name in RECIPES:
        loss, optimizer = RECIPES[name]
        return {"loss": loss, "optimizer": optimizer}
    return {key: name} if key in GROUPS and name in GROUPS[key].choices else {}


def set_key(raw: Raw, key: str, value: Any) -> None:
    """Set one key of `raw` in place. Raises UsageError if the key does not exist.

    The dicts inside `raw` are replaced, never changed in place, since the cells of a grid share
    them. An option is set if any choice has it; `validate_cells` checks that it is used.
    """
    if key == "recipe":
        loss, optimizer = RECIPES[choice("recipe", value, RECIPES)]
        raw["loss"], raw["optimizer"] = group_node("loss", loss), group_node("optimizer", optimizer)
    elif key in GROUPS:
        choices = GROUPS[key].choices
        if isinstance(value, Mapping):  # a group with its options, from the Python API
            node = group_node(key, choice(key, value.get("name"), choices))
            if GROUPS[key].has_options:
                for option in value:
                    if option not in node:
                        unknown_option(f"{key}.{to_str(option)}", value[option], [node["name"]])
            raw[key] = node | dict(value)
        elif value is None and GROUPS[key].of_model:
            raw[key] = None
        else:
            raw[key] = group_node(key, choice(key, value, choices))
    elif is_option(key) and isinstance(raw.get(key.partition(".")[0]), dict):
        group, _, option = key.partition(".")
        if not owners(key):
            unknown_option(key, value, [to_str(raw[group].get("name", ""))])
        raw[group] = raw[group] | {option: value}
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
    nested = [
        f"{name}.{k}"
        for name, group in GROUPS.items()
        for k in raw.get(name) or ()
        if k not in group.file_keys or k in _options(group, raw[name])
    ]
    return [*GROUPS, "recipe", *keys, *nested]


def _options(group: Group, node: Mapping[str, Any]) -> Collection[str]:
    """The options of the choice in a group's dict."""
    choice = group.choices.get(to_str(node.get("name")))
    return choice.options if choice else ()


def unknown_key(key: Any, value: Any, valid_keys: Iterable[str]) -> NoReturn:
    """Raise UsageError for a key that does not exist, and suggest the nearest valid key."""
    key = to_str(key)
    if key == "study":
        raise UsageError(
            f"study={format_value(value)}: add a study with a plus sign, as in +study=report"
        )
    if is_option(key):
        unknown_option(key, value)
    group = GROUPS.get(key.partition(".")[0])
    if group and group.per_sweep and (having := owners(key)):
        raise UsageError(
            f"{format_value(key)}={format_value(value)}: requires {group.name}={having[0]}"
            + "".join(f" or {group.name}={name}" for name in having[1:])
        )
    valid_keys = list(valid_keys)
    suggestion = suggestions.for_key(key, valid_keys)
    hint = f"did you mean {suggestion}?" if suggestion else f"the keys are {', '.join(valid_keys)}"
    raise UsageError(
        f"{format_value(key)}={format_value(value)}: there is no key {format_value(key)}; {hint}"
    )


def unknown_option(key: str, value: Any, chosen: Collection[str] = ()) -> NoReturn:
    """Raise UsageError for an option, such as 'optimizer.momentum', that the choice lacks.

    chosen: the choices of its group, whose options the message lists; empty: not known.
    """
    group, _, option = key.partition(".")
    text, option = format_value(value), format_value(option)
    if (group, option) == ("optimizer", "lr"):
        raise UsageError(f"optimizer.lr={text}: the learning rate is a separate key; use lr={text}")
    names = {name: c.options for name, c in GROUPS[group].choices.items() if c.options}
    listed = [name for name in names if name in chosen]
    takes = "; ".join(f"{name} takes {', '.join(names[name])}" for name in listed)
    if chosen and not listed:
        take = "takes" if len(chosen) == 1 else "take"
        takes = f"{join_words([f'{group}={name}' for name in sorted(chosen)])} {take} no options"
    elif not listed:
        known = ", ".join(dict.fromkeys(chain(*names.values())))
        takes = f"the options are {known}" if known else f"no {group} has options"
    options = [f"{group}.{name}" for options in names.values() for name in options]
    suggestion = suggestions.for_value(f"{group}.", f"{group}.{option}", options)
    hint = ""
    if suggestion and suggestion != f"{group}.{option}":
        hint = f"; did you mean {suggestion}?"
    elif having := owners(key):
        has = "has" if len(having) == 1 else "have"
        hint = f"; {join_words(having, len(having))} {has} it"
    noun = {"augment": "augmentation"}.get(group, group)
    raise UsageError(f"{group}.{option}={text}: the {noun} has no option {option}; {takes}{hint}")


def recipe_conflict(keys: Sequence[str]) -> str:
    """The message for a recipe that is given together with `loss`, `optimizer`, or both."""
    given = join_words(keys)
    return (
        f"recipe cannot be combined with {given}, because a recipe sets loss and optimizer; "
        f"use either recipe or {given}"
    )
