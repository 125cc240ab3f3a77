"""What Hydra may be told, checked before it acts on any of it: an allow-list.

Hydra instantiates what a configuration names, configures logging out of it, sets environment
variables, makes folders, and fills in `${...}`. None of that is for whoever types a grid or hands
on a folder of YAML files. There are three walls: overrides as they are typed (`check_arguments`),
files of a --config-dir as they are loaded (`PlainFiles`), and each configuration as it is composed
(`check_composed`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, cast

import hydra._internal.hydra as hydras
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    OverrideType,
    QuotedString,
)
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lenet_sweep import keys
from lenet_sweep.errors import UsageError
from lenet_sweep.keys import show

Gather = Callable[[signal.Signals | None], None]  # makes the one table of what was launched

PLUGGED = ("launcher", "sweeper")  # the parts of the hydra node that may be chosen and set
LARGEST_FILE = 100_000  # characters of a YAML file: a list of values has no need of more
DEEPEST = 20  # levels of nesting in one
SPECIAL = re.compile(r"_[a-z]+_")  # _target_, _args_, _partial_, ...: Hydra calls what they name
CALLS = frozenset({"custom_search_space"})  # keys of plugins with the name of a function
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
SILENT = {"version": 1, "root": None, "disable_existing_loggers": False}  # no logging at all


# ---------------------------------------------------------------- what is typed


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
    _check_values(_values(override), shown)
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


def _check_values(value: Any, shown: str) -> None:
    """Refuse, at any depth, what Hydra would fill in or call."""
    if isinstance(value, QuotedString):
        value = value.text
    if isinstance(value, Mapping):
        for key in value:
            if isinstance(key, str) and SPECIAL.fullmatch(key):
                raise UsageError(f"{shown}: {key} names something to call, and is not taken")
        _check_values([*value, *value.values()], shown)
    elif isinstance(value, (list, tuple)):
        for each in value:
            _check_values(each, shown)
    elif isinstance(value, str):
        if "${" in value:
            raise UsageError(f"{shown}: ${{...}} is not filled in here; give the value itself")
        if value == "???":
            raise UsageError(f"{shown}: ??? stands for a missing value; give one")


# ---------------------------------------------------------------- files of the user's own


class PlainFiles(FileConfigSource):
    """A --config-dir: YAML files that hold settings and lists of them, and nothing to be run."""

    def load_config(self, config_path: str) -> ConfigResult:
        """The file's content. Raises UsageError for anything that is more than plain settings."""
        path = Path(self.path) / self._normalize_file_name(config_path)
        parts = config_path.removesuffix(".yaml").split("/")
        self._check_group(parts, path)
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(LARGEST_FILE + 1)
        except (OSError, ValueError) as error:
            raise UsageError(f"{show(path)}: cannot be read as text: {show(error)}") from error
        if len(text) > LARGEST_FILE:
            raise UsageError(f"{show(path)}: more than {LARGEST_FILE} characters are not taken")
        try:
            _check_yaml(text, path)
            _check_header(text, path)
            result = super().load_config(config_path)
        except UsageError:
            raise
        except Exception as error:  # whatever the YAML library makes of it
            # Its text quotes the file, which may be anything: only its first line, which does not.
            raise UsageError(
                f"{show(path)}: is not YAML with settings: {show(str(error).partition(chr(10))[0])}"
            ) from error
        self._check(result, path)
        return result

    def _check_group(self, parts: Sequence[str], path: object) -> None:
        if parts[0] == "hydra" and (len(parts) < 3 or parts[1] not in PLUGGED):
            raise UsageError(
                f"{show(path)}: of Hydra's own groups only launchers and sweepers are taken"
            )

    def _check(self, result: ConfigResult, path: Path) -> None:
        shown = show(path)
        content = OmegaConf.to_container(result.config, resolve=False)
        _check_values(content, shown)
        assert isinstance(content, Mapping)
        node = content.get("hydra", {})
        if not isinstance(node, Mapping) or not set(node) <= set(PLUGGED):
            raise UsageError(
                f"{shown}: below hydra: only launcher: and sweeper: are taken, not "
                f"{show(', '.join(map(str, node)) if isinstance(node, Mapping) else node)}"
            )
        defaults = content.get("defaults") or []
        if not isinstance(defaults, list):
            raise UsageError(f"{shown}: defaults: must be a list")
        for entry in defaults:
            for text in entry if isinstance(entry, Mapping) else [entry]:
                group = str(text).split(" ")[-1].lstrip("/")
                if "@" in group:
                    raise UsageError(
                        f"{shown}: {show(text)}: a group has one place here, without @"
                    )
                self._check_group([*group.split("/"), "any"], f"{path}: {text}")


def _check_header(text: str, path: Path) -> None:
    """The comments above the settings, which may say where in the configuration they belong."""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return
        if re.match(r"\s*#\s*@", line) and line.lstrip("# ").split() != ["@package", "_global_"]:
            raise UsageError(f"{show(path)}: of headers only # @package _global_ is taken")


def _check_yaml(text: str, path: Path) -> None:
    """Refuse what grows or runs when it is loaded: references, tags, deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if not depth and isinstance(event, (yaml.ScalarEvent, yaml.SequenceStartEvent)):
            raise UsageError(f"{show(path)}: must hold key: value")
        if isinstance(event, yaml.AliasEvent):
            raise UsageError(f"{show(path)}: references (*name) are not taken")
        if getattr(event, "tag", None) is not None:
            raise UsageError(f"{show(path)}: tags (!name) are not taken")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise UsageError(f"{show(path)}: more than {DEEPEST} levels of nesting are not taken")


class GuardedRepository(ConfigRepository):
    """Hydra's configuration files, each below the folder that it is looked for in."""

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self.sources = [
            PlainFiles(source.provider, source.full_path())
            if source.provider == "command-line"
            else source
            for source in self.sources
        ]

    def load_config(self, config_path: str) -> ConfigResult | None:
        _check_place(config_path)
        sources = [source for source in self.sources if source.is_config(config_path)]
        own = [source for source in sources if isinstance(source, PlainFiles)]
        if own and len(sources) > 1:  # which of them is taken nobody would guess
            file = Path(own[0].path) / f"{config_path}.yaml"
            raise UsageError(f"{show(file)}: has the name of one that is there; rename it")
        try:
            return super().load_config(config_path)
        except ConfigLoadError:
            raise
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{show(config_path)}: {show(error)}") from error

    def group_exists(self, config_path: str) -> bool:
        _check_place(config_path)
        return super().group_exists(config_path)

    def config_exists(self, config_path: str) -> bool:
        _check_place(config_path)
        return super().config_exists(config_path)

    def get_group_options(
        self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG
    ) -> list[str]:
        _check_place(group_name)
        return super().get_group_options(group_name, results_filter)


def _check_place(path: str) -> None:
    parts = path.split("/")
    if any(part in (".", "..") for part in parts) or "" in parts[:-1] or "\\" in path:
        group, _, _ = path.partition("/")
        raise UsageError(f"{show(path)}: not a name in the group {show(group)}; no paths are taken")


# ---------------------------------------------------------------- what is composed


class GuardedLoader(ConfigLoaderImpl):
    """Hydra's loader, which gives away no configuration that it should not act on.

    folder: where the jobs of a launcher of Hydra's write, in place of what they would compose.
    prepare: called with the composed configuration where a sweeper that searches is to launch
        batch after batch; gives back what gathers them, which is then `gather`.
    """

    folder: Path | None = None
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
        try:
            config = super().load_configuration(
                config_name, overrides, run_mode, from_shell, validate_sweep_overrides
            )
        except RecursionError as error:
            raise UsageError(
                "the configuration is nested too deeply, or a file of --config-dir has itself in "
                "its defaults"
            ) from error
        check_composed(config, main=config_name is not None)
        if run_mode == RunMode.MULTIRUN and config_name is not None and _searches(config):
            prepare = type(self).prepare
            assert prepare is not None
            self.gather = prepare(self, config)
        return config

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        config = super().load_sweep_config(master_config, sweep_overrides)
        if self.folder:
            config.hydra.sweep.dir = str(self.folder)
        return config


def searching(loader: ConfigLoader) -> Path | None:
    """The folder of all batches that a sweeper which searches launches; None of any other."""
    assert isinstance(loader, GuardedLoader)
    return loader.folder if loader.gather else None


def _searches(config: DictConfig) -> bool:
    """Whether the sweeper is none of the grids. Raises UsageError where it looks for the worst."""
    sweeper = config.hydra.sweeper
    if str(sweeper.get("_target_")).startswith("hydra_plugins.lenet_sweep."):
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
