"""The third wall: each configuration as Hydra composes it, before anything acts on it."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import hydra._internal.hydra as hydras
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lenet_sweep import keys
from lenet_sweep.errors import UsageError
from lenet_sweep.guard.plain_files import GuardedRepository
from lenet_sweep.guard.typed import PLUGGED, parsed
from lenet_sweep.hydra_glue import keep_text
from lenet_sweep.keys import Raw, show
from lenet_sweep.recipes import OPTIMIZERS

Gather = Callable[[signal.Signals | None], None]  # makes the one table of what was launched

SILENT = {"version": 1, "root": None, "disable_existing_loggers": False}  # no logging at all


class GuardedLoader(ConfigLoaderImpl):
    """Hydra's loader, which gives away no configuration that it should not act on.

    folder: where the jobs of a launcher of Hydra's write, in place of what they would compose.
    prepare: called with the composed configuration where a sweeper that searches is to launch
        batch after batch; gives back what gathers them, which is then `gather`.
    """

    folder: Path | None = None
    in_sweep = False  # a job of a sweep is composed
    prepare: Callable[[ConfigLoader, DictConfig], Gather] | None = None
    gather: Gather | None = None

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.repository = GuardedRepository(config_search_path)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        originals = {_any_option(text): text for text in map(keep_text, overrides)}
        try:
            config = super().load_configuration(
                config_name, list(originals), run_mode, from_shell, validate_sweep_overrides
            )
        except RecursionError as error:
            raise UsageError(
                "the configuration is nested too deeply, or a file of --config-dir has itself in "
                "its defaults"
            ) from error
        for part in ("hydra", "task"):
            config.hydra.overrides[part] = [originals[t] for t in config.hydra.overrides[part]]
        if run_mode == RunMode.RUN and config_name is not None and not self.in_sweep:
            _check_options(config)
        check_composed(config, main=config_name is not None)
        if run_mode == RunMode.MULTIRUN and config_name is not None and _searches(config):
            prepare = type(self).prepare
            assert prepare is not None
            self.gather = prepare(self, config)
        return config

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        self.in_sweep = True
        try:
            config = super().load_sweep_config(master_config, sweep_overrides)
        finally:
            self.in_sweep = False
        if self.folder:
            config.hydra.sweep.dir = str(self.folder)
        return config


def _any_option(text: str) -> str:
    """An override that Hydra takes for every optimizer, where it sets an option of one.

    In a sweep over optimizers each job has the options of all; `config.all_settings` decides.
    """
    if not keys.is_option(text):
        return text
    override = OverridesParser.create().parse_override(text)
    known = any(not keys.missing_options([override.key_or_group], name) for name in OPTIMIZERS)
    return f"++{text}" if known and not override.is_sweep_override() else text


def _check_options(config: DictConfig) -> None:
    optimizer = OmegaConf.to_container(config.optimizer) if config.optimizer else {}
    options = {f"optimizer.{name}": value for name, value in cast("Raw", optimizer).items()}
    name = str(options.pop("optimizer.name", ""))
    for key in keys.missing_options(options, name):
        keys.unknown_option(key.removeprefix("optimizer."), options[key])


def searching(loader: ConfigLoader) -> Path | None:
    """The folder of all batches that a sweeper which searches launches; None of any other."""
    assert isinstance(loader, GuardedLoader)
    return loader.folder if loader.gather else None


def is_search(sweeper: Any) -> bool:
    """Whether the node hydra.sweeper is that of a sweeper which searches."""
    return not str(sweeper.get("_target_")).startswith("hydra_plugins._lenet_sweep.")


def _searches(config: DictConfig) -> bool:
    """Whether the sweeper is none of the grids. Raises UsageError where it looks for the worst."""
    sweeper = config.hydra.sweeper
    if not is_search(sweeper):
        return False
    if "minimize" in str(sweeper.get("direction", "")).lower():
        raise UsageError(
            "hydra.sweeper.direction=minimize: would look for the lowest accuracy, which is what a "
            "cell gives back, in percent; add hydra.sweeper.direction=maximize"
        )
    return True


def all_jobs_write_to(loader: ConfigLoader, master: DictConfig, folder: Path) -> None:
    """Make one folder the sweep's for all jobs that a launcher of Hydra's starts."""
    assert isinstance(loader, GuardedLoader)
    loader.folder = folder
    master.hydra.sweep.dir = str(folder)


def check_composed(config: DictConfig, *, main: bool) -> None:
    """Refuse a configuration in which Hydra would do more than start the launcher and sweeper.

    main: composed out of conf/config.yaml, not out of Hydra's own settings alone (--hydra-help).
    Raises UsageError.
    """
    raw = OmegaConf.to_container(config.hydra, resolve=False)
    assert isinstance(raw, dict)
    node = cast("dict[str, Any]", raw)
    expected: dict[str, Any] = {
        "callbacks": {}, "searchpath": [], "job.env_set": {}, "job.env_copy": [], "verbose": False,
    }  # fmt: skip
    if main:
        expected |= _own_hydra_settings() | {"hydra_logging": SILENT, "job_logging": SILENT}
    for key, value in expected.items():
        found: Any = node
        for part in key.split("."):
            found = found[part] if isinstance(found, dict) else None
        if found != value:
            raise UsageError(
                f"hydra.{key}: is fixed here; of Hydra's own settings only the launcher and the "
                "sweeper can be chosen, and folders with out=FOLDER and name=NAME"
            )
    for part in PLUGGED:
        target = node[part].get("_target_") if isinstance(node[part], dict) else None
        if not isinstance(target, str) or not Plugins.is_in_toplevel_plugins_module(target):
            raise UsageError(f"hydra/{part}: must be a plugin of Hydra, as in hydra/{part}=basic")
    params = node["sweeper"].get("params") or {}
    for key, value in params.items() if isinstance(params, dict) else ():
        parsed(f"{key}={value}")


@cache
def _own_hydra_settings() -> dict[str, Any]:
    """What conf/config.yaml says of Hydra, by dotted key."""
    config = OmegaConf.to_container(OmegaConf.load(keys.config_folder() / "config.yaml"))
    return dict(_dotted(cast("dict[str, Any]", config)["hydra"], ""))


def _dotted(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


class GuardedHydra(hydras.Hydra):
    """Hydra with the guarded loader."""

    @classmethod
    def create_main_hydra2(
        cls, task_name: str, config_search_path: ConfigSearchPath
    ) -> GuardedHydra:
        made = cls(task_name, GuardedLoader(config_search_path))
        GlobalHydra.instance().initialize(made)
        return made

    def get_mode(self, config_name: str | None, overrides: list[str]) -> None:
        """None: the flag -m says it. Hydra would compose everything once more to look for it."""

    def multirun(
        self,
        config_name: str | None,
        task_function: TaskFunction,
        overrides: list[str],
        with_log_configuration: bool = True,
    ) -> Any:
        loader = self.config_loader
        assert isinstance(loader, GuardedLoader)

        def gather(interrupted: signal.Signals | None) -> None:
            if loader.gather:
                loader.gather(interrupted)

        try:
            found = super().multirun(config_name, task_function, overrides, with_log_configuration)
        except KeyboardInterrupt as interrupt:
            gather(signal.Signals(getattr(interrupt, "signal", signal.SIGINT)))
            raise
        except Exception:
            with contextlib.suppress(SystemExit):  # what went wrong is said, and is the status
                gather(None)
            raise
        gather(None)
        return found

    def show_cfg(
        self,
        config_name: str | None,
        overrides: list[str],
        cfg_type: str,
        package: str | None,
        resolve: bool = False,
    ) -> None:
        try:
            with contextlib.redirect_stderr(
                io.StringIO()
            ):  # it has a line of its own, and status 1
                super().show_cfg(config_name, overrides, cfg_type, package, resolve)
        except SystemExit as error:
            raise UsageError(f"--package {show(package)}: there is no such part") from error


def install(prepare: Callable[[ConfigLoader, DictConfig], Gather]) -> None:
    """Have Hydra's entry point make a guarded one; `prepare` as in GuardedLoader."""
    GuardedLoader.prepare = staticmethod(prepare)
    hydras.Hydra = GuardedHydra  # type: ignore[misc]
