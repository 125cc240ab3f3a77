"""What the native engine supports, which decides the engine of a cell when a sweep is planned.

This module is separate from the engine so that planning imports neither torch nor the extension.
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
Values = tuple[Any, ...] | Callable[[Any], bool] | None  # allowed values, a condition, or ANY


@dataclass(frozen=True)
class EngineSupport:
    """The allow-list of an engine. The torch engine trains everything else."""

    name: str
    settings: Mapping[str, Values]  # by field of Cell
    optimizers: Mapping[str, Mapping[str, Values]]  # by optimizer and option
    missing: Callable[[], str | None]  # why this installation lacks the engine, or None

    def refusal(self, cell: Cell) -> str | None:
        """Why this engine cannot train a cell; None if it can."""
        for key, value, allowed in self._settings(cell):
            if allowed is ANY or (allowed(value) if callable(allowed) else value in allowed):
                continue
            reason = f"the {self.name} engine does not support {key}={format_value(value)}"
            if isinstance(allowed, tuple) and allowed:
                reason += f" (only {', '.join(map(format_value, allowed))})"
            return reason
        return self.missing()

    def decisive(self, cell: Cell) -> tuple[Any, ...]:
        """The settings that `refusal` depends on; it is the same for cells that share them."""
        values: tuple[Any, ...] = self._decisive(cell)
        return values

    @cached_property
    def _decisive(self) -> attrgetter[tuple[Any, ...]]:
        listed = {key for key, allowed in self.settings.items() if allowed is ANY}
        if listed.issuperset(f"dataset.{part.name}" for part in fields(Dataset)):
            listed.add("dataset")
        return attrgetter(*(field.name for field in fields(Cell) if field.name not in listed))

    def _settings(self, cell: Cell) -> Iterator[tuple[str, Any, Values]]:
        """The key, the value and the allowed values of each setting of a cell."""
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
    """Why the native engine is not available and how to fix it; None if it is available."""
    try:
        from lenet_sweep.training.engines import _native  # noqa: F401, PLC0415 - only to see if it exists
    except ImportError as error:
        package = Path(__file__).absolute().parents[2]
        if hidden := _hidden_installation(package):
            folder = package.parent
            place, alternative = str(folder), ""
            if folder == Path.cwd():
                place, alternative = "the current folder", "run from another folder, or "
            return (
                f"Python imports {package}, which has no native engine, instead of the installed "
                f"{hidden}, because it searches {place} first; {alternative}install with "
                f"pip install -e {folder}"
            )
        return (
            f"this installation has no native engine ({error}); "
            "to build it, install lenet-sweep again with a C++ compiler"
        )
    return None


def _hidden_installation(package: Path) -> Path | None:
    """Another lenet_sweep on sys.path that has the native engine and is shadowed by `package`."""
    for entry in sys.path:
        other = Path(entry).absolute() / package.name
        extensions = (
            other / "training" / "engines" / f"_native{suffix}" for suffix in EXTENSION_SUFFIXES
        )
        if other != package and any(path.exists() for path in extensions):
            return other
    return None


NATIVE = EngineSupport(
    name="native",
    settings={
        "loss": ("cross_entropy", "nll"),  # the same function of the logits
        "activation": ("relu", "tanh"),
        "lr": ANY,
        "batch": ANY,
        "epochs": ANY,
        "seed": ANY,
        "shuffle": ANY,  # the caller passes the order and the images
        "dataset.name": ANY,
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
            # Padding is updated too, by 0 / (0 + eps), which is NaN if eps is flushed to zero.
            "eps": lambda eps: eps >= 2**-126,
            "weight_decay": ANY,
            "amsgrad": (False,),
            "decoupled_weight_decay": (False,),
            "maximize": (False,),
        },
    },
    missing=missing,
)
