"""Validation: a nested dict of raw values becomes a Cell and SweepOptions, or one line of error.

Only this module and the modules that it imports see values as they were typed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from operator import itemgetter
from typing import Any, NoReturn

from lenet_sweep.config import checks, studies
from lenet_sweep.config.check_cache import CheckCache, identity
from lenet_sweep.config.checks import boolean, choice, integer, positive
from lenet_sweep.config.choice_options import check_options
from lenet_sweep.config.grids import check_study_size
from lenet_sweep.config.keys import (
    SWEEP_KEYS,
    defaults,
    depends_on_choice,
    has_own_models,
    is_option,
    known_keys,
    missing_options,
    owners,
    unknown_key,
    unknown_option,
)
from lenet_sweep.config.own_models import source_digest
from lenet_sweep.config.registry import (
    GROUPS,
    MODEL_GROUPS,
    OPTION_GROUPS,
    Group,
    Raw,
    choice_name,
    classes_of,
    default_lr,
    default_of_model,
    has_horizon,
    make_choice,
)
from lenet_sweep.config.studies import Study
from lenet_sweep.config.sweep_options import SweepOptions, merge_options, read_options
from lenet_sweep.core.cells import (
    ENGINE_VERSIONS,
    MNIST_SIZE,
    NETWORK_SETTINGS,
    Cell,
    Choice,
    Dataset,
)
from lenet_sweep.core.engine_support import EngineSupport
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, join_words, to_str
from lenet_sweep.data.catalog import IMAGE_FOLDER
from lenet_sweep.data.datasets import find_dataset
from lenet_sweep.data.images import MAX_SIDE
from lenet_sweep.machine import devices

CPU_NOTE = (
    "device=auto selects the CPU, because the native engine can train these cells; with large "
    "batches, a GPU may be faster: device=cuda or device=mps"
)
NORMALIZATIONS = ("none", "standard")
DEVICES = ("auto", *devices.KINDS)
ENGINES = ("auto", *ENGINE_VERSIONS)
DATASET_KEYS = ("name", "root", "limit", "size")
# Options and other settings that a choice does not have, with one of their values.
IgnoredOptions = dict[str, Any]


def validate_cell(
    raw: Mapping[str, Any],
    native: EngineSupport,
    check_cache: CheckCache | None = None,
    remote_devices: Sequence[str] | None = None,
    ignored_options: IgnoredOptions | None = None,
) -> tuple[Cell, SweepOptions]:
    """Validate a nested dict shaped like conf/config.yaml.

    native: which cells the native engine supports.
    check_cache: shared by the calls for one grid, which makes them faster.
    remote_devices: the kinds of devices, best first, of jobs on other machines; None: the runs
        train on this machine.
    ignored_options: collects the options that a choice does not have; None: they are an error.

    Raises UsageError, one line, for the first key whose value is not allowed.
    """
    template = _template()
    if raw.keys() != template.keys():
        for key in raw:
            if key not in template:
                unknown_key(key, raw[key], known_keys(template))
        for key in template:
            if key not in raw:
                raise UsageError(f"the key {key} cannot be removed; it can only be changed")
    once = check_cache or CheckCache()
    nodes = _choice_nodes(raw)
    choices = once.for_equal(identity(nodes), _choices, nodes, ignored_options)
    values: dict[str, Any] = {
        **choices,
        "lr": _lr(raw["lr"], choices["optimizer"]),
        "batch": integer("batch", raw["batch"], 1, 1_000_000, "images per step"),
        "epochs": integer("epochs", raw["epochs"], 1, 100_000, "passes over the training images"),
        "seed": integer("seed", raw["seed"], 0, 2**32 - 1, "seed of all random numbers"),
        "shuffle": boolean("shuffle", raw["shuffle"]),
        **once(_network, *_network_values(raw)),
        "patience": once(_patience, raw["patience"]),
        "dataset": once(_dataset, raw["dataset"], raw["holdout"]),
    }
    if values["model_source"]:
        _check_network_settings(raw, values["model"], ignored_options)
        values |= NETWORK_SETTINGS
        if choices["augment"].name != "none":
            once(_check_size, f"augment={choices['augment'].name}", values["dataset"])
    else:
        once(_check_size, f"model={choices['model'].name}", values["dataset"])
    if values["batch_norm"] and values["batch"] == 1:
        raise UsageError("batch=1: batch_norm=true needs at least 2 images per step; use batch=2")
    values["horizon"] = values["epochs"] if has_horizon(values["schedule"]) else None
    device = once(_device, raw["device"], remote_devices)
    cell, notes = _with_device_and_engine(values, device, raw, native, once)
    search = once.for_equal(identity(raw["search"]), _search, raw["search"])
    sweep_values = itemgetter(*SWEEP_KEYS)({**raw, "search": search})
    options = once(_options, raw["dataset"]["root"], notes, *sweep_values)
    return cell, options


def _with_device_and_engine(
    values: dict[str, Any],
    device: str | None,
    raw: Mapping[str, Any],
    native: EngineSupport,
    once: CheckCache,
) -> tuple[Cell, tuple[str, ...]]:
    """The cell with its device and engine, and notes on why these were selected.

    values: of all other settings. device: None for the best one of this machine.
    """
    cell, unsupported = _with_engine(values | {"device": device or "cpu"}, raw, native, once)
    if device is None and cell.engine == "native":
        return cell, (CPU_NOTE,) if devices.accelerator_likely() else ()
    if device is None and (best := devices.available_devices()[0]) != "cpu":
        cell, _ = _with_engine(values | {"device": best}, raw, native, once)
        return cell, ()
    # The native engine runs on the CPU only, so its absence needs no note on other devices.
    if unsupported and raw["engine"] == "auto" and cell.device == "cpu":
        return cell, (f"using torch: {unsupported}",)
    return cell, ()


def _with_engine(
    values: Mapping[str, Any], raw: Mapping[str, Any], native: EngineSupport, once: CheckCache
) -> tuple[Cell, str | None]:
    """The cell with the engine that trains it, and why that is not the native engine, if it is not.

    values: of all settings but the engine.
    """
    cell = Cell(**values, engine="torch")  # torch supports all cells
    relevant = native.relevant_settings(cell)
    unsupported = once.for_equal(relevant, native.unsupported_reason, cell)
    return Cell(**values, engine=_engine(raw["engine"], unsupported)), unsupported


def _search(node: Any) -> Choice | str:
    return _choice(GROUPS["search"], node, None)


def _options(data_root: Any, notes: tuple[str, ...], *values: Any) -> SweepOptions:
    return read_options(dict(zip(SWEEP_KEYS, values, strict=True)), data_root, notes)


def validate_cells(
    raws: Iterable[Mapping[str, Any]],
    native: EngineSupport,
    remote_devices: Sequence[str] | None = None,
    other_choices: Mapping[str, Iterable[str]] | None = None,
) -> tuple[list[Cell], SweepOptions]:
    """Validate the nested dicts of a sweep: their cells, and the options that they share.

    raws: shaped like conf/config.yaml, one per cell. A dict with a study gives a cell per row.
    native, remote_devices: see `validate_cell`.
    other_choices: the choices of other cells of the same sweep, by group.

    An option applies only to the cells whose choice has it; `SweepOptions.unused` lists these. The
    same holds for NETWORK_SETTINGS, which a user's model does not have.
    Raises UsageError for a value that is not allowed, for an option that no choice of the sweep
    has, and for different values of a key that applies to the whole sweep.
    """
    check_cache = CheckCache()
    ignored_options: IgnoredOptions = {}
    cells: list[Cell] = []
    shared: SweepOptions | None = None
    seen: set[SweepOptions] = set()
    parts: list[Study] = []  # the study with one row each
    network: IgnoredOptions = {}  # the NETWORK_SETTINGS that were given
    has_own = has_own_models()
    for raw in raws:  # one at a time: raw settings take 100 times the memory of a cell
        study_rows: list[studies.StudyRow] = []
        for row in studies.parse_rows(raw):
            with row.errors_name_row():
                cell, options = validate_cell(
                    row.raw, native, check_cache, remote_devices, ignored_options
                )
            cells.append(cell)
            if has_own and not cell.model_source:
                network |= _given_network_settings(row.raw)
            if shared is None or options not in seen:
                shared = merge_options(shared, options) if shared else options
                seen.add(options)
            if row.study:
                check_study_size(len(cells), shared.max_cells)
                study_rows.append(row.with_cell(cell))
                parts.append(replace(row.study, rows=(study_rows[-1],)))
        if study_rows:
            studies.reject_duplicates(study_rows, parts[-1].title)
    if shared is None:
        raise UsageError("the grid has no cells; give each key at least one value")
    merged = studies.merge_studies(parts)
    if len(merged) > 1:
        raise UsageError("study cannot be swept: it applies to the whole sweep; give one value")
    if merged and shared.search.name != "grid":
        raise study_conflict(shared.search.name)
    unused: tuple[str, ...] = ()
    if has_own and any(cell.model_source for cell in cells):
        ignored_options = network | ignored_options
    if ignored_options:
        chosen = {
            group: {*(other_choices or {}).get(group, ()), *(getattr(c, group).name for c in cells)}
            for group in OPTION_GROUPS
        }
        unused = unused_options(ignored_options, chosen)
    return cells, replace(shared, study=merged[0] if merged else None, unused=unused)


def study_conflict(search: str) -> UsageError:
    """The error for a study together with a search other than the grid."""
    return UsageError(f"search={search}: every row of a study is trained to the end; remove search")


def unused_of(given: Mapping[str, Any], chosen: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Sentences on those of the given settings that not all of a sweep's choices have.

    given: settings by key. chosen: see `unused_options`, which raises UsageError.
    """
    missing = {
        key: value
        for key, value in given.items()
        if depends_on_choice(key)
        and any(
            missing_options([key], {group: name})
            for group, names in chosen.items()
            for name in names
        )
    }
    return unused_options(missing, chosen)


def unused_options(
    options: IgnoredOptions, chosen: Mapping[str, Collection[str]]
) -> tuple[str, ...]:
    """Sentences that say which of a sweep's choices have the given options.

    options: options that at least one of the choices does not have. chosen: the choices of the
    sweep, by group. Raises UsageError for an option that none of them has.
    """
    by_owners: dict[tuple[str, frozenset[str]], list[str]] = {}
    for key, value in options.items():
        group = key.partition(".")[0] if is_option(key) else "model"
        having = frozenset(owners(key)) & frozenset(chosen[group])
        if not having and is_option(key):
            unknown_option(key, value, chosen[group])
        if not having:
            _reject_network_setting(key, value, sorted(chosen[group]))
        by_owners.setdefault((group, having), []).append(key)
    sentences = []
    for (group, having), keys in by_owners.items():
        apply, them = ("applies", "it") if len(keys) == 1 else ("apply", "them")
        have = [name for name in GROUPS[group].choices if name in having]
        lack = [name for name in GROUPS[group].choices if name in {*chosen[group]} - having]
        run = "runs" if len(lack) == 1 else "run"
        sentences.append(
            f"{join_words(keys, len(keys))} {apply} to {join_words(have, len(have))} only; "
            f"{join_words(lack, len(lack))} {run} without {them}"
        )
    return tuple(sentences)


def _given_network_settings(raw: Mapping[str, Any]) -> IgnoredOptions:
    """The settings of NETWORK_SETTINGS that do not have the defaults of conf/config.yaml."""
    template = _template()
    given = {key: raw[key] for key in NETWORK_SETTINGS if raw[key] != template[key]}
    return {k: v.get("name") if isinstance(v, Mapping) else v for k, v in given.items()}


def _check_network_settings(
    raw: Mapping[str, Any], model: Choice, ignored_options: IgnoredOptions | None
) -> None:
    """Collect the NETWORK_SETTINGS that were given, which a user's model does not have.

    ignored_options: see `validate_cell`.
    """
    for key, value in _given_network_settings(raw).items():
        if ignored_options is None:
            _reject_network_setting(key, value, [model.name])
        ignored_options.setdefault(key, value)


def _reject_network_setting(key: str, value: Any, models: Sequence[str]) -> NoReturn:
    """Raise UsageError for one of NETWORK_SETTINGS that none of the models has."""
    taking = [name for name in models if key in GROUPS["model"].choices[name].options]
    fix = f"use model.{key}={format_value(value)}" if taking else f"remove {key}"
    raise UsageError(
        f"{key}={format_value(value)}: applies to {join_words(owners(key))} only, not to "
        f"{join_words(models)}; {fix}"
    )


_CHOICE_GROUPS = tuple(
    group.name for group in GROUPS.values() if group.name != "dataset" and not group.per_sweep
)
_choice_nodes = itemgetter(*_CHOICE_GROUPS)
_NETWORK_KEYS = ("width", "batch_norm", "dropout", "normalize", "clip_norm")
_network_values = itemgetter(*_NETWORK_KEYS)


def _choices(nodes: Sequence[Any], ignored_options: IgnoredOptions | None) -> dict[str, Any]:
    """The choice of each group, or the model's own if none is selected, and what follows from them.

    These are `Cell.classes` and `Cell.model_source`. nodes: of _CHOICE_GROUPS. ignored_options: see
    `validate_cell`.
    """
    choices = {
        name: _choice(GROUPS[name], node, ignored_options)
        for name, node in zip(_CHOICE_GROUPS, nodes, strict=True)
        if node is not None or not GROUPS[name].of_model
    }
    model = choices["model"]
    assert isinstance(model, Choice)
    source = source_digest(model.name)
    if source:  # it does not have the groups of our models
        choices |= {name: NETWORK_SETTINGS[name] for name in MODEL_GROUPS}
    for name in MODEL_GROUPS:
        if name not in choices:
            choices[name] = _choice(GROUPS[name], {"name": default_of_model(model, name)}, None)
    names = tuple((group, choice_name(value)) for group, value in choices.items())
    return {**choices, "classes": classes_of(names), "model_source": source}


def _network(
    width: Any, batch_norm: Any, dropout: Any, normalize: Any, clip_norm: Any
) -> dict[str, Any]:
    """The settings with _NETWORK_KEYS."""
    return {
        "width": checks.number(
            "width", width, 0.1, 10, "multiplies the network's channels and units"
        ),
        "batch_norm": boolean("batch_norm", batch_norm),
        "dropout": checks.number("dropout", dropout, 0, 0.9, "probability of dropping a unit"),
        "normalize": choice("normalize", normalize, NORMALIZATIONS),
        "clip_norm": None
        if clip_norm is None
        else positive("clip_norm", clip_norm, "a number above 0, for example clip_norm=1, or null"),
    }


@cache
def _template() -> Raw:
    return defaults()


def _choice(group: Group, node: Any, ignored_options: IgnoredOptions | None) -> Choice | str:
    """The choice of a group: its name, with the values of its options if the group has them.

    ignored_options: see `validate_cell`.
    """
    name = choice(group.name, _member(node, group.name, "name"), group.choices)
    spec = group.choices[name]
    given = _without_file_keys(group, node)
    for option, value in given.items():
        key = f"{group.name}.{to_str(option)}"
        if not group.has_options:
            unknown_key(key, value, [group.name])
        if option not in spec.options:
            if ignored_options is None or not owners(key):
                unknown_option(key, value, [name])
            ignored_options.setdefault(key, value)
    if not group.has_options:
        return name
    values = check_options(group.name, spec.options, given)
    return make_choice(group.name, name, values)


def _without_file_keys(group: Group, node: Mapping[str, Any]) -> Raw:
    """The settings of a group without the keys that only its file may set, such as the class.

    Raises UsageError if one of these keys was changed, unless it is an option of another choice.
    """
    choice = group.choices[node["name"]]
    file = choice.file.values
    settings = dict(node)
    for key in group.file_keys:
        if key in choice.options:  # an argument of a user's model
            continue
        value = settings.pop(key, file.get(key))
        if value != file.get(key) and owners(f"{group.name}.{key}"):
            settings[key] = value
        elif value != file.get(key):
            raise UsageError(
                f"{group.name}.{key}={format_value(value)}: only a file in {group.name}/ of a "
                f"--config-dir can set {key}" + ("; use lr instead" if key == "default_lr" else "")
            )
    return settings


def _dataset(node: Any, holdout: Any) -> Dataset:
    name = choice("dataset", _member(node, "dataset", "name"), GROUPS["dataset"].choices)
    for key in node:
        if key not in DATASET_KEYS:
            valid = [f"dataset.{name}" for name in DATASET_KEYS[1:]]
            unknown_key(f"dataset.{key}", node[key], valid)
    root = checks.folder("dataset.root", _member(node, "dataset", "root"))
    limit = _member(node, "dataset", "limit")
    if limit is not None:
        limit = integer("dataset.limit", limit, 1, 10**9, "training images to use")
    if holdout is not None:
        holdout = integer("holdout", holdout, 1, 10**9, "training images to hold out")
    size = _member(node, "dataset", "size")
    if size is not None:
        size = integer(
            "dataset.size", size, 1, MAX_SIDE, "height and width of the images in pixels"
        )
    return find_dataset(name, root, limit, holdout, size)


def _check_size(setting: str, dataset: Dataset) -> None:
    """Raise UsageError if the images are too large or too small for a setting: 'model=lenet5'."""
    if dataset.size == MNIST_SIZE:
        return
    takes = f"{setting} takes images of 28 x 28 pixels"
    if dataset.name == IMAGE_FOLDER:
        raise UsageError(f"dataset.size={dataset.size[0]}: {takes}; use dataset.size=28")
    raise UsageError(
        f"dataset={dataset.name}: its images have {dataset.size_text} pixels, but {takes}; scale "
        f"them, or put image files into folders and use dataset={IMAGE_FOLDER}"
    )


def _lr(value: Any, optimizer: Choice) -> float:
    if value is None:
        lr = default_lr(optimizer)
        assert lr is not None
        return lr
    return positive("lr", value, "a number above 0, for example lr=0.01")


def _patience(value: Any) -> int | None:
    if value is None:
        return None
    return integer(
        "patience", value, 1, 100_000, "epochs without better accuracy; null for no limit"
    )


def _device(value: Any, remote_devices: Sequence[str] | None) -> str | None:
    """The kind of device; None for auto on this machine, where it depends on the engine."""
    name = choice("device", value, DEVICES)
    if name == "auto":
        return remote_devices[0] if remote_devices else None
    available = devices.available_devices() if remote_devices is None else remote_devices
    allowed = ", ".join(["auto", *available])
    if name not in available and remote_devices is not None:
        fix = "; hydra.launcher.gpus=1 gives each job a GPU" if name == "cuda" else ""
        raise UsageError(f"device={name}: not available to the jobs; must be one of {allowed}{fix}")
    if name not in available:
        raise UsageError(f"device={name}: not available on this machine; must be one of {allowed}")
    return name


def _engine(value: Any, unsupported: str | None) -> str:
    name = choice("engine", value, ENGINES)
    if name == "native" and unsupported:
        raise UsageError(f"engine=native: {unsupported}; use engine=torch or engine=auto")
    return ("torch" if unsupported else "native") if name == "auto" else name


def _member(node: Any, group: str, key: str) -> Any:
    if isinstance(node, Mapping) and node and "name" not in node and group in MODEL_GROUPS:
        option, value = next(iter(node.items()))
        given = f"{group}.{to_str(option)}={format_value(value)}"
        raise UsageError(f"{given}: the model's own {group} has no options; add {group}=NAME")
    if not isinstance(node, Mapping) or key not in node:
        checks.reject(group, node, f"one of {', '.join(GROUPS[group].choices)}")
    return node[key]
