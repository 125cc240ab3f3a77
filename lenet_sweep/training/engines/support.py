"""Which engine trains a cell. It is decided before training, since it is part of the cell.

What the native engine supports is declared here and not beside its code, so that planning a sweep
imports neither torch nor the extension.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from importlib.machinery import EXTENSION_SUFFIXES
from operator import attrgetter
from pathlib import Path
from typing import Any

from lenet_sweep.core.cells import Cell, Dataset
from lenet_sweep.core.text import format_value

ANY = None
Values = tuple[Any, ...] | Callable[[Any], bool] | None  # these values, a condition, or ANY


@dataclass(frozen=True)
class EngineSupport:
    """What an engine trains, as an allow-list: the torch engine trains everything else."""

    name: str
    settings: Mapping[str, Values]  # the fields of a Cell
    optimizers: Mapping[str, Mapping[str, Values]]  # their names, each with its options
    missing: Callable[[], str | None]  # why this installation does not have the engine

    def refusal(self, cell: Cell) -> str | None:
        """Why this engine does not train a cell; None if it does."""
        for key, value, allowed in self._settings(cell):
            if allowed is ANY or (allowed(value) if callable(allowed) else value in allowed):
                continue
            reason = f"the {self.name} engine does not support {key}={format_value(value)}"
            if isinstance(allowed, tuple) and allowed:
                reason += f" (only {', '.join(map(format_value, allowed))})"
            return reason
        return self.missing()

    def decisive(self, cell: Cell) -> tuple[Any, ...]:
        """The settings that `refusal` depends on: cells that share them get the same answer."""
        values: tuple[Any, ...] = self._decisive(cell)
        return values

    @cached_property
    def _decisive(self) -> attrgetter[tuple[Any, ...]]:
        listed = {key for key, allowed in self.settings.items() if allowed is ANY}
        if listed.issuperset(f"dataset.{part.name}" for part in fields(Dataset)):
            listed.add("dataset")
        return attrgetter(*(field.name for field in fields(Cell) if field.name not in listed))

    def _settings(self, cell: Cell) -> Iterator[tuple[str, Any, Values]]:
        """Every setting of a cell: its key, its value, and the values that are supported."""
        options = self.optimizers.get(cell.optimizer.name, {})
        for field in fields(cell):
            value = getattr(cell, field.name)
            if field.name == "optimizer":
                yield "optimizer", value.name, tuple(self.optimizers)
                for option, chosen in value.options:
                    yield f"optimizer.{option}", chosen, options.get(option, ())
            elif field.name == "dataset":
                for part in fields(value):
                    key = f"dataset.{part.name}"
                    yield key, getattr(value, part.name), self.settings.get(key, ())
            else:
                yield field.name, value, self.settings.get(field.name, ())


@cache
def missing() -> str | None:
    """Why there is no native engine here, and what to do; None if there is one."""
    try:
        from lenet_sweep.training.engines import _native  # noqa: F401, PLC0415
    except ImportError as error:
        package = Path(__file__).absolute().parents[2]
        if hidden := _hidden_installation(package):
            folder = package.parent
            place, leave = str(folder), ""
            if folder == Path.cwd():
                place, leave = "the current folder", "run from another folder, or "
            return (
                f"Python imports {package}, which has no native engine, instead of the installed "
                f"{hidden}, because it looks in {place} first; {leave}install with "
                f"pip install -e {folder}"
            )
        return (
            f"the native engine is not in this installation ({error}); "
            "with a C++ compiler, installing again builds it"
        )
    return None


def _hidden_installation(package: Path) -> Path | None:
    """Another lenet_sweep on Python's path, with the native engine, that `package` hides."""
    for entry in sys.path:
        other = Path(entry).absolute() / package.name
        built = (
            other / "training" / "engines" / f"_native{suffix}" for suffix in EXTENSION_SUFFIXES
        )
        if other != package and any(path.exists() for path in built):
            return other
    return None


NATIVE = EngineSupport(
    name="native",
    settings={
        "loss": ("cross_entropy", "nll"),  # one function, so the engine does not read it
        "activation": ("relu", "tanh"),
        "lr": ANY,
        "batch": ANY,
        "epochs": ANY,
        "seed": ANY,
        "shuffle": ANY,  # the caller passes the order of the images
        "dataset.name": ANY,  # and the images
        "dataset.digest": ANY,
        "dataset.limit": ANY,
        "dataset.holdout": ANY,
        "device": ("cpu",),
        "engine": ANY,
        "classes": ((),),
    },
    optimizers={
        "sgd": {
            "momentum": ANY,
            "dampening": ANY,
            "weight_decay": ANY,
            "nesterov": ANY,
            "maximize": (False,),
        },
        "adam": {
            "betas": ANY,
            # It updates padding too, 0 / (0 + eps); below this, eps is not a normal float.
            "eps": lambda eps: eps >= 2**-126,
            "weight_decay": ANY,
            "amsgrad": (False,),
            "decoupled_weight_decay": (False,),
            "maximize": (False,),
        },
    },
    missing=missing,
)
