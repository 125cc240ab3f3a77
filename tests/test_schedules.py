"""Learning rate schedules, compared with those of torch."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import SGD, lr_scheduler

from lenet_sweep.config.grids import grid
from lenet_sweep.config.registry import GROUPS, make_choice
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import CONSTANT
from lenet_sweep.core.errors import UsageError
from lenet_sweep.results.csv_file import read_records_csv, write_csv
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.results.records import settings_columns
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.training.schedules import FORMULAS, learning_rates, lr_factors

EXACT = {"rtol": 1e-6, "atol": 1e-9}  # torch computes most schedules recursively

# name: (options, torch's scheduler for a number of steps, whether it advances once an epoch)
SCHEDULES: dict[str, tuple[dict, Callable, bool]] = {
    "constant": ({}, lambda o, _: lr_scheduler.ConstantLR(o, 1.0), False),
    "step": (
        {"step_size": 3, "gamma": 0.5}, lambda o, _: lr_scheduler.StepLR(o, 3, 0.5), True,
    ),
    "multistep": (
        {"milestones": (4, 2, 4), "gamma": 0.5},
        lambda o, _: lr_scheduler.MultiStepLR(o, [4, 2, 4], 0.5), True,
    ),
    "exponential": ({"gamma": 0.9}, lambda o, _: lr_scheduler.ExponentialLR(o, 0.9), True),
    "cosine": (
        {"final": 0.1}, lambda o, total: lr_scheduler.CosineAnnealingLR(o, total, 0.1), False,
    ),
    "cosine_restarts": (
        {"period": 2, "growth": 2, "final": 0.1},
        lambda o, _: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 2, 0.1), True,
    ),
    "linear": (
        {"final": 0.2}, lambda o, total: lr_scheduler.LinearLR(o, 1.0, 0.2, total), False,
    ),
    "polynomial": (
        {"power": 2.0}, lambda o, total: lr_scheduler.PolynomialLR(o, total, 2.0), False,
    ),
    "one_cycle": (
        {"pct_start": 0.3, "div_factor": 25.0, "final_div_factor": 1e4},
        lambda o, total: lr_scheduler.OneCycleLR(o, 1.0, total, cycle_momentum=False), False,
    ),
}  # fmt: skip


def torch_factors(make: Callable, steps: int, by_epoch: int | None) -> np.ndarray:
    """The learning rates of torch's scheduler; by_epoch: the number of steps in an epoch."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it expects optimizer.step()
        scheduler = make(optimizer)
        seen = []
        for step in range(steps):
            seen.append(optimizer.param_groups[0]["lr"])
            if by_epoch is None or (step + 1) % by_epoch == 0:
                scheduler.step()
    return np.array(seen)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(1, 1), (1, 7), (9, 4), (20, 3)])
def test_schedule_equals_torchs(name: str, epochs: int, steps_per_epoch: int) -> None:
    """Every step of a run has the learning rate that torch's scheduler gives it."""
    options, make, by_epoch = SCHEDULES[name]
    total = epochs * steps_per_epoch
    if name == "one_cycle" and total == 1:
        pytest.skip("torch divides by zero")
    expected = torch_factors(lambda o: make(o, total), total, steps_per_epoch if by_epoch else None)
    found = lr_factors(name, options, 0, total, steps_per_epoch, epochs)
    np.testing.assert_allclose(found, expected, **EXACT)


@pytest.mark.parametrize("name", sorted(set(FORMULAS) - {"one_cycle"}))
def test_schedule_follows_the_warmup(name: str) -> None:
    """The learning rate rises linearly, and the schedule covers the steps that remain."""
    options, make, by_epoch = SCHEDULES[name]
    epochs, steps_per_epoch, warmup = 8, 3, 6

    def sequence(optimizer: SGD) -> lr_scheduler.SequentialLR:
        rise = lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, warmup - 1)
        rest = make(optimizer, epochs * steps_per_epoch - warmup)
        return lr_scheduler.SequentialLR(optimizer, [rise, rest], [warmup])

    found = lr_factors(name, options | {"warmup": 2}, 0, 24, steps_per_epoch, epochs)
    np.testing.assert_allclose(found[:warmup], np.arange(1, 7) / 6)
    if not by_epoch:
        np.testing.assert_allclose(found, torch_factors(sequence, 24, None), **EXACT)
    else:
        rest = lr_factors(name, options, 0, 18, steps_per_epoch, epochs - 2)
        np.testing.assert_array_equal(found[warmup:], rest)


@settings(deadline=None)
@given(
    name=st.sampled_from(sorted(FORMULAS)),
    epochs=st.integers(1, 30),
    steps_per_epoch=st.integers(1, 40),
    warmup=st.sampled_from([0, 0.5, 3]),
    data=st.data(),
)
def test_steps_do_not_depend_on_where_a_run_resumes(
    name: str, epochs: int, steps_per_epoch: int, warmup: float, data: st.DataObject
) -> None:
    """Any part of a run has the same learning rates as in the whole run, all between 0 and `lr`."""
    options = SCHEDULES[name][0] | ({} if name == "one_cycle" else {"warmup": warmup})
    total = epochs * steps_per_epoch
    whole = lr_factors(name, options, 0, total, steps_per_epoch, epochs)
    assert ((whole >= 0) & (whole <= 1 + 1e-12)).all()
    first = data.draw(st.integers(0, total - 1))
    count = data.draw(st.integers(0, total - first))
    part = lr_factors(name, options, first, count, steps_per_epoch, epochs)
    np.testing.assert_array_equal(part, whole[first : first + count])


@pytest.mark.parametrize("name", FORMULAS)
def test_a_longer_run_starts_equally_unless_the_schedule_has_a_horizon(name: str) -> None:
    """Only with a horizon, the first epochs of a run depend on how long it is."""
    short, long = (lr_factors(name, SCHEDULES[name][0], 0, 30, 6, epochs) for epochs in (5, 10))
    assert np.array_equal(short, long) != GROUPS["schedule"].choices[name].file.values["horizon"]


def test_every_file_has_a_formula() -> None:
    """Each schedule that can be chosen can be trained, and the default is the constant one."""
    choices = GROUPS["schedule"].choices
    assert set(choices) == set(FORMULAS)
    assert make_choice("schedule", "constant") == CONSTANT


def test_milestones_may_have_any_length(tmp_path) -> None:
    """Each list is its own run, and its learning rate drops once for each milestone."""
    lists = [[2], [2, 3, 5]]
    cells, _ = validate_cells(
        grid({"schedule": "multistep", "schedule.milestones": lists, "schedule.gamma": 0.5,
              "device": "cpu", "lr": 1}),
        NATIVE,
    )  # fmt: skip
    found = [[float(learning_rates(cell, epoch, 1, 1)[0]) for epoch in range(6)] for cell in cells]
    assert found == [[1, 1, 0.5, 0.5, 0.5, 0.5], [1, 1, 0.5, 0.25, 0.25, 0.125]]
    assert len({cell.run_id for cell in cells}) == 2
    record = (
        settings_columns(cells[1])
        | {"person": "Ada", "cell": cells[1].id}
        | dict.fromkeys(("accuracy", "error"), None)
    )
    write_csv(ranked_table([record | {"status": "failed"}]), tmp_path / "results.csv")
    assert cells[1] in read_records_csv(tmp_path, cells)
    for wrong in ([[]], [2], [[2, -1]]):
        axes = {"schedule": "multistep", "schedule.milestones": wrong}
        with pytest.raises(UsageError, match="must be a list of 1 or more numbers, each at least"):
            validate_cells(grid(axes), NATIVE)
