"""Hydra with its configuration files checked, and one folder for all jobs of a sweep."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any, cast

import hydra._internal.hydra as hydras
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
from lenet_sweep.config.registry import FILE_KEYS, OPTIMIZERS, Raw
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

FinishSweep = Callable[[signal.Signals | None], None]  # makes the one table of what was launched


class GuardedLoader(ConfigLoaderImpl):
    """Hydra's loader, with files that are checked.

    folder: where the jobs of a launcher of Hydra's write, in place of what they would compose.
    prepare: called with the composed configuration where a sweeper that searches is to launch
        batch after batch; gives back what gathers them, which is then `gather`.
    check: called with the configuration of a single cell before Hydra writes anything for it.
    """

    folder: Path | None = None
    in_sweep = False  # a job of a sweep is composed
    prepare: Callable[[ConfigLoader, DictConfig], FinishSweep] | None = None
    check: Callable[[DictConfig], None] | None = None
    gather: FinishSweep | None = None

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
        kept = [keep_text(text) for text in overrides]
        given = [_any_option(text) for text in kept]
        originals = dict(zip(given, kept, strict=True))
        try:
            config = super().load_configuration(
                config_name, given, run_mode, from_shell, validate_sweep_overrides
            )
        except RecursionError as error:
            raise UsageError(
                "the configuration is nested too deeply, or a file of --config-dir has itself in "
                "its defaults"
            ) from error
        for part in ("hydra", "task"):
            texts = override_texts(config.hydra.overrides[part])
            config.hydra.overrides[part] = [originals[text] for text in texts]
        if run_mode == RunMode.RUN and config_name is not None and not self.in_sweep:
            _check_options(config)
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
            if config.hydra.job.chdir:  # a job may be elsewhere, the store and the images are not
                config.out = str(Path(config.out).absolute())
                root = config.dataset.get("root")
                config.dataset.root = root and str(Path(root).absolute())
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
    node = config.get("optimizer")
    optimizer = OmegaConf.to_container(node) if OmegaConf.is_dict(node) else {}
    settings = cast("Raw", optimizer)
    name = str(settings.get("name", ""))
    options = {f"optimizer.{k}": v for k, v in settings.items() if k not in FILE_KEYS}
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
    loader.folder = folder = folder.absolute() if master.hydra.job.chdir else folder
    master.hydra.sweep.dir = str(folder)


class GuardedHydra(hydras.Hydra):
    """Hydra with the guarded loader."""

    @classmethod
    def create_main_hydra2(
        cls, task_name: str, config_search_path: ConfigSearchPath
    ) -> GuardedHydra:
        made = cls(task_name, GuardedLoader(config_search_path))
        GlobalHydra.instance().initialize(made)
        return made

    def get_mode(self, config_name: str | None, overrides: list[str]) -> RunMode | None:  # noqa: ARG002
        """The mode that was typed. Hydra would compose everything once more to look for it."""
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
            # Hydra writes what these ask for before it runs the cell, which is checked first.
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
        # After the callbacks of the end. A search has no results here: `gather` looks at them.
        if any(job.status != JobStatus.COMPLETED or isnan(job.return_value) for job in found or ()):
            raise SystemExit(1)
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
            raise UsageError(f"--package {format_value(package)}: there is no such part") from error


def install(
    prepare: Callable[[ConfigLoader, DictConfig], FinishSweep], check: Callable[[DictConfig], None]
) -> None:
    """Have Hydra's entry point make a guarded one; `prepare` and `check` as in GuardedLoader."""
    GuardedLoader.prepare = staticmethod(prepare)
    GuardedLoader.check = staticmethod(check)
    hydras.Hydra = GuardedHydra  # type: ignore[misc]
