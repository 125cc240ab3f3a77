"""The first wall: the command line, each flag and override as it is typed."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    OverrideType,
    QuotedString,
)

from lenet_sweep import keys
from lenet_sweep.errors import UsageError
from lenet_sweep.keys import show

PLUGGED = ("launcher", "sweeper")  # the parts of the hydra node that may be chosen and set
SPECIAL = re.compile(r"_[a-z]+_")  # _target_, _args_, _partial_, ...: Hydra calls what they name
CALLS = frozenset({"custom_search_space"})  # keys of plugins with the name of a function
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


def check_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line as Hydra's own parser reads it, once nothing in it is refused.

    Raises UsageError for the first flag or override that is not taken.
    """
    parser = get_args_parser()
    parser.error = reject_flags  # type: ignore[method-assign]
    args = parser.parse_args(arguments)
    if args.experimental_rerun is not None:
        reject_flags("--experimental-rerun runs whatever a pickle holds, and is not taken")
    if args.config_path is not None or args.config_name is not None:
        reject_flags(
            "--config-path and --config-name would replace the settings that are checked here, and "
            "are not taken; --config-dir FOLDER adds lists of values of your own"
        )
    if args.run and args.multirun:
        reject_flags("--run and --multirun (-m) are given together: one of them")
    if args.resolve and not args.cfg:
        reject_flags("--resolve goes with --cfg job")
    if args.package is not None and not args.cfg:
        reject_flags("--package goes with --cfg job")
    if args.shell_completion:
        _check_completion(args.overrides)
        return args
    given: list[str] = []
    for text in args.overrides:
        key = parsed(text).key_or_group
        if key in given:
            raise UsageError(
                f"{show(text)}: {key} is given twice; "
                f"give it once, with several values as {key}=A,B and the flag -m"
            )
        given.append(key)
    if "recipe" in given and (both := {"loss", "optimizer"} & set(given)):
        raise UsageError(keys.recipe_conflict(sorted(both)))
    return args


def reject_flags(message: str) -> NoReturn:
    """Raise the UsageError for flags that are not there or do not go together."""
    raise UsageError(f"{message}; --help lists what can be given")


def _check_completion(words: Sequence[str]) -> None:
    """Its words are its own, and Hydra's plugins for the shells take them as they come."""
    match = re.fullmatch(r"(install|uninstall|query)=(bash|fish|zsh)", " ".join(words))
    if not match:
        reject_flags("--shell-completion takes install=SHELL or uninstall=SHELL: bash, fish or zsh")
    if match[1] == "query" and "COMP_LINE" not in os.environ:
        reject_flags("--shell-completion query=SHELL is for the shell, which sets COMP_LINE")


def parsed(text: str) -> Override:
    """An override as Hydra reads it. Raises UsageError where it cannot be read, or is not taken."""
    shown = show(text)
    if not re.match(r"[A-Za-z_]", text.lstrip("+~")):
        raise UsageError(f"{shown}: no key before the '='; settings are given as key=value")
    if not text.isprintable():
        raise UsageError(f"{shown}: has a character that cannot be printed, and is not taken")
    key = text.partition("=")[0]
    try:
        override = OverridesParser.create().parse_override(text)
    except Exception as error:
        # Whatever its grammar and its functions raise, a RecursionError included: it is the text.
        # What a function such as range() says names the cause.
        said = " ".join(str(error).split()) if "while evaluating" in str(error) else ""
        if text.endswith(","):
            said = "no space after a comma"
        raise UsageError(
            f"{shown}: cannot be read as key=value{said and f' ({show(said)})'}; values stand "
            "between single commas, and text with other signs than letters, digits and ._- in "
            f"quotes: {show(key)}=\"'...'\""
        ) from error
    _check_override(override, shown)
    return override


def _check_override(override: Override, shown: str) -> None:
    if override.package is not None:
        raise UsageError(
            f"{shown}: a group has one place here; leave out @{show(override.package)}"
        )
    key = override.key_or_group
    parts = re.split(r"[./]", key)
    if not all(NAME.fullmatch(part) for part in parts):
        raise UsageError(f"{shown}: {show(key)} is not the name of a key")
    check_values(_values(override), shown)
    if override.type == OverrideType.DEL:
        raise UsageError(f"{shown}: a key cannot be removed, only changed: {key}=VALUE")
    if parts[0] == "hydra":
        _check_hydras(override, parts, shown)


def _check_hydras(override: Override, parts: Sequence[str], shown: str) -> None:
    key = override.key_or_group
    if len(parts) < 2 or parts[1] not in PLUGGED:
        raise UsageError(
            f"{shown}: of Hydra's own settings only the launcher and the sweeper are taken; "
            "folders are chosen with out=FOLDER and name=NAME"
        )
    if any(SPECIAL.fullmatch(part) or part in CALLS for part in parts):
        raise UsageError(f"{shown}: Hydra would call what it names, so it is not taken")
    if "." not in key:  # a group: hydra/launcher=basic
        for value in _values(override):
            if not isinstance(value, str) or not NAME.fullmatch(value):
                raise UsageError(f"{shown}: must be the name of a plugin, as in {key}=basic")
    elif len(parts) == 2 or "/" in key:
        raise UsageError(f"{shown}: is chosen by name, as in hydra/{parts[1]}=basic")


def _values(override: Override) -> list[Any]:
    """The values of an override; those of a range are numbers, and are not listed."""
    value: Any = override.value()
    if isinstance(value, ChoiceSweep):
        return list(value.list)
    if isinstance(value, Glob):
        return [*value.include, *value.exclude]
    return [value]


def check_values(value: Any, shown: str) -> None:
    """Refuse, at any depth, what Hydra would fill in or call."""
    if isinstance(value, QuotedString):
        value = value.text
    if isinstance(value, Mapping):
        for key in value:
            if isinstance(key, str) and SPECIAL.fullmatch(key):
                raise UsageError(f"{shown}: {key} names something to call, and is not taken")
        check_values([*value, *value.values()], shown)
    elif isinstance(value, (list, tuple)):
        for each in value:
            check_values(each, shown)
    elif isinstance(value, str):
        if "${" in value:
            raise UsageError(f"{shown}: ${{...}} is not filled in here; give the value itself")
        if value == "???":
            raise UsageError(f"{shown}: ??? stands for a missing value; give one")
