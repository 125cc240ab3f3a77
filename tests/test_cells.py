"""Identity of cells and the plan: what is one cell, and what is trained in which order."""

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
def test_ids_are_equal_exactly_when_cells_are(one: Cell, other: Cell) -> None:
    """Two cells share a result in the store only if every setting is the same."""
    assert (one == other) == (one.id == other.id)
    assert (replace(one, epochs=1) == replace(other, epochs=1)) == (one.run_id == other.run_id)


@given(cells)
def test_a_cell_survives_json(cell: Cell) -> None:
    """A cell sent to a worker or kept in a file is the same cell when it is read again."""
    again = cell_from_json(json.loads(json.dumps(cell.to_json())))
    assert again == cell
    assert again.id == cell.id


@pytest.mark.parametrize(
    ("engine", "name", "options", "known"),
    [
        ("torch", "sgd", {}, "6fd02cd8244331d0-e100"),
        ("native", "sgd", {"momentum": 0.9}, "8570ec31cb1fe8de-e100"),
        ("native", "adam", {}, "a3d6f75172f89a6e-e100"),
        ("torch", "adam", {}, "4c3ce3764836a4c0-e100"),
    ],
)
def test_the_id_of_a_cell_stays_what_it_was(engine, name, options, known) -> None:
    """An update of the package does not orphan the results in people's stores."""
    assert known_cell(engine, name, options).id == known


@pytest.mark.parametrize(
    ("engine", "name", "options", "former"),
    [
        ("native", "sgd", {"weight_decay": 1e-3}, "d84de2a94fb2d978-e100"),
        ("native", "adam", {"weight_decay": 1e-3}, "fd63e3abb5124d0e-e100"),
        ("torch", "adam", {"weight_decay": 1e-3}, "67346475e4371e9b-e100"),
        ("native", "adam", {"eps": 1e-12}, "88ec4b93fbd0255c-e100"),
    ],
)
def test_results_that_changed_are_not_mixed_with_new_ones(engine, name, options, former) -> None:
    """A run from before subnormal floats became zero is trained again if that changes it."""
    assert known_cell(engine, name, options).id != former


def known_cell(engine: str, name: str, options: dict[str, float]) -> Cell:
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
    """Every cell is either finished or read out of exactly one run, and nothing else is trained."""
    finished = {cell for cell in grid if random.random() < 0.5}
    planned = make_plan(grid, lambda cell: cell in finished)
    read_out = [cell for run in planned.runs for cell in run.cells()]
    assert sorted(c.id for c in read_out) == sorted({c.id for c in set(grid) - finished})
    assert planned.finished == len(finished)
    assert planned.duplicates == len(grid) - len(set(grid))
    assert planned.cells == tuple(dict.fromkeys(grid))
    assert len({run.id for run in planned.runs}) == len(planned.runs)


@given(st.lists(cells, max_size=30))
def test_the_longest_runs_begin_first(grid: list[Cell]) -> None:
    """Among runs of equal batch and data, one with more epochs is never begun after a shorter."""
    runs = make_plan(grid, lambda _: False).runs
    for kind in {(run.cell.batch, run.cell.dataset) for run in runs}:
        lengths = [r.cell.epochs for r in runs if (r.cell.batch, r.cell.dataset) == kind]
        assert lengths == sorted(lengths, reverse=True)


@given(st.lists(cells, min_size=1, max_size=10, unique=True))
def test_short_names_tell_cells_apart(grid: list[Cell]) -> None:
    """In a figure's legend no two cells of a sweep have the same name, unless options differ."""
    names = short_names(grid)
    assert set(names) == set(grid)
    texts = {(names[c], str(c.optimizer)) for c in grid}
    # Options are shown in six digits: cells that differ only beyond them may share a name.
    rounded = {replace(c, optimizer=make_optimizer("sgd")) for c in grid}
    assert len(texts) >= len(rounded)


def test_of_equal_lengths_the_small_learning_rate_begins_first() -> None:
    """Two workers that finish the card's grid in turns then finish it together."""
    base = Cell("nll", make_optimizer("sgd"), "relu", 0.1, 64, 2, 0, False, Dataset("mnist", ""),
                "cpu", "native")  # fmt: skip
    grid = [replace(base, lr=lr, batch=batch) for lr in (0.1, 0.01) for batch in (64, 32)]
    begun = [(run.cell.batch, run.cell.lr) for run in make_plan(grid, lambda _: False).runs]
    assert begun == [(32, 0.01), (32, 0.1), (64, 0.01), (64, 0.1)]


def test_small_batches_count_as_longer_runs() -> None:
    """An epoch in batches of 1 takes many times one of 256, so it is begun first."""
    base = Cell("nll", make_optimizer("adam"), "relu", 0.1, 256, 2, 0, False, Dataset("mnist", ""),
                "cpu", "torch")  # fmt: skip
    runs = make_plan([base, replace(base, batch=1, epochs=1)], lambda _: False).runs
    assert [run.cell.batch for run in runs] == [1, 256]
    assert math.isclose(runs[0].cell.lr, 0.1)
