"""Conversions between Hydra and the package: config groups, help text, overrides to settings."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import fields
from fractions import Fraction
from math import ceil
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
from omegaconf import DictConfig, ListConfig, OmegaConf

from lenet_sweep.cli.text_keys import takes_text
from lenet_sweep.config import studies
from lenet_sweep.config.files import config_folder
from lenet_sweep.config.grids import expand
from lenet_sweep.config.keys import (
    choices_set_by,
    depends_on_choice,
    group_node,
    groups_set_by,
    missing_options,
    set_key,
)
from lenet_sweep.config.pairs import parse_pairs
from lenet_sweep.config.registry import GROUPS, MODEL_GROUPS, OPTION_GROUPS, RECIPES, Raw
from lenet_sweep.config.search_space import (
    TRAINED,
    Composed,
    Dimension,
    Point,
    SearchSpace,
    check_dimensions,
    check_key,
    needs_values,
)
from lenet_sweep.config.sweep_grammar import to_dimension
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_setting, format_value
from lenet_sweep.data.catalog import added_datasets
from lenet_sweep.executors.options import describe_options
from lenet_sweep.executors.registry import EXECUTORS

WIDTH = 120  # characters of a line of --help
LAUNCHER = "hydra_plugins._lenet_sweep.LenetLauncher"

HELP = """\
lenet-sweep: LeNet5 hyperparameter sweeps on MNIST. List values and get a ranked table.

  python -m lenet_sweep                                    one cell, all defaults
  python -m lenet_sweep -m lr=1e-1,1e-2 batch=32,64,128    a grid of 6 cells
  python -m lenet_sweep -m recipe=ce_sgd,nll_adam          two pairs of loss and optimizer
  python -m lenet_sweep -m grid/lr=report grid/batch=report epochs=100,200
  python -m lenet_sweep -m +study=report seed=0,1,2        reproduce the tables of the report

Groups, selected by name:
{groups}
  recipe      {recipes}: a pair of loss and optimizer
  dataset     {datasets}; dataset.root=FOLDER is the folder of the files
              (default: a cache folder), dataset.limit=N trains on the first N images,
              dataset.size=N scales the images of an image_folder to N x N pixels (default: 28)
  --models FILE.py   adds the models that a Python file registers (docs/extending.md)
  grid/lr, grid/batch, grid/epochs=report   the values in the tables of the report
  +study=report   every row of the tables of the report, with a verdict; other keys can be swept
  "The report" is the student report that lenet-sweep grew out of (docs/reproducing-a-report.md).

Options, with their defaults. An option applies only to the choice above it:
{options}

Keys, with their defaults (conf/config.yaml):
{keys}

Launchers select where runs are trained (docs/scaling-out.md). Set options with
hydra.launcher.KEY=VALUE:
{launchers}
  hydra/launcher=basic, joblib, submitit_slurm, ...   Hydra's own launchers; each cell is a job

Exit status: 0 every cell succeeded; 1 some cells failed (the table is still written), the disk is
full, the output cannot be written, or the images cannot be downloaded; 2 the command is wrong; 141
the reader of the output exited, as in `| head` (the files are still written). --hydra-help lists
Hydra's own flags.
"""


def register_groups() -> None:
    """Register with Hydra what is not a file in conf/: the help text, and what others added."""
    store = ConfigStore.instance()
    text = {"app_name": "lenet_sweep", "header": "", "footer": "", "template": help_text()}
    store.store(group="hydra/help", name="lenet_sweep", node=text)
    for name in added_datasets():
        store.store(group="dataset", name=name, node=group_node("dataset", name))
    for name in EXECUTORS.names():
        defaults = {option.name: option.default for option in fields(EXECUTORS.find(name).options)}
        node = {"_target_": LAUNCHER, "executor": name, **defaults}
        store.store(group="hydra/launcher", name=f"lenet_{name}", node=node)


def help_text() -> str:
    """The text of --help. The comments of conf/config.yaml document the keys."""
    config = (config_folder() / "config.yaml").read_text(encoding="utf-8")
    keys = config[config.index("# What is trained") : config.index("\nhydra:")]
    options = []
    for group in (name for name, group in GROUPS.items() if group.has_options):
        for choice, spec in GROUPS[group].choices.items():
            if not spec.is_loaded or not spec.options:
                continue
            options.append(f"  {group}={choice}")
            for name, option in spec.options.items():
                setting = f"{group}.{name}={format_setting(option.default)}"
                options.append(f"    {setting:<40} {option.help}; {option.allowed}")
    groups = {name: ", ".join(group.choices) for name, group in GROUPS.items()}
    datasets = groups.pop("dataset")
    return HELP.format(
        groups="\n".join(
            textwrap.fill(f"  {name:<11} {choices}", WIDTH, subsequent_indent=" " * 14)
            for name, choices in groups.items()
        ),
        datasets=datasets,
        recipes=", ".join(RECIPES),
        options="\n".join(options),
        keys="\n".join("  " + line for line in keys.strip().splitlines()),
        launchers="\n".join(map(_launcher_help, EXECUTORS.names())),
    )


def _launcher_help(name: str) -> str:
    """An executor's description and its options with their help."""
    options = EXECUTORS.find(name).options
    description = (options.__doc__ or "").partition("\n")[0]
    first = f"  hydra/launcher=lenet_{name:<6} {description}"
    return "\n".join([first, *(f"      .{line}" for line in describe_options(options))])


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
        lambda key: _texts(key, axes[key]),
        selectors=[
            key
            for key, override in axes.items()
            if not _is_plain_value(override) and not depends_on_choice(override.key_or_group)
        ],
        choices_of=lambda selected: _composed_choices(loader, master, list(selected.values())),
        limit=master.max_cells,
        pairs=parse_pairs(_plain(master.pair)),
    )
    return [list(point.values()) for point in points]


def sampled_space(
    loader: ConfigLoader,
    master: DictConfig,
    overrides: Sequence[Override],
    deletions: Sequence[str],
    validate: Callable[[Iterator[Raw]], Composed],
) -> SearchSpace:
    """The search space of the overrides of a multirun whose search samples settings.

    validate: see `SearchSpace.compose`; from raw settings. Raises UsageError for keys and values
    that cannot be sampled.
    """
    search = str(master.search.name)
    dimensions: dict[str, Dimension] = {}
    fixed: list[Override] = []
    for override in overrides:
        if override.key_or_group in TRAINED or not override.is_sweep_override():
            fixed.append(override)
        else:
            check_key(override.key_or_group, format_value(override.input_line), search)
            dimensions[override.get_key_element()] = to_dimension(override, as_text=True)
    check_dimensions(dimensions, search)
    keys = {key: key.lstrip("+") for key in dimensions}
    selectors = [
        key
        for key, name in keys.items()
        if (name == "recipe" or name in OPTION_GROUPS) and not depends_on_choice(name)
    ]
    options = {name: key for key, name in keys.items() if depends_on_choice(name)}
    parser = OverridesParser.create(config_loader=loader)
    composed: dict[tuple[str, ...], Raw] = {}

    def texts(point: Point) -> list[str]:
        return [f"{key}={value}" for key, value in point.items()]

    def missing(point: Point) -> Collection[str]:
        choices = _composed_choices(loader, master, texts(point))
        return [options[name] for name in missing_options(options, choices)]

    def compose(point: Point) -> Composed:
        typed = [*fixed, *parser.parse_overrides(texts(point))]
        jobs = [[*job, *deletions] for job in grid_jobs(loader, master, typed)]
        return validate(compose_jobs(loader, master, jobs, composed))

    return SearchSpace(dimensions, selectors, missing, compose)


def _plain(node: Any) -> Any:
    """A value of a composed config without OmegaConf's types; ${...} is left as it is."""
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node


def chosen_by_search(loader: ConfigLoader, master: DictConfig) -> dict[str, set[str]]:
    """The names that a searching sweeper may choose from, for each group with options."""
    chosen = {group: {name} for group, name in _composed_choices(loader, master, []).items()}
    searched: dict[str, set[str]] = {}
    for override in search_space(master):
        if override.key_or_group in (*OPTION_GROUPS, "recipe"):
            key = override.get_key_element()
            for text in _texts(key, override):
                names = _composed_choices(loader, master, [text])
                for group in groups_set_by(override.key_or_group) & names.keys():
                    searched.setdefault(group, set()).add(names[group])
    return chosen | searched


def search_space(master: DictConfig) -> list[Override]:
    """The search space: the overrides that were typed, and those in hydra.sweeper.params."""
    params = master.hydra.sweeper.get("params") or {}
    texts = [
        *override_texts(master.hydra.overrides.task),
        *(f"{key}={value}" for key, value in params.items()),
    ]
    return OverridesParser.create().parse_overrides(texts)


def _texts(key: str, override: Override) -> list[str]:
    """One override for each value of an override."""
    if override.is_sweep_override():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [f"{key}={override.get_value_element_as_str()}"]


def _composed_choices(
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
            start, stop, step = (Fraction(n) for n in (value.start, value.stop, value.step))  # type: ignore[arg-type]
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
