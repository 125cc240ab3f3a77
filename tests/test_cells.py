"""Identity of cells, and the plan of a sweep: which runs are trained, and in which order."""

import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_sweep.analysis.axes import varied
from lenet_sweep.config import grids
from lenet_sweep.config.registry import GROUPS, cell_from_json, make_choice
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import Cell, Choice, Dataset
from lenet_sweep.core.names import short_names
from lenet_sweep.core.plans import make_plan
from lenet_sweep.training.engines import support
from lenet_sweep.training.engines.support import NATIVE

optimizers = st.one_of(
    st.builds(
        lambda momentum, nesterov: make_choice(
            "optimizer", "sgd", (("momentum", momentum), ("nesterov", nesterov))
        ),
        st.floats(0, 1),
        st.booleans(),
    ),
    st.builds(
        lambda beta, amsgrad: make_choice(
            "optimizer", "adam", (("betas", (beta, 0.999)), ("amsgrad", amsgrad))
        ),
        st.floats(0, 0.99),
        st.booleans(),
    ),
)
losses = st.one_of(
    st.builds(make_choice, st.just("loss"), st.sampled_from(sorted(GROUPS["loss"].choices))),
    st.builds(
        lambda smoothing: make_choice("loss", "cross_entropy", {"label_smoothing": smoothing}),
        st.floats(0, 1),
    ),
    st.builds(
        lambda p, margin: make_choice("loss", "multi_margin", {"p": p, "margin": margin}),
        st.sampled_from([1.0, 2.0]),
        st.floats(0, 2),
    ),
)
cells = st.builds(
    Cell,
    loss=losses,
    optimizer=optimizers,
    activation=st.sampled_from(sorted(GROUPS["activation"].choices)),
    lr=st.sampled_from([0.1, 0.01, 0.001]),
    batch=st.sampled_from([1, 64, 256]),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 1),
    shuffle=st.booleans(),
    dataset=st.builds(Dataset, st.just("mnist"), st.just("00"), st.sampled_from([None, 600])),
    device=st.just("cpu"),
    engine=st.just("torch"),
)


@pytest.mark.parametrize("activation", ["x/../../y", "/y", "..\\y", "C:y", "a\0b\n"])
def test_file_names_have_no_path_separators(activation: str) -> None:
    """Settings from someone else cannot lead out of a folder."""
    cell = replace(make_cell("torch", "sgd", {}), activation=activation)
    assert re.fullmatch(r"[\w.+=,-]+", cell.file_name)


@given(cells)
def test_file_names_are_readable(cell: Cell) -> None:
    """Names of known parts stay as they are."""
    assert cell.file_name.startswith(f"{cell.loss.name}-{cell.optimizer.name}")
    assert f"_lr{cell.lr:g}_batch{cell.batch}_epochs{cell.epochs}_" in cell.file_name


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
    ("settings", "expected"),
    [
        ({}, "585aaf0d552fece9-e100"),
        ({"loss": "nll"}, "304ecd2555b90935-e100"),
        ({"loss": "nll", "optimizer": "adam"}, "645215c2a2ceddac-e100"),
        ({"optimizer": "adam", "optimizer.weight_decay": 1e-3, "engine": "torch"},
         "7aa37d0092dfe1e7-e100"),
        ({"recipe": "nll_adam", "activation": "tanh", "seed": 3, "shuffle": True,
          "engine": "torch"}, "6ec08803e3f6cdb1-e100"),
        ({"loss": "nll", "optimizer.momentum": 0.9, "epochs": 7}, "fec81f97aba0dcf0-e7"),
    ],
)  # fmt: skip
def test_a_loss_without_changed_options_keeps_earlier_ids(settings, expected) -> None:
    """Results from before losses had options are still found in the store and in sweep.json."""
    # An allow-list without the check for the extension gives the same cells on every machine.
    native = replace(NATIVE, unavailable_reason=lambda: None)
    (cell,), _ = validate_cells(grids.grid(settings | {"device": "cpu"}), native)
    stored = cell.to_json()
    assert stored["loss"] == settings.get("loss", cell.loss.name)
    assert cell.id == cell_from_json(json.loads(json.dumps(stored))).id == expected


def test_the_option_of_a_loss_is_part_of_the_run() -> None:
    """A cell with label smoothing is never taken from the results without it."""
    plain = make_cell("torch", "sgd", {})
    smooth = replace(plain, loss=make_choice("loss", "cross_entropy", {"label_smoothing": 0.1}))
    assert plain.run_id != smooth.run_id
    assert smooth.to_json()["loss"] == {
        "name": "cross_entropy", "options": (("label_smoothing", 0.1),)
    }  # fmt: skip
    # An option that is added later, at its default, keeps the ids of existing runs.
    later = (*smooth.loss.options, ("later", 0.0))
    defaults = (*smooth.loss.defaults, ("later", 0.0))
    extended = replace(smooth, loss=Choice("cross_entropy", later, defaults))
    assert extended.run_id == smooth.run_id
    assert smooth.description.startswith("cross_entropy label_smoothing=0.1 + sgd")
    assert smooth.file_name.startswith("cross_entropy-sgd_")


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
        loss=make_choice("loss", "cross_entropy"),
        optimizer=make_choice("optimizer", name, tuple(options.items())),
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
    texts = {(names[c], str(c.optimizer), str(c.loss)) for c in grid}
    # Options are shown with six digits, so cells that differ only in later digits share a name.
    sgd, nll = make_choice("optimizer", "sgd"), make_choice("loss", "nll")
    rounded = {replace(c, optimizer=sgd, loss=nll) for c in grid}
    assert len(texts) >= len(rounded)


def test_among_equally_long_runs_the_smallest_lr_starts_first() -> None:
    """On two workers, the runs of the README's grid then end at the same time."""
    loss, optimizer = make_choice("loss", "nll"), make_choice("optimizer", "sgd")
    base = Cell(loss, optimizer, "relu", 0.1, 64, 2, 0, False,
                Dataset("mnist", ""), "cpu", "native")  # fmt: skip
    grid = [replace(base, lr=lr, batch=batch) for lr in (0.1, 0.01) for batch in (64, 32)]
    started = [(run.cell.batch, run.cell.lr) for run in make_plan(grid, lambda _: False).runs]
    assert started == [(32, 0.01), (32, 0.1), (64, 0.01), (64, 0.1)]


def test_small_batches_count_as_longer_runs() -> None:
    """An epoch with batch size 1 takes far longer than one with 256, so it starts first."""
    loss, optimizer = make_choice("loss", "nll"), make_choice("optimizer", "adam")
    base = Cell(loss, optimizer, "relu", 0.1, 256, 2, 0, False,
                Dataset("mnist", ""), "cpu", "torch")  # fmt: skip
    runs = make_plan([base, replace(base, batch=1, epochs=1)], lambda _: False).runs
    assert [run.cell.batch for run in runs] == [1, 256]
    assert math.isclose(runs[0].cell.lr, 0.1)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"model": ["lenet5", "lenet5_1998"]}, ["lenet5", "lenet5_1998"]),
        ({"batch_norm": [False, True]}, ["no batch_norm", "batch_norm"]),  # torch trains the second
        ({"engine": ["native", "torch"]}, ["native", "torch"]),
        (
            {"model": ["lenet5", "lenet5_1998"], "activation": ["relu", "tanh"]},
            ["relu, lenet5", "tanh, lenet5", "relu, lenet5_1998", "tanh, lenet5_1998"],
        ),
    ],
    ids=str,
)
@pytest.mark.skipif(bool(support.unavailable_reason()), reason="there is no native engine")
def test_names_leave_out_what_other_settings_decide(settings: dict, names: list[str]) -> None:
    """The model decides the activation and the pooling, and the settings decide the engine."""
    cells, _ = validate_cells(grids.grid({"device": "cpu"} | settings), NATIVE)
    assert list(short_names(cells).values()) == names
    assert "pool" not in varied(cells)
    assert ("engine" in varied(cells)) == ("engine" in settings)


def test_names_of_runs_have_the_epochs_that_a_schedule_depends_on() -> None:
    """With a cosine schedule, 5 and 10 epochs are two runs; otherwise, they are one."""
    cells, _ = validate_cells(
        grids.grid({"device": "cpu", "schedule": ["cosine", "constant"], "epochs": [5, 10]}), NATIVE
    )
    names = short_names(cells, epochs=False)
    assert {(cell.run_id, name) for cell, name in names.items()} == {
        (cells[0].run_id, "epochs 5, cosine"),
        (cells[1].run_id, "epochs 10, cosine"),
        (cells[2].run_id, "constant"),
    }
