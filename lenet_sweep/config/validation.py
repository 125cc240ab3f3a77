"""The edge: a nested dict of whatever was typed becomes a validated Cell and Options.

Or one line that says why not. Below this module nobody sees what was typed.
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
from typing import Any, Protocol, TypeVar

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
    Option,
    Raw,
    classes_of,
    group_node,
    make_optimizer,
)
from lenet_sweep.config.studies import Study
from lenet_sweep.core.cells import ENGINE_VERSIONS, Cell, Dataset, Optimizer
from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import format_value, to_str
from lenet_sweep.data.datasets import find_dataset
from lenet_sweep.machine import devices

PLAIN = (str, int, float)  # what text may be typed as: person=7 is a number to Hydra
Missing = dict[str, Any]  # options that an optimizer does not have, each with a value typed for it
T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """How a sweep is run. Nothing in here changes a number, so none of it is part of a cell."""

    person: str
    workers: int | None  # None: as many as the machine has room for
    timeout: float | None  # seconds without a sign of life before a run is given up
    retries: int  # how often a run that failed is tried again
    reuse: bool
    dry_run: bool
    figures: str  # best, all or none
    rows: str  # settings or cells: what a row of the printed tables is
    report: bool
    out: Path
    name: str | None  # None: date and a hash of the cells
    max_cells: int  # a grid of more is taken for a mistake
    data_root: Path | None  # None: the user's cache folder
    notes: tuple[str, ...] = ()  # what a person should know about how the cells are trained
    unused: tuple[str, ...] = ()  # options that not every optimizer of the sweep has, in sentences
    study: Study | None = None  # that the cells are of


OPTION_KEYS = [
    f.name for f in fields(Options) if f.name not in ("data_root", "notes", "unused", "study")
]


class CheckCache:
    """Remembers the results of checks: the cells of a large grid have few distinct values."""

    def __init__(self) -> None:
        self._results: dict[Any, tuple[Any, Any]] = {}

    def __call__(self, check: Callable[..., T], *values: Any) -> T:
        """`check(*values)`, called once for equal values. An error is not remembered."""
        return self.for_equal(_identity(values), check, *values)

    def for_equal(self, identity: Hashable, check: Callable[..., T], *values: Any) -> T:
        """`check(*values)`, called once for equal identities."""
        key = check, identity
        if key not in self._results:
            # The values are kept, since an id is of one object only as long as it exists.
            self._results[key] = values, check(*values)
        result: T = self._results[key][1]
        return result


def _identity(values: tuple[Any, ...]) -> Any:
    """Equal for values that every check treats alike: 1, 1.0 and True are three values here."""
    try:
        return marshal.dumps(values)  # takes plain values only, nested ones included
    except ValueError:
        return tuple(map(_identity_of_one, values))


def _identity_of_one(value: Any) -> Any:
    try:
        return marshal.dumps(value)
    except ValueError:
        return id(value)


class EngineSupport(Protocol):
    """Which cells the native engine trains; `training.engines.support.NATIVE` is one."""

    def refusal(self, cell: Cell) -> str | None:
        """Why the engine does not train a cell; None if it does."""

    def decisive(self, cell: Cell) -> tuple[Any, ...]:
        """The settings that `refusal` depends on: cells that share them get the same answer."""


def validate_cell(
    raw: Mapping[str, Any],
    native: EngineSupport,
    memory: CheckCache | None = None,
    remote_devices: Sequence[str] | None = None,
    missing: Missing | None = None,
) -> tuple[Cell, Options]:
    """Validate a nested dict shaped like conf/config.yaml.

    `memory`, shared by the calls for one grid, makes each of them cheap.
    `elsewhere`: the device kinds, best first, of jobs that do not run on this machine.
    `missing` collects the options that the optimizer does not have; None: they are an error.
    Raises UsageError, one line, for the first key whose value is not allowed.
    """
    template = _template()
    if raw.keys() != template.keys():
        for key in raw:
            if key not in template:
                unknown_key(key, raw[key], known_keys(template))
        for key in template:
            if key not in raw:
                raise UsageError(f"{key} is missing; it cannot be removed, only changed")
    once = memory or CheckCache()
    node = raw["optimizer"]
    optimizer = once.for_equal(_identity((node,)), _optimizer, node, missing)
    values: dict[str, Any] = {
        "loss": once(_loss, raw["loss"]),
        "optimizer": optimizer,
        "activation": once(_activation, raw["activation"]),
        "lr": _lr(raw["lr"], optimizer),
        "batch": integer("batch", raw["batch"], 1, 1_000_000, "images per step"),
        "epochs": integer("epochs", raw["epochs"], 1, 100_000, "passes over the training images"),
        "seed": integer("seed", raw["seed"], 0, 2**32 - 1, "of the initial weights"),
        "shuffle": _boolean("shuffle", raw["shuffle"]),
        "dataset": once(_dataset, raw["dataset"], raw["holdout"]),
        "device": once(_device, raw["device"], remote_devices),
    }
    values["classes"] = once(classes_of, values["loss"], optimizer.name, values["activation"])
    cell = Cell(**values, engine="torch")  # which trains everything
    refusal = once.for_equal(native.decisive(cell), native.refusal, cell)
    engine = _engine(raw["engine"], refusal)
    cell = Cell(**values, engine=engine)
    # On an accelerator, users do not expect the CPU's engine.
    noted = refusal and raw["engine"] == "auto" and cell.device == "cpu"
    typed = itemgetter(*OPTION_KEYS)(raw)
    options = once(_options, raw["dataset"]["root"], refusal if noted else None, *typed)
    return cell, options


def _options(data_root: Any, refusal: str | None, *typed: Any) -> Options:
    raw = dict(zip(OPTION_KEYS, typed, strict=True))
    return Options(
        person=_text("person", raw["person"]) or _login_name(),
        workers=_workers(raw["workers"]),
        timeout=_timeout(raw["timeout"]),
        retries=integer("retries", raw["retries"], 0, 100, "more attempts for a run that failed"),
        reuse=_boolean("reuse", raw["reuse"]),
        dry_run=_boolean("dry_run", raw["dry_run"]),
        figures=choice("figures", raw["figures"], ("best", "all", "none")),
        rows=choice("rows", raw["rows"], ("settings", "cells")),
        report=_boolean("report", raw["report"]),
        out=_path("out", raw["out"]) or Path("outputs"),
        name=_name(raw["name"]),
        max_cells=integer("max_cells", raw["max_cells"], 1, MOST_CELLS, "the most cells"),
        data_root=_path("dataset.root", data_root),
        notes=(f"torch trains: {refusal}",) if refusal else (),
    )


def validate_cells(
    raws: Iterable[Mapping[str, Any]],
    native: EngineSupport,
    remote_devices: Sequence[str] | None = None,
    among: Iterable[str] = (),
) -> tuple[list[Cell], Options]:
    """The cell of each nested dict, or of each row of its study, and the options that they share.

    `elsewhere`: as for `settings`. `among`: optimizers that other cells of the same sweep have.

    An optimizer's option applies to the cells whose optimizer has it; `Options.unused` says which.
    Raises UsageError for a value that is not allowed, for an option that none of the optimizers
    has, and where something that holds for the whole sweep differs between the dicts.
    """
    memory = CheckCache()
    missing: Missing = {}
    cells: list[Cell] = []
    shared: Options | None = None
    seen: set[Options] = set()
    rows: list[Study] = []
    for raw in raws:  # one at a time: a large grid's raw settings take a hundred times its cells
        own: list[studies.StudyRow] = []
        for row in studies.parse_rows(raw):
            with row.named():
                cell, options = validate_cell(row.raw, native, memory, remote_devices, missing)
            cells.append(cell)
            if shared is None or options not in seen:
                shared = _merged(shared, options) if shared else options
                seen.add(options)
            if row.study:
                check_length(len(cells), shared.max_cells)
                own.append(row.of(cell))
                rows.append(replace(row.study, rows=(own[-1],)))
        if own:
            studies.reject_duplicates(own, rows[-1].title)
    if shared is None:
        raise UsageError("the grid has no cell: give each key at least one value")
    asked = studies.merge_studies(rows)
    if len(asked) > 1:
        raise UsageError("study has several values, and is one for the whole sweep; give one value")
    unused = (
        unused_options(missing, {*among, *(cell.optimizer.name for cell in cells)})
        if missing
        else ()
    )
    return cells, replace(shared, study=asked[0] if asked else None, unused=unused)


def unused_options(missing: Missing, optimizers: Collection[str]) -> tuple[str, ...]:
    """Sentences on the options that some of a sweep's optimizers do not have.

    Raises UsageError for an option that none of them has.
    """
    shared: dict[frozenset[str], list[str]] = {}
    for option, value in missing.items():
        having = frozenset(name for name in optimizers if option in OPTIMIZERS[name].options)
        if not having:
            unknown_option(option, value)
        shared.setdefault(having, []).append(f"optimizer.{option}")
    sentences = []
    for having, options in shared.items():
        apply, them = ("applies", "it") if len(options) == 1 else ("apply", "them")
        those = [name for name in OPTIMIZERS if name in having]
        others = [name for name in OPTIMIZERS if name in optimizers and name not in having]
        run = "runs" if len(others) == 1 else "run"
        sentences.append(
            f"{_listed(options)} {apply} to {_listed(those)} only; "
            f"{_listed(others)} {run} without {them}"
        )
    return tuple(sentences)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _merged(shared: Options, other: Options) -> Options:
    """The same options with the notes of both."""
    for field in fields(Options):
        same = getattr(other, field.name) == getattr(shared, field.name)
        if not same and field.name != "notes":
            key = "dataset.root" if field.name == "data_root" else field.name
            raise UsageError(
                f"{key} has several values, and is one for the whole sweep; give one value"
            )
    return replace(shared, notes=tuple(dict.fromkeys([*shared.notes, *other.notes])))


@cache
def _template() -> Raw:
    return defaults()


def _optimizer(node: Any, missing: Missing | None) -> Optimizer:
    name = choice("optimizer", _member(node, "optimizer", "name"), OPTIMIZERS)
    spec = OPTIMIZERS[name]
    given = _without_file_keys("optimizer", node)
    for key, value in given.items():
        if key not in spec.options:
            if missing is None or not any(key in other.options for other in OPTIMIZERS.values()):
                unknown_option(key, value)
            missing.setdefault(key, value)
    options = {
        key: _option(f"optimizer.{key}", given.get(key, option.default), option)
        for key, option in spec.options.items()
    }
    if conflict := spec.conflict(options):
        raise UsageError(conflict)
    return make_optimizer(name, tuple(options.items()))


def _option(key: str, value: Any, option: Option) -> float | bool | tuple[float, ...]:
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
    """The name of a group that has no options."""
    name = choice(group, _member(node, group, "name"), names)
    for key, value in _without_file_keys(group, node).items():
        unknown_key(f"{group}.{key}", value, [group])
    return name


def _without_file_keys(group: str, node: Mapping[str, Any]) -> Raw:
    """The settings of a group without what only its file in conf/ may set, such as the class.

    Raises UsageError if one of these was changed.
    """
    file = group_node(group, node["name"])
    settings = dict(node)
    for key in FILE_KEYS:
        value = settings.pop(key, file.get(key))
        if value != file.get(key):
            raise UsageError(
                f"{group}.{key}={format_value(value)}: only a file in conf/{group} sets {key}"
                + ("; the learning rate is the key lr" if key == "default_lr" else "")
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
        limit = integer("dataset.limit", limit, 1, 10**9, "the first training images to use")
    if holdout is not None:
        holdout = integer("holdout", holdout, 1, 10**9, "the last training images to hold out")
    return find_dataset(name, root, limit, holdout)


def _lr(value: Any, optimizer: Optimizer) -> float:
    if value is None:
        return OPTIMIZERS[optimizer.name].default_lr
    return _positive("lr", value, "a number above 0, the learning rate, for example lr=0.01")


def _device(value: Any, remote_devices: Sequence[str] | None) -> str:
    name = choice("device", value, ("auto", *devices.KINDS))
    available = devices.available_devices() if remote_devices is None else remote_devices
    if name == "auto":
        return available[0]
    if name not in available and remote_devices is not None:
        raise UsageError(
            f"device={name}: the jobs have {', '.join(available)}; "
            "hydra.launcher.gpus=1 gives each a GPU, which is cuda"
        )
    if name not in available:
        raise UsageError(
            f"device={name}: not on this machine; available here: {', '.join(available)}. "
            "Take one of these, or device=auto"
        )
    return name


def _engine(value: Any, refusal: str | None) -> str:
    name = choice("engine", value, ("auto", *ENGINE_VERSIONS))
    if name == "native" and refusal:
        raise UsageError(f"engine=native: {refusal}; take engine=torch or engine=auto")
    return ("torch" if refusal else "native") if name == "auto" else name


def _workers(value: Any) -> int | None:
    if value == "auto":
        return None
    number = finite(value)
    if number is None or not number.is_integer() or not 1 <= number <= 1024:
        reject("workers", value, "auto, or a whole number from 1 to 1024: runs at the same time")
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
        reject("name", value, "up to 100 letters, digits, '.', '_' or '-', not starting with '.'")
    device = r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?"  # there, a file of this name is a device
    if re.fullmatch(device, text, re.IGNORECASE) or text.endswith("."):
        reject("name", value, "a name that Windows takes for a folder too; add a letter to it")
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
        reject(key, value, "plain text; ${...} is not filled in here")
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
        reject(key, value, "the path of a folder; this one is too long for a disk")
    if "${" in text:
        reject(key, value, "a plain path; ${...} is not filled in here")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~name, of someone who is not known here
        reject(key, value, "the path of a folder; there is no such home folder")


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
    except (OSError, KeyError, ImportError):  # no entry in the user database, as in some containers
        return "unknown"
