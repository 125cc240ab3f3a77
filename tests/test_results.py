"""The ranked table: order, columns, and how it is written to CSV, Markdown and LaTeX."""

import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_sweep.config import grids, validation
from lenet_sweep.config.registry import OPTION_DEFAULTS
from lenet_sweep.core.cells import OPTIONAL_SETTINGS
from lenet_sweep.core.text import format_cost
from lenet_sweep.report.text_tables import (
    EARLY_END,
    STOPPED_ROWS,
    text_tables,
    to_latex,
    to_markdown,
)
from lenet_sweep.results import records
from lenet_sweep.results.columns import COLUMNS, NUMERIC, REPORT_COLUMNS, heading_of
from lenet_sweep.results.csv_file import read_records_csv, write_csv
from lenet_sweep.results.manifest import recover_cells
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.storage.store import Store
from lenet_sweep.training.engines.support import NATIVE

ROW = {
    "accuracy": 99.0, "batch": 64, "lr": 0.1, "epochs": 1, "person": "Ada", "device": "cpu",
    "loss": "nll", "optimizer": "adam", "activation": "relu", "seed": 0, "status": "ok",
    "train_loss": 0.1, "seconds_per_epoch": 5.0, "seconds": 5.5, "engine": "torch",
    "dataset": "mnist", "error": "", "cell": "0-e1",
}  # fmt: skip
FAILED = {"accuracy": None, "train_loss": None, "seconds_per_epoch": None, "seconds": None}


def rows(*changes):
    return ranked_table(ROW | {"cell": f"{i}-e1"} | c for i, c in enumerate(changes))


def test_order_of_the_columns() -> None:
    """The columns of results.csv have the documented order."""
    common = (
        "rank,accuracy,batch,lr,epochs,person,device,loss,optimizer,activation,seed,status,"
        "train_loss,seconds_per_epoch,seconds,engine,dataset,error,cell"
    )
    added = ",".join(OPTIONAL_SETTINGS)
    options_of_cell = (
        "loss.label_smoothing,optimizer.weight_decay,optimizer.maximize,optimizer.betas,optimizer.eps,"
        "optimizer.amsgrad,optimizer.decoupled_weight_decay,schedule.warmup"
    )
    (cell,), _ = validation.validate_cells(grids.grid({"optimizer": "adam"}), NATIVE)
    options = records.option_values(cell)
    assert ",".join(rows(options).columns) == f"{common},{added},{options_of_cell}"
    held_out = rows(options | {"holdout_accuracy": 98.0})
    assert ",".join(held_out.columns) == f"{common},holdout_accuracy,{added},{options_of_cell}"


def optimized(*optimizers):
    """A table with one cell for each of the optimizers."""
    cells, _ = validation.validate_cells(
        grids.grid({"optimizer": list(optimizers), "lr": 0.1}), NATIVE
    )
    return rows(*(
        {
            "optimizer": cell.optimizer.name, "loss": cell.loss.name, "accuracy": 90.0 - index,
            **records.option_values(cell),
        }
        for index, cell in enumerate(cells)
    ))  # fmt: skip


def test_each_option_of_an_optimizer_is_a_column(tmp_path) -> None:
    """results.csv has a column for each option, which is empty for optimizers without it."""
    frame = optimized(
        {"name": "sgd", "momentum": 0.9, "nesterov": True},
        "sgd",
        {"name": "adam", "betas": (0.1, 0.999), "amsgrad": True},
    )
    write_csv(frame, tmp_path / "results.csv")
    restored = pd.read_csv(tmp_path / "results.csv", keep_default_na=False, dtype=str)
    assert list(restored["optimizer"]) == ["sgd", "sgd", "adam"]
    assert list(restored["optimizer.momentum"]) == ["0.9", "0.0", ""]
    assert list(restored["optimizer.nesterov"]) == ["True", "False", ""]
    assert list(restored["optimizer.amsgrad"]) == ["", "", "True"]
    assert list(restored["optimizer.betas"]) == ["", "", "[0.1,0.999]"]
    assert list(frame.query("`optimizer.momentum` > 0")["rank"]) == [1]
    assert list(frame["optimizer.nesterov"].dropna()) == [True, False]


def test_options_that_vary_are_shown_as_columns() -> None:
    """Printed tables show options that vary as columns, and unusual constant ones in the title."""
    (title, _, table), (other, _, adam) = text_tables(
        optimized(
            {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True},
            {"name": "sgd", "momentum": 0.0, "weight_decay": 1e-4},
            "adam",
        )
    )
    assert (title, other) == ("cross_entropy + sgd weight_decay=0.0001", "cross_entropy + adam")
    assert list(table["optimizer.momentum"]) == ["0.9", "0"]
    assert list(table["optimizer.nesterov"]) == ["true", "false"]
    assert not [name for name in adam if "optimizer" in name]
    assert "optimizer.weight_decay" not in table
    text = to_markdown([(title, "", table)])
    assert "| momentum | nesterov |" in text
    assert "optimizer." not in text


def test_the_options_of_losses_are_columns_and_in_titles() -> None:
    """Label smoothing that varies is a column; otherwise, it is part of the title of its table."""
    axes = {"loss": ["cross_entropy", "nll"], "loss.label_smoothing": [0, 0.1], "lr": 0.1}
    cells, _ = validation.validate_cells(grids.grid(axes), NATIVE)
    frame = rows(*(
        records.settings_columns(cell) | {"accuracy": 90.0 - n}
        for n, cell in enumerate(cells)
    ))  # fmt: skip
    assert list(frame["loss"]) == ["cross_entropy", "cross_entropy", "nll"]
    assert list(frame["loss.label_smoothing"].fillna(-1)) == [0, 0.1, -1]
    (title, _, table), (other, _, _) = text_tables(frame)
    assert (title, other) == ("cross_entropy + sgd", "nll + sgd")
    assert list(table["loss.label_smoothing"]) == ["0", "0.1"]
    ((title, _, table),) = text_tables(frame[frame["loss.label_smoothing"] == 0.1])
    assert title == "cross_entropy label_smoothing=0.1 + sgd"
    assert "loss.label_smoothing" not in table


def test_an_option_is_not_headed_like_a_statistic() -> None:
    """The option p of a loss and the p-value of a comparison have different headings."""
    assert heading_of("loss.p") == "loss.p"
    assert heading_of("loss.margin") == "margin"
    assert not {heading_of(key) for key in OPTION_DEFAULTS} & {*NUMERIC}


def test_rows_with_different_options_of_the_loss_are_not_confused(tmp_path) -> None:
    """A row of results.csv whose id has changed belongs to the cell with its label smoothing."""
    axes = {"loss.label_smoothing": [0, 0.1, 0.2], "lr": 0.1}
    cells, _ = validation.validate_cells(grids.grid(axes), NATIVE)
    columns = [records.settings_columns(cell) for cell in cells]
    frame = rows(*(
        ROW | c | {"cell": f"{n}-e1", "accuracy": 90.0 + n} for n, c in enumerate(columns)
    ))  # fmt: skip
    write_csv(frame, tmp_path / "results.csv")
    found = read_records_csv(tmp_path, cells)
    assert [found[cell]["accuracy"] for cell in cells] == [90.0, 91.0, 92.0]
    # A table from before losses had options has only cells without smoothing.
    write_csv(frame.query("accuracy == 90")[list(COLUMNS)], tmp_path / "results.csv")
    assert list(read_records_csv(tmp_path, cells)) == [cells[0]]


def test_a_table_of_an_earlier_version_can_be_read(tmp_path, runs_of) -> None:
    """A results.csv with options in the optimizer column names the same cells."""
    (run,), setup = runs_of(lr=0.1)
    store = Store(setup.out)
    store.run_folder(run.id).path.mkdir(parents=True)
    store.run_folder(run.id).write_description(run.cell, {})
    old = rows({"cell": f"{run.id}-e1"})[list(COLUMNS)]
    old["optimizer"] = "sgd momentum=0.9"
    write_csv(old, tmp_path / "results.csv")
    assert [cell.run_id for cell in recover_cells(tmp_path, store)] == [run.id]


OPTIMIZERS = [
    {"name": "sgd", "momentum": 0.9, "nesterov": True},
    {"name": "sgd", "momentum": 0.5},
    {"name": "adam", "weight_decay": 1e-4, "betas": (0.5, 0.999)},
    "adam",
]


@pytest.mark.parametrize("old", [False, True])
def test_rows_are_matched_by_their_options(tmp_path, old: bool) -> None:
    """If ids in results.csv are of an earlier engine version, settings identify the rows."""
    cells, _ = validation.validate_cells(grids.grid({"optimizer": OPTIMIZERS, "lr": 0.1}), NATIVE)
    frame = ranked_table(
        ROW | records.settings_columns(cell) | {"cell": f"{index}-e1", "accuracy": 90.0 - index}
        for index, cell in enumerate(cells)
    )
    if old:
        frame["optimizer"] = [str(cell.optimizer) for cell in cells]
        frame = frame[list(COLUMNS)]
    write_csv(frame, tmp_path / "results.csv")
    kept = read_records_csv(tmp_path, cells)
    assert [kept[cell]["accuracy"] for cell in cells] == [90, 89, 88, 87]


@given(st.lists(st.one_of(st.none(), st.sampled_from([9.8, 11.35, 98.0, 99.22])), max_size=12))
def test_ranks_follow_accuracy(accuracies: list[float | None]) -> None:
    """The best accuracy has rank 1, equal ones share a rank, failed cells come last without one."""
    frame = rows(
        *({"accuracy": a} if a is not None else FAILED | {"status": "failed"} for a in accuracies)
    )
    assert len(frame) == len(accuracies)
    finished = [a for a in accuracies if a is not None]
    expected = sorted(finished, reverse=True)
    assert list(frame["accuracy"].dropna()) == expected
    assert list(frame["rank"].dropna()) == [1 + sum(b > a for b in finished) for a in expected]
    assert frame["rank"].isna().sum() == len(accuracies) - len(finished)
    assert list(frame["status"]) == ["ok"] * len(finished) + ["failed"] * (
        len(accuracies) - len(finished)
    )


@pytest.mark.parametrize("person", ["NA", "1e5", "nan", "007"])
def test_any_person_can_be_read_back_as_documented(tmp_path, person: str) -> None:
    """The call in docs/reliability.md keeps names that pandas would convert."""
    write_csv(rows({"person": person}, FAILED | {"status": "failed"}), tmp_path / "r.csv")
    text = (Path(__file__).parent.parent / "docs" / "reliability.md").read_text()
    (call,) = re.findall(r"`pd.read_csv\(\"results.csv\",\s(.*?)\)`", text, re.DOTALL)
    restored = pd.read_csv(tmp_path / "r.csv", **eval(f"dict({call})"))  # noqa: S307 - our own page
    assert restored["person"][0] == person
    assert restored["accuracy"].isna().tolist() == [False, True]


def test_failed_cells_have_no_rank(tmp_path) -> None:
    """The rank of a failed cell is empty in the file and a dash in printed tables."""
    failed = FAILED | {"status": "failed", "error": "no"}
    frame = rows(failed, failed)
    write_csv(frame, tmp_path / "results.csv")
    assert list(pd.read_csv(tmp_path / "results.csv", dtype=str)["rank"].isna()) == [True, True]
    ((_, _, table),) = text_tables(frame)
    assert list(table["rank"]) == ["\N{EN DASH}"] * 2
    some = rows({}, failed)
    write_csv(some, tmp_path / "results.csv")
    assert list(pd.read_csv(tmp_path / "results.csv", dtype=str)["rank"].fillna("")) == ["1", ""]


def test_equal_cells_are_sorted_by_epochs() -> None:
    """Of two cells with the same accuracy, the one with fewer epochs comes first."""
    assert list(rows({"epochs": 100}, {"epochs": 15})["epochs"]) == [15, 100]


def test_numbers_keep_their_precision_in_the_file(tmp_path) -> None:
    """Numbers read back from results.csv are the same numbers."""
    frame = rows({"accuracy": 98.76, "lr": 1e-4, "train_loss": 1 / 3}, {"lr": 0.30000000000000004})
    write_csv(frame, tmp_path / "results.csv")
    restored = pd.read_csv(tmp_path / "results.csv")
    for column in ("accuracy", "lr", "train_loss", "batch", "rank"):
        assert list(restored[column]) == list(frame[column])


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "\n=2"]
)
def test_formulas_are_escaped(tmp_path, text: str) -> None:
    """A person or an error message cannot put a formula into a spreadsheet."""
    write_csv(rows({"person": text, "error": text}), tmp_path / "r.csv")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "r.csv").read_bytes().decode(), newline=""))
    assert row["person"] == row["error"] == "'" + text.strip()
    assert row["accuracy"] == "99.0"


def test_one_table_per_recipe() -> None:
    """Two recipes give two tables, each with its own ranks, the better one first."""
    parts = text_tables(
        rows(
            {"accuracy": 98.0},
            {"accuracy": 99.0, "loss": "cross_entropy", "optimizer": "sgd"},
            {"accuracy": 97.0, "loss": "cross_entropy", "optimizer": "sgd", "seed": 1},
        )
    )
    assert [title for title, _, _ in parts] == ["cross_entropy + sgd", "nll + adam"]
    assert [list(table["rank"]) for _, _, table in parts] == [[1, 2], [1]]
    assert list(parts[0][2]["seed"]) == [0, 1]


def test_report_columns_come_first_and_constants_go_to_the_caption() -> None:
    """A printed table has the columns of the report, then the settings that vary."""
    ((_, caption, table),) = text_tables(rows({"seed": 0}, {"seed": 1}))
    assert list(table.columns)[:8] == [*REPORT_COLUMNS, "seed"]
    assert "activation" not in table.columns
    assert "activation relu" in caption
    assert list(table["accuracy"]) == ["99.00", "99.00"]


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (0.01234, "0.0123"),
        (1.2e-5, "1.2e-05"),
        (6e30, "6e+30"),
        (0.0, "0.0000"),
        (12.3, "12.3000"),
    ],
)
def test_costs_of_any_size_stay_short(cost: float, text: str) -> None:
    """A tiny or huge cost does not widen its column."""
    assert format_cost(cost) == text
    assert len(text) <= 9


def test_all_reasons_for_fewer_epochs_are_in_the_caption() -> None:
    """Runs of one table may end early because of their patience, and because of a search."""
    early = {"epochs": 9, "epochs_trained": 3, "patience": 2}
    ((_, caption, _),) = text_tables(rows(early, early | FAILED | {"status": "stopped"}))
    assert f"{EARLY_END} {STOPPED_ROWS} The test images decided when to stop." in caption


def test_failed_cells_have_a_reason() -> None:
    """A printed table with a failed cell has a column for the error."""
    ((_, _, table),) = text_tables(
        rows({}, FAILED | {"status": "killed", "error": "ended by SIGKILL"})
    )
    assert list(table["error"]) == ["", "ended by SIGKILL"]
    assert list(table["accuracy"]) == ["99.00", ""]


def test_markdown_and_latex_have_the_same_content() -> None:
    """Both formats contain every row, with special characters escaped."""
    frame = rows({"person": "A|B_c & 100% <x>"}, {"accuracy": 98.5})
    markdown, latex = (
        to_markdown(text_tables(frame)),
        to_latex(text_tables(frame)),
    )
    assert r"A\|B\_c & 100% \<x\>" in markdown
    assert r"A\textbar{}B\_c \& 100\% \textless{}x\textgreater{}" in latex
    for text in ("99.00", "98.50", "0.1"):
        assert text in markdown
        assert text in latex
    widths = {line.replace(r"\|", "").count("|") for line in markdown.splitlines() if "|" in line}
    assert len(widths) == 1


def test_a_sweep_without_results_has_an_empty_table(tmp_path) -> None:
    """A sweep that stops before the first cell ends still has a table with all columns."""
    frame = ranked_table([])
    write_csv(frame, tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text().strip() == ",".join([*COLUMNS, *OPTIONAL_SETTINGS])
    assert text_tables(frame) == []


def test_held_out_images_rank_the_rows() -> None:
    """If images were held out, their accuracy decides the rank, not that of the test images."""
    frame = rows(
        {"accuracy": 99.0, "holdout_accuracy": 97.0}, {"accuracy": 98.0, "holdout_accuracy": 98.5}
    )
    assert list(frame["accuracy"]) == [98.0, 99.0]
    assert list(frame["rank"]) == [1, 2]
    assert list(frame.columns)[: len(COLUMNS) + 1] == [*COLUMNS, "holdout_accuracy"]
    assert "held-out (%)" in to_markdown(text_tables(frame))
    assert "98.50" in to_latex(text_tables(frame))
