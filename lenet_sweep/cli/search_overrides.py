"""What a search may choose, from the overrides of a multirun: names of groups, or a whole space."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from lenet_sweep.cli.hydra_config import (
    compose_jobs,
    composed_choices,
    grid_jobs,
    override_texts,
    single_overrides,
)
from lenet_sweep.config.keys import depends_on_choice, groups_set_by, missing_options
from lenet_sweep.config.registry import OPTION_GROUPS, Raw
from lenet_sweep.config.search_space import (
    TRAINED,
    Composed,
    Dimension,
    Point,
    SearchSpace,
    check_dimensions,
    check_key,
)
from lenet_sweep.config.sweep_grammar import to_dimension
from lenet_sweep.core.text import format_value


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
        choices = composed_choices(loader, master, texts(point))
        return [options[name] for name in missing_options(options, choices)]

    def compose(point: Point) -> Composed:
        typed = [*fixed, *parser.parse_overrides(texts(point))]
        jobs = [[*job, *deletions] for job in grid_jobs(loader, master, typed)]
        return validate(compose_jobs(loader, master, jobs, composed))

    return SearchSpace(dimensions, selectors, missing, compose)


def chosen_by_search(loader: ConfigLoader, master: DictConfig) -> dict[str, set[str]]:
    """The names that a searching sweeper may choose from, for each group with options."""
    chosen = {group: {name} for group, name in composed_choices(loader, master, []).items()}
    searched: dict[str, set[str]] = {}
    for override in search_space(master):
        if override.key_or_group in (*OPTION_GROUPS, "recipe"):
            key = override.get_key_element()
            for text in single_overrides(key, override):
                names = composed_choices(loader, master, [text])
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
