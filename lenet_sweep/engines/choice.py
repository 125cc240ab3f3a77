"""Which engine trains a cell. It is decided before training, since it is part of the cell.

What the native engine supports is declared here and not beside its code, so that planning a sweep
imports neither torch nor the extension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from lenet_sweep.cells import Cell
from lenet_sweep.keys import show

ANY = None
Values = tuple[Any, ...] | Callable[[Any], bool] | None  # these values, a condition, or ANY


@dataclass(frozen=True)
class Supported:
    """What an engine trains, as an allow-list: whatever is not listed, torch trains."""

    settings: Mapping[str, Values]  # the fields of a Cell
    optimizers: Mapping[str, Mapping[str, Values]]  # their names, each with its options


NATIVE = Supported(
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
)


def refusal(cell: Cell) -> str | None:
    """Why the native engine does not train a cell; None if it does."""
    for key, value, allowed in _settings(cell, NATIVE):
        if allowed is ANY or (allowed(value) if callable(allowed) else value in allowed):
            continue
        reason = f"the native engine does not support {key}={show(value)}"
        if isinstance(allowed, tuple) and allowed:
            reason += f" (only {', '.join(map(show, allowed))})"
        return reason
    return missing()


def _settings(cell: Cell, supported: Supported) -> Iterator[tuple[str, Any, Values]]:
    """Every setting of a cell: its key, its value, and the values that are supported."""
    names = tuple(supported.optimizers)
    options = supported.optimizers.get(cell.optimizer.name, {})
    for field in fields(cell):
        value = getattr(cell, field.name)
        if field.name == "optimizer":
            yield "optimizer", value.name, names
            for option, chosen in value.options:
                yield f"optimizer.{option}", chosen, options.get(option, ())
        elif field.name == "dataset":
            for part in fields(value):
                key = f"dataset.{part.name}"
                yield key, getattr(value, part.name), supported.settings.get(key, ())
        else:
            yield field.name, value, supported.settings.get(field.name, ())


@cache
def missing() -> str | None:
    """Why there is no native engine in this installation; None if there is one."""
    try:
        from lenet_sweep.engines import _native  # noqa: F401, PLC0415
    except ImportError as error:
        return (
            f"the native engine is not in this installation ({error}); "
            "with a C++ compiler, installing again builds it"
        )
    return None
