"""Planning a large grid is fast and gives the same cells as validating each one alone."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from lenet_sweep import sweep
from lenet_sweep.__main__ import register_plugins
from lenet_sweep.cli.hydra_config import compose_jobs, raw_settings
from lenet_sweep.cli.main import register_groups
from lenet_sweep.config import files, grids, validation
from lenet_sweep.config.sweep_options import merge_options
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import UsageError
from lenet_sweep.training.engines.support import NATIVE

Composer = tuple[ConfigLoader, DictConfig]

# Values that Python considers equal or similar but that are not the same: 1, 1.0, True, "1"
ALIKE: list[Any] = [
    0,
    0.0,
    -0.0,
    False,
    1,
    1.0,
    True,
    "1",
    None,
    float("nan"),
    "x",
    [1],
    (0.5, 0.9),
]
AXES: dict[str, list[Any]] = {
    "lr": [0.1, "1e-1", *ALIKE],
    "batch": [64, "64", 64.0, *ALIKE],
    "epochs": [1, 2, *ALIKE],
    "seed": [0, 7, *ALIKE],
    "shuffle": [True, False, *ALIKE],
    "activation": ["relu", "gelu", "tahn", *ALIKE],
    "loss": ["nll", "cross_entropy", {"name": "nll"}, *ALIKE],
    "optimizer": ["sgd", "adam", {"name": "sgd", "momentum": 0.9}, *ALIKE],
    "optimizer.momentum": [0.5, *ALIKE],
    "optimizer.betas": [(0.8, 0.9), [0.8, 0.9], *ALIKE],
    "dataset.limit": [600, "600", *ALIKE],
    "holdout": [100, *ALIKE],
    "engine": ["auto", "torch", "native", *ALIKE],
    "device": ["cpu", "auto", *ALIKE],
    "person": ["ada", *ALIKE],
    "workers": ["auto", 2, *ALIKE],
    "out": [Path("out"), "out", *ALIKE],
    "figures": ["none", *ALIKE],
}
FEW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def small_grids(draw: st.DrawFn) -> dict[str, list[Any]]:
    names = draw(st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=3, unique=True))
    # Mostly valid values, which come first.
    few = st.integers(0, 2) | st.integers(0, 30)
    places = {name: draw(st.lists(few, min_size=1, max_size=3)) for name in names}
    return {n: [AXES[n][place % len(AXES[n])] for place in places[n]] for n in names}


def outcome(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except UsageError as error:
        return str(error)


@FEW
@example({"seed": [0, False]})
@example({"optimizer.momentum": [0, False, 0.9], "lr": [0.1, 0.01]})
@example({"optimizer": ["sgd", "adam"], "activation": ["relu", "gelu"], "seed": [0, 1]})
@given(small_grids())
def test_grid_gives_same_cells_as_single_validation(axes: dict[str, list[Any]]) -> None:
    """Cells, options and errors of a grid equal those of validating its cells one by one."""

    def one_by_one() -> Any:
        cells: list[Cell] = []
        options, missing = None, {}
        for raw in grids.grid(axes):
            cell, own = validation.validate_cell(deepcopy(raw), NATIVE, ignored_options=missing)
            options = merge_options(options, own) if options else own
            cells.append(cell)
        assert options
        unused = validation.unused_options(
            missing, {"optimizer": {cell.optimizer.name for cell in cells}}
        )
        return cells, replace(options, unused=unused)

    assert outcome(lambda: validation.validate_cells(grids.grid(axes), NATIVE)) == outcome(
        one_by_one
    )


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    """Hydra's loader, and the configuration it composes for batch=32."""
    register_plugins()
    register_groups()
    with initialize_config_dir(str(files.config_folder()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        yield loader, loader.load_configuration("config", ["batch=32"], RunMode.MULTIRUN)


JOBS = {
    "lr": ["0.1", "1e-05", ".1", "0.10", "null", "-0.0", "007", "1_0"],
    "optimizer": ["sgd", "adam"],
    "loss": ["nll", "cross_entropy"],
    "seed": ["0", "-1", "'1'", "12345678901234567890", "true"],
    "++optimizer.weight_decay": ["0.9", "0"],
    "dataset.limit": ["600", "null"],
}


@settings(
    max_examples=5, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck)
)
@given(st.data())
def test_jobs_equal_those_of_hydra(composer: Composer, data: st.DataObject) -> None:
    """The settings of each job equal those that Hydra composes, key by key."""
    names = data.draw(st.lists(st.sampled_from(sorted(JOBS)), min_size=1, max_size=3, unique=True))
    axes = [[f"{name}={value}" for value in data.draw(
        st.lists(st.sampled_from(JOBS[name]), min_size=1, max_size=2)
    )] for name in names]  # fmt: skip
    jobs = list(itertools.product(["batch=32"], *axes))
    loader, master = composer
    composed = [raw_settings(loader.load_sweep_config(master, list(job))) for job in jobs]
    assert list(compose_jobs(*composer, jobs)) == composed


@settings(max_examples=200, deadline=None)
@given(
    st.integers().map(str)
    | st.floats().map(str)
    | st.from_regex(r"[-+]?[0-9_]{0,20}\.?[0-9]{0,3}(e[-+]?[0-9]{1,3})?", fullmatch=True)
)
def test_numbers_are_parsed_as_by_hydra(composer: Composer, text: str) -> None:
    """A number that bypasses Hydra's parser has the same value and type."""
    try:
        expected = OverridesParser.create().parse_override(f"lr={text}").value()
    except HydraException:
        return
    (raw,) = compose_jobs(*composer, [[f"lr={text}"]])
    assert (type(raw["lr"]), repr(raw["lr"])) == (type(expected), repr(expected))


def count_calls(work: Callable[[], Any]) -> int:
    """The number of Python and C function calls that `work` makes."""
    number = 0

    def count(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return number


@pytest.mark.parametrize(
    "axes", [{}, {"recipe": ["ce_sgd", "nll_adam"], "optimizer.weight_decay": [0, 1e-4]}]
)
def test_planning_one_more_cell_is_cheap(axes: dict[str, Any], tmp_path: Path) -> None:
    """Planning 50,000 cells takes seconds; calls are counted, since time depends on the load."""

    def plan(seeds: int) -> None:
        sweep(seed=range(seeds), out=tmp_path, dry_run=True, progress=False, device="cpu", **axes)

    plan(1)  # fill caches
    cells_per_seed = len(axes.get("recipe", [1])) * len(axes.get("optimizer.weight_decay", [1]))
    assert (count_calls(lambda: plan(500)) - count_calls(lambda: plan(250))) / (
        250 * cells_per_seed
    ) < 350


def test_planning_one_more_job_is_cheap(composer: Composer) -> None:
    """The same for jobs of the command line."""

    def plan(seeds: int) -> None:
        losses = ("loss=nll", "loss=cross_entropy")
        jobs = [[f"seed={seed}", loss] for seed in range(seeds) for loss in losses]
        validation.validate_cells(compose_jobs(*composer, jobs), NATIVE)

    plan(1)
    assert (count_calls(lambda: plan(200)) - count_calls(lambda: plan(100))) / 200 < 300
