"""From the overrides of a command line to the settings of its jobs, as plain values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from fractions import Fraction
from math import ceil
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    OverrideType,
    RangeSweep,
)
from omegaconf import DictConfig, ListConfig, OmegaConf

from lenet_sweep.cli.text_keys import takes_text
from lenet_sweep.config import studies
from lenet_sweep.config.grids import expand
from lenet_sweep.config.keys import choices_set_by, depends_on_choice, set_key
from lenet_sweep.config.pairs import parse_pairs
from lenet_sweep.config.registry import GROUPS, MODEL_GROUPS, OPTION_GROUPS, Raw
from lenet_sweep.config.search_space import needs_values
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value


def raw_settings(config: DictConfig) -> Raw:
    """A composed config without its hydra node, as a nested dict with ${...} resolved.

    Raises OmegaConf's errors if an interpolation fails or a value is missing (???).
    """
    raw: Raw = dict.fromkeys(MODEL_GROUPS)  # which Hydra leaves out if they are null
    for key in config:
        if key != "hydra":
            node = config[key]
            raw[str(key)] = (
                OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
                if OmegaConf.is_config(node)
                else node
            )
    return raw


def override_texts(overrides: ListConfig) -> list[str]:
    """Overrides as texts with ${...} intact, which iterating over the list would resolve."""
    texts = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


def keep_text(text: str) -> str:
    """Quote the value of an override whose key takes text, if Hydra would read a number.

    Otherwise name=1.10 would become the number 1.1 and share the folder of name=1.1.
    """
    key, _, typed = text.partition("=")
    if not takes_text(key.lstrip("+")):
        return text
    value: Any = OverridesParser.create().parse_override(text).value()
    is_number = isinstance(value, (int, float)) and "(" not in typed  # float(1) is explicit
    if not is_number or not takes_text(key.lstrip("+"), flag=isinstance(value, bool)):
        return text
    return f"{key}='{typed.strip()}'"


def compose_jobs(
    loader: ConfigLoader,
    master: DictConfig,
    jobs: Iterable[Sequence[str]],
    composed: dict[tuple[str, ...], Raw] | None = None,
) -> Iterator[Raw]:
    """Yield the settings of each job of a multirun as a nested dict.

    composed: what Hydra has composed, by overrides; shared by several calls for one multirun.

    Hydra composes each combination of config groups once, and plain values are set here. Hydra
    takes about 50 ms to compose a job, which would be minutes for a large grid.
    """
    if not composed:  # else an earlier call has done this
        HydraConfig.instance().set_config(deepcopy(master))  # for ${hydra:...}
    parse = _OverrideParser()
    typed = override_texts(master.hydra.overrides.task)
    # ${oc.env:HOME} is the same in all jobs, but with ${lr}, Hydra has to compose every job.
    compose_all = any("${" in re.sub(r"\$\{[\w.]+:", "", text) for text in typed)
    unswept = tuple(text for text in typed if compose_all or not parse(text).is_plain)
    composed = {} if composed is None else composed
    for job in jobs:
        parts = [parse(text) for text in job]
        plain = [part.is_plain and not compose_all for part in parts]
        others = tuple(text for text, is_plain in zip(job, plain, strict=True) if not is_plain)
        if others not in composed:
            # If no group is swept, `master` is the composed configuration already.
            config = master if others == unswept else loader.load_sweep_config(master, list(others))
            composed[others] = raw_settings(config)
        raw = dict(composed[others])
        for part, is_plain in zip(parts, plain, strict=True):
            if is_plain:
                set_key(raw, part.key, part.value)
        if studies.KEY in raw:
            raw[studies.GIVEN] = [part.key for part in parts]
        yield raw


def grid_jobs(
    loader: ConfigLoader, master: DictConfig, overrides: Sequence[Override]
) -> list[list[str]]:
    """The overrides of each job of a grid; see `grids.expand`.

    Raises UsageError for a grid of more than max_cells.
    """
    axes = {override.get_key_element(): override for override in overrides}
    points = expand(
        {key: axis_length(override) for key, override in axes.items()},
        lambda key: single_overrides(key, axes[key]),
        selectors=[
            key
            for key, override in axes.items()
            if not _is_plain_value(override) and not depends_on_choice(override.key_or_group)
        ],
        choices_of=lambda selected: composed_choices(loader, master, list(selected.values())),
        limit=master.max_cells,
        pairs=parse_pairs(_plain(master.pair)),
    )
    return [list(point.values()) for point in points]


def _plain(node: Any) -> Any:
    """A value of a composed config without OmegaConf's types; ${...} is left as it is."""
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node


def single_overrides(key: str, override: Override) -> list[str]:
    """One override for each value of an override."""
    if override.is_sweep_override():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [f"{key}={override.get_value_element_as_str()}"]


def composed_choices(
    loader: ConfigLoader, master: DictConfig, overrides: Sequence[str]
) -> dict[str, str]:
    """The choice of each group with options, given overrides. Composed only if necessary."""
    names = {group: _selected(master, group) for group in OPTION_GROUPS}
    for text in overrides:
        key, _, name = text.partition("=")
        selected = choices_set_by(key, name)
        if not selected:
            config = loader.load_sweep_config(master, list(overrides))
            return {group: _selected(config, group) for group in OPTION_GROUPS}
        names |= {group: selected[group] for group in names.keys() & selected.keys()}
    return names


class _Part(NamedTuple):
    """One override of a job."""

    key: str
    value: Any
    is_plain: bool  # sets a value that Hydra does not need to compose


class _OverrideParser:
    """Parses the overrides of many jobs: each text once, and numbers without Hydra's parser.

    Hydra's parser takes half a millisecond per text, which is half a minute for range(50000).
    """

    def __init__(self) -> None:
        self._parser = OverridesParser.create()
        self._parts: dict[str, _Part] = {}
        self._keys: dict[str, _Part] = {}  # by the text before '='

    def __call__(self, text: str) -> _Part:
        if text not in self._parts:
            self._parts[text] = self._read(text)
        return self._parts[text]

    def _read(self, text: str) -> _Part:
        start, _, value = text.partition("=")
        number = _number(value)
        if number is None or takes_text(start.lstrip("+")):
            return self._parse(text)
        if start not in self._keys:
            self._keys[start] = self._parse(f"{start}=0")
        return self._keys[start]._replace(value=number)

    def _parse(self, text: str) -> _Part:
        override = self._parser.parse_override(keep_text(text))
        return _Part(override.key_or_group, override.value(), _is_plain_value(override))


def _number(text: str) -> int | float | None:
    """The number, if the text has a form that Hydra writes for a range; otherwise None."""
    match = re.fullmatch(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?(e[+-]?[0-9]{1,3})?", text)
    if not match:
        return None
    return float(text) if match[1] or match[2] else int(text)


def axis_length(override: Override) -> int:
    """The number of values of an override, counted without listing them. Raises UsageError."""
    if not override.is_sweep_override():
        return 1
    text = format_value(override.input_line)
    value: Any = override.value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep):
        try:
            start, stop, step = (Fraction(n) for n in (value.start, value.stop, value.step))  # type: ignore[arg-type] # TypeError for None, see below
            return max(0, ceil((stop - start) / step))
        except (ValueError, OverflowError, ZeroDivisionError) as error:
            raise UsageError(
                f"{text}: a range requires finite numbers and a step other than 0"
            ) from error
    if isinstance(value, Glob):
        return sum(1 for _ in override.sweep_iterator())
    raise needs_values(text, override.key_or_group)


def _is_plain_value(override: Override) -> bool:
    """Whether the override sets one key to a value, without config groups or interpolation."""
    return (
        override.type in (OverrideType.CHANGE, OverrideType.FORCE_ADD)
        and not re.search(r"\$\\?\{|\?\?\?", str(override.input_line))
        and override.package is None
        and "/" not in override.key_or_group
        and override.key_or_group not in (*GROUPS, "recipe")
    )


def _selected(config: DictConfig, group: str) -> str:
    """The choice of a group in a composed config; "" if the model decides."""
    return str(OmegaConf.select(config, f"{group}.name") or "")
