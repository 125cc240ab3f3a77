"""Rows of results.csv are kept if the runs behind them are missing, damaged or elsewhere."""

import os
import re
import shutil
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from forked_commands import run_forked
from made_sweeps import fail, launched, settings, store_all
from rich.console import Console

import lenet_sweep
from lenet_sweep.cli import commands
from lenet_sweep.core.events import CellFinished, Failed, Failure
from lenet_sweep.report import collect
from lenet_sweep.report.__main__ import main
from lenet_sweep.runner import outputs, run
from lenet_sweep.runner.results_table import ResultsTable
from lenet_sweep.storage.files import read_json, write_json
from lenet_sweep.storage.store import Store

NUMBERS = ["rank", "accuracy", "lr", "status", "train_loss", "seconds", "cell"]
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*Matplotlib is building the font cache", "ignore:.*only from results.csv"
)


@pytest.fixture
def swept(tmp_path, small_folder):
    """A sweep of three finished cells and one failed cell: its folder and the folder of runs."""
    out = tmp_path / "out"
    cells, options = settings(small_folder(), out, lr=[0.1, 0.2, 0.3, 9.0])
    options = replace(options, name="it", person="=Ada")
    store_all(cells[:3], out, small_folder(), lambda n: range(2 * n + 3), person="=Ada")
    fail(cells[3], out)
    outcome = launched(cells, options)
    outputs.write_page(outcome, options, print)
    return outcome.sweep.folder, out / "runs"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def table(folder):
    return pd.read_csv(folder / "results.csv")


def delete_runs(folder, runs):
    shutil.rmtree(runs)


def copy_folder_only(folder, runs):
    runs.parent.rename(runs.parent.parent / "elsewhere")
    shutil.copytree(runs.parent.parent / "elsewhere" / "sweeps" / "it", folder)


def delete_one_run(folder, runs):
    shutil.rmtree(runs / table(folder)["cell"].iloc[1].partition("-e")[0])


def damage_runs(folder, runs):
    for path in runs.glob("*/epoch-*.safetensors"):
        path.write_bytes(path.read_bytes()[:-9])


def change_ids(folder, runs):
    """Give results.csv other ids than sweep.json, as after a new engine version."""
    text = (folder / "results.csv").read_text()
    (folder / "results.csv").write_text(re.sub(r"[0-9a-f]{16}(-e\d+)", r"0123456789abcdef\1", text))
    rows = iter(range(9))
    text = re.sub(
        "0123456789abcdef", lambda _: f"{next(rows):016x}", (folder / "results.csv").read_text()
    )
    (folder / "results.csv").write_text(text)
    shutil.rmtree(runs)


LOSSES = [delete_runs, copy_folder_only, delete_one_run, damage_runs, change_ids]


@pytest.mark.parametrize("lose", LOSSES, ids=lambda f: f.__name__)
def test_the_table_keeps_its_rows(swept, lose) -> None:
    """load_results and analyse have all rows of results.csv, and warn about missing runs."""
    folder, runs = swept
    before = table(folder)
    lose(folder, runs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        after = lenet_sweep.load_results(folder)
    names = NUMBERS[:-1] if lose is change_ids else NUMBERS
    pd.testing.assert_frame_equal(after[names], before[names].astype({"rank": "Int64"}))
    assert list(after["person"]) == ["=Ada"] * 3 + ["Ada"]
    lost = [str(w.message) for w in caught if "only from results.csv" in str(w.message)]
    assert len(lost) == 1
    number = {delete_one_run: 1, damage_runs: 3}.get(lose, len(before))
    assert str(number) in lost[0]
    statistics = lenet_sweep.analyse(folder)
    assert [r.accuracy for r in statistics.results if r.accuracy] == list(before["accuracy"][:3])
    assert statistics.conclusions[0].startswith("Best: lr 0.1, ")


@pytest.mark.parametrize("lose", LOSSES, ids=lambda f: f.__name__)
def test_a_page_that_shows_more_is_kept(swept, tmp_path, capsys, lose) -> None:
    """If a new page would show less, one line says so and nothing changes; --out writes it."""
    folder, runs = swept
    before = files(folder)
    lose(folder, runs)
    before["results.csv"] = (folder / "results.csv").read_bytes()
    assert main([str(folder)]) == 1
    error = capsys.readouterr().err
    assert files(folder) == before
    assert error.count("\n") == 1
    assert "report.html" in error
    assert "--out" in error
    assert main([str(folder), "--out", str(tmp_path / "new")]) == 0
    html = (tmp_path / "new" / "report.html").read_text()
    number = 1 if lose is delete_one_run else 3
    assert f"predictions and curves of {number} of 3 rows are not available" in html.lower()
    assert list(table(tmp_path / "new")["accuracy"].dropna()) == [98.5, 97.5, 96.5]
    # A page that shows as much is replaced.
    assert main([str(folder), "--out", str(tmp_path / "new")]) == 0


def test_a_merged_table_is_not_replaced_by_a_shorter_one(swept, tmp_path, capsys) -> None:
    """If a sweep has lost all its rows, a table merged from it stays."""
    folder, runs = swept
    out = tmp_path / "new"
    assert main([str(folder), "--out", str(out)]) == 0
    before = files(out)
    shutil.rmtree(runs)
    (folder / "results.csv").unlink()
    assert main([str(folder), "--out", str(out)]) == 1
    assert files(out) == before
    assert main([str(folder)]) == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_a_page_is_kept_if_the_images_are_gone(tmp_path, small_folder, capsys) -> None:
    """A page with ties and errors is not replaced by one without, because images were moved."""
    root = shutil.copytree(small_folder(), tmp_path / "images")
    cells, options = settings(root, tmp_path / "out", lr=[0.1, 0.2])
    store_all(cells, tmp_path / "out", root, lambda n: range(2 * n + 3))
    outcome = launched(cells, options)
    outputs.write_page(outcome, options, print)
    before = files(outcome.sweep.folder)
    shutil.rmtree(root)
    assert main([str(outcome.sweep.folder)]) == 1
    assert "--data" in capsys.readouterr().err
    assert files(outcome.sweep.folder) == before
    assert main([str(outcome.sweep.folder), "--data", str(small_folder())]) == 0


@pytest.mark.parametrize("damage", ["truncated", "noise", "empty", "number"])
def test_a_damaged_results_csv_gives_no_wrong_row(swept, damage) -> None:
    """Only intact rows of a damaged results.csv are used."""
    folder, runs = swept
    before = table(folder)
    shutil.rmtree(runs)
    content = (folder / "results.csv").read_bytes()
    (folder / "results.csv").write_bytes(
        {"truncated": content[:-100], "noise": os.urandom(2000), "empty": b"",
         "number": content.replace(b"98.5,", b"985.,")}[damage]
    )  # fmt: skip
    after = lenet_sweep.load_results(folder)
    true = {(c, str(a)) for c, a in zip(before["cell"], before["accuracy"], strict=True)}
    assert {(c, str(a)) for c, a in zip(after["cell"], after["accuracy"], strict=True)} <= true
    assert len(after) == {"truncated": 3, "noise": 0, "empty": 0, "number": 3}[damage]


@pytest.mark.parametrize("retrain", [True, False])
def test_retraining_keeps_rows_until_they_are_replaced(tmp_path, small_folder, retrain) -> None:
    """Cells that will be retrained keep their rows in results.csv until they are."""
    out = tmp_path / "out"
    cells, options = settings(small_folder(), out, lr=[0.1, 0.2])
    options = replace(options, name="it", reuse=not retrain)
    store_all(cells, out, small_folder(), lambda n: range(2 * n + 3))
    folder = launched(cells, replace(options, reuse=True)).sweep.folder
    before = table(folder)
    if not retrain:
        shutil.rmtree(out / "runs")
    pd.testing.assert_frame_equal(table(launched(cells, options).sweep.folder), before)
    reloaded = run.reload_sweep(folder).table[NUMBERS]
    pd.testing.assert_frame_equal(reloaded, before[NUMBERS].astype({"rank": "Int64"}))
    more, _ = settings(small_folder(), out, lr=[0.3])
    store_all(more, out, small_folder(), lambda _: range(60))
    assert list(table(launched(more, options).sweep.folder)["accuracy"]) == [98.5, 97.5, 70.0]


def test_a_later_failure_keeps_a_finished_cell(tmp_path, small_folder) -> None:
    """A run that fails before it continues after epoch 1 costs only the cell of epoch 2."""
    cells, _ = settings(small_folder(), tmp_path / "out", epochs=[1, 2])
    store_all(cells[:1], tmp_path / "out", small_folder(), lambda _: range(3))
    results = ResultsTable(Store(tmp_path / "out"), "Ada")
    planned = results.plan(cells, reuse=False)
    (run_id,) = planned.by_id
    results.update(CellFinished(run_id, 1), planned)
    results.update(Failed(run_id, Failure("killed", 1, "no memory", "", "Ada")), planned)
    assert list(results.write(tmp_path)["status"]) == ["ok", "killed"]


@pytest.mark.parametrize(("reuse", "status"), [(True, "ok"), (False, "failed")])
def test_a_failure_without_the_store_keeps_the_row(tmp_path, small_folder, reuse, status) -> None:
    """A row that only results.csv has is not lost if its cell fails when it is trained again."""
    out = tmp_path / "out"
    cells, options = settings(small_folder(), out, lr=[0.1])
    store_all(cells, out, small_folder(), lambda _: range(3))
    folder = launched(cells, options).sweep.folder
    shutil.rmtree(out / "runs")
    results = ResultsTable(Store(out), "Ada")
    planned = results.plan(cells, reuse=reuse)
    results.read_csv(folder, cells)
    failure = Failure("failed", 1, "RuntimeError: no", "", "Ada")
    results.update(Failed(planned.runs[0].id, failure), planned)
    assert list(results.write(folder)["status"]) == [status]
    assert results.failed_again == ({*cells} if reuse else set())


def test_the_same_command_retrains_missing_runs(tmp_path, small_folder) -> None:
    """Without the store, the same command trains again and gives the same table and page."""
    arguments = [
        "-m", "lr=0.1,0.01", "epochs=1", "name=it", "figures=none", "device=cpu", "workers=1",
        "dataset=folder", f"dataset.root={small_folder()}",
    ]  # fmt: skip
    assert run_forked(*arguments, cwd=tmp_path).returncode == 0
    folder = tmp_path / "outputs" / "sweeps" / "it"
    before = table(folder)
    shutil.rmtree(tmp_path / "outputs" / "runs")
    done = run_forked(*arguments, "reuse=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 of 2" in done.stdout + done.stderr or "trained" in done.stdout
    pd.testing.assert_frame_equal(
        table(folder)[["accuracy", "train_loss", "cell"]],
        before[["accuracy", "train_loss", "cell"]],
    )
    assert list((tmp_path / "outputs" / "runs").glob("*/epoch-*"))
    assert "not available" not in (folder / "report.html").read_text()


def test_a_sweep_keeps_a_page_that_shows_more(swept, small_folder, capsys) -> None:
    """A new cell in a sweep whose earlier runs are gone does not replace their page."""
    folder, runs = swept
    shutil.rmtree(runs)
    page = (folder / "report.html").read_bytes()
    more, options = settings(small_folder(), runs.parent, lr=[0.4])
    store_all(more, runs.parent, small_folder(), lambda _: range(60))
    options = replace(options, name="it")
    outcome = launched(more, options)
    commands._report(outcome, replace(options, figures="none"), Console(), tables=False)
    assert len(table(folder)) == 5
    assert (folder / "report.html").read_bytes() == page
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "report.html is kept" in line and "--out" in line]
    outputs.write_page(replace(outcome, interrupted=signal.SIGINT), options, print)
    assert (folder / "report.html").read_bytes() == page
    assert (folder / "statistics.csv").exists()


def test_the_figure_of_all_curves_is_kept(swept, small_folder) -> None:
    """The figure of all cells is not replaced by one without the curves of missing runs."""
    folder, runs = swept
    more, options = settings(small_folder(), runs.parent, lr=[0.4, 0.5])
    options = replace(options, name="it")
    first, _ = settings(small_folder(), runs.parent, lr=[0.1])
    outputs.draw_figures(launched(first, options), options, print)
    before = (folder / "figures" / "all-cells.png").read_bytes()
    shutil.rmtree(runs)
    store_all(more, runs.parent, small_folder(), lambda _: range(60))
    messages = []
    paths = outputs.draw_figures(launched(more, options), options, messages.append)
    assert (folder / "figures" / "all-cells.png").read_bytes() == before
    assert folder / "figures" / "all-cells.png" in paths
    assert [line for line in messages if line.startswith("3 of 5 cells have no figures")]


def test_a_damaged_manifest_without_runs_loses_no_row(swept, small_folder) -> None:
    """Rows whose settings cannot be recovered are kept in a copy of results.csv."""
    folder, runs = swept
    shutil.rmtree(runs)
    before = (folder / "results.csv").read_bytes()
    (folder / "sweep.json").write_text("{")
    more, options = settings(small_folder(), runs.parent, lr=[0.4])
    store_all(more, runs.parent, small_folder(), lambda _: range(60))
    launched(more, replace(options, name="it"))
    copies = [p for p in folder.iterdir() if p.name.startswith("results") and p.suffix == ".csv"]
    assert before in [p.read_bytes() for p in copies]


def test_a_missing_image_folder_is_ignored(swept, tmp_path) -> None:
    """If the recorded folder of images does not exist, the cache of the user is used."""
    folder, _ = swept
    manifest = read_json(folder / "sweep.json")
    assert collect.collect_merged([folder], None)[0].rows[0].data_root == Path(
        manifest["data_root"]
    )
    write_json(folder / "sweep.json", manifest | {"data_root": str(tmp_path / "not here")})
    assert collect.collect_merged([folder], None)[0].rows[0].data_root is None
