"""The second wall: the files of a --config-dir, as they are loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from omegaconf import DictConfig, OmegaConf

from lenet_sweep.errors import UsageError
from lenet_sweep.guard.typed import PLUGGED, check_values
from lenet_sweep.keys import show, takes_text

LARGEST_FILE = 100_000  # characters of a YAML file: a list of values has no need of more
DEEPEST = 20  # levels of nesting in one


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
        package = [] if _is_global(text) else parts[:-1]
        _keep_text(yaml.compose(text, Loader=yaml.SafeLoader), result.config, package)
        if parts[0] == "grid":
            _check_grid(result, parts, path)
        return result

    def _check_group(self, parts: Sequence[str], path: object) -> None:
        if parts[0] == "hydra" and (len(parts) < 3 or parts[1] not in PLUGGED):
            raise UsageError(
                f"{show(path)}: of Hydra's own groups only launchers and sweepers are taken"
            )

    def _check(self, result: ConfigResult, path: Path) -> None:
        shown = show(path)
        content = OmegaConf.to_container(result.config, resolve=False)
        check_values(content, shown)
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


def _check_grid(result: ConfigResult, parts: Sequence[str], path: Path) -> None:
    """Refuse a file of grid/KEY in which Hydra would not find the list. Raises UsageError."""
    params = OmegaConf.select(result.config, "hydra.sweeper.params")
    listed = isinstance(params, DictConfig) and not any(map(OmegaConf.is_config, params.values()))
    if not (params and listed and result.header.get("package") == "_global_"):
        raise _wrong_form(parts, path)


def _wrong_form(parts: Sequence[str], path: Path) -> UsageError:
    key = parts[1] if len(parts) > 2 else "KEY"
    return UsageError(
        f"{show(path)}: a list of values has two lines: '# @package _global_', and then "
        f"'hydra: {{sweeper: {{params: {{{key}: \"VALUE,VALUE\"}}}}}}'"
    )


def _is_global(text: str) -> bool:
    return any(line.lstrip("# ").split() == ["@package", "_global_"] for line in text.splitlines())


def _keep_text(node: yaml.Node | None, config: Any, path: Sequence[str]) -> None:
    """Put the text of the file where YAML reads a number or a boolean, for keys that take text."""
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            _keep_text(item, config[place], path)
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name = ".".join([*path, str(key.value)])
        found = config.get(key.value) if isinstance(key.value, str) else None
        if not isinstance(value, yaml.ScalarNode):
            if found is not None:
                _keep_text(value, found, name.split("."))
        elif isinstance(found, (int, float)) and takes_text(name, flag=isinstance(found, bool)):
            config[key.value] = value.value


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
            if path.parent.parent.name == "grid":
                raise _wrong_form(["grid", path.parent.name, path.stem], path)
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
