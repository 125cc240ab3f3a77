"""Schedules that are classes of torch.optim.lr_scheduler, from the files of users.

torch's scheduler steps on a parameter of its own. Its learning rates therefore depend only on the
cell: they are the same for every engine, and after a run resumes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from lenet_sweep.config.registry import file_setting, torch_class
from lenet_sweep.config.torch_classes import torch_arguments
from lenet_sweep.core.cells import Cell


class SchedulerRates:
    """The learning rates of torch's scheduler, computed as far as they are needed."""

    def __init__(self, cell: Cell, steps_per_epoch: int) -> None:
        arguments = torch_arguments(dict(cell.schedule.options))
        self.by_step = file_setting(cell, "schedule", "interval") == "step"
        if cell.horizon is not None:
            total = cell.horizon * steps_per_epoch if self.by_step else cell.horizon
            arguments[str(file_setting(cell, "schedule", "horizon"))] = total
        self._optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=cell.lr)
        scheduler_class = getattr(torch.optim.lr_scheduler, torch_class(cell, "schedule"))
        self._scheduler = scheduler_class(self._optimizer, **arguments)
        self._rates = [self._rate()]

    def _rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def until(self, number: int) -> NDArray[np.float64]:
        """The learning rates of the first `number` epochs or steps, at least."""
        while len(self._rates) < number:
            self._optimizer.step()  # torch warns if a scheduler steps before its optimizer
            self._scheduler.step()
            self._rates.append(self._rate())
        return np.array(self._rates)


_rates_of = lru_cache(maxsize=1)(SchedulerRates)  # a worker trains one run at a time


def scheduler_rates(
    cell: Cell, first: int, count: int, steps_per_epoch: int
) -> NDArray[np.float64]:
    """The learning rates of `count` steps of a cell from step `first`, counted from 0."""
    rates = _rates_of(cell, steps_per_epoch)
    steps = np.arange(first, first + count)
    numbers = steps if rates.by_step else steps // steps_per_epoch
    return rates.until(int(numbers.max(initial=0)) + 1)[numbers]
