"""Files of --config-dir and hydra.searchpath: settings and lists of values, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.types import ChoiceSweep, OverrideType, QuotedString
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from lenet_sweep.cli.arguments import parsed
from lenet_sweep.config import registry
from lenet_sweep.config.keys import takes_text
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

OUTSIDE = ("command-line", "hydra.searchpath in command-line")  # Hydra's names of such folders
PLUGGED = ("launcher", "sweeper")  # the parts of the hydra node that files may choose and set
# _target_, _args_, _partial_, ..., and what hydra-optuna-sweeper calls: Hydra calls what they name
CALLED = re.compile(r"_[a-z]+_|custom_search_space")
LARGEST_FILE = 100_000  # characters; a list of values does not need more
DEEPEST = 20  # levels of nesting


class CheckedRepository(ConfigRepository):
    """Hydra's configuration files; those from outside hold plain settings only."""

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        for source in self.sources:
            folder = source.scheme() == "file" and source.available()
            if source.provider in OUTSIDE and not folder:
                raise UsageError(
                    f"hydra.searchpath: {format_value(source.full_path())}: must be a folder"
                )

    def load_config(self, config_path: str) -> ConfigResult | None:
        if ".." in config_path.split("/"):  # beside the folder, where nothing is checked
            group = format_value(config_path.partition("/")[0])
            raise UsageError(
                f"{format_value(config_path)}: not a name in the group {group}; no paths here"
            )
        sources = [source for source in self.sources if source.is_config(config_path)]
        outside = [source for source in sources if source.provider in OUTSIDE]
        if not outside:
            return super().load_config(config_path)
        path = Path(outside[0].path) / outside[0]._normalize_file_name(config_path)  # noqa: SLF001
        if len(sources) > 1:  # which of them is taken would be a guess
            raise UsageError(
                f"{format_value(path)}: another file or setting has this name; rename it"
            )
        groups = config_path.split("/")[:-1]
        try:
            text = _check_text(path)
            content = outside[0].load_config(config_path).config  # with its defaults
            _check_content(
                OmegaConf.to_container(content, resolve=False), groups, format_value(path)
            )
            result = super().load_config(config_path)
        except UsageError:
            raise
        except Exception as error:
            # The error may quote the file, which may be anything; its first line does not.
            said = format_value(str(error).partition("\n")[0])
            raise UsageError(f"{format_value(path)}: is not YAML with settings: {said}") from error
        assert result is not None
        package = [] if result.header.get("package") == "_global_" else groups
        _keep_text(yaml.compose(text, Loader=yaml.SafeLoader), result.config, package)
        if groups[:1] == ["grid"]:
            _check_grid(result, path)
        elif groups and groups[0] in registry.ADDABLE:
            registry.add_file(groups[0], path)
        return result


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


def _check_text(path: Path) -> str:
    """The file's text; what relocates the settings, or grows when it is loaded, is refused."""
    with path.open(encoding="utf-8") as file:
        text = file.read(LARGEST_FILE + 1)
    if len(text) > LARGEST_FILE:
        raise UsageError(f"{format_value(path)}: more than {LARGEST_FILE} characters are not taken")
    for header in re.findall(r"^\s*#+\s*(@.*)$", text, re.MULTILINE):
        if header.split() != ["@package", "_global_"]:
            raise UsageError(f"{format_value(path)}: of headers only # @package _global_ is taken")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if not depth and isinstance(event, (yaml.ScalarEvent, yaml.SequenceStartEvent)):
            if path.parent.parent.name == "grid":
                raise _wrong_form(path)
            raise UsageError(f"{format_value(path)}: must hold key: value")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            raise UsageError(
                f"{format_value(path)}: references (*name) and tags (!name) are not taken"
            )
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise UsageError(
                f"{format_value(path)}: more than {DEEPEST} levels of nesting are not taken"
            )
    return text


def _check_content(content: Any, group: list[str], shown: str) -> None:
    check_values(content, shown)
    node = content.get("hydra", {})
    if not isinstance(node, Mapping) or not set(node) <= set(PLUGGED):
        raise UsageError(f"{shown}: below hydra: files may have launcher: and sweeper: only")
    defaults = content.get("defaults") or []
    entries = defaults if isinstance(defaults, list) else [defaults]
    names = [str(name) for each in entries for name in (each if isinstance(each, dict) else [each])]
    if any("@" in name for name in names):
        raise UsageError(f"{shown}: defaults: a group has one place here, without @")
    chosen = [name.split(" ")[-1].lstrip("/").split("/") for name in names]
    for first, *rest in [group, *chosen] if group else chosen:
        if first == "hydra" and not (rest and rest[0] in PLUGGED):
            raise UsageError(f"{shown}: of Hydra's groups files may choose launcher and sweeper")
    sweeper = content if group[:2] == ["hydra", "sweeper"] else node.get("sweeper")
    params = sweeper.get("params") if isinstance(sweeper, Mapping) else None
    for key, value in params.items() if isinstance(params, Mapping) else ():
        override = parsed(f"{key}={value}")  # the sweeper reads it as if it was typed
        named = re.split(r"[./@]", override.key_or_group)
        if "hydra" in named or override.package or override.type == OverrideType.DEL:
            raise UsageError(
                f"{shown}: {format_value(key)}: a list of values is for a key of lenet-sweep"
            )
        check_values(list(_values(override.value())), shown)


def _values(value: Any) -> Iterator[Any]:
    yield from value.list if isinstance(value, ChoiceSweep) else [value]


def check_values(value: Any, shown: str) -> None:
    """Refuse, at any depth, what Hydra would fill in or call."""
    if isinstance(value, QuotedString):
        value = value.text
    if isinstance(value, Mapping):
        for key in value:
            if isinstance(key, str) and CALLED.fullmatch(key):
                raise UsageError(f"{shown}: {key} would be called; files hold settings only")
        check_values([*value, *value.values()], shown)
    elif isinstance(value, (list, tuple)):
        for each in value:
            check_values(each, shown)
    elif isinstance(value, str) and ("${" in value or value == "???"):
        raise UsageError(f"{shown}: ${{...}} and ??? are not taken in files; give the value itself")


def _check_grid(result: ConfigResult, path: Path) -> None:
    """Refuse a file of grid/KEY in which Hydra would not find the list."""
    params = OmegaConf.select(result.config, "hydra.sweeper.params")
    listed = OmegaConf.is_dict(params) and not any(map(OmegaConf.is_config, params.values()))
    if not (params and listed and result.header.get("package") == "_global_"):
        raise _wrong_form(path)


def _wrong_form(path: Path) -> UsageError:
    return UsageError(
        f"{format_value(path)}: a list of values has two lines: '# @package _global_', and then "
        f"'hydra: {{sweeper: {{params: {{{format_value(path.parent.name)}: \"VALUE,VALUE\"}}}}}}'"
    )
