"""`python -m lenet_sweep.report` with the folders of several people, and `analyse`."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from html_pages import Page
from made_sweeps import launched, settings, store_all

import lenet_sweep
from lenet_sweep.core.cells import Cell
from lenet_sweep.report import collect, curve_charts
from lenet_sweep.report.__main__ import main
from lenet_sweep.report.compared_items import compared_items
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.search import Stop
from lenet_sweep.storage.store import Store

WRITTEN = ["report.html", "statistics.csv", "statistics.md", "statistics.tex"]
# matplotlib warns when it builds its font cache, on its first use on a machine.
pytestmark = pytest.mark.filterwarnings("ignore:.*Matplotlib is building the font cache")


@pytest.fixture
def two_sweeps(tmp_path, small_folder):
    """Sweeps of Ada and Bo: each has a cell of its own, one cell is equal, and one differs."""
    folders = {}
    errors = {"Ada": {0.1: 3, 0.2: 9, 0.3: 6}, "Bo": {0.2: 9, 0.3: 7, 0.4: 20}}
    for person, wrong in errors.items():
        out = tmp_path / person
        cells, options = settings(small_folder(), out, lr=list(wrong))
        for cell in cells:
            store_all([cell], out, small_folder(), lambda _, n=wrong[cell.lr]: range(n),
                      person=person)  # fmt: skip
        folders[person] = launched(cells, options).sweep.folder
    return folders


def test_sweeps_of_several_people_are_merged(two_sweeps, tmp_path, capsys) -> None:
    """A cell that both trained is one row if their numbers agree, else one row for each."""
    merged = tmp_path / "merged"
    assert main([*map(str, two_sweeps.values()), "--out", str(merged)]) == 0
    table = pd.read_csv(merged / "results.csv")
    assert list(zip(table["person"], table["lr"], table["accuracy"], strict=True)) == [
        ("Ada", 0.1, 98.5), ("Ada", 0.3, 97.0), ("Bo", 0.3, 96.5), ("Ada", 0.2, 95.5),
        ("Bo", 0.4, 90.0),
    ]  # fmt: skip
    assert list(pd.read_csv(merged / "statistics.csv")["person"]) == list(table["person"])
    page = Page((merged / "report.html").read_text())
    assert "1 row was trained by several people with identical results" in page.text("conclusions")
    assert "1 row repeats the cell of another row" in page.text("conclusions")
    assert "Ada" in page.text("table")
    assert "Bo" in page.text("table")
    assert {p.name for p in merged.iterdir()} == {
        *WRITTEN, "results.csv", "results.md", "results.tex",
    }  # fmt: skip
    assert "report.html" in capsys.readouterr().out


def test_a_row_of_three_people_is_counted_once(two_sweeps, tmp_path, small_folder) -> None:
    out = tmp_path / "Cy"
    cells, options = settings(small_folder(), out, lr=[0.2])
    store_all(cells, out, small_folder(), lambda _: range(9), person="Cy")
    folders = [*two_sweeps.values(), launched(cells, options).sweep.folder]
    assert main([*map(str, folders), "--out", str(tmp_path / "merged")]) == 0
    page = (tmp_path / "merged" / "report.html").read_text()
    assert "1 row was trained by several people with identical results" in page


def test_stopped_rows_are_merged(tmp_path, small_folder) -> None:
    """Of a cell, a finished row counts, else the row that was trained furthest, and once."""
    folders = {}
    for person, trained in {"Ada": {0.1: 1, 0.2: 1, 0.3: 3}, "Bo": {0.1: 2, 0.2: 3}}.items():
        out = tmp_path / person
        cells, options = settings(small_folder(), out, lr=list(trained), person=person)
        done = [replace(cell, epochs=trained[cell.lr]) for cell in cells]
        store_all(done, out, small_folder(), range, person=person)
        table = ResultsTable(Store(out), person)
        table.add_stored(cells)
        stops = {cell.run_id: Stop(trained[cell.lr], "behind") for cell in cells}
        table.add_stops(stops, cells)
        folders[person] = launched(cells, options).sweep.folder
        table.write(folders[person])
    merged = tmp_path / "merged"
    assert main([*map(str, folders.values()), "--out", str(merged)]) == 0
    rows = pd.read_csv(merged / "results.csv").set_index("lr")
    assert rows["person"].to_dict() == {0.1: "Bo", 0.2: "Bo", 0.3: "Ada"}
    assert rows["epochs_trained"].to_dict() == {0.1: 2, 0.2: 3, 0.3: 3}
    assert rows["status"].to_dict() == {0.1: "stopped", 0.2: "ok", 0.3: "ok"}
    page = Page((merged / "report.html").read_text())
    assert "identical results" not in page.text("conclusions")


def test_page_in_another_folder(two_sweeps, tmp_path) -> None:
    """--out with one sweep writes its tables and page there and does not change the sweep."""
    before = {p: p.read_bytes() for p in two_sweeps["Ada"].iterdir() if p.is_file()}
    assert main([str(two_sweeps["Ada"]), "--out", str(tmp_path / "new")]) == 0
    assert {p: p.read_bytes() for p in two_sweeps["Ada"].iterdir() if p.is_file()} == before
    assert (tmp_path / "new" / "results.csv").read_bytes() == before[
        two_sweeps["Ada"] / "results.csv"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "error: there is no sweep in nowhere (sweep.json is missing)"),
        (
            [],
            "error: the following arguments are required: DIR; usage: python -m lenet_sweep.report",
        ),
        (["a", "b"], "error: to merge several sweeps, choose an output folder with --out DIR"),
        (["a", "--nonsense"], "error: unrecognized arguments: --nonsense"),
        (["damaged"], "error: damaged/sweep.json is damaged: run the sweep's command again"),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, capsys, arguments, message) -> None:
    """The status is 2 for wrong arguments and 1 for a damaged file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "sweep.json").write_text("{")
    assert main(arguments) == (1 if arguments == ["damaged"] else 2)
    written = capsys.readouterr().err
    assert written.startswith(message)
    assert written.count("\n") == 1


def test_unwritable_output_folder_is_reported(two_sweeps, tmp_path, capsys) -> None:
    """The error is one line."""
    (tmp_path / "file").write_text("")
    assert main([str(two_sweeps["Ada"]), "--out", str(tmp_path / "file" / "new")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_analyse_reads_a_sweep_folder(two_sweeps) -> None:
    """`lenet_sweep.analyse(folder)` returns the statistics of the page."""
    found = lenet_sweep.analyse(two_sweeps["Ada"])
    assert found.conclusions[0].startswith("Best: lr 0.1, ")
    assert [round(r.accuracy, 1) for r in found.results] == [98.5, 97.0, 95.5]
    assert all(isinstance(r.cell, Cell) for r in found.results)
    with pytest.raises(FileNotFoundError):
        lenet_sweep.analyse("nowhere")
    assert np.isfinite(found.intervals[0].low)


def test_starting_a_sweep_imports_nothing_for_the_page() -> None:
    """`--help` and dry runs import neither jinja2 nor matplotlib."""
    code = (
        "import lenet_sweep.cli.commands, lenet_sweep.api, sys;"
        "assert not {'jinja2', 'scipy', 'matplotlib', 'lenet_sweep.report.page'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_curves_are_ordered_by_the_mean_over_the_seeds(tmp_path, small_folder) -> None:
    """The setting with the best single seed is not the first one."""
    cells, options = settings(small_folder(), tmp_path, lr=[0.1, 0.01], seed=[0, 1], name="it")
    wrong = {(0.1, 0): 1, (0.1, 1): 9, (0.01, 0): 3, (0.01, 1): 3}
    store_all(cells, tmp_path, small_folder(), lambda n: range(wrong[cells[n].lr, cells[n].seed]))
    report = collect.collect_sweep(launched(cells, options).sweep)
    assert [entry.text for entry in curve_charts.curves(report).legend] == ["lr 0.01", "lr 0.1"]


def test_a_seed_that_two_people_trained_counts_once(tmp_path, small_folder) -> None:
    """With different results, the better one, also for the cost and the time."""
    folders = []
    for errors, person in enumerate(("Ada", "Bo")):
        out = tmp_path / person
        cells, options = settings(small_folder(), out, seed=[0, 1], name="it", person=person)
        store_all(cells, out, small_folder(), lambda _, n=errors: range(n + 1), person=person)
        folders.append(launched(cells, options).sweep.folder)
    report, _ = collect.collect_merged(folders, None)
    (item,) = compared_items(report)
    assert len(item.rows) == 4
    assert [row.record["person"] for row in item.measured] == ["Ada", "Ada"]


def test_datasets_are_not_mixed(tmp_path, small_folder) -> None:
    """Heatmaps, recipes and the Pareto front have the results of one dataset each."""
    folders, digests = [], []
    for seed, wrong in ((0, 3), (1, 50)):
        out, root = tmp_path / str(seed), small_folder(seed=seed)
        cells, options = settings(root, out, lr=[0.1, 0.2], batch=[32, 64])
        store_all(cells, out, root, lambda n, wrong=wrong: range(wrong + n))
        folders.append(str(launched(cells, options).sweep.folder))
        digests.append(cells[0].dataset.digest[:6])
    assert main([*folders, "--out", str(tmp_path / "merged")]) == 0
    page = Page((tmp_path / "merged" / "report.html").read_text())
    assert "mean of 2 cells" not in page.html
    for name in ("maps", "recipes"):
        assert all(f"cross_entropy + sgd on folder ({d})" in page.text(name) for d in digests)
    assert "4 with other test images are left out" in page.text("time")
