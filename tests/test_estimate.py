"""The estimated time of a sweep in a dry run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from screens import BASE

from lenet_sweep import sweep
from lenet_sweep.core.cells import Cell, Choice
from lenet_sweep.core.events import Epoch
from lenet_sweep.core.plans import make_plan
from lenet_sweep.machine import provenance
from lenet_sweep.results.estimate import estimate
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import Store
from lenet_sweep.training.engines import support
from lenet_sweep.ui.progress import approximate_duration, describe_plan

HERE = {"processor": provenance.processor()}
OTHER = {"processor": "a slow one"}


def stored(
    store: Store, cell: Cell, seconds: float, test: float = 0.0, environment=HERE, end="snapshot"
):
    """Write a run whose epochs each took this long to train and to test, in seconds."""
    run = store.run_folder(cell.run_id)
    run.path.mkdir(parents=True)
    run.write_description(cell, environment)
    epochs = [Epoch(n, 0.5, 98.0, 0.5, seconds, test) for n in range(1, cell.epochs + 1)]
    state = {"weights": np.zeros(8, np.float32)}
    trace = np.zeros((1, 2), np.float32)
    snapshot = Snapshot(state, np.zeros(10, np.uint8), trace, tuple(epochs))
    (run.write_snapshot if end == "snapshot" else run.write_checkpoint)(snapshot)


def expected(
    store: Store, cells: Sequence[Cell], workers: int | None = 1, finished: Sequence[Cell] = ()
) -> tuple[float, int]:
    estimated = estimate(
        make_plan(cells, set(finished).__contains__), store, workers, HERE["processor"]
    )
    return estimated.seconds, estimated.runs


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_measured_times_are_scaled(store: Store) -> None:
    """Training time scales with epochs, images and batch size; testing only with epochs."""
    stored(store, replace(BASE, seed=1), 10.0, test=1.0)
    assert expected(store, [BASE]) == (pytest.approx(10 * 11.0), 1)
    assert expected(store, [replace(BASE, epochs=3)])[0] == pytest.approx(3 * 11.0)
    small = replace(BASE, batch=16)  # a cost of 2 per image instead of 1.25
    assert expected(store, [small])[0] == pytest.approx(10 * 17.0)
    half = replace(BASE, dataset=replace(BASE.dataset, limit=30_000))
    assert expected(store, [half])[0] == pytest.approx(10 * 6.0)


def test_average_pooling_takes_twice_as_long_in_the_native_engine(store: Store) -> None:
    """Its backward pass visits four times as many positions. Nothing changes for torch."""
    for engine, factor in (("native", 2), ("torch", 1)):
        cell = replace(BASE, engine=engine)
        stored(store, cell, 3.0)
        average = replace(cell, pool=Choice("avg", (), ()))
        assert expected(store, [average]) == (pytest.approx(factor * 10 * 3.0), 1)


def test_several_workers(store: Store) -> None:
    """Two workers need half the time, but no number of workers beats the longest run."""
    stored(store, replace(BASE, seed=9), 1.0)
    cells = [replace(BASE, seed=seed) for seed in range(4)]
    assert [expected(store, cells, workers)[0] for workers in (1, 2, 8)] == [40, 20, 10]
    longer = [*cells, replace(BASE, seed=4, epochs=100)]
    assert expected(store, longer, 4)[0] == pytest.approx(100)


def test_threads_shorten_the_longest_run(store: Store) -> None:
    """The last run gets the threads of those that ended, but no more than a run may use."""
    native = replace(BASE, engine="native")
    stored(store, replace(native, seed=9), 1.0)
    cells = [replace(native, seed=0, epochs=1), replace(native, seed=1, epochs=100)]
    plan = make_plan(cells, lambda _: False)
    seconds = [
        estimate(plan, store, 2, HERE["processor"], threads, per_run).seconds
        for threads, per_run in ((2, 1), (2, 8), (8, 8))
    ]
    assert seconds[0] == pytest.approx(100)
    assert seconds[0] / 2 < seconds[1] < seconds[0]
    assert seconds[2] < seconds[1]


def test_the_most_similar_runs_are_used(store: Store) -> None:
    """Runs must have the same engine; the same machine and activation are preferred."""
    for seed, seconds in ((1, 4.0), (2, 5.0), (3, 60.0)):
        stored(store, replace(BASE, seed=seed), seconds)
    stored(store, replace(BASE, seed=4), 500.0, environment=OTHER)
    stored(store, replace(BASE, seed=5, engine="native"), 0.1)
    stored(store, replace(BASE, seed=6, activation="gelu"), 7.0)
    assert expected(store, [BASE]) == (pytest.approx(10 * 5.0), 3)  # the median
    assert expected(store, [replace(BASE, activation="gelu")]) == (pytest.approx(10 * 7.0), 1)


def test_no_comparable_run_gives_a_guess(store: Store) -> None:
    """Other engines and epochs a hundred times shorter are not comparable."""
    stored(store, replace(BASE, engine="native"), 0.1)
    stored(store, replace(BASE, dataset=replace(BASE.dataset, limit=600)), 0.9)
    seconds, runs = expected(store, [replace(BASE, seed=1)])
    assert (runs, seconds > 10) == (0, True)
    assert expected(Store(store.out / "none"), [replace(BASE, seed=1)]) == (seconds, 0)


def test_trained_epochs_are_not_counted(store: Store) -> None:
    """A run that resumes from a checkpoint or a shorter snapshot trains only the rest."""
    stored(store, BASE, 2.0)
    assert expected(store, [replace(BASE, epochs=25)])[0] == pytest.approx(15 * 2.0)
    assert expected(store, [replace(BASE, epochs=5)])[0] == pytest.approx(5 * 2.0)
    other = replace(BASE, seed=1)
    stored(store, other, 2.0, end="checkpoint")
    assert expected(store, [replace(other, epochs=12)])[0] == pytest.approx(2 * 2.0)


def test_retraining_takes_the_whole_time(store: Store) -> None:
    """With reuse=false, the epochs in the store are trained again."""
    stored(store, BASE, 3.0)
    plan = make_plan([BASE], lambda _: False)
    estimates = [
        estimate(plan, store, 1, HERE["processor"], retrain=retrain).seconds
        for retrain in (False, True)
    ]
    assert estimates == [0, pytest.approx(BASE.epochs * 3.0)]


def test_damaged_runs_are_skipped(store: Store) -> None:
    """Damaged runs and unknown files in the store do not stop a dry run."""
    stored(store, replace(BASE, seed=1), 3.0)
    for name, text in (("run.json", "{"), ("epoch-00010.safetensors", "x" * 20)):
        damaged = store.run_folder(replace(BASE, seed=len(name)).run_id).path
        stored(store, replace(BASE, seed=len(name)), 99.0)
        (damaged / name).write_text(text)
    (store.out / "runs" / "a file").touch()
    (store.out / "runs" / "a folder").mkdir()
    assert expected(store, [BASE]) == (pytest.approx(10 * 3.0), 1)


def test_the_wording_of_the_estimate(store: Store) -> None:
    """The text gives the time, the workers, and the basis of the estimate."""
    planned = make_plan([BASE, replace(BASE, lr=0.01)], lambda _: False)

    def wording(workers: int | None) -> str:
        return describe_plan(planned, estimate(planned, store, workers, HERE["processor"]))[1]

    assert wording(4) == (
        "about 2 min on 2 workers; a rough guess, because the store has no comparable run"
    )
    stored(store, replace(BASE, seed=1), 36.0)
    assert wording(2) == "about 6 min on 2 workers, estimated from 1 earlier run"
    assert wording(None) == (
        "about 12 min of training in total, divided among the runs that train at the same time, "
        "estimated from 1 earlier run"
    )


@given(st.floats(0, 1e9))
def test_approximate_durations_are_close(seconds: float) -> None:
    """The text is within a third of the estimated duration."""
    units = {"s": 1, "min": 60, "h": 3600, "days": 86_400}
    words = approximate_duration(seconds).removeprefix("about ").split()
    if words == ["a", "few", "seconds"]:
        assert seconds < 10
        return
    value = sum(
        int(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True)
    )
    assert value == pytest.approx(seconds, rel=1 / 3)


@pytest.mark.skipif(bool(support.unavailable_reason()), reason="there is no native engine")
@pytest.mark.usefixtures("train_here")
def test_a_dry_run_says_that_cells_change_engines(
    tmp_path: Path, small_folder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cells that torch has trained and that the native engine would train again are counted."""
    data = {"dataset": "folder", "dataset.root": small_folder(), "device": "cpu", "out": tmp_path}
    quiet = {"report": False, "figures": "none", "progress": False}
    sweep(**data, **quiet, pool="avg", epochs=[1, 2], engine="torch")

    def printed(**settings: object) -> str:
        capsys.readouterr()
        sweep(**data, **settings, dry_run=True)
        return " ".join(capsys.readouterr().out.split())  # without line breaks

    now = "the native engine now supports"
    assert f"1 cell was trained by the torch engine in earlier sweeps; {now} it" in printed(
        pool=["max", "avg"], epochs=[2, 3]
    )
    assert f"2 cells were trained by the torch engine in earlier sweeps; {now} them" in printed(
        pool="avg", epochs=[1, 2]
    )
    assert now not in printed(pool="avg", epochs=[1, 2], engine="torch")
    assert now not in printed(pool="max", epochs=[1, 2])


def test_a_dry_run_prints_the_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text uses the requested number of workers; an empty store gives a rough guess."""
    sweep(seed=[0, 1], out=tmp_path, workers=2, dry_run=True)
    assert " on 2 workers; a rough guess" in capsys.readouterr().out
