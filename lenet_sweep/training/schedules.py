"""Learning rate schedules: the learning rate of each step of a run, relative to `lr`.

Each schedule is a pure function of the step, so a resumed run needs no state of a schedule, and all
engines train with the same learning rates. The formulas are those of torch.optim.lr_scheduler;
`torch_schedules` has the schedules of users, which are classes of that module.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.config.registry import torch_class
from lenet_sweep.core.cells import Cell

Floats = NDArray[np.float64]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Steps:
    """Steps of a run after its warmup: their numbers and epochs, both (n,) and counted from 0.

    total: the number of steps after the warmup until the end of the run.
    """

    number: Floats
    epoch: Floats
    total: int


Formula = Callable[[Options, Steps], Floats]  # returns the factors (n,)


def learning_rates(cell: Cell, first: int, count: int, steps_per_epoch: int) -> Floats:
    """The learning rates of `count` steps of a cell from step `first`, counted from 0."""
    if torch_class(cell, "schedule"):
        from lenet_sweep.training.torch_schedules import scheduler_rates  # noqa: PLC0415 - torch is slow

        return scheduler_rates(cell, first, count, steps_per_epoch)
    options, epochs = dict(cell.schedule.options), cell.horizon or cell.epochs
    return cell.lr * lr_factors(cell.schedule.name, options, first, count, steps_per_epoch, epochs)


def lr_factors(
    name: str, options: Options, first: int, count: int, steps_per_epoch: int, epochs: int
) -> Floats:
    """The factors of the learning rate for `count` steps from step `first`, counted from 0.

    During the option `warmup`, in epochs, the learning rate rises linearly to `lr`. The schedule
    covers the remaining steps of all `epochs`, as with torch's SequentialLR.
    """
    warmup = round(options.get("warmup", 0) * steps_per_epoch)
    steps = np.arange(first, first + count, dtype=np.float64)
    after = np.maximum(steps - warmup, 0)
    total = max(epochs * steps_per_epoch - warmup, 1)
    factors = FORMULAS[name](options, Steps(after, after // steps_per_epoch, total))
    result: Floats = np.where(steps < warmup, (steps + 1) / max(warmup, 1), factors)
    return result


def _constant(_: Options, at: Steps) -> Floats:
    return np.ones_like(at.number)


def _step(options: Options, at: Steps) -> Floats:
    return float(options["gamma"]) ** (at.epoch // float(options["step_size"]))


def _multistep(options: Options, at: Steps) -> Floats:
    milestones = sorted(options["milestones"])
    passed = np.array([bisect_right(milestones, epoch) for epoch in at.epoch])
    return float(options["gamma"]) ** passed.astype(np.float64)


def _exponential(options: Options, at: Steps) -> Floats:
    return float(options["gamma"]) ** at.epoch


def _cosine(options: Options, at: Steps) -> Floats:
    return _anneal(1.0, float(options["final"]), at.number / at.total)


def _cosine_restarts(options: Options, at: Steps) -> Floats:
    growth = float(options["growth"])
    start = np.zeros_like(at.epoch)
    period = np.full_like(at.epoch, float(options["period"]))
    while (ended := at.epoch >= start + period).any():
        start = np.where(ended, start + period, start)
        period = np.where(ended, period * growth, period)
    return _anneal(1.0, float(options["final"]), (at.epoch - start) / period)


def _linear(options: Options, at: Steps) -> Floats:
    return 1 + (float(options["final"]) - 1) * at.number / at.total


def _polynomial(options: Options, at: Steps) -> Floats:
    return (1 - at.number / at.total) ** float(options["power"])


def _one_cycle(options: Options, at: Steps) -> Floats:
    start = 1 / float(options["div_factor"])
    end = start / float(options["final_div_factor"])
    peak = float(options["pct_start"]) * at.total - 1
    rising = _anneal(start, 1.0, at.number / peak) if peak > 0 else np.ones_like(at.number)
    falling = _anneal(1.0, end, (at.number - peak) / max(at.total - 1 - peak, 1))
    return np.where(at.number <= peak, rising, falling)


def _anneal(start: float, end: float, share: Floats) -> Floats:
    """From `start` at 0 to `end` at 1, along half a period of a cosine."""
    return end + (start - end) * (1 + np.cos(np.pi * share)) / 2


FORMULAS: Mapping[str, Formula] = {
    "constant": _constant,
    "step": _step,
    "multistep": _multistep,
    "exponential": _exponential,
    "cosine": _cosine,
    "cosine_restarts": _cosine_restarts,
    "linear": _linear,
    "polynomial": _polynomial,
    "one_cycle": _one_cycle,
}
