"""Checks of configuration files from --config-dir and hydra.searchpath: plain settings only.

Such files may come from other people. Nothing in them is called or interpolated, and they can
select and set only the launcher and the sweeper of Hydra's own configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import ChoiceSweep, OverrideType, QuotedString
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from lenet_sweep.cli.arguments import parse_override
from lenet_sweep.cli.text_keys import takes_text
from lenet_sweep.config import own_models
from lenet_sweep.config.files import SETTINGS, read_user_file
from lenet_sweep.config.registry import CLASS_GROUPS, GROUPS
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

USER_PROVIDERS = ("command-line", "hydra.searchpath in command-line")  # as Hydra names them
ALLOWED_HYDRA_KEYS = ("launcher", "sweeper")
# Keys that name something to call: _target_, _args_, _partial_, ... for Hydra, and one of
# hydra-optuna-sweeper.
CALLABLE_KEY = re.compile(r"_[a-z]+_|custom_search_space")


class CheckedRepository(ConfigRepository):
    """Hydra's repository of configuration files, with the files of users checked."""

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        for source in self.sources:
            is_folder = source.scheme() == "file" and source.available()
            if source.provider in USER_PROVIDERS and not is_folder:
                raise UsageError(
                    f"hydra.searchpath={format_value(source.full_path())}: must be the path of an "
                    "existing folder"
                )

    def load_config(self, config_path: str) -> ConfigResult | None:
        if ".." in config_path.split("/"):  # would leave the folder, where nothing is checked
            group = format_value(config_path.partition("/")[0])
            raise UsageError(
                f"{format_value(config_path)}: must be the name of a file in the group {group}, "
                "not a path"
            )
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        if group == "model":
            self._store_model(name)
        sources = [source for source in self.sources if source.is_config(config_path)]
        users = [source for source in sources if source.provider in USER_PROVIDERS]
        if not users:
            return super().load_config(config_path)
        path = Path(users[0].path) / users[0]._normalize_file_name(config_path)  # noqa: SLF001 - no public equivalent
        if len(sources) > 1:  # the file could replace a built-in one
            raise UsageError(
                f"{format_value(path)}: another file or setting already has this name; "
                "rename the file"
            )
        groups = config_path.split("/")[:-1]
        try:
            file = read_user_file(path, _list_form(path) if groups[:1] == ["grid"] else SETTINGS)
            content = users[0].load_config(config_path).config  # including its defaults list
            _check_content(
                OmegaConf.to_container(content, resolve=False), groups, format_value(path)
            )
            result = super().load_config(config_path)
        except UsageError:
            raise
        except Exception as error:
            # All but the first line of the error may quote the file, which may be confidential.
            reason = format_value(str(error).partition("\n")[0])
            raise UsageError(
                f"{format_value(path)}: cannot be parsed as YAML settings (key: value): {reason}"
            ) from error
        assert result is not None
        package = [] if result.header.get("package") == "_global_" else groups
        _keep_text(yaml.compose(file.text, Loader=yaml.SafeLoader), result.config, package)
        if groups[:1] == ["grid"]:
            _check_grid(result, path)
        elif groups and groups[0] in CLASS_GROUPS:
            GROUPS[groups[0]].add(file)
        return result

    def _store_model(self, name: str) -> None:
        """Give Hydra the settings of a user's model when it asks for the file of this name.

        In the processes of Hydra's launchers, which do not start with `main`, this adds the model.
        """
        own_models.add_models()
        choice = GROUPS["model"].choices.get(name)
        if choice is None or choice.shipped:
            return
        for source in self.sources:
            if source.scheme() == "structured":  # a copy of the ConfigStore
                store: ConfigStore = source.store  # type: ignore[attr-defined] # of this scheme only
                store.store(group="model", name=name, node=choice.to_node())


def _keep_text(node: yaml.Node | None, config: Any, path: Sequence[str]) -> None:
    """Restore text that YAML reads as a number or a boolean, for keys that take text."""
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            _keep_text(item, config[place], path)
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name = ".".join([*path, str(key.value)])
        loaded = config.get(key.value) if isinstance(key.value, str) else None
        if not isinstance(value, yaml.ScalarNode):
            if loaded is not None:
                _keep_text(value, loaded, name.split("."))
        elif isinstance(loaded, (int, float)) and takes_text(name, flag=isinstance(loaded, bool)):
            config[key.value] = value.value


def _check_content(content: Any, group: list[str], shown: str) -> None:
    check_values(content, shown)
    node = content.get("hydra", {})
    if not isinstance(node, Mapping) or not set(node) <= set(ALLOWED_HYDRA_KEYS):
        raise UsageError(
            f"{shown}: hydra: must contain only launcher: and sweeper:; remove everything else"
        )
    defaults = content.get("defaults") or []
    entries = defaults if isinstance(defaults, list) else [defaults]
    names = [
        str(name) for entry in entries for name in (entry if isinstance(entry, dict) else [entry])
    ]
    if any("@" in name for name in names):
        raise UsageError(
            f"{shown}: defaults: packages (@...) are not allowed in a file; remove them"
        )
    chosen = [name.split(" ")[-1].lstrip("/").split("/") for name in names]
    for first, *rest in [group, *chosen] if group else chosen:
        if first == "hydra" and not (rest and rest[0] in ALLOWED_HYDRA_KEYS):
            raise UsageError(
                f"{shown}: of Hydra's groups, a file may select only hydra/launcher and "
                "hydra/sweeper"
            )
    sweeper = content if group[:2] == ["hydra", "sweeper"] else node.get("sweeper")
    params = sweeper.get("params") if isinstance(sweeper, Mapping) else None
    for key, value in params.items() if isinstance(params, Mapping) else ():
        override = parse_override(f"{key}={value}")  # the sweeper reads it like a typed override
        parts = re.split(r"[./@]", override.key_or_group)
        if "hydra" in parts or override.package or override.type == OverrideType.DEL:
            raise UsageError(
                f"{shown}: {format_value(key)}: params may contain only keys of lenet-sweep"
            )
        check_values(list(_values(override.value())), shown)


def _values(value: Any) -> Iterator[Any]:
    yield from value.list if isinstance(value, ChoiceSweep) else [value]


def check_values(value: Any, shown: str) -> None:
    """Raise UsageError for anything, at any depth, that Hydra would interpolate or call."""
    if isinstance(value, QuotedString):
        value = value.text
    if isinstance(value, Mapping):
        for key in value:
            if isinstance(key, str) and CALLABLE_KEY.fullmatch(key):
                raise UsageError(
                    f"{shown}: {key} names a function or class to call; a file may contain only "
                    "settings; remove it"
                )
        check_values([*value, *value.values()], shown)
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_values(item, shown)
    elif isinstance(value, str) and ("${" in value or value == "???"):
        raise UsageError(
            f"{shown}: ${{...}} and ??? are not allowed in a file; write the value itself"
        )


def _check_grid(result: ConfigResult, path: Path) -> None:
    """Raise UsageError if Hydra would not find the list of values in a file of grid/KEY."""
    params = OmegaConf.select(result.config, "hydra.sweeper.params")
    has_lists = OmegaConf.is_dict(params) and not any(map(OmegaConf.is_config, params.values()))
    if not (params and has_lists and result.header.get("package") == "_global_"):
        raise UsageError(f"{format_value(path)}: {_list_form(path)}")


def _list_form(path: Path) -> str:
    return (
        "a list of values needs these two lines: '# @package _global_' and "
        f"'hydra: {{sweeper: {{params: {{{format_value(path.parent.name)}: \"VALUE,VALUE\"}}}}}}'"
    )
