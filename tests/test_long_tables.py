"""Tables with more rows than the page shows: whole settings are chosen, and some failed rows."""

from dataclasses import replace
from signal import SIGINT

import pandas as pd
import pytest
from made_sweeps import fail, launched, settings, store_all

import lenet_sweep
from lenet_sweep.analysis import loading, ties
from lenet_sweep.report.__main__ import main
from lenet_sweep.runner import outputs

# Wrong images by learning rate and seed; one of the first four rows is of the worst setting.
WRONG = {0.3: (2, 3), 0.2: (4, 6), 0.1: (5, 40)}


@pytest.fixture(autouse=True)
def small_limits(monkeypatch) -> None:
    monkeypatch.setattr(loading, "MAX_ROWS", 5)
    monkeypatch.setattr(loading, "MAX_FAILED", 1)


@pytest.fixture
def long_sweep(tmp_path, small_folder):
    """Cells and options of a sweep with three settings of two seeds, and two that failed."""
    cells, options = settings(small_folder(), tmp_path / "out", lr=[*WRONG], seed=[0, 1], name="it")
    wrong = [range(WRONG[cell.lr][cell.seed]) for cell in cells]
    store_all(cells, tmp_path / "out", small_folder(), wrong.__getitem__)
    failed, _ = settings(small_folder(), tmp_path / "out", lr=[8.0, 9.0])
    for cell in failed:
        fail(cell, tmp_path / "out")
    return (*cells, *failed), options


def statistics(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "statistics.csv")


def test_no_setting_on_the_page_lacks_a_seed(long_sweep) -> None:
    """A setting at the limit is left out as a whole; a failed row is shown."""
    outcome = launched(*long_sweep)
    outputs.write_page(outcome, long_sweep[1], print)
    folder = outcome.sweep.folder
    rows = statistics(folder)
    assert list(rows["status"]) == ["ok"] * 4 + ["failed"]
    table = pd.read_csv(folder / "results.csv")
    assert len(table) == 8
    lrs = table.set_index("cell").loc[rows["cell"], "lr"]
    assert sorted(lrs) == [0.2, 0.2, 0.3, 0.3, 9.0]
    assert list(rows["seeds"].dropna()) == [2, 2, 2, 2, 0]
    page = (folder / "report.html").read_text()
    assert "5 of 8 rows are compared and shown" in page
    marks = ties.compare_sweep(outcome.sweep)
    assert {table["lr"][place] for place in marks.outcomes} == {0.2, 0.3, 9.0}
    assert len(marks.settings) == 5


def test_an_interrupted_page_is_completed(long_sweep, tmp_path) -> None:
    """Better settings that push others off the page do not prevent the next write."""
    cells, options = long_sweep
    worst = [cell for cell in cells if cell.lr in (0.1, 9.0)]
    outcome = replace(launched(worst, options), interrupted=SIGINT)
    messages: list[str] = []
    outputs.write_page(outcome, options, messages.append)
    outputs.write_page(launched(cells, options), options, messages.append)
    assert not messages
    assert len(statistics(outcome.sweep.folder)) == 5


def test_a_merged_long_table_has_all_settings(long_sweep, tmp_path, capsys) -> None:
    """The printed files of a merged table have the settings that the page leaves out, too."""
    folder = launched(*long_sweep).sweep.folder
    assert main([str(folder), "--out", str(tmp_path / "new")]) == 0
    markdown = (tmp_path / "new" / "results.md").read_text()
    for lr in (0.1, 0.2, 0.3, 8.0, 9.0):
        assert f"| {lr:g} |" in markdown


def test_the_rows_that_are_not_shown_are_part_of_the_grid(long_sweep) -> None:
    """Effects, warnings about the grid, and numbers of cells are those of the whole table."""
    cells, options = long_sweep
    outcome = launched(cells, options)
    statistics = lenet_sweep.analyse(outcome.sweep.folder)
    (lr,) = [effect for effect in statistics.effects.effects if effect.name == "lr"]
    assert [level.label for level in lr.levels] == ["0.1", "0.2", "0.3", "8", "9"]
    (failed,) = [warning for warning in statistics.warnings if warning.kind == "failed"]
    assert "2 of 8 cells" in failed.sentence
    outputs.write_page(outcome, options, print)
    assert "2 without an accuracy" in (outcome.sweep.folder / "report.html").read_text()
    assert "of the 3 best settings" in ties.compare_sweep(outcome.sweep).caption


@pytest.mark.parametrize("failed", [0, 3])
def test_a_setting_with_many_seeds_is_not_cut(failed: int) -> None:
    """The best setting is shown even if it has more rows than the limit."""
    cells, _ = settings("x", "x", lr=[0.1], seed=range(9), dataset="mnist")
    others, _ = settings("x", "x", lr=range(1, 4), dataset="mnist")
    table = pd.DataFrame({"status": ["ok"] * 9 + ["failed"] * failed})
    chosen = loading.choose_rows(table, (*cells, *others[:failed]))
    assert chosen == list(range(9 + min(failed, 1)))


def test_failed_rows_fill_the_rest() -> None:
    cells, _ = settings("x", "x", lr=range(1, 9), dataset="mnist")
    table = pd.DataFrame({"status": ["ok"] + ["failed"] * 7})
    assert loading.choose_rows(table, cells) == list(range(5))
