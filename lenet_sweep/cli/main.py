"""Entry point of the command line: starts Hydra and turns its errors into one line."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lenet_sweep.cli import arguments, guarded_hydra
from lenet_sweep.cli.help import help_text
from lenet_sweep.config import checks, files, keys, own_models, registry
from lenet_sweep.core.errors import DataError, StoreError, UsageError, exit_status
from lenet_sweep.core.text import describe_os_error, replace_unprintable, shorten
from lenet_sweep.data.catalog import added_datasets
from lenet_sweep.executors.registry import EXECUTORS

LAUNCHER = "hydra_plugins._lenet_sweep.LenetLauncher"
EXPECTED = (UsageError, DataError, StoreError, OSError, HydraException, OmegaConfBaseException)

# Packages of Hydra plugins, by the override that selects them.
PLUGINS = {
    "hydra/launcher=joblib": "hydra-joblib-launcher",
    "hydra/launcher=submitit": "hydra-submitit-launcher",
    "hydra/launcher=ray": "hydra-ray-launcher",
    "hydra/launcher=rq": "hydra-rq-launcher",
    "hydra/sweeper=optuna": "hydra-optuna-sweeper 'optuna<3'",
    "hydra/sweeper=ax": "hydra-ax-sweeper",
    "hydra/sweeper=nevergrad": "hydra-nevergrad-sweeper",
}

MAX_LENGTH = 800  # characters of an error; Hydra's errors may quote the whole command line


def task(cfg: DictConfig) -> float:
    """Hydra's task function: train the composed cell and return its accuracy in percent."""
    from lenet_sweep.cli import commands  # noqa: PLC0415 - slow to import; not needed for --help

    try:
        return commands.run_task(cfg)
    except EXPECTED as error:
        # Hydra would print a traceback, but lets SystemExit pass.
        print(_one_line(error), file=sys.stderr)
        raise SystemExit(_status(error)) from error


def _prepare_search(loader: ConfigLoader, master: DictConfig) -> guarded_hydra.FinishSweep:
    from lenet_sweep.cli import commands  # noqa: PLC0415 - as in `task`

    return commands.prepare_search(loader, master)


def _check_single_cell(config: DictConfig) -> None:
    from lenet_sweep.cli import commands  # noqa: PLC0415 - as in `task`

    commands.check_single_cell(config)


def _logging(overrides: list[Override]) -> list[str]:
    """Overrides that add log handlers if hydra.verbose is given; otherwise Hydra logs nothing."""
    given = {override.key_or_group for override in overrides}
    if "hydra.verbose" not in given:
        return []
    handlers = {"hydra/hydra_logging": "default", "hydra/job_logging": "stdout"}
    return [f"{group}={name}" for group, name in handlers.items() if group not in given]


def main(register_plugins: Callable[[], None]) -> None:
    """Run the command line. Exits with status 0, 1 or 2; lets KeyboardInterrupt pass.

    register_plugins: makes the plugins in `hydra_plugins`, which use this package, known to Hydra.
    """
    full_error = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them
    try:
        if "--version" in sys.argv[1:]:
            print(f"lenet-sweep {version('lenet-sweep')}, Hydra {hydra.__version__}")
            sys.exit(0)
        sys.argv[1:] = arguments.take_models(sys.argv[1:])
        sys.argv += _logging(arguments.check_arguments(sys.argv[1:]))
        if arguments.is_completion(sys.argv[1:]):
            from lenet_sweep.cli import completion  # noqa: PLC0415 - slow to import; only for a shell

            completion.install()
            sys.argv[0] = completion.name_program(sys.argv[0])
        guarded_hydra.install(_prepare_search, _check_single_cell)
        registry.add_datasets()
        own_models.add_models()
        register_plugins()
        register_groups()
        hydra.main(str(files.config_folder()), "config", version_base="1.3")(task)()
    except Exception as error:
        if full_error == "1" or not (isinstance(error, EXPECTED) or _is_usage_error(error)):
            raise
        print(_one_line(error), file=sys.stderr)
        sys.exit(_status(error))


def register_groups() -> None:
    """Register with Hydra what is not a file in conf/: the help text, and what others added."""
    store = ConfigStore.instance()
    text = {"app_name": "lenet_sweep", "header": "", "footer": "", "template": help_text()}
    store.store(group="hydra/help", name="lenet_sweep", node=text)
    for name in added_datasets():
        store.store(group="dataset", name=name, node=keys.group_node("dataset", name))
    for name in EXECUTORS.names():
        defaults = {option.name: option.default for option in fields(EXECUTORS.find(name).options)}
        node = {"_target_": LAUNCHER, "executor": name, **defaults}
        store.store(group="hydra/launcher", name=f"lenet_{name}", node=node)


def _status(error: Exception) -> int:
    if isinstance(error, (HydraException, OmegaConfBaseException)) or _is_usage_error(error):
        return 2
    return exit_status(error)


def _is_usage_error(error: Exception) -> bool:
    """Whether Hydra raised the error, so that the command line is at fault and not this package.

    Hydra raises errors of many classes. In its own, the innermost frame of this package called
    Hydra, OmegaConf or their parser.
    """
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    own = [number for number, file in enumerate(files) if re.search(r"[/\\]_?lenet_sweep", file)]
    inner = files[own[-1] + 1 :] if own else files
    return bool(inner and re.search(r"[/\\](hydra|omegaconf|antlr4)[/\\]", inner[0]))


def _one_line(error: Exception) -> str:
    """The error as one line; a DataError may have several."""
    if isinstance(error, DataError):  # lists the sources that were tried, one per line
        return "error: " + "\n".join(replace_unprintable(line) for line in str(error).split("\n"))
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return f"error: {describe_os_error(error)}"
    try:
        _rephrase(error, " ".join(str(error).split()))
    except UsageError as rephrased:
        error = rephrased
    text = f"there is no {error}" if isinstance(error, KeyError) else str(error)
    if error.__cause__ is not None and not isinstance(error, (UsageError, StoreError)):
        text = f"{text} {error.__cause__}"
    text = replace_unprintable(" ".join(text.split())) or type(error).__name__
    return "error: " + shorten(text, MAX_LENGTH)


def _rephrase(error: Exception, text: str) -> None:
    """Raise a UsageError in place of a known error of Hydra's; return for any other error."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        plugin = f"{group}={name.partition('_')[0]}"  # of submitit_slurm, ray_aws
        installed = any(f"{group}={option}".startswith(plugin) for option in error.options)
        if plugin in PLUGINS and not installed:
            raise UsageError(
                f"{group}={name}: the plugin is not installed; run: pip install {PLUGINS[plugin]}"
            )
        added = registry.GROUPS[group].choices if group in registry.GROUPS else ()
        checks.choice(group, name, sorted({*error.options, *added}))
    if match := re.match(r"Ambiguous value for argument '(.+?)'", text):
        raise UsageError(f"{match[1]}: several values require the flag -m, as in -m {match[1]}")
    if match := re.match(r"Additional config directory '(.+?)' not found", text):
        raise UsageError(f"--config-dir {match[1]}: there is no such folder")
    if match := re.match(r"Could not override '(.+?)'", text):
        key = match[1]
        if key.startswith("hydra."):
            raise UsageError(
                f"{key}: there is no such setting, or it has another type; --cfg hydra lists all "
                f"settings, and +{key}=VALUE adds one"
            )
        value = next((a.partition("=")[2] for a in sys.argv if a.startswith(f"{key}=")), "")
        keys.unknown_key(key, value, keys.known_keys(keys.defaults()))
