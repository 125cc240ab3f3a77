"""Checks of the command line as typed: unsupported flags, and overrides that cannot be parsed."""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from lenet_sweep.config import keys, own_models, registry
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value


def check_arguments(arguments: Sequence[str]) -> list[Override]:
    """The overrides of a command line.

    Raises UsageError for an unsupported flag, an override that cannot be parsed, and a recipe that
    is given together with a loss or an optimizer.
    """
    parser = get_args_parser()
    parser.error = _raise_usage_error  # type: ignore[method-assign] # instead of printing usage
    args = parser.parse_args(arguments)
    if args.experimental_rerun is not None:
        raise UsageError(
            "--experimental-rerun is not supported: it loads a pickle, which can run code; run the "
            "original command again"
        )
    if args.config_path is not None or args.config_name is not None:
        raise UsageError(
            "--config-path and --config-name are not supported: they would replace the settings, "
            "including their defaults and checks; to add your own files, use --config-dir FOLDER"
        )
    if args.shell_completion:
        if "query" in " ".join(args.overrides) and "COMP_LINE" not in os.environ:
            raise UsageError(
                "--shell-completion query=SHELL is called by the shell, which sets COMP_LINE; to "
                "install completion, use --shell-completion install=SHELL"
            )
        return []
    if args.config_dir:
        registry.add_folder(Path(args.config_dir))  # so that --help lists it
    overrides = [parse_override(text) for text in args.overrides]
    given = {override.key_or_group for override in overrides}
    if "recipe" in given and (both := {"loss", "optimizer"} & given):
        raise UsageError(keys.recipe_conflict(sorted(both)))
    return overrides


def is_completion(arguments: Sequence[str]) -> bool:
    """Whether a shell asks for candidates, or a user for the script that installs completion."""
    return any(text == "-sc" or text.startswith("--shell") for text in arguments)


def take_models(arguments: Sequence[str]) -> list[str]:
    """The arguments without --models, whose files are added to own_models.VARIABLE.

    The processes that this one starts, such as those of Hydra's launchers, inherit the variable.
    Raises UsageError if a file is missing after --models.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = _raise_usage_error  # type: ignore[method-assign] # instead of printing usage
    parser.add_argument("--models", action="append", default=[])
    given, others = parser.parse_known_args(arguments)
    if given.models:
        files = [str(Path(file).expanduser().absolute()) for file in given.models]
        earlier = os.environ.get(own_models.VARIABLE)
        os.environ[own_models.VARIABLE] = os.pathsep.join([*([earlier] if earlier else []), *files])
    return others


def _raise_usage_error(message: str) -> NoReturn:
    raise UsageError(f"{message}; see --help")


def parse_override(text: str) -> Override:
    """Parse an override with Hydra's grammar. Raises UsageError if that fails."""
    shown = format_value(text)
    if not re.match(r"[\w$]", text.lstrip("+~")):
        raise UsageError(f"{shown}: no key before the '='; write key=value")
    try:
        return OverridesParser.create().parse_override(text)
    except Exception as error:
        # Hydra's grammar and its functions may raise anything, including RecursionError.
        detail = " ".join(str(error).split()) if "while evaluating" in str(error) else ""
        if text.endswith(","):
            detail = "no value after the last comma; write commas without spaces"
        raise UsageError(
            f"{shown}: cannot be parsed as key=value{detail and f' ({format_value(detail)})'}; "
            "separate values with single commas, and quote text that has characters other than "
            f"letters, digits, '.', '_' and '-': {format_value(text.partition('=')[0])}=\"'...'\""
        ) from error
