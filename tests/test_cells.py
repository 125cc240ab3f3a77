"""Identity of cells, and the plan of a sweep: which runs are trained, and in which order."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_sweep.config.registry import ACTIVATIONS, LOSSES, cell_from_json, make_optimizer
from lenet_sweep.core.cells import Cell, Dataset, make_plan, short_names

optimizers = st.one_of(
    st.builds(
        lambda momentum, nesterov: make_optimizer(
            "sgd", (("momentum", momentum), ("nesterov", nesterov))
        ),
        st.floats(0, 1),
        st.booleans(),
    ),
    st.builds(
        lambda beta, amsgrad: make_optimizer(
            "adam", (("betas", (beta, 0.999)), ("amsgrad", amsgrad))
        ),
        st.floats(0, 0.99),
        st.booleans(),
    ),
)
cells = st.builds(
    Cell,
    loss=st.sampled_from(sorted(LOSSES)),
    optimizer=optimizers,
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    lr=st.sampled_from([0.1, 0.01, 0.001]),
    batch=st.sampled_from([1, 64, 256]),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 1),
    shuffle=st.booleans(),
    dataset=st.builds(Dataset, st.just("mnist"), st.just("00"), st.sampled_from([None, 600])),
    device=st.just("cpu"),
    engine=st.just("torch"),
)


@given(cells, cells)
def test_ids_are_equal_if_and_only_if_cells_are(one: Cell, other: Cell) -> None:
    """Two cells share a result in the store only if all settings are equal."""
    assert (one == other) == (one.id == other.id)
    assert (replace(one, epochs=1) == replace(other, epochs=1)) == (one.run_id == other.run_id)


@given(cells)
def test_a_cell_round_trips_through_json(cell: Cell) -> None:
    """A cell that is sent to a worker or saved in a file is equal to the original."""
    copy = cell_from_json(json.loads(json.dumps(cell.to_json())))
    assert copy == cell
    assert copy.id == cell.id


@pytest.mark.parametrize(
    ("engine", "name", "options", "expected"),
    [
        ("torch", "sgd", {}, "6fd02cd8244331d0-e100"),
        ("native", "sgd", {"momentum": 0.9}, "df2722c45d9c1f6d-e100"),
        ("native", "adam", {}, "2934408b8c006910-e100"),
        ("torch", "adam", {}, "4c3ce3764836a4c0-e100"),
    ],
)
def test_ids_are_stable_across_versions(engine, name, options, expected) -> None:
    """An update of the package still finds earlier results in the store."""
    assert make_cell(engine, name, options).id == expected


@pytest.mark.parametrize(
    ("engine", "name", "options", "earlier"),
    [
        ("native", "sgd", {"weight_decay": 1e-3}, "d84de2a94fb2d978-e100"),
        ("native", "adam", {"weight_decay": 1e-3}, "fd63e3abb5124d0e-e100"),
        ("torch", "adam", {"weight_decay": 1e-3}, "67346475e4371e9b-e100"),
        ("native", "adam", {"eps": 1e-12}, "88ec4b93fbd0255c-e100"),
    ],
)
def test_ids_differ_from_earlier_ones_if_results_changed(engine, name, options, earlier) -> None:
    """A run from before subnormal floats were flushed is retrained if flushing affects it."""
    assert make_cell(engine, name, options).id != earlier


def make_cell(engine: str, name: str, options: dict[str, float]) -> Cell:
    return Cell(
        loss="cross_entropy",
        optimizer=make_optimizer(name, tuple(options.items())),
        activation="relu",
        lr=0.1,
        batch=64,
        epochs=100,
        seed=0,
        shuffle=False,
        dataset=Dataset("mnist", "ab" * 32),
        device="cpu",
        engine=engine,
    )


@given(st.lists(cells, max_size=30), st.randoms(use_true_random=False))
def test_a_plan_covers_each_missing_cell_once(grid: list[Cell], random) -> None:
    """Every cell is either finished or belongs to exactly one run, and no other cell is trained."""
    finished = {cell for cell in grid if random.random() < 0.5}
    planned = make_plan(grid, lambda cell: cell in finished)
    trained = [cell for run in planned.runs for cell in run.cells()]
    assert sorted(c.id for c in trained) == sorted({c.id for c in set(grid) - finished})
    assert planned.finished == len(finished)
    assert planned.duplicates == len(grid) - len(set(grid))
    assert planned.cells == tuple(dict.fromkeys(grid))
    assert len({run.id for run in planned.runs}) == len(planned.runs)


@given(st.lists(cells, max_size=30))
def test_the_longest_runs_start_first(grid: list[Cell]) -> None:
    """Among runs with the same batch size and data, longer runs come first."""
    runs = make_plan(grid, lambda _: False).runs
    for kind in {(run.cell.batch, run.cell.dataset) for run in runs}:
        lengths = [r.cell.epochs for r in runs if (r.cell.batch, r.cell.dataset) == kind]
        assert lengths == sorted(lengths, reverse=True)


@given(st.lists(cells, min_size=1, max_size=10, unique=True))
def test_short_names_are_distinct(grid: list[Cell]) -> None:
    """No two cells of a sweep share a name in a legend, unless only their options differ."""
    names = short_names(grid)
    assert set(names) == set(grid)
    texts = {(names[c], str(c.optimizer)) for c in grid}
    # Options are shown with six digits, so cells that differ only in later digits share a name.
    rounded = {replace(c, optimizer=make_optimizer("sgd")) for c in grid}
    assert len(texts) >= len(rounded)


def test_among_equally_long_runs_the_smallest_lr_starts_first() -> None:
    """On two workers, the runs of the README's grid then end at the same time."""
    base = Cell("nll", make_optimizer("sgd"), "relu", 0.1, 64, 2, 0, False, Dataset("mnist", ""),
                "cpu", "native")  # fmt: skip
    grid = [replace(base, lr=lr, batch=batch) for lr in (0.1, 0.01) for batch in (64, 32)]
    started = [(run.cell.batch, run.cell.lr) for run in make_plan(grid, lambda _: False).runs]
    assert started == [(32, 0.01), (32, 0.1), (64, 0.01), (64, 0.1)]


def test_small_batches_count_as_longer_runs() -> None:
    """An epoch with batch size 1 takes far longer than one with 256, so it starts first."""
    base = Cell("nll", make_optimizer("adam"), "relu", 0.1, 256, 2, 0, False, Dataset("mnist", ""),
                "cpu", "torch")  # fmt: skip
    runs = make_plan([base, replace(base, batch=1, epochs=1)], lambda _: False).runs
    assert [run.cell.batch for run in runs] == [1, 256]
    assert math.isclose(runs[0].cell.lr, 0.1)
