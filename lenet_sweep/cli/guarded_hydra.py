"""Hydra with checked configuration files, and with one folder and one table for all jobs."""

from __future__ import annotations

import contextlib
import io
import signal
from argparse import ArgumentParser
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any, cast

import hydra._internal.hydra as hydra_internal
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lenet_sweep.cli.config_files import CheckedRepository
from lenet_sweep.cli.hydra_config import keep_text, override_texts
from lenet_sweep.config import keys
from lenet_sweep.config.registry import GROUPS, OPTION_GROUPS, Raw
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

# Reports on all jobs that were launched, as one table; gets the signal that interrupted them.
FinishSweep = Callable[[signal.Signals | None], None]


class GuardedLoader(ConfigLoaderImpl):
    """Hydra's configuration loader, with the files of users checked."""

    # The sweep's folder; jobs of Hydra's own launchers use it instead of composing their own.
    folder: Path | None = None
    # Whether a job of a sweep is being composed.
    in_sweep = False
    # Called before a searching sweeper launches its first batch; returns `finish`.
    prepare: Callable[[ConfigLoader, DictConfig], FinishSweep] | None = None
    # Called with the configuration of a single cell before Hydra writes anything for it.
    check: Callable[[DictConfig], None] | None = None
    # Reports on all batches of a search; None for other sweepers.
    finish: FinishSweep | None = None

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.repository = CheckedRepository(config_search_path)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        originals = [keep_text(text) for text in overrides]
        forced = [_force_option(text) for text in originals]
        original_of = dict(zip(forced, originals, strict=True))
        try:
            config = super().load_configuration(
                config_name, forced, run_mode, from_shell, validate_sweep_overrides
            )
        except RecursionError as error:
            raise UsageError(
                "the configuration is nested too deeply, or a file in --config-dir includes "
                "itself in its defaults; check the defaults lists of your files"
            ) from error
        for part in ("hydra", "task"):
            texts = override_texts(config.hydra.overrides[part])
            config.hydra.overrides[part] = [original_of[text] for text in texts]
        if run_mode == RunMode.RUN and config_name is not None and not self.in_sweep:
            _check_options(config)
        if run_mode == RunMode.MULTIRUN and config_name is not None and _has_search(config):
            prepare = type(self).prepare
            assert prepare is not None
            self.finish = prepare(self, config)
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
            if config.hydra.job.chdir:  # relative paths would mean other folders inside the job
                config.out = str(Path(config.out).absolute())
                root = config.dataset.get("root")
                config.dataset.root = root and str(Path(root).absolute())
        return config


def _force_option(text: str) -> str:
    """Prefix the override of an option with ++, so that Hydra accepts it for any choice.

    In a sweep over a group, each job has the options of all its choices; validation later drops
    those that its choice lacks.
    """
    if not keys.is_option(text):
        return text
    override = OverridesParser.create().parse_override(text)
    exists = keys.owners(override.key_or_group)
    return f"++{text}" if exists and not override.is_sweep_override() else text


def _check_options(config: DictConfig) -> None:
    """Raise UsageError for an option that the choice of a single cell lacks."""
    for group in OPTION_GROUPS:
        node = config.get(group)
        settings = cast("Raw", OmegaConf.to_container(node) if OmegaConf.is_dict(node) else {})
        file_keys = GROUPS[group].file_keys
        options = {f"{group}.{k}": v for k, v in settings.items() if k not in file_keys}
        for key in keys.missing_options(options, {group: str(settings.get("name", ""))}):
            keys.unknown_option(key, options[key], [str(settings.get("name", ""))])


def search_folder(loader: ConfigLoader) -> Path | None:
    """The folder of all batches of a search; None if the sweeper does not search."""
    assert isinstance(loader, GuardedLoader)
    return loader.folder if loader.finish else None


def is_search(sweeper: Any) -> bool:
    """Whether hydra.sweeper configures a sweeper that searches, rather than a grid."""
    return not str(sweeper.get("_target_")).startswith("hydra_plugins._lenet_sweep.")


def _has_search(config: DictConfig) -> bool:
    """Whether the sweeper searches. Raises UsageError if it minimizes."""
    sweeper = config.hydra.sweeper
    if not is_search(sweeper):
        return False
    if "minimize" in str(sweeper.get("direction", "")).lower():
        raise UsageError(
            "hydra.sweeper.direction=minimize: would search for the lowest accuracy, since a cell "
            "returns its accuracy in percent; add hydra.sweeper.direction=maximize"
        )
    return True


def set_sweep_folder(loader: ConfigLoader, master: DictConfig, folder: Path) -> None:
    """Make all jobs that Hydra's own launchers start write to one folder."""
    assert isinstance(loader, GuardedLoader)
    loader.folder = folder = folder.absolute() if master.hydra.job.chdir else folder
    master.hydra.sweep.dir = str(folder)


class GuardedHydra(hydra_internal.Hydra):
    """Hydra with `GuardedLoader`, which finishes a sweep with one table."""

    lists_groups = True  # whether a text of help lists the config groups

    @classmethod
    def create_main_hydra2(
        cls, task_name: str, config_search_path: ConfigSearchPath
    ) -> GuardedHydra:
        guarded = cls(task_name, GuardedLoader(config_search_path))
        GlobalHydra.instance().initialize(guarded)
        return guarded

    def get_mode(self, config_name: str | None, overrides: list[str]) -> RunMode | None:  # noqa: ARG002 - Hydra's signature
        """The mode in the overrides. Hydra would compose the configuration again to find it."""
        texts = [text.lstrip("+") for text in overrides]
        typed = {text[11:].upper() for text in texts if text.startswith("hydra.mode=")}
        return next((mode for mode in RunMode if mode.name in typed), None)

    def run(
        self,
        config_name: str | None,
        task_function: TaskFunction,
        overrides: list[str],
        with_log_configuration: bool = True,
    ) -> Any:
        if any(text.lstrip("+").startswith("hydra") for text in overrides[:-1]):
            # Hydra's own settings may create files before the cell runs, so check the cell first.
            config = self.config_loader.load_configuration(config_name, overrides, RunMode.RUN)
            assert GuardedLoader.check is not None
            GuardedLoader.check(config)
        return super().run(config_name, task_function, overrides, with_log_configuration)

    def multirun(
        self,
        config_name: str | None,
        task_function: TaskFunction,
        overrides: list[str],
        with_log_configuration: bool = True,
    ) -> Any:
        loader = self.config_loader
        assert isinstance(loader, GuardedLoader)

        def finish(interrupted: signal.Signals | None) -> None:
            if loader.finish:
                loader.finish(interrupted)

        try:
            jobs = super().multirun(config_name, task_function, overrides, with_log_configuration)
        except KeyboardInterrupt as interrupt:
            finish(signal.Signals(getattr(interrupt, "signal", signal.SIGINT)))
            raise
        except Exception:
            with contextlib.suppress(SystemExit):  # the exception determines the exit status
                finish(None)
            raise
        finish(None)
        # Hydra has called on_multirun_end by now. A search returns no jobs; `finish` checks them.
        if any(job.status != JobStatus.COMPLETED or isnan(job.return_value) for job in jobs or ()):
            raise SystemExit(1)
        return jobs

    def get_help(
        self, help_cfg: DictConfig, cfg: DictConfig, args_parser: ArgumentParser, resolve: bool
    ) -> str:
        # Hydra would list all groups also for --help, which has its own list. That takes a second.
        self.lists_groups = "CONFIG_GROUPS" in help_cfg.template
        return super().get_help(help_cfg, cfg, args_parser, resolve)

    def format_config_groups(self, predicate: Callable[[str], bool], compact: bool = True) -> str:
        return super().format_config_groups(predicate, compact) if self.lists_groups else ""

    def show_cfg(
        self,
        config_name: str | None,
        overrides: list[str],
        cfg_type: str,
        package: str | None,
        resolve: bool = False,
    ) -> None:
        try:
            # Hydra prints its own message and exits with status 1.
            with contextlib.redirect_stderr(io.StringIO()):
                super().show_cfg(config_name, overrides, cfg_type, package, resolve)
        except SystemExit as error:
            raise UsageError(
                f"--package {format_value(package)}: there is no such part of the configuration; "
                "omit --package to print all of it"
            ) from error


def install(
    prepare: Callable[[ConfigLoader, DictConfig], FinishSweep], check: Callable[[DictConfig], None]
) -> None:
    """Make `hydra.main` use GuardedHydra. For `prepare` and `check`, see GuardedLoader."""
    GuardedLoader.prepare = staticmethod(prepare)
    GuardedLoader.check = staticmethod(check)
    hydra_internal.Hydra = GuardedHydra  # type: ignore[misc] # replaces a class on purpose
