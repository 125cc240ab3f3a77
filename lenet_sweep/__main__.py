"""`python -m lenet_sweep`: read the command line with Hydra; one clear line where it is wrong."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lenet_sweep import config
from lenet_sweep.errors import DataError, StoreError, UsageError
from lenet_sweep.hydra_glue import register_groups

EXPECTED = (UsageError, DataError, StoreError, HydraException, OmegaConfBaseException)


def task(cfg: DictConfig) -> float:
    """One cell; `commands` is imported when it is needed, so that --help answers at once."""
    from lenet_sweep import commands  # noqa: PLC0415

    try:
        return commands.run(cfg)
    except EXPECTED as error:
        # Hydra would print this with a traceback, but lets SystemExit pass.
        print(_one_line(error), file=sys.stderr)
        raise SystemExit(2) from error


def main() -> None:
    """Run the command line. Exit status 0, 1 or 2, or 128 + the number of a signal."""
    full_error = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
    try:
        _check_arguments(sys.argv[1:])
        register_groups()
        decorate = hydra.main(str(config.config_folder()), "config", version_base="1.3")
        decorate(task)()
    except EXPECTED as error:
        if full_error == "1":
            raise
        print(_one_line(error), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _check_arguments(arguments: Sequence[str]) -> None:
    """What Hydra would take without a word, or answer with more than one line."""
    parser = get_args_parser()
    parser.error = _reject_flags  # type: ignore[method-assign]
    args = parser.parse_args(arguments)
    keys: list[str] = []
    for override in args.overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key in keys:
            raise UsageError(
                f"{override}: {key} is given twice; "
                f"give it once, with several values as {key}=A,B and the flag -m"
            )
        keys.append(key)
    if "recipe" in keys and (both := {"loss", "optimizer"} & set(keys)):
        raise UsageError(config.recipe_conflict(sorted(both)))


def _reject_flags(message: str) -> NoReturn:
    raise UsageError(f"{message}; --help lists what can be given")


def _one_line(error: Exception) -> str:
    """An error as one line that names the key, the value, what is allowed and the fix."""
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        try:
            config.choice(group, name, sorted(error.options))
        except UsageError as better:
            return f"error: {better}"
    if isinstance(error, OverrideParseException):
        return (
            f"error: {error.override}: cannot be read as key=value ({text.partition(' See ')[0]})"
        )
    if ambiguous := re.match(r"Ambiguous value for argument '(.+?)'", text):
        return f"error: {ambiguous[1]}: several values need the flag -m, as in -m {ambiguous[1]}"
    if deleted := re.match(r"Could not delete from config. '(.+?)'", text):
        return f"error: ~{deleted[1]}: a key cannot be removed, only changed: {deleted[1]}=VALUE"
    if unknown := re.match(r"Could not override '(.+?)'", text):
        key = unknown[1]
        value = next((a.partition("=")[2] for a in sys.argv if a.startswith(f"{key}=")), "")
        try:
            config.unknown_key(key, value, config.known_keys(config.defaults()))
        except UsageError as better:
            return f"error: {better}"
    if error.__cause__ is not None and not isinstance(error, (UsageError, DataError, StoreError)):
        text = f"{text} {' '.join(str(error.__cause__).split())}".strip()
    # A list of what was tried is worth its lines.
    return f"error: {error if isinstance(error, DataError) else text}"


if __name__ == "__main__":
    main()
