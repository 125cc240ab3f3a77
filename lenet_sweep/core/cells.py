"""Cells: the points of a grid, with their datasets, options and ids."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from lenet_sweep.core.text import format_option, format_setting

# Increase an engine's version whenever its results for the same settings change. Runs of older
# versions are then retrained instead of being mixed with new ones.
ENGINE_VERSIONS: Mapping[str, int] = {"native": 3, "torch": 1}

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


OptionValue = float | bool | str | tuple[float, ...]  # also int, for the models of users


@dataclass(frozen=True)
class Choice:
    """A choice of a group, such as an optimizer, with a value for each of its options.

    The options are in the order of the registry; `defaults` holds the default of each. Use
    `config.registry.make_choice` to create one.
    """

    name: str
    options: tuple[tuple[str, OptionValue], ...]
    defaults: tuple[tuple[str, OptionValue], ...] = field(compare=False, repr=False)

    @cached_property
    def changed(self) -> dict[str, OptionValue]:
        """The options that differ from their defaults."""
        defaults = dict(self.defaults)
        return {name: value for name, value in self.options if value != defaults[name]}

    def __str__(self) -> str:
        """The name and the changed options, such as 'sgd momentum=0.9'."""
        changed = (f"{k}={format_option(value)}" for k, value in self.changed.items())
        return " ".join([self.name, *changed])


# The defaults of groups with options, as in the folders of conf/ with these names.
LENET5 = Choice("lenet5", (), ())
MAX_POOL = Choice("max", (), ())
TORCH_INIT = Choice("torch", (), ())
NO_AUGMENTATION = Choice("none", (), ())
CONSTANT = Choice("constant", (("warmup", 0.0),), (("warmup", 0.0),))
# Settings that only the models of this package have. In cells of other models they have these
# values, which mean nothing.
NETWORK_SETTINGS: Mapping[str, Any] = {
    "activation": "relu", "pool": MAX_POOL, "width": 1.0, "batch_norm": False, "dropout": 0.0,
}  # fmt: skip

MNIST_SIZE = (28, 28)  # height and width of the images of MNIST in pixels


@dataclass(frozen=True)
class Dataset:
    """The images that a cell is trained and tested on."""

    name: str  # a dataset of the catalog, "folder" or "image_folder"
    digest: str  # hex; constant for datasets of the catalog, computed from the user's own files
    limit: int | None = None  # use only the first `limit` training images; None: all
    holdout: int | None = None  # hold out the last `holdout` of those from training
    # These were added later. At their defaults, they are neither part of the run id nor stored.
    classes: int = 10  # the labels are 0 to classes - 1
    size: tuple[int, int] = MNIST_SIZE  # height and width of the images in pixels

    @property
    def size_text(self) -> str:
        """The size of the images, such as '28 x 28'."""
        return " x ".join(map(str, self.size))

    def to_json(self) -> dict[str, Any]:
        """The dataset as JSON values; `dataset_from_json` is the inverse."""
        values = _values(self)
        for name in ("classes", "size"):
            if values[name] == self.__dataclass_fields__[name].default:
                del values[name]
        return values


def dataset_from_json(values: Mapping[str, Any]) -> Dataset:
    """The dataset that `Dataset.to_json` wrote. Raises TypeError for other values."""
    size = {"size": tuple(values["size"])} if "size" in values else {}
    return Dataset(**{**values, **size})


@dataclass(frozen=True)
class Cell:
    """One point of the grid, which is one row of the table.

    Two cells are equal if and only if they must give the same results; `lr=0.1`, `1e-1` and `.1`
    are the same cell. Cells are not validated here; `lenet_sweep.sweep` and the command line do
    that.
    """

    loss: Choice
    optimizer: Choice
    activation: str
    lr: float
    batch: int
    epochs: int
    seed: int
    shuffle: bool
    dataset: Dataset
    device: str
    engine: str
    # The settings from here on were added later. At their defaults, they are neither part of the
    # run id nor stored, so that earlier runs keep their ids.
    model: Choice = LENET5
    pool: Choice = MAX_POOL
    width: float = 1.0
    batch_norm: bool = False
    dropout: float = 0.0
    init: Choice = TORCH_INIT
    normalize: str = "none"
    augment: Choice = NO_AUGMENTATION
    schedule: Choice = CONSTANT
    clip_norm: float | None = None
    patience: int | None = None  # epochs without a better accuracy until the run ends
    # The number of epochs that the schedule is made for; None if it does not depend on it.
    horizon: int | None = None
    # The torch classes of parts that do not come with this package: (("optimizer", "RMSprop"),).
    classes: tuple[tuple[str, str], ...] = ()
    # The digest (hex) of the source of a model that does not come with this package; else "".
    model_source: str = ""

    @cached_property
    def run_id(self) -> str:
        """16 hex digits that identify all settings except `epochs`, and the engine's version."""
        settings = self.to_json()
        del settings["epochs"]
        # Options at their defaults are left out, so that an option added later, by torch or by
        # this package, does not change the ids of existing runs.
        if self.dataset.holdout is None:
            del settings["dataset"]["holdout"]
        settings["optimizer"] = [self.optimizer.name, self._identifying_options("optimizer")]
        for name in ("loss", *settings.keys() & OPTIONAL_FIELDS.keys()):
            value = getattr(self, name)
            if isinstance(value, Choice) and (options := self._identifying_options(name)):
                settings[name] = [value.name, options]
        settings["engine"] = [self.engine, self._engine_version]
        return hashlib.sha256(_CANONICAL.encode(settings).encode()).hexdigest()[:16]

    def _identifying_options(self, group: str) -> dict[str, OptionValue]:
        """The options of a choice that are part of the run id."""
        choice: Choice = getattr(self, group)
        # A file may change, so all options count.
        if group in dict(self.classes) or (group == "model" and self.model_source):
            return dict(choice.options)
        return choice.changed

    @property
    def _engine_version(self) -> int:
        # Both engines now flush subnormal floats to zero on the CPU. This changes results only if
        # weights decay to such values, or if eps, which bounds Adam's divisor from below, is close
        # to them.
        changed = self.device == "cpu" and not {"weight_decay", "eps"}.isdisjoint(
            self.optimizer.changed
        )
        return ENGINE_VERSIONS[self.engine] + changed

    @property
    def id(self) -> str:
        """The run id and the epochs, as in the last column of the table and in file names."""
        return f"{self.run_id}-e{self.epochs}"

    @property
    def setting(self) -> Cell:
        """The representative of all cells that differ only in the seed."""
        return replace(self, seed=0)

    def with_value(self, name: str, value: float) -> Cell:
        """The same cell with another number; a schedule that depends on the epochs follows them."""
        changes: dict[str, Any] = {name: value}
        if name == "epochs" and self.horizon is not None:
            changes["horizon"] = value
        return replace(self, **changes)

    def uses_test_set_of(self, other: Cell) -> bool:
        """Whether two cells have the same test images, so that their results can be compared."""
        first, second = self.dataset, other.dataset
        return (first.digest, first.classes) == (second.digest, second.classes)

    @property
    def data(self) -> str:
        """The dataset and how it is used, such as 'mnist' or 'mnist first 6000, shuffled'."""
        height, width = self.dataset.size
        size = "" if self.dataset.size == MNIST_SIZE else f" {height}x{width}"
        limit = "" if self.dataset.limit is None else f" first {self.dataset.limit}"
        holdout = "" if self.dataset.holdout is None else f" less {self.dataset.holdout}"
        return self.dataset.name + size + limit + holdout + (", shuffled" if self.shuffle else "")

    @property
    def description(self) -> str:
        """The settings for a figure's caption, such as 'nll + adam, lr 0.001, batch 64, ...'."""
        activation = "" if self.activation == "relu" else f", {self.activation}"
        changed = "".join(f", {describe_optional(k, v)}" for k, v in self.changed_settings.items())
        settings = f"lr {self.lr:g}, batch {self.batch}, epochs {self.epochs}, seed {self.seed}"
        return f"{self.loss} + {self.optimizer}{activation}{changed}, {settings}, {self.data}"

    @property
    def file_name(self) -> str:
        """A readable, unique name: 'nll-adam-tanh_lr0.001_batch64_epochs10_seed0_1f3a9c2e'.

        It has no path separators, even if the settings come from someone else.
        """
        activation = "" if self.activation == "relu" else f"-{self.activation}"
        changed = "".join(
            f"-{value.name if isinstance(value, Choice) else describe_optional(key, value)}"
            for key, value in self.changed_settings.items()
        ).replace(" ", "")
        name = (
            f"{self.loss.name}-{self.optimizer.name}{activation}{changed[:80]}_lr{self.lr:g}"
            f"_batch{self.batch}_epochs{self.epochs}_seed{self.seed}_{self.run_id[:8]}"
        )
        return re.sub(r"[^\w.+=,-]", "_", name)

    @property
    def changed_settings(self) -> dict[str, Any]:
        """The settings in OPTIONAL_SETTINGS that differ from their defaults."""
        return {
            name: getattr(self, name) for name in OPTIONAL_SETTINGS if not self._has_default(name)
        }

    def has_setting(self, name: str) -> bool:
        """Whether the model of this cell has a setting, such as 'dropout'."""
        return not (self.model_source and name in NETWORK_SETTINGS)

    def _has_default(self, name: str) -> bool:
        """Whether a field of OPTIONAL_FIELDS has its default."""
        value, default = getattr(self, name), OPTIONAL_FIELDS[name]
        if value == default or not isinstance(value, Choice):
            return bool(value == default)
        return value.name == default.name and not self._identifying_options(name)

    def to_json(self) -> dict[str, Any]:
        """The cell as JSON values; `config.registry.cell_from_json` is the inverse."""
        values = _values(self) | {
            "optimizer": self._choice_json("optimizer"),
            "dataset": self.dataset.to_json(),
        }
        for name, default in OPTIONAL_FIELDS.items():
            if values[name] == default or self._has_default(name):
                del values[name]
        for name in ("loss", *values.keys() & OPTIONAL_FIELDS.keys()):
            if isinstance(values[name], Choice):
                values[name] = self._short_json(name)
        return values

    def _short_json(self, group: str) -> str | dict[str, Any]:
        """A choice as JSON; without changed options, its name."""
        has_options = self._identifying_options(group)
        return self._choice_json(group) if has_options else str(getattr(self, group).name)

    def _choice_json(self, group: str) -> dict[str, Any]:
        choice: Choice = getattr(self, group)
        values: dict[str, Any] = {"name": choice.name, "options": choice.options}
        if self.classes or (group == "model" and self.model_source):
            values["defaults"] = choice.defaults
        return values


# The fields of Cell that have a default. Cells that were stored before a field existed lack it.
OPTIONAL_FIELDS = {
    field.name: field.default for field in fields(Cell) if field.default is not MISSING
}
# Those that are settings, with their defaults. Each is a column of the table, by its name.
OPTIONAL_SETTINGS: Mapping[str, Any] = {
    name: default
    for name, default in OPTIONAL_FIELDS.items()
    if name not in ("horizon", "classes", "model_source")
}
# The values of their columns at these defaults: of a choice, the name.
OPTIONAL_COLUMNS: Mapping[str, Any] = {
    name: default.name if isinstance(default, Choice) else default
    for name, default in OPTIONAL_SETTINGS.items()
}


def describe_optional(name: str, value: Any) -> str:
    """A setting of OPTIONAL_SETTINGS in a line of text: 'cosine', 'clip_norm 1', 'no clip_norm'."""
    if isinstance(value, Choice) and value.name != "none":
        return f"{name} {value}" if name in ("pool", "init") else str(value)
    if value is None or value is False or isinstance(value, Choice):
        return f"no {name}"
    return name if value is True else f"{name} {format_setting(value)}"


def _values(item: Cell | Dataset) -> dict[str, Any]:
    # dataclasses.asdict copies every value recursively, which takes 12 times as long.
    return {name: getattr(item, name) for name in item.__dataclass_fields__}
