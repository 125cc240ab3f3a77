"""The command line as it is typed: flags that cannot be taken, overrides that cannot be read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from lenet_sweep.config import keys, registry
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value


def check_arguments(arguments: Sequence[str]) -> list[Override]:
    """The overrides that were typed. Raises UsageError for a flag or override that is not taken."""
    parser = get_args_parser()
    parser.error = _reject_flags  # type: ignore[method-assign]
    args = parser.parse_args(arguments)
    if args.experimental_rerun is not None:
        _reject_flags("--experimental-rerun: nothing is unpickled here, since a pickle runs code")
    if args.config_path is not None or args.config_name is not None:
        _reject_flags(
            "--config-path and --config-name would replace the settings, with their defaults and "
            "checks; --config-dir FOLDER adds lists and settings of your own"
        )
    if args.shell_completion:
        if "query" in " ".join(args.overrides) and "COMP_LINE" not in os.environ:
            _reject_flags("--shell-completion query=SHELL is for the shell, which sets COMP_LINE")
        return []
    if args.config_dir:
        registry.add_folder(Path(args.config_dir))  # before --help lists what there is
    overrides = [parsed(text) for text in args.overrides]
    given = {override.key_or_group for override in overrides}
    if "recipe" in given and (both := {"loss", "optimizer"} & given):
        raise UsageError(keys.recipe_conflict(sorted(both)))
    return overrides


def _reject_flags(message: str) -> NoReturn:
    raise UsageError(f"{message}; --help lists what can be given")


def parsed(text: str) -> Override:
    """An override as Hydra reads it. Raises UsageError where it cannot be read."""
    shown = format_value(text)
    if not re.match(r"[\w$]", text.lstrip("+~")):
        raise UsageError(f"{shown}: no key before the '='; settings are given as key=value")
    try:
        return OverridesParser.create().parse_override(text)
    except Exception as error:
        # Its grammar and its functions may raise anything, a RecursionError included.
        said = " ".join(str(error).split()) if "while evaluating" in str(error) else ""
        if text.endswith(","):
            said = "no space after a comma"
        raise UsageError(
            f"{shown}: cannot be read as key=value{said and f' ({format_value(said)})'}; values stand "
            "between single commas, and text with other signs than letters, digits and ._- in "
            f"quotes: {format_value(text.partition('=')[0])}=\"'...'\""
        ) from error
