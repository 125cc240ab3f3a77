"""Validation: a nested dict of raw values becomes a Cell and SweepOptions, or one line of error.

Only this module and the modules that it imports see values as they were typed.
"""

from __future__ import annotations

import getpass
import marshal
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from lenet_sweep.config import studies
from lenet_sweep.config.checks import choice, finite, integer, reject, unknown_key, unknown_option
from lenet_sweep.config.grids import MOST_CELLS, check_length
from lenet_sweep.config.keys import defaults, known_keys
from lenet_sweep.config.registry import (
    ACTIVATIONS,
    FILE_KEYS,
    GROUPS,
    LOSSES,
    OPTIMIZERS,
    OptimizerOption,
    Raw,
    classes_of,
    group_node,
    make_optimizer,
)
from lenet_sweep.config.studies import Study
from lenet_sweep.core.cells import ENGINE_VERSIONS, Cell, Dataset, Optimizer
from lenet_sweep.core.engine_support import EngineSupport
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, join_words, to_str
from lenet_sweep.data.datasets import find_dataset
from lenet_sweep.machine import devices

PLAIN = (str, int, float)  # types of text: Hydra parses person=7 as a number
UnusedOptions = dict[str, Any]  # options that an optimizer does not have, with one of their values
T = TypeVar("T")


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep is run. Options do not change results, so they are not part of a cell."""

    person: str
    workers: int | None  # None: as many as fit on the machine
    timeout: float | None  # seconds without progress before a run is killed; None: no limit
    retries: int  # how often a failed run is retried
    reuse: bool
    dry_run: bool
    figures: str  # best, all, or none
    rows: str  # what a row of the printed tables is: settings or cells
    report: bool
    out: Path
    name: str | None  # None: the date and a hash of the cells
    max_cells: int  # a larger grid is rejected as a likely typo
    data_root: Path | None  # None: the user's cache folder
    notes: tuple[str, ...] = ()  # sentences for the user on how the cells are trained
    unused: tuple[str, ...] = ()  # sentences on options that some optimizers do not have
    study: Study | None = None  # the study that the cells belong to


OPTION_KEYS = [
    f.name for f in fields(SweepOptions) if f.name not in ("data_root", "notes", "unused", "study")
]


class CheckCache:
    """Caches the results of checks, since the cells of a large grid have few distinct values."""

    def __init__(self) -> None:
        self._results: dict[Any, tuple[Any, Any]] = {}

    def __call__(self, check: Callable[..., T], *values: Any) -> T:
        """`check(*values)`, called once for equal values. Errors are not cached."""
        return self.for_equal(_identity(values), check, *values)

    def for_equal(self, identity: Hashable, check: Callable[..., T], *values: Any) -> T:
        """`check(*values)`, called once for equal identities."""
        key = check, identity
        if key not in self._results:
            # Keep the values alive: the id of a deleted object may be reused.
            self._results[key] = values, check(*values)
        result: T = self._results[key][1]
        return result


def _identity(values: tuple[Any, ...]) -> Any:
    """A hashable key for the cache, in which 1, 1.0, and True differ."""
    try:
        return marshal.dumps(values)  # supports plain values only, also nested ones
    except ValueError:
        return tuple(map(_identity_of_one, values))


def _identity_of_one(value: Any) -> Any:
    try:
        return marshal.dumps(value)
    except ValueError:
        return id(value)


def validate_cell(
    raw: Mapping[str, Any],
    native: EngineSupport,
    check_cache: CheckCache | None = None,
    remote_devices: Sequence[str] | None = None,
    unused: UnusedOptions | None = None,
) -> tuple[Cell, SweepOptions]:
    """Validate a nested dict shaped like conf/config.yaml.

    native: which cells the native engine supports.
    check_cache: shared by the calls for one grid, which makes them faster.
    remote_devices: the kinds of devices, best first, of jobs on other machines; None: the runs
        train on this machine.
    unused: collects the options that the optimizer does not have; None: they are an error.

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
    node = raw["optimizer"]
    optimizer = once.for_equal(_identity((node,)), _optimizer, node, unused)
    values: dict[str, Any] = {
        "loss": once(_loss, raw["loss"]),
        "optimizer": optimizer,
        "activation": once(_activation, raw["activation"]),
        "lr": _lr(raw["lr"], optimizer),
        "batch": integer("batch", raw["batch"], 1, 1_000_000, "images per step"),
        "epochs": integer("epochs", raw["epochs"], 1, 100_000, "passes over the training images"),
        "seed": integer("seed", raw["seed"], 0, 2**32 - 1, "seed of the initial weights"),
        "shuffle": _boolean("shuffle", raw["shuffle"]),
        "dataset": once(_dataset, raw["dataset"], raw["holdout"]),
        "device": once(_device, raw["device"], remote_devices),
    }
    values["classes"] = once(classes_of, values["loss"], optimizer.name, values["activation"])
    cell = Cell(**values, engine="torch")  # torch supports all cells
    identity = native.relevant_settings(cell)
    unsupported = once.for_equal(identity, native.unsupported_reason, cell)
    engine = _engine(raw["engine"], unsupported)
    cell = Cell(**values, engine=engine)
    # The native engine runs on the CPU only, so its absence needs no note on other devices.
    needs_note = unsupported and raw["engine"] == "auto" and cell.device == "cpu"
    option_values = itemgetter(*OPTION_KEYS)(raw)
    options = once(
        _options, raw["dataset"]["root"], unsupported if needs_note else None, *option_values
    )
    return cell, options


def _options(data_root: Any, unsupported: str | None, *values: Any) -> SweepOptions:
    raw = dict(zip(OPTION_KEYS, values, strict=True))
    return SweepOptions(
        person=_text("person", raw["person"]) or _login_name(),
        workers=_workers(raw["workers"]),
        timeout=_timeout(raw["timeout"]),
        retries=integer("retries", raw["retries"], 0, 100, "retries of a failed run"),
        reuse=_boolean("reuse", raw["reuse"]),
        dry_run=_boolean("dry_run", raw["dry_run"]),
        figures=choice("figures", raw["figures"], ("best", "all", "none")),
        rows=choice("rows", raw["rows"], ("settings", "cells")),
        report=_boolean("report", raw["report"]),
        out=_path("out", raw["out"]) or Path("outputs"),
        name=_name(raw["name"]),
        max_cells=integer("max_cells", raw["max_cells"], 1, MOST_CELLS, "cells of a grid"),
        data_root=_path("dataset.root", data_root),
        notes=(f"torch trains: {unsupported}",) if unsupported else (),
    )


def validate_cells(
    raws: Iterable[Mapping[str, Any]],
    native: EngineSupport,
    remote_devices: Sequence[str] | None = None,
    optimizers: Iterable[str] = (),
) -> tuple[list[Cell], SweepOptions]:
    """Validate the nested dicts of a sweep: their cells, and the options that they share.

    raws: shaped like conf/config.yaml, one per cell. A dict with a study gives a cell per row.
    native, remote_devices: see `validate_cell`.
    optimizers: the optimizers of other cells of the same sweep.

    An optimizer's option applies only to the cells whose optimizer has it; `SweepOptions.unused`
    lists these. Raises UsageError for a value that is not allowed, for an option that no optimizer
    of the sweep has, and for different values of a key that applies to the whole sweep.
    """
    check_cache = CheckCache()
    not_applied: UnusedOptions = {}
    cells: list[Cell] = []
    shared: SweepOptions | None = None
    seen: set[SweepOptions] = set()
    parts: list[Study] = []  # the study with one row each
    for raw in raws:  # one at a time: raw settings take 100 times the memory of a cell
        study_rows: list[studies.StudyRow] = []
        for row in studies.parse_rows(raw):
            with row.errors_name_row():
                cell, options = validate_cell(
                    row.raw, native, check_cache, remote_devices, not_applied
                )
            cells.append(cell)
            if shared is None or options not in seen:
                shared = _merged(shared, options) if shared else options
                seen.add(options)
            if row.study:
                check_length(len(cells), shared.max_cells)
                study_rows.append(row.with_cell(cell))
                parts.append(replace(row.study, rows=(study_rows[-1],)))
        if study_rows:
            studies.reject_duplicates(study_rows, parts[-1].title)
    if shared is None:
        raise UsageError("the grid has no cells; give each key at least one value")
    merged = studies.merge_studies(parts)
    if len(merged) > 1:
        raise UsageError("study cannot be swept: it applies to the whole sweep; give one value")
    unused: tuple[str, ...] = ()
    if not_applied:
        unused = unused_options(not_applied, {*optimizers, *(c.optimizer.name for c in cells)})
    return cells, replace(shared, study=merged[0] if merged else None, unused=unused)


def unused_options(options: UnusedOptions, optimizers: Collection[str]) -> tuple[str, ...]:
    """Sentences that say which of a sweep's optimizers have the given options.

    options: options that at least one of the optimizers does not have. Raises UsageError for an
    option that none of them has.
    """
    by_owners: dict[frozenset[str], list[str]] = {}
    for option, value in options.items():
        owners = frozenset(name for name in optimizers if option in OPTIMIZERS[name].options)
        if not owners:
            unknown_option(option, value)
        by_owners.setdefault(owners, []).append(f"optimizer.{option}")
    sentences = []
    for owners, keys in by_owners.items():
        apply, them = ("applies", "it") if len(keys) == 1 else ("apply", "them")
        have = [name for name in OPTIMIZERS if name in owners]
        lack = [name for name in OPTIMIZERS if name in optimizers and name not in owners]
        run = "runs" if len(lack) == 1 else "run"
        sentences.append(
            f"{join_words(keys, len(keys))} {apply} to {join_words(have, len(have))} only; "
            f"{join_words(lack, len(lack))} {run} without {them}"
        )
    return tuple(sentences)


def _merged(shared: SweepOptions, other: SweepOptions) -> SweepOptions:
    """The shared options with the notes of both. Raises UsageError if the options differ."""
    for field in fields(SweepOptions):
        same = getattr(other, field.name) == getattr(shared, field.name)
        if not same and field.name != "notes":
            key = "dataset.root" if field.name == "data_root" else field.name
            raise UsageError(
                f"{key} cannot be swept: it applies to the whole sweep; give one value"
            )
    return replace(shared, notes=tuple(dict.fromkeys([*shared.notes, *other.notes])))


@cache
def _template() -> Raw:
    return defaults()


def _optimizer(node: Any, unused: UnusedOptions | None) -> Optimizer:
    name = choice("optimizer", _member(node, "optimizer", "name"), OPTIMIZERS)
    spec = OPTIMIZERS[name]
    given = _without_file_keys("optimizer", node)
    for key, value in given.items():
        if key not in spec.options:
            if unused is None or not any(key in other.options for other in OPTIMIZERS.values()):
                unknown_option(key, value)
            unused.setdefault(key, value)
    options = {
        key: _option(f"optimizer.{key}", given.get(key, option.default), option)
        for key, option in spec.options.items()
    }
    if conflict := spec.conflict(options):
        raise UsageError(conflict)
    return make_optimizer(name, tuple(options.items()))


def _option(key: str, value: Any, option: OptimizerOption) -> float | bool | tuple[float, ...]:
    if isinstance(option.default, bool):
        return _boolean(key, value)
    if isinstance(option.default, tuple):
        items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
        numbers = [finite(item) for item in items]
        if len(items) == len(option.default) and all(
            n is not None and option.accepts(n) for n in numbers
        ):
            return tuple(n for n in numbers if n is not None)
        reject(key, value, option.allowed)
    number = finite(value)
    if number is None or not option.accepts(number):
        reject(key, value, option.allowed)
    return number


def _loss(node: Any) -> str:
    return _named("loss", node, LOSSES)


def _activation(node: Any) -> str:
    return _named("activation", node, ACTIVATIONS)


def _named(group: str, node: Any, names: Iterable[str]) -> str:
    """The name in a group without options. Raises UsageError if there are other keys."""
    name = choice(group, _member(node, group, "name"), names)
    for key, value in _without_file_keys(group, node).items():
        unknown_key(f"{group}.{key}", value, [group])
    return name


def _without_file_keys(group: str, node: Mapping[str, Any]) -> Raw:
    """The settings of a group without the keys that only its file may set, such as the class.

    Raises UsageError if one of these keys was changed.
    """
    file = group_node(group, node["name"])
    settings = dict(node)
    for key in FILE_KEYS:
        value = settings.pop(key, file.get(key))
        if value != file.get(key):
            raise UsageError(
                f"{group}.{key}={format_value(value)}: only a file in {group}/ of a --config-dir "
                f"can set {key}" + ("; use lr instead" if key == "default_lr" else "")
            )
    return settings


def _dataset(node: Any, holdout: Any) -> Dataset:
    name = choice("dataset", _member(node, "dataset", "name"), GROUPS["dataset"])
    for key in node:
        if key not in ("name", "root", "limit"):
            unknown_key(f"dataset.{key}", node[key], ["dataset.root", "dataset.limit"])
    root = _path("dataset.root", _member(node, "dataset", "root"))
    limit = _member(node, "dataset", "limit")
    if limit is not None:
        limit = integer("dataset.limit", limit, 1, 10**9, "training images to use")
    if holdout is not None:
        holdout = integer("holdout", holdout, 1, 10**9, "training images to hold out")
    return find_dataset(name, root, limit, holdout)


def _lr(value: Any, optimizer: Optimizer) -> float:
    if value is None:
        return OPTIMIZERS[optimizer.name].default_lr
    return _positive("lr", value, "a number above 0, for example lr=0.01")


def _device(value: Any, remote_devices: Sequence[str] | None) -> str:
    name = choice("device", value, ("auto", *devices.KINDS))
    available = devices.available_devices() if remote_devices is None else remote_devices
    if name == "auto":
        return available[0]
    allowed = ", ".join(["auto", *available])
    if name not in available and remote_devices is not None:
        raise UsageError(
            f"device={name}: not available to the jobs; must be one of {allowed}; "
            "hydra.launcher.gpus=1 gives each job a GPU (cuda)"
        )
    if name not in available:
        raise UsageError(f"device={name}: not available on this machine; must be one of {allowed}")
    return name


def _engine(value: Any, unsupported: str | None) -> str:
    name = choice("engine", value, ("auto", *ENGINE_VERSIONS))
    if name == "native" and unsupported:
        raise UsageError(f"engine=native: {unsupported}; use engine=torch or engine=auto")
    return ("torch" if unsupported else "native") if name == "auto" else name


def _workers(value: Any) -> int | None:
    if value == "auto":
        return None
    number = finite(value)
    if number is None or not number.is_integer() or not 1 <= number <= 1024:
        reject("workers", value, "auto, or a whole number from 1 to 1024 (concurrent runs)")
    return int(number)


def _timeout(value: Any) -> float | None:
    if value is None:
        return None
    return _positive("timeout", value, "a number of seconds above 0, or null for no limit")


def _name(value: Any) -> str | None:
    if value is None:
        return None
    text = to_str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        reject(
            "name",
            value,
            "up to 100 letters, digits, '.', '_' or '-', starting with a letter or digit",
        )
    reserved = r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?"  # names of devices on Windows
    if re.fullmatch(reserved, text, re.IGNORECASE) or text.endswith("."):
        reject("name", value, "a folder name that is also valid on Windows; choose another name")
    return text


def _text(key: str, value: Any) -> str | None:
    if value is None:
        return None
    text = to_str(value)
    if (
        not isinstance(value, PLAIN)
        or isinstance(value, bool)
        or not text.isprintable()
        or len(text) > 100
    ):
        reject(key, value, "one line of up to 100 printable characters")
    if "${" in text:
        reject(key, value, "plain text; ${...} is not resolved in this key")
    return text


def _path(key: str, value: Any) -> Path | None:
    if value is None:
        return None
    text = to_str(value)
    if (
        not isinstance(value, (*PLAIN, Path))
        or isinstance(value, bool)
        or not text.isprintable()
        or not text
    ):
        reject(key, value, "the path of a folder")
    if len(text) > 1000 or any(len(part) > 200 for part in Path(text).parts):
        reject(key, value, "a path of at most 1000 characters, 200 for each folder")
    if "${" in text:
        reject(key, value, "a plain path; ${...} is not resolved in this key")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~name of an unknown user
        reject(key, value, "the path of a folder; this home folder does not exist")


def _positive(key: str, value: Any, allowed: str) -> float:
    number = finite(value)
    if number is None or number <= 0:
        reject(key, value, allowed)
    return number


def _boolean(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        reject(key, value, f"true or false, for example {key}=true")
    return value


def _member(node: Any, group: str, key: str) -> Any:
    if not isinstance(node, Mapping) or key not in node:
        reject(group, node, f"one of {', '.join(GROUPS[group])}")
    return node[key]


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # some containers have no entry for the user
        return "unknown"
