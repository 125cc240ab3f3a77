"""Cells, the runs that yield them, and the plan: what is still to be trained, in which order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from lenet_sweep.core.text import format_option

# An engine's number is raised whenever its results for the same settings change: runs of an
# older number are then trained again instead of being mixed with new ones.
ENGINE_VERSIONS: Mapping[str, int] = {"native": 2, "torch": 1}

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


OptionValue = float | bool | tuple[float, ...]


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with a value for each of its options, in the order of the registry.

    defaults: the default of each option. Create one with `config.registry.make_optimizer`.
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
        """Name and changed options: 'sgd momentum=0.9'."""
        changed = (f"{k}={format_option(value)}" for k, value in self.changed.items())
        return " ".join([self.name, *changed])


@dataclass(frozen=True)
class Dataset:
    """Which images a cell is trained and tested on."""

    name: str  # a dataset of the catalog, or "folder"
    digest: str  # hex; a constant for datasets of the catalog, computed from the files of "folder"
    limit: int | None = None  # train on the first `limit` training images only; None: all
    holdout: int | None = None  # of those, the number of last images to hold out of training


@dataclass(frozen=True)
class Cell:
    """One point of the grid and one row of the table.

    Two cells are equal exactly when they must give the same numbers; `lr=0.1`, `1e-1` and `.1`
    are one cell. Build them through `lenet_sweep.sweep` or the command line, which validate.
    """

    loss: str
    optimizer: Optimizer
    activation: str
    lr: float
    batch: int
    epochs: int
    seed: int
    shuffle: bool
    dataset: Dataset
    device: str
    engine: str

    @cached_property
    def run_id(self) -> str:
        """16 hex digits over everything but `epochs`, with the engine's version."""
        settings = self.to_json()
        del settings["epochs"]
        # Without options at their defaults, an option that torch adds later orphans no result.
        if self.dataset.holdout is None:  # likewise what this package added later
            del settings["dataset"]["holdout"]
        settings["optimizer"] = [self.optimizer.name, self.optimizer.changed]
        settings["engine"] = [self.engine, self._engine_version]
        return hashlib.sha256(_CANONICAL.encode(settings).encode()).hexdigest()[:16]

    @property
    def _engine_version(self) -> int:
        # Subnormal floats now count as zero on the CPU. That changes results only if weights decay
        # to such values, or if eps, the smallest number that Adam divides by, is close to them.
        changed = self.device == "cpu" and not {"weight_decay", "eps"}.isdisjoint(
            self.optimizer.changed
        )
        return ENGINE_VERSIONS[self.engine] + changed

    @property
    def id(self) -> str:
        """Run id and epoch: what the table's last column and the file names show."""
        return f"{self.run_id}-e{self.epochs}"

    @property
    def setting(self) -> Cell:
        """The cell that stands for all that differ from it in nothing but their seed."""
        return replace(self, seed=0)

    @property
    def data(self) -> str:
        """How the dataset is fed, in words: 'mnist', 'mnist first 6000, shuffled'."""
        limit = "" if self.dataset.limit is None else f" first {self.dataset.limit}"
        holdout = "" if self.dataset.holdout is None else f" less {self.dataset.holdout}"
        return self.dataset.name + limit + holdout + (", shuffled" if self.shuffle else "")

    @property
    def description(self) -> str:
        """What a figure's reader needs to know: 'nll + adam, lr 0.001, batch 64, epochs 10'."""
        activation = "" if self.activation == "relu" else f", {self.activation}"
        settings = f"lr {self.lr:g}, batch {self.batch}, epochs {self.epochs}, seed {self.seed}"
        return f"{self.loss} + {self.optimizer}{activation}, {settings}, {self.data}"

    @property
    def file_name(self) -> str:
        """Readable and unique: 'nll-adam-tanh_lr0.001_batch64_epochs10_seed0_1f3a9c2e'."""
        activation = "" if self.activation == "relu" else f"-{self.activation}"
        return (
            f"{self.loss}-{self.optimizer.name}{activation}_lr{self.lr:g}_batch{self.batch}"
            f"_epochs{self.epochs}_seed{self.seed}_{self.run_id[:8]}"
        )

    def to_json(self) -> dict[str, Any]:
        """The cell as plain JSON values; `config.registry.cell_from_json` reads it back."""
        optimizer = {"name": self.optimizer.name, "options": self.optimizer.options}
        return _values(self) | {"optimizer": optimizer, "dataset": _values(self.dataset)}


def _values(item: Cell | Dataset) -> dict[str, Any]:
    # asdict copies what it finds, down to each number: a dozen times as long.
    return {name: getattr(item, name) for name in item.__dataclass_fields__}


@dataclass(frozen=True)
class Run:
    """One training trajectory still to be trained, and the epochs to read it out at.

    `cell` is the run's longest cell; `snapshot_epochs` ascend and end with `cell.epochs`.
    """

    cell: Cell
    snapshot_epochs: tuple[int, ...]

    @property
    def id(self) -> str:
        return self.cell.run_id

    def cells(self) -> list[Cell]:
        """The cells that this run yields, shortest first."""
        return [replace(self.cell, epochs=epochs) for epochs in self.snapshot_epochs]


@dataclass(frozen=True)
class Plan:
    """What a sweep consists of: its distinct cells, and the runs that are missing for them."""

    cells: tuple[Cell, ...]
    duplicates: int
    finished: int
    runs: tuple[Run, ...]

    @property
    def epochs(self) -> int:
        """Epochs to train, at most: a run that was cut needs fewer."""
        return sum(run.cell.epochs for run in self.runs)

    @cached_property
    def by_id(self) -> dict[str, Run]:
        """The runs by their ids."""
        return {run.id: run for run in self.runs}


def make_plan(cells: Iterable[Cell], is_finished: Callable[[Cell], bool]) -> Plan:
    """Merge equal cells, drop finished ones, gather the rest into runs, longest run first.

    Longest first keeps all workers busy to the end (Graham 1969, LPT scheduling).
    """
    given = list(cells)
    distinct = list(dict.fromkeys(given))
    missing: dict[str, list[Cell]] = {}
    for cell in distinct:
        if not is_finished(cell):
            missing.setdefault(cell.run_id, []).append(cell)
    runs = [
        Run(max(group, key=lambda c: c.epochs), tuple(sorted(c.epochs for c in group)))
        for group in missing.values()
    ]
    # A small rate leaves more units active, which cost the native engine up to a sixth: as above.
    runs.sort(key=lambda run: (-run.cell.epochs * relative_epoch(run.cell), run.cell.lr))
    finished = len(distinct) - sum(len(run.snapshot_epochs) for run in runs)
    return Plan(tuple(distinct), len(given) - len(distinct), finished, tuple(runs))


def relative_epoch(cell: Cell) -> float:
    """How long an epoch takes, of cells that differ in their settings alone; in no unit.

    Measured on one core: an epoch costs its images plus about 16 images' worth per step.
    """
    images = (cell.dataset.limit or 60_000) - (cell.dataset.holdout or 0)
    return images * (1 + 16 / cell.batch)


# How settings are said in a line of text; what is cut first, where space is short, stands last.
SETTING_FORMATS: Mapping[str, str] = {
    "lr": "lr {:g}",
    "batch": "batch {}",
    "epochs": "epochs {}",
    "optimizer": "{}",
    "loss": "{}",
    "activation": "{}",
    "seed": "seed {}",
    "data": "{}",
    "device": "{}",
    "engine": "{}",
}


def short_names(
    cells: Iterable[Cell], *, epochs: bool = True, between: str = ", "
) -> dict[Cell, str]:
    """A short name for each cell: the settings that tell them apart, 'lr 0.1, batch 64'.

    epochs: False names their runs, which have no epochs of their own.
    """
    cells = list(cells)
    values = {name: {getattr(cell, name) for cell in cells} for name in SETTING_FORMATS}
    names = [
        name for name in SETTING_FORMATS if len(values[name]) > 1 and (epochs or name != "epochs")
    ]
    pairs = {(cell.optimizer, cell.loss) for cell in cells}
    if "optimizer" in names and len(pairs) == len(values["optimizer"]):
        names = [name for name in names if name != "loss"]  # recipes: the optimizer says it all
    names = names or ["lr", "batch"]
    texts = {
        name: {value: SETTING_FORMATS[name].format(value) for value in values[name]}
        for name in names
    }
    return {
        cell: between.join(texts[name][getattr(cell, name)] for name in names) for cell in cells
    }
