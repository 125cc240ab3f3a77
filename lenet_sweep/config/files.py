"""Reads the YAML files of conf/, and those of users with limits on what they may contain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, replace_unprintable

MAX_CHARACTERS = 100_000
MAX_DEPTH = 20  # levels of nesting
SETTINGS = "must contain settings in the form key: value"
_COMMENT = re.compile(r"(\w+):[ ]*(?:[^#]*?)[ ]+#[ ]*(.+)")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C version is faster


def config_folder() -> Path:
    """The folder conf/: inside an installed package, or next to the package in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


@dataclass(frozen=True)
class ConfigFile:
    """A file of a config group. comments: the comment behind each key. help: the first comment."""

    path: Path
    text: str
    values: dict[str, Any]
    comments: Mapping[str, str]
    help: str

    def error(self, key: str, problem: str) -> UsageError:
        """An error that names the file and a key with its value: 'PATH: KEY=VALUE: PROBLEM'."""
        value = format_value(self.values.get(key))
        return UsageError(f"{_printable(self.path)}: {key}={value}: {problem}")


def read_file(path: Path) -> ConfigFile:
    """Read a file of conf/."""
    return _parse(path, path.read_text(encoding="utf-8"))


def read_user_file(path: Path, form: str = SETTINGS) -> ConfigFile:
    """Read a file of a user, which may come from other people.

    form: the message for a file that is not a mapping.

    Raises UsageError for a file that is not valid YAML, and for what would move its settings
    elsewhere (headers) or could grow without limit (size, nesting, references).
    """
    shown = _printable(path)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
        _check_text(text, shown, form)
        return _parse(path, text)
    except UsageError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        # All but the first line of the error may quote the file, which may be confidential.
        reason = format_value(str(error).partition("\n")[0])
        raise UsageError(
            f"{shown}: cannot be parsed as YAML settings (key: value): {reason}"
        ) from error


def _check_text(text: str, shown: str, form: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"{shown}: must have at most {MAX_CHARACTERS} characters")
    for header in re.findall(r"^\s*#+\s*(@.*)$", text, re.MULTILINE):
        if header.split() != ["@package", "_global_"]:
            raise UsageError(f"{shown}: the only header allowed is # @package _global_")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if not depth and isinstance(event, (yaml.ScalarEvent, yaml.SequenceStartEvent)):
            raise UsageError(f"{shown}: {form}")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            raise UsageError(f"{shown}: must not contain aliases (*name) or tags (!name)")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UsageError(f"{shown}: must have at most {MAX_DEPTH} levels of nesting")


def _parse(path: Path, text: str) -> ConfigFile:
    values = yaml.load(text, Loader=_LOADER)  # noqa: S506 - both loaders are safe
    lines = text.splitlines()
    comments = {match[1]: match[2] for line in lines if (match := _COMMENT.fullmatch(line))}
    first = (line for line in lines if line.startswith("# ") and "@package" not in line)
    return ConfigFile(path, text, values or {}, comments, next(first, "").removeprefix("# "))


def _printable(path: Path) -> str:
    return replace_unprintable(str(path))
