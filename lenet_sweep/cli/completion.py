"""Completion of keys and values in a shell, in addition to what Hydra's completion knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException
from hydra.plugins.completion_plugin import CompletionPlugin
from omegaconf.errors import OmegaConfBaseException

from lenet_sweep.config import keys, registry
from lenet_sweep.config.sweep_options import CHOICES
from lenet_sweep.config.validation import DEVICES, ENGINES, NORMALIZATIONS
from lenet_sweep.core.errors import UsageError

VALUES = {**CHOICES, "device": DEVICES, "engine": ENGINES, "normalize": NORMALIZATIONS}

_hydra_query = CompletionPlugin._query  # noqa: SLF001 - the only place where candidates pass


def install() -> None:
    """Make Hydra's completion offer the values of keys, also after a comma, and no internal keys.

    This changes Hydra only in this process.
    """
    CompletionPlugin._query = _query  # type: ignore[method-assign, assignment] # noqa: SLF001 - as above


def _query(plugin: CompletionPlugin, config_name: str | None, line: str) -> list[str]:
    """The candidates for the last word of a command line without its program, sorted."""
    word = "" if line[-1:] in ("", " ") else line.rsplit(maxsplit=1)[-1]
    key, equals, value = word.partition("=")
    if equals and (values := _values(key.lstrip("+"))):
        earlier, comma, last = value.rpartition(",")
        return sorted(f"{key}={earlier}{comma}{v}" for v in values if v.startswith(last))
    line = re.sub(r"--models[= ]+\S+ ", "", line)  # which Hydra does not know
    try:
        found = _hydra_query(plugin, config_name, line)
    except (UsageError, HydraException, OmegaConfBaseException):  # an earlier word is wrong
        found = _hydra_query(plugin, config_name, word)
    return [text for text in found if not _is_internal(text)]


def _values(key: str) -> Sequence[str]:
    """The values that a key can have, if they are names or truth values."""
    if key in registry.GROUPS:
        return list(registry.GROUPS[key].choices)
    if isinstance(keys.defaults().get(key), bool):
        return ("false", "true")
    default: Any = registry.OPTION_DEFAULTS.get(key)
    return ("false", "true") if isinstance(default, bool) else VALUES.get(key, ())


def _is_internal(text: str) -> bool:
    """Whether a candidate is a key that only the file of a choice sets, such as optimizer.class."""
    group, dot, name = text.rstrip("=").partition(".")
    return bool(dot) and group in registry.GROUPS and name in registry.GROUPS[group].file_keys


def name_program(program: str) -> str:
    """The program to install completion for: `python -m lenet_sweep` stands for `lenet-sweep`.

    A shell completes the words after the name of a program, and that of the former is `python`.
    """
    return "lenet-sweep" if program.endswith(".py") else program
