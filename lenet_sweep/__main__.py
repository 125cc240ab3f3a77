"""`python -m lenet_sweep`: read the command line with Hydra; one clear line where it is wrong."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lenet_sweep import keys
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
        decorate = hydra.main(str(keys.config_folder()), "config", version_base="1.3")
        decorate(task)()
    except BrokenPipeError:  # whoever read the output, as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(128 + 13)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if full_error == "1" or not (isinstance(error, EXPECTED) or _is_hydras(error)):
            raise
        print(_one_line(error), file=sys.stderr)
        sys.exit(2)


def _is_hydras(error: Exception) -> bool:
    """Whether Hydra raised it about what was typed, in whatever class: not a fault in this code."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(re.search(r"[/\\](hydra|omegaconf|antlr4)[/\\]", frames[-1].filename))


def _check_arguments(arguments: Sequence[str]) -> None:
    """What Hydra would take without a word, or answer with more than one line."""
    if "--version" in arguments:
        print(f"lenet-sweep {version('lenet-sweep')}, Hydra {hydra.__version__}")
        sys.exit(0)
    parser = get_args_parser()
    parser.error = _reject_flags  # type: ignore[method-assign]
    args = parser.parse_args(arguments)
    if args.experimental_rerun:
        _reject_flags("--experimental-rerun runs whatever a pickle holds, and is not taken")
    if args.run and args.multirun:
        _reject_flags("--run and --multirun (-m) are given together: one of them")
    if args.resolve and not args.cfg:
        _reject_flags("--resolve goes with --cfg job")
    given: list[str] = []
    for override in args.overrides:
        key = override.partition("=")[0].lstrip("+~")
        if not re.match(r"[A-Za-z_]", key):
            raise UsageError(f"{override}: no key before the '='; settings are given as key=value")
        if key in given:
            raise UsageError(
                f"{override}: {key} is given twice; "
                f"give it once, with several values as {key}=A,B and the flag -m"
            )
        given.append(key)
    if "recipe" in given and (both := {"loss", "optimizer"} & set(given)):
        raise UsageError(keys.recipe_conflict(sorted(both)))


def _reject_flags(message: str) -> NoReturn:
    raise UsageError(f"{message}; --help lists what can be given")


def _one_line(error: Exception) -> str:
    """An error as one line that names the key, the value, what is allowed and the fix."""
    if isinstance(error, DataError):
        return f"error: {error}"  # a list of what was tried is worth its lines
    text = " ".join(str(error).split())
    if isinstance(error, (UsageError, StoreError)):
        return f"error: {text}"
    try:
        _rephrase(error, text)
    except UsageError as better:
        return f"error: {better}"
    if error.__cause__ is not None:
        text = f"{text} {' '.join(str(error.__cause__).split())}".strip()
    return f"error: {text}"


def _rephrase(error: Exception, text: str) -> None:
    """Raise a UsageError that says what Hydra's error says, in terms of what was typed."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        keys.choice(group, name, sorted(error.options))
    if isinstance(error, OverrideParseException):
        typed = error.override if len(error.override) <= 80 else error.override[:77] + "..."
        key = typed.partition("=")[0]
        raise UsageError(
            f"{typed}: cannot be read as key=value; values stand between single commas, "
            f"and text with other signs than letters, digits and ._- in quotes: {key}=\"'...'\""
        )
    if found := re.match(r"Ambiguous value for argument '(.+?)'", text):
        raise UsageError(f"{found[1]}: several values need the flag -m, as in -m {found[1]}")
    if found := re.match(r"Could not delete from config. '(.+?)'", text):
        raise UsageError(f"~{found[1]}: a key cannot be removed, only changed: {found[1]}=VALUE")
    if found := re.match(r"Could not override '(.+?)'", text):
        key = found[1]
        value = next((a.partition("=")[2] for a in sys.argv if a.startswith(f"{key}=")), "")
        keys.unknown_key(key, value, keys.known_keys(keys.defaults()))


if __name__ == "__main__":
    main()
