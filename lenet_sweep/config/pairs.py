"""Pairs: keys of a grid whose values are used together instead of in all combinations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lenet_sweep.config import suggestions
from lenet_sweep.config.checks import reject
from lenet_sweep.config.keys import defaults, is_option, known_keys, owners
from lenet_sweep.config.registry import OPTION_DEFAULTS
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, join_words

Pair = tuple[str, ...]  # two keys, or more
FORM = "a list of keys, such as [lr,batch], or a list of such lists"


def parse_pairs(value: Any) -> tuple[Pair, ...]:
    """The pairs of the key `pair`: [lr,batch] is one pair, [[lr,batch],[seed,init]] are two.

    Raises UsageError for a value of another form, and for a key that is named twice.
    """
    if value is None:
        return ()
    lists = [value] if _is_list(value) and all(isinstance(key, str) for key in value) else value
    if not _is_list(lists) or not all(
        _is_list(keys) and all(isinstance(key, str) for key in keys) for keys in lists
    ):
        reject("pair", value, FORM)
    pairs = tuple(tuple(keys) for keys in lists)
    if not pairs or any(len(keys) < 2 for keys in pairs):
        reject("pair", value, f"{FORM}, with at least two keys each")
    names = [key for keys in pairs for key in keys]
    for key in names:
        if names.count(key) > 1:
            raise UsageError(
                f"{describe_pair(names)}: {format_value(key)} is named twice; name each key once"
            )
    return pairs


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def paired_axes(lengths: Mapping[str, int], pairs: Sequence[Pair]) -> list[Pair]:
    """The keys of a grid, with those of a pair together, at the place of the first of them.

    lengths: the number of values of each key, which may start with a plus sign.

    Raises UsageError for a pair with a key that does not exist or has no values here, and for one
    whose keys do not have equal numbers of values.
    """
    typed = {key.lstrip("+"): key for key in lengths}
    axes: dict[str, Pair] = {key: (key,) for key in lengths}
    for pair in pairs:
        for key in pair:
            if key not in typed:
                _reject_key(pair, key)
        keys = tuple(typed[key] for key in pair)
        numbers = [lengths[key] for key in keys]
        if len(set(numbers)) > 1 or numbers[0] < 2:
            counts = [f"{key} has {number:,}" for key, number in zip(pair, numbers, strict=True)]
            raise UsageError(
                f"{describe_pair(pair)}: the keys must have equal numbers of values, at least 2, "
                f"but {join_words(counts, len(counts))}"
            )
        first, *others = (key for key in lengths if key in keys)
        axes[first] = keys
        for key in others:
            del axes[key]
    return list(axes.values())


def _reject_key(pair: Pair, key: str) -> None:
    known = [*known_keys(defaults()), *OPTION_DEFAULTS]
    shown = format_value(key)
    if key in known or (is_option(key) and owners(key)):
        raise UsageError(
            f"{describe_pair(pair)}: {shown} has 1 value here; list several, {shown}=VALUE,VALUE"
        )
    suggestion = suggestions.for_key(key, known)
    hint = f"; did you mean {suggestion}?" if suggestion else ""
    raise UsageError(f"{describe_pair(pair)}: there is no key {shown}{hint}")


def describe_pair(pair: Sequence[str]) -> str:
    """'pair=[lr,batch]'."""
    return format_value(f"pair=[{','.join(pair)}]")
