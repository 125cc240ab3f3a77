"""Between Hydra and the rest: config groups out of the registries, job overrides into settings."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from fractions import Fraction
from math import ceil, prod
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    OverrideType,
    RangeSweep,
)
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, ListConfig, OmegaConf

from lenet_sweep.config import studies
from lenet_sweep.config.keys import check_count, is_option, missing_options, set_key, takes_text
from lenet_sweep.config.registry import GROUPS, OPTIMIZERS, RECIPES, Raw, config_folder
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value

HELP = """\
lenet-sweep: type a grid, get an honest ranked table of LeNet5 trainings.

  python -m lenet_sweep                                    one cell, the report's defaults
  python -m lenet_sweep -m lr=1e-1,1e-2 batch=32,64,128    a grid of 6 cells, ranked
  python -m lenet_sweep -m recipe=ce_sgd,nll_adam          the report's comparison
  python -m lenet_sweep -m grid/lr=report grid/batch=report epochs=100,200
  python -m lenet_sweep -m +study=report seed=0,1,2        what the report's tables are worth

Groups, chosen by name:
  loss      {losses}
  optimizer {optimizers}
  activation {activations}
  recipe    {recipes}: loss and optimizer together
  dataset   {datasets}; dataset.root=FOLDER says where the files are or go
            (default: a cache folder), dataset.limit=N trains on the first N images
  grid/lr, grid/batch, grid/epochs=report   the values of the report's tables
  +study=report   every row of the report's tables, with a verdict; further keys are axes over it

Options of the optimizers, with their defaults; each applies to the optimizers that have it:
{options}

Keys, with their defaults (conf/config.yaml):
{keys}

Launchers: where runs are trained (docs/scaling-out.md), with their keys hydra.launcher.KEY=VALUE
  hydra/launcher=lenet_local   worker processes on this machine, the default
{launchers}
  hydra/launcher=basic, joblib, submitit_slurm, ...   Hydra's own: each cell is a job of theirs

Exit status: 0 every cell is ok; 1 some cells failed (the table is still written), the
disk is full, or the images cannot be downloaded; 2 the command is wrong; 141 the reader of the
output exited, as `| head` does (the files are still written). Hydra's own flags: --hydra-help
"""


def register_help() -> None:
    """Register what --help prints; all other groups are files in conf/."""
    ConfigStore.instance().store(
        group="hydra/help",
        name="lenet_sweep",
        node={"app_name": "lenet_sweep", "header": "", "footer": "", "template": help_text()},
    )


def register_plugins() -> None:
    """Offer the sweeper and the launchers to Hydra, in this process alone.

    Hydra's jobs in other processes get them with Hydra's own state.
    """
    plugins = Plugins.instance()
    # Only now: Hydra executes the modules of its own plugins again, and they store `basic` too.
    from hydra_plugins import _lenet_sweep  # noqa: PLC0415 - see above

    for plugin in _lenet_sweep.PLUGINS:
        plugins.register(plugin)
    store = ConfigStore.instance()
    # Hydra's own `basic` is the same grid, but creates folders and all cells before any check.
    nodes = [
        ("hydra/sweeper", "lenet_grid", _lenet_sweep.LenetGridConf),
        ("hydra/sweeper", "basic", _lenet_sweep.LenetGridConf),
        ("hydra/launcher", "lenet_local", _lenet_sweep.LenetLocalConf),
    ]
    for group, name, node in nodes:
        store.store(group=group, name=name, node=node, provider="lenet_sweep")


def help_text() -> str:
    """What --help prints: conf/config.yaml documents its keys itself, in its comments."""
    config = (config_folder() / "config.yaml").read_text(encoding="utf-8")
    keys = config[config.index("# What is trained") : config.index("\nhydra:")]
    options = []
    for optimizer, spec in OPTIMIZERS.items():
        options.append(f"  optimizer={optimizer}")
        for name, option in spec.options.items():
            setting = f"optimizer.{name}={_yaml(option.default)}"
            options.append(f"    {setting:<40} {option.help}; {option.allowed}")
    return HELP.format(
        losses=", ".join(GROUPS["loss"]),
        optimizers=", ".join(GROUPS["optimizer"]),
        activations=", ".join(GROUPS["activation"]),
        datasets=", ".join(GROUPS["dataset"]),
        recipes=", ".join(RECIPES),
        options="\n".join(options),
        keys="\n".join("  " + line for line in keys.strip().splitlines()),
        launchers="\n".join(map(_launcher_help, ("lenet_slurm", "lenet_ray"))),
    )


def _launcher_help(name: str) -> str:
    """What conf/hydra/launcher says of one: its first comment, then its keys with theirs."""
    lines = (config_folder() / "hydra" / "launcher" / f"{name}.yaml").read_text().splitlines()
    first = f"  hydra/launcher={name}   {lines[0].partition(': ')[2]}"
    return "\n".join([first, *(f"      .{line}" for line in lines if line[0] not in "#_")])


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value).lower()


def raw_settings(config: DictConfig) -> Raw:
    """A composed config as a nested dict, with ${...} filled in.

    Raises OmegaConf's errors where that cannot be done, or a value is missing (???).
    """
    raw = {}
    for key in config:
        if key != "hydra":
            node = config[key]
            plain = OmegaConf.is_config(node)
            raw[str(key)] = (
                OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if plain else node
            )
    return raw


def override_texts(overrides: ListConfig) -> list[str]:
    """Overrides as texts, in which iterating over them would fill in ${...}."""
    texts = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


def keep_text(text: str) -> str:
    """An override of which Hydra keeps the text, where the key takes text.

    Hydra would read name=1.10 as the number 1.1, so that it ends in the folder of name=1.1.
    """
    key, _, typed = text.partition("=")
    if not takes_text(key.lstrip("+")):
        return text
    value: Any = OverridesParser.create().parse_override(text).value()
    number = isinstance(value, (int, float)) and "(" not in typed  # as in float(1)
    if not number or not takes_text(key.lstrip("+"), flag=isinstance(value, bool)):
        return text
    return f"{key}='{typed.strip()}'"


def compose_jobs(
    loader: ConfigLoader, master: DictConfig, jobs: Iterable[Sequence[str]]
) -> Iterator[Raw]:
    """The settings of each job of a multirun, as nested dicts, one at a time.

    Hydra composes each choice of config groups once; plain values are then set here. Composing
    every job takes Hydra some 50 ms each, which is minutes for a large grid.
    """
    HydraConfig.instance().set_config(deepcopy(master))  # for ${hydra:...}
    read = _OverrideParser()
    typed = override_texts(master.hydra.overrides.task)
    # ${oc.env:HOME} is the same for all jobs; for ${lr} Hydra has to compose each of them.
    each = any("${" in re.sub(r"\$\{[\w.]+:", "", text) for text in typed)
    unswept = tuple(text for text in typed if each or not read(text).is_plain)
    composed: dict[tuple[str, ...], Raw] = {}
    for job in jobs:
        parts = [read(text) for text in job]
        plain = [part.is_plain and not each for part in parts]
        others = tuple(text for text, is_plain in zip(job, plain, strict=True) if not is_plain)
        if others not in composed:
            # Where no group is swept, Hydra has composed the same already.
            known = others == unswept
            config = master if known else loader.load_sweep_config(master, list(others))
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
    """The overrides of each job of a grid, the last key varying fastest.

    Where not every optimizer of the grid has an option, those without it get its first value
    alone, which they ignore. Raises UsageError for a grid of more than max_cells.
    """
    axes = {override.get_key_element(): override for override in overrides}
    lengths = {key: axis_length(override) for key, override in axes.items()}
    groups = [key for key, override in axes.items() if not _is_plain_value(override)]
    options = [key for key, o in axes.items() if is_option(o.key_or_group) and key not in groups]
    if not options or not any(lengths[key] > 1 for key in groups):
        check_count(prod(lengths.values()), master.max_cells)
        return _product({key: _texts(key, override) for key, override in axes.items()})
    check_count(prod(lengths[key] for key in groups), master.max_cells)
    names = {axes[key].key_or_group: key for key in options}
    parts = []
    for chosen in _product({key: _texts(key, axes[key]) for key in groups}):
        optimizer = _optimizer_of(loader, master, chosen)
        parts.append((dict(zip(groups, chosen, strict=True)), missing_options(names, optimizer)))
    nowhere = frozenset.intersection(*(missing for _, missing in parts))
    single = [{names[key] for key in missing - nowhere} for _, missing in parts]
    plain = {key: length for key, length in lengths.items() if key not in groups}
    check_count(
        sum(prod(n for key, n in plain.items() if key not in once) for once in single),
        master.max_cells,
    )
    texts = {key: _texts(key, override) for key, override in axes.items() if key not in groups}
    return [
        job
        for (chosen, _), once in zip(parts, single, strict=True)
        for job in _product({
            key: [chosen[key]] if key in chosen else texts[key][:1] if key in once else texts[key]
            for key in axes
        })
    ]  # fmt: skip


def chosen_optimizers(loader: ConfigLoader, master: DictConfig) -> set[str]:
    """The optimizers that a sweeper which searches may choose from.

    What it is to try stands in the overrides as they were typed and in hydra.sweeper.params.
    """
    names = set()
    for override in search_space(master):
        if override.key_or_group in ("optimizer", "recipe"):
            key = override.get_key_element()
            names |= {_optimizer_of(loader, master, [text]) for text in _texts(key, override)}
    return names or {str(OmegaConf.select(master, "optimizer.name"))}


def search_space(master: DictConfig) -> list[Override]:
    """The overrides that were typed, and those of hydra.sweeper.params."""
    params = master.hydra.sweeper.get("params") or {}
    texts = [
        *override_texts(master.hydra.overrides.task),
        *(f"{key}={value}" for key, value in params.items()),
    ]
    return OverridesParser.create().parse_overrides(texts)


def _texts(key: str, override: Override) -> list[str]:
    """An override as one override for each of its values."""
    if override.is_sweep_override():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [f"{key}={override.get_value_element_as_str()}"]


def _product(axes: Mapping[str, Sequence[str]]) -> list[list[str]]:
    return [list(job) for job in itertools.product(*axes.values())]


def _optimizer_of(loader: ConfigLoader, master: DictConfig, groups: Sequence[str]) -> str:
    """The optimizer of a choice of config groups; composed only where it is not a known name."""
    found = str(OmegaConf.select(master, "optimizer.name"))
    for text in groups:
        key, _, name = text.partition("=")
        if name not in (RECIPES if key == "recipe" else GROUPS.get(key, ())):
            return str(loader.load_sweep_config(master, list(groups)).optimizer.name)
        found = RECIPES[name][1] if key == "recipe" else name if key == "optimizer" else found
    return found


class _Part(NamedTuple):
    """One override of a job. is_plain: it sets a plain value, which takes no composing by Hydra."""

    key: str
    value: Any
    is_plain: bool


class _OverrideParser:
    """Parses the overrides of many jobs: each text once, and numbers without Hydra's parser.

    Hydra's parser takes half a millisecond, which for range(50000) is half a minute.
    """

    def __init__(self) -> None:
        self._parser = OverridesParser.create()
        self._parts: dict[str, _Part] = {}
        self._keys: dict[str, _Part] = {}  # by a text's part up to '='

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
    """A number in the forms that Hydra writes for a range, None for any other text."""
    found = re.fullmatch(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?(e[+-]?[0-9]{1,3})?", text)
    if not found:
        return None
    return float(text) if found[1] or found[2] else int(text)


def axis_length(override: Override) -> int:
    """How many values an override has, counted without making them. Raises UsageError."""
    if not override.is_sweep_override():
        return 1
    text = format_value(override.input_line)
    value: Any = override.value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep):
        try:
            start, stop, step = (Fraction(n) for n in (value.start, value.stop, value.step))  # type: ignore[arg-type]
            return max(0, ceil((stop - start) / step))
        except (ValueError, OverflowError, ZeroDivisionError) as error:
            raise UsageError(
                f"{text}: a range needs finite numbers, and a step that is not 0"
            ) from error
    if isinstance(value, Glob):
        return sum(1 for _ in override.sweep_iterator())
    raise UsageError(f"{text}: a grid takes lists of values, as in {override.key_or_group}=1,2")


def _is_plain_value(override: Override) -> bool:
    return (
        override.type in (OverrideType.CHANGE, OverrideType.FORCE_ADD)
        and not re.search(r"\$\\?\{|\?\?\?", str(override.input_line))
        and override.package is None
        and "/" not in override.key_or_group
        and override.key_or_group not in (*GROUPS, "recipe")
    )
