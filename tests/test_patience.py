"""Runs that end early: the rule, their snapshots, their rows, and what the outputs say."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import made_results
import numpy as np
import pytest
from made_results import first_correct, history
from screens import BASE, ended, log_file, planned, printed, terminal

from lenet_sweep.analysis.conclusions import analyse
from lenet_sweep.analysis.reproduction import reproduce
from lenet_sweep.analysis.statistics import epochs_text
from lenet_sweep.config.grids import grid
from lenet_sweep.config.studies import Study, StudyRow
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core import events
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import EndedEarly, EpochEnded, Event, Interrupted, Started
from lenet_sweep.core.patience import is_exhausted
from lenet_sweep.core.plans import Run
from lenet_sweep.report.histories import curves_by_setting
from lenet_sweep.report.text_tables import text_tables, to_markdown
from lenet_sweep.results.csv_file import read_records_csv, write_csv
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.results.records import in_store, load_record, stored_record
from lenet_sweep.runner.preview import preview
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import RunFolder, Store
from lenet_sweep.training import loop
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.ui.log_view import LogView
from lenet_sweep.ui.script_view import ScriptView, replay

# The small data are learned in about 4 epochs; later ones are not more accurate.
FAST = {"optimizer": "adam", "lr": 0.004, "batch": 50}


@pytest.mark.parametrize(
    ("accuracies", "patience", "expected"),
    [
        ([50], None, False),
        ([50], 1, False),
        ([50, 60, 70], 1, False),
        ([50, 50], 1, True),
        ([50, 60, 60], 2, False),
        ([50, 60, 60, 59], 2, True),
        ([50, 60, 60, 59, 61], 2, False),
        ([50, 60, 60, 59], None, False),
    ],
)
def test_patience_counts_the_epochs_since_the_best(accuracies, patience, expected) -> None:
    """An equal accuracy is not a better one."""
    assert is_exhausted(history(accuracies, accuracies), patience) == expected


def test_held_out_images_decide_if_there_are_any() -> None:
    """The accuracy on the test images then has no influence."""
    improving = history([1, 1, 1], [50, 60, 70])
    held_out = [replace(epoch, holdout_accuracy=50.0) for epoch in improving]
    assert not is_exhausted(improving, 2)
    assert is_exhausted(held_out, 2)


@pytest.fixture
def start(tmp_path: Path, small_folder) -> Callable[..., tuple[Iterator[Event], RunFolder, Cell]]:
    """Create a run on small data: its events, its folder and its longest cell."""

    def begin(*epochs: int, stop=lambda: False, retrain: bool = False, out: str = "", **axes):
        settings = {"dataset": "folder", "dataset.root": str(small_folder()), "device": "cpu"}
        settings |= FAST | {"epochs": max(epochs)} | axes
        (cell,), options = validate_cells(grid(settings), NATIVE)
        folder = Store(tmp_path / out).run_folder(cell.run_id)
        run = Run(cell, tuple(sorted(epochs)))
        trained = loop.train(
            run, folder, options.data_root, retrain=retrain, wait=True, stop=stop, environment={}
        )
        return trained, folder, cell

    return begin


def epochs_of(seen: list[Event]) -> list[int]:
    return [event.result.epoch for event in seen if isinstance(event, EpochEnded)]


def without_times(snapshot: Snapshot) -> list:
    return [(e.epoch, e.cost, e.accuracy, e.holdout_accuracy) for e in snapshot.history]


def same(one: Snapshot, other: Snapshot) -> None:
    for name, value in one.state.items():
        np.testing.assert_array_equal(value, other.state[name])
    assert without_times(one) == without_times(other)


@pytest.mark.parametrize("holdout", [None, 100])
def test_a_run_ends_early_and_finishes_all_its_cells(start, holdout) -> None:
    """Longer cells share the last snapshot, and extending the run trains nothing more."""
    trained, folder, cell = start(2, 20, 100, patience=2, holdout=holdout)
    seen = list(trained)
    last = epochs_of(seen)[-1]
    assert 2 < last < 20
    assert is_exhausted(folder.result(cell).history, 2)
    assert not is_exhausted(folder.result(cell).history[:-1], 2)
    assert seen[-4:] == [
        EndedEarly(cell.run_id, last, 2),
        events.CellFinished(cell.run_id, 20),
        events.CellFinished(cell.run_id, 100),
        events.Finished(cell.run_id),
    ]
    for epochs, expected in ((2, 2), (last, last), (20, last), (100, last), (1000, last)):
        assert folder.result(replace(cell, epochs=epochs)).epoch == expected
    assert folder.result(replace(cell, epochs=last - 1)) is None  # it has no snapshot
    longer, _, _ = start(20, 1000, patience=2, holdout=holdout)
    assert not epochs_of(list(longer))


@pytest.fixture
def last(start) -> Snapshot:
    """The last snapshot of a run with a patience of 2, from another store."""
    trained, folder, cell = start(100, patience=2, out="last")
    list(trained)
    return folder.result(cell)


def test_epochs_until_the_end_are_those_of_a_run_without_patience(start, last) -> None:
    """Patience ends a run, and changes nothing before; both have their own folder."""
    trained, folder, cell = start(last.epoch)
    list(trained)
    same(last, folder.result(cell))
    with_patience, other, _ = start(100, patience=2)
    list(with_patience)
    assert folder.path != other.path
    assert folder.result(replace(cell, epochs=100)) is None


def test_a_stopped_run_ends_in_the_same_epoch(start, last) -> None:
    """A run that resumes after one epoch has the result of an uninterrupted one."""
    stopped: list[bool] = []
    trained, folder, cell = start(100, patience=2, stop=lambda: bool(stopped))
    seen = []
    for event in trained:
        seen.append(event)
        if isinstance(event, EpochEnded):
            stopped.append(True)
    assert isinstance(seen[-1], Interrupted)
    assert folder.result(cell) is None
    resumed, _, _ = start(100, patience=2)
    assert epochs_of(list(resumed)) == list(range(2, last.epoch + 1))
    same(folder.result(cell), last)
    assert not folder.checkpoint_path.exists()


def test_a_run_that_was_killed_after_its_last_epoch_trains_no_other(start, last) -> None:
    """The checkpoint of that epoch becomes the result."""
    resumed, folder, cell = start(100, patience=2)
    folder.path.mkdir(parents=True)
    folder.write_checkpoint(last)
    seen = list(resumed)
    assert [e.epoch for e in seen if isinstance(e, Started)] == [last.epoch]
    assert not epochs_of(seen)
    same(folder.result(cell), last)


def test_retraining_replaces_the_last_snapshot(start, last) -> None:
    """On a GPU, a second training may end earlier; later snapshots are then removed."""
    again, folder, cell = start(100, patience=2, retrain=True)
    folder.path.mkdir(parents=True)
    later = replace(last.history[-1], epoch=last.epoch + 1)
    folder.write_snapshot(replace(last, history=(*last.history, later)))
    assert folder.result(cell).epoch == last.epoch + 1
    assert epochs_of(list(again)) == list(range(1, last.epoch + 1))
    same(folder.result(cell), last)


def test_a_damaged_last_snapshot_is_trained_again(start, last) -> None:
    """An earlier snapshot is not mistaken for the end."""
    trained, folder, cell = start(2, 100, patience=2)
    list(trained)
    folder.snapshot_path(last.epoch).write_bytes(b"damaged")
    assert folder.result(cell) is None
    again, _, _ = start(2, 100, patience=2)
    assert epochs_of(list(again)) == list(range(3, last.epoch + 1))
    same(folder.result(cell), last)


def test_the_row_says_how_many_epochs_were_trained(start, last, tmp_path) -> None:
    """The row is finished and ranked; results.csv and the printed table show the early end."""
    trained, _, cell = start(2, 100, patience=2)
    list(trained)
    store = Store(tmp_path)
    cells = [cell, replace(cell, epochs=2)]
    records = [stored_record(cell, store) for cell in cells]
    assert [(r["status"], r["epochs"], r["epochs_trained"]) for r in records] == [
        ("ok", 100, last.epoch), ("ok", 2, 2),
    ]  # fmt: skip
    frame = ranked_table(records)
    write_csv(frame, tmp_path / "results.csv")
    assert ",patience," in (tmp_path / "results.csv").read_text()
    read = read_records_csv(tmp_path, cells)
    assert [read[cell]["epochs_trained"] for cell in cells] == [last.epoch, 2]
    assert all(in_store(cell, load_record(cell, store, {}), store) for cell in cells)
    text = to_markdown(text_tables(frame))
    assert "epochs trained" in text
    assert "had stopped improving (patience)" in text
    assert "The test images decided when to stop." in text
    table = ResultsTable(store, "Ada")
    longer = replace(cell, epochs=1000)
    assert table.plan([cell, longer], reuse=True).runs == ()
    assert table.records[longer]["epochs_trained"] == last.epoch


def test_a_table_without_patience_has_no_such_column(start, tmp_path) -> None:
    """The columns of other sweeps are those of before."""
    trained, _, cell = start(1)
    list(trained)
    assert "epochs_trained" not in ranked_table([stored_record(cell, Store(tmp_path))])


def test_a_dry_run_says_that_the_time_is_a_limit(tmp_path) -> None:
    """It cannot know when the runs will end."""
    for patience, expected in ((3, True), (None, False)):
        cells, options = validate_cells(grid({"patience": patience, "out": str(tmp_path)}), NATIVE)
        text = "\n".join(preview(cells, options, None).lines())
        assert ("less if runs end early (patience)" in text) == expected


EARLY = replace(BASE, epochs=10, patience=2)


def test_the_views_say_why_a_run_ended(tmp_path) -> None:
    """The log shows the accuracy, and a stored cell prints the same as a trained one."""
    log, script = log_file(), terminal()
    view = LogView(log)
    view.on_start(planned(EARLY), 1)
    seen = [
        events.Started(EARLY.run_id, 0), ended(EARLY, 1, 98.0), ended(EARLY, 2, 97.0),
        ended(EARLY, 3, 97.5), EndedEarly(EARLY.run_id, 3, 2),
        events.CellFinished(EARLY.run_id, 10), events.Finished(EARLY.run_id),
    ]  # fmt: skip
    one = ScriptView(script)
    for event in seen:
        view.on_event(event)
        one.on_event(event)
    assert "ended after epoch 3: accuracy did not improve for 2 epochs" in printed(log)
    assert "[1/1] 97.50%" in printed(log)
    assert "accuracy did not improve for 2 epochs\n* Accuracy" in printed(script)
    epochs = tuple(event.result for event in seen if isinstance(event, EpochEnded))
    snapshot = Snapshot({}, np.zeros(1, np.uint8), np.zeros((0, 2), np.float32), epochs)
    stored = terminal()
    replay(stored, snapshot, EARLY, 60_000)
    assert printed(stored) == printed(script)


def test_a_seed_that_ended_early_counts_until_the_last_epoch() -> None:
    """The mean curve ends at the mean of the table."""
    cells = [replace(EARLY, seed=seed, epochs=4) for seed in (0, 1)]
    curves = [history([2, 1, 1, 1], [90, 92, 94, 96]), history([2, 1], [80, 80])]
    ((_, curve),) = curves_by_setting(zip(cells, curves, strict=True))
    assert list(curve.accuracy) == [85, 86, 87, 88]
    shorter = [cells[0], replace(cells[1], epochs=2)]  # not early: it was not asked for more
    ((_, curve),) = curves_by_setting(zip(shorter, curves, strict=True))
    assert list(curve.accuracy) == [85, 86, 94, 96]


def test_no_warning_suggests_more_epochs_for_a_run_that_ended() -> None:
    """They would train nothing; a full run still gets the suggestions."""
    falling = np.linspace(2, 1, 5)
    for epochs, patience, expected in ((5, None, True), (100, 2, False)):
        cells = made_results.grid(epochs=[2, epochs], patience=patience)
        rows = [first_correct(cells[0], 97, history(falling[:2])),
                first_correct(cells[1], 99, history(falling))]  # fmt: skip
        kinds = {warning.kind for warning in analyse(rows).warnings}
        assert ("still falling" in kinds) == expected
        assert ("edge" in kinds) == expected
        assert ("early stopping" in kinds) != expected


def test_the_verdict_on_a_study_names_early_ends() -> None:
    """A row of a report with 100 epochs is not silently compared with a shorter run."""
    (cell,) = made_results.grid(epochs=100, patience=2)
    study = Study("title", "", (StudyRow(1, cell.setting, 98.0, "", ""),), ())
    (verdict,) = reproduce(study, [first_correct(cell, 98, history([1] * 7))]).verdicts
    assert verdict.note == "1 of 1 run ended early (patience), after 7 epochs"


def test_epochs_of_runs_that_ended_early_are_named_with_both_numbers() -> None:
    """Tables of statistics and the page never show only the number that was asked for."""
    cells = made_results.grid(epochs=100, patience=2, seed=[0, 1])
    runs = [first_correct(c, 98, history([1] * n)) for c, n in zip(cells, (7, 9), strict=True)]
    full = first_correct(cells[1], 98, history([1] * 100))
    assert epochs_text([full]) == "100"
    assert epochs_text(runs[:1]) == "7 of 100"
    assert epochs_text(runs) == "7 to 9 of 100"
    assert epochs_text([runs[0], full]) == "7 to 100 of 100"
