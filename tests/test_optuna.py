"""The tracker `optuna`, read with Optuna."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_sweeps
import pytest

from lenet_sweep.core.patience import ranking_accuracies
from lenet_sweep.results.sweep import Sweep, load_sweep
from lenet_sweep.track import collect, tracking
from lenet_sweep.track.optuna import OptunaTracker

optuna = pytest.importorskip("optuna", minversion="4.9")
COMPLETE, PRUNED, FAIL = (
    getattr(optuna.trial.TrialState, name) for name in ("COMPLETE", "PRUNED", "FAIL")
)


@pytest.fixture
def made(tmp_path: Path, small_folder: Callable[..., Path]) -> Sweep:
    """A sweep of three cells of 3 epochs, of which the last one failed."""
    return made_sweeps.tracked(small_folder(), tmp_path / "out")


def read(sweep: Sweep) -> Any:
    """The study in the folder of a sweep."""
    backend = optuna.storages.journal.JournalFileBackend(str(sweep.folder / "optuna.journal"))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name=sweep.folder.name, storage=storage)


def test_a_study_has_a_trial_per_cell(made: Sweep) -> None:
    """Trials have the settings that vary, the accuracy after each epoch, and a state."""
    tracking.write_sweep("optuna", made)
    study = read(made)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert [trial.state for trial in study.trials] == [COMPLETE, COMPLETE, FAIL]
    assert [trial.params for trial in study.trials] == [{"lr": lr} for lr in (0.1, 0.01, 0.001)]
    assert study.best_params == {"lr": 0.1}
    assert study.best_value == made.table["accuracy"].max()
    best = study.best_trial
    assert best.distributions["lr"] == optuna.distributions.FloatDistribution(0.001, 0.1, log=True)
    history = made.store.run_folder(made.cells[0].run_id).history()
    assert best.intermediate_values == dict(enumerate(ranking_accuracies(history), start=1))
    assert best.user_attrs["cell"] == made.cells[0].id
    assert study.trials[2].user_attrs["error"] == "RuntimeError: no"
    assert study.trials[2].value is None


def test_writing_twice_changes_nothing(made: Sweep) -> None:
    """The journal is the same, byte by byte, so an open dashboard is not disturbed."""
    tracking.write_sweep("optuna", made)
    first = (made.folder / "optuna.journal").read_bytes()
    tracking.write_sweep("optuna", load_sweep(made.folder))
    assert (made.folder / "optuna.journal").read_bytes() == first


def test_a_trial_that_changes_replaces_the_journal(made: Sweep) -> None:
    """A stopped cell is a pruned trial, and a complete one after it was trained to the end."""
    tracker = OptunaTracker()
    tracker.open(collect.tracked_sweep(made.folder, made.manifest))
    cells = list(collect.tracked_cells(made))
    stopped = replace(cells[0], history=cells[0].history[:1], status="stopped", accuracy=None)
    unfinished = replace(cells[2], status="unfinished")
    for cell in (unfinished, cells[1], stopped):  # in the order in which they ended
        tracker.log(cell)
    tracker.close([], complete=False)
    trials = read(made).trials
    assert [trial.state for trial in trials] == [PRUNED, COMPLETE]  # without the unfinished one
    assert trials[0].value == trials[0].intermediate_values[1]
    tracking.write_sweep("optuna", made)
    assert [trial.state for trial in read(made).trials] == [COMPLETE, COMPLETE, FAIL]
    assert not list(made.folder.glob("*.new*"))


def test_a_damaged_journal_is_replaced(made: Sweep) -> None:
    """A journal that Optuna cannot read is written again."""
    (made.folder / "optuna.journal").write_text("{\n{\n")
    tracking.write_sweep("optuna", made)
    assert len(read(made).trials) == 3


def test_the_lock_of_a_killed_process_is_removed(
    made: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna would wait for half a minute."""
    (made.folder / ".optuna.journal.new.lock").touch()

    def sleep(_: float) -> None:
        raise AssertionError("waits")

    monkeypatch.setattr(time, "sleep", sleep)
    tracking.write_sweep("optuna", made)
    assert len(read(made).trials) == 3


def test_kinds_of_parameters(tmp_path: Path, small_folder: Callable[..., Path]) -> None:
    """Numbers have ranges; text, flags and seeds are categories. Missing options are left out."""
    root, out = small_folder(), tmp_path / "out"
    axes = {"batch": [16, 64], "shuffle": [False, True], "seed": [0, 1], "epochs": [2, 3]}
    cells, options = made_sweeps.settings(
        root,
        out,
        optimizer=["sgd", "adam"],
        optimizer__momentum=[0.5, 0.0],
        dropout=[0.0, 0.5],
        **axes,
    )
    cells = cells[::7]
    made_sweeps.store_all(cells, out, root, lambda _: [0])
    sweep = made_sweeps.launched(cells, options).sweep
    tracking.write_sweep("optuna", sweep)
    found: dict[str, Any] = {}
    for trial in read(sweep).trials:
        found |= trial.distributions
        assert ("optimizer.momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
    space = optuna.distributions
    assert found["batch"] == space.IntDistribution(16, 64)
    assert found["epochs"] == space.IntDistribution(2, 3)
    assert found["dropout"] == space.FloatDistribution(0.0, 0.5)
    assert {*found["seed"].choices} == {0, 1}
    assert {*found["optimizer"].choices} == {"sgd", "adam"}
