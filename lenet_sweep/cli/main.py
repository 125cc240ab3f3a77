"""The command line: read with Hydra; one clear line where it is wrong."""

from __future__ import annotations

import os
import re
import sys
import traceback
from importlib.metadata import version

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lenet_sweep.cli import arguments, guarded_hydra
from lenet_sweep.cli.hydra_config import register_help, register_plugins
from lenet_sweep.config import keys, registry
from lenet_sweep.core.errors import DataError, StoreError, UsageError, exit_status
from lenet_sweep.core.text import describe_os_error, replace_unprintable

EXPECTED = (UsageError, DataError, StoreError, OSError, HydraException, OmegaConfBaseException)

# The packages of Hydra's plugins that people ask for, by what is typed.
PLUGINS = {
    "hydra/launcher=joblib": "hydra-joblib-launcher",
    "hydra/launcher=submitit": "hydra-submitit-launcher",
    "hydra/launcher=ray": "hydra-ray-launcher",
    "hydra/launcher=rq": "hydra-rq-launcher",
    "hydra/sweeper=optuna": "hydra-optuna-sweeper 'optuna<3'",
    "hydra/sweeper=ax": "hydra-ax-sweeper",
    "hydra/sweeper=nevergrad": "hydra-nevergrad-sweeper",
}

LONGEST = 800  # characters of an error: Hydra's may quote all of what was typed


def task(cfg: DictConfig) -> float:
    """One cell; `commands` is imported when it is needed, so that --help answers at once."""
    from lenet_sweep.cli import commands  # noqa: PLC0415 - see above

    try:
        return commands.run(cfg)
    except EXPECTED as error:
        # Hydra would print this with a traceback, but lets SystemExit pass.
        print(_one_line(error), file=sys.stderr)
        raise SystemExit(_status(error)) from error


def _prepare_search(loader: ConfigLoader, master: DictConfig) -> guarded_hydra.FinishSweep:
    from lenet_sweep.cli import commands  # noqa: PLC0415 - see above

    return commands.prepare_search(loader, master)


def _check_single(config: DictConfig) -> None:
    from lenet_sweep.cli import commands  # noqa: PLC0415 - see above

    commands.check_single(config)


def _logging(overrides: list[Override]) -> list[str]:
    """Handlers for the logs that hydra.verbose asks for; without it Hydra logs nothing here."""
    given = {override.key_or_group for override in overrides}
    if "hydra.verbose" not in given:
        return []
    handlers = {"hydra/hydra_logging": "default", "hydra/job_logging": "stdout"}
    return [f"{group}={name}" for group, name in handlers.items() if group not in given]


def main() -> None:
    """Read and run the command line. Leaves with status 0, 1 or 2; KeyboardInterrupt goes on."""
    full_error = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
    try:
        if "--version" in sys.argv[1:]:
            print(f"lenet-sweep {version('lenet-sweep')}, Hydra {hydra.__version__}")
            sys.exit(0)
        sys.argv += _logging(arguments.check_arguments(sys.argv[1:]))
        guarded_hydra.install(_prepare_search, _check_single)
        register_plugins()
        register_help()
        decorate = hydra.main(str(registry.config_folder()), "config", version_base="1.3")
        decorate(task)()
    except Exception as error:
        if full_error == "1" or not (isinstance(error, EXPECTED) or _is_hydras(error)):
            raise
        print(_one_line(error), file=sys.stderr)
        sys.exit(_status(error))


def _status(error: Exception) -> int:
    if isinstance(error, (HydraException, OmegaConfBaseException)) or _is_hydras(error):
        return 2
    return exit_status(error)


def _is_hydras(error: Exception) -> bool:
    """Whether Hydra raised it about what was typed, in whatever class: not a fault in this code.

    That is, Hydra was called by this package, and called nothing of this package in turn.
    """
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    own = [number for number, file in enumerate(files) if re.search(r"[/\\]_?lenet_sweep", file)]
    below = files[own[-1] + 1 :] if own else files
    return bool(below and re.search(r"[/\\](hydra|omegaconf|antlr4)[/\\]", below[0]))


def _one_line(error: Exception) -> str:
    """An error as one line that names the key, the value, what is allowed and the fix."""
    if isinstance(error, DataError):  # a list of what was tried is worth its lines
        return "error: " + "\n".join(replace_unprintable(line) for line in str(error).split("\n"))
    if isinstance(error, OSError) and not isinstance(error, HydraException):  # the disk's
        return f"error: {describe_os_error(error)}"
    try:
        _rephrase(error, " ".join(str(error).split()))
    except UsageError as better:
        error = better
    text = f"there is no {error}" if isinstance(error, KeyError) else str(error)
    if error.__cause__ is not None and not isinstance(error, (UsageError, StoreError)):
        text = f"{text} {error.__cause__}"
    text = replace_unprintable(" ".join(text.split())) or type(error).__name__
    return "error: " + (text if len(text) <= LONGEST else text[:LONGEST] + "...")


def _rephrase(error: Exception, text: str) -> None:
    """Raise a UsageError that says what Hydra's error says, in terms of what was typed."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        plugin = f"{group}={name.partition('_')[0]}"  # submitit_slurm, ray_aws
        installed = any(f"{group}={option}".startswith(plugin) for option in error.options)
        if plugin in PLUGINS and not installed:
            raise UsageError(
                f"{group}={name}: the plugin is not installed; pip install {PLUGINS[plugin]}"
            )
        keys.choice(group, name, sorted(error.options))
    if found := re.match(r"Ambiguous value for argument '(.+?)'", text):
        raise UsageError(f"{found[1]}: several values need the flag -m, as in -m {found[1]}")
    if found := re.match(r"Additional config directory '(.+?)' not found", text):
        raise UsageError(f"--config-dir {found[1]}: there is no such folder")
    if found := re.match(r"Could not override '(.+?)'", text):
        key = found[1]
        if key.startswith("hydra."):
            raise UsageError(
                f"{key}: there is no such setting, or it has another type; --cfg hydra shows all, "
                f"and +{key}=VALUE adds one"
            )
        value = next((a.partition("=")[2] for a in sys.argv if a.startswith(f"{key}=")), "")
        keys.unknown_key(key, value, keys.known_keys(keys.defaults()))
