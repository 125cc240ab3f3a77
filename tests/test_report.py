"""report.html: its contents for sweeps of every kind, and `python -m lenet_sweep.report`."""

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from forked_commands import run_forked
from html_pages import Page
from made_sweeps import fail, launched, settings, store_all
from payloads import HTML, PAYLOADS

import lenet_sweep
from lenet_sweep.report import charts
from lenet_sweep.report import page as page_module
from lenet_sweep.report.__main__ import main
from lenet_sweep.runner import outputs, run

WRITTEN = ["report.html", "statistics.csv", "statistics.md", "statistics.tex"]
# matplotlib warns when it builds its font cache, on its first use on a machine.
pytestmark = pytest.mark.filterwarnings("ignore:.*Matplotlib is building the font cache")


def page_of(cells, options, **changes):
    outcome = replace(launched(cells, options), **changes)
    outputs.write_page(outcome, options, print)
    return Page((outcome.sweep.folder / "report.html").read_text())


@pytest.fixture
def make_cells(tmp_path, small_folder):
    """Store results for a grid. By default, the n-th cell misclassifies the first 2n + 3 images."""

    def make(wrong=lambda n: range(2 * n + 3), **axes):
        cells, options = settings(small_folder(), tmp_path / "out", **axes)
        store_all(cells, tmp_path / "out", small_folder(), wrong)
        return cells, options

    return make


@pytest.fixture(scope="module")
def real_sweep(tmp_path_factory, small_folder):
    """A sweep that really ran, with a diverged cell: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("real")
    done = run_forked(
        "-m", "recipe=ce_sgd,nll_adam", "lr=0.1,0.003,1e30", "batch=8,16", "epochs=5,8",
        "dataset=folder", f"dataset.root={small_folder()}", "device=cpu", "name=it",
        cwd=folder, env={"COLUMNS": "160"},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return folder / "outputs" / "sweeps" / "it", done.stdout


# ---------------------------------------------------------------- contents of the page


def test_page_of_a_real_sweep_has_all_sections(real_sweep, monkeypatch) -> None:
    """Conclusions and warnings come first, then the tables, charts, and images."""
    folder, printed = real_sweep
    monkeypatch.chdir(folder.parents[2])  # commands have `out` unless it is outputs/ here
    page = Page((folder / "report.html").read_text())
    assert [a["id"] for a in page.all("section")] == [
        "conclusions", "warnings", "table", "recipes", "maps", "curves", "parallel", "time",
        "effects", "best", "atlas", "failures", "provenance",
    ]  # fmt: skip
    assert [a["href"] for a in page.all("a") if a["href"] != "#content"] == [
        f"#{a['id']}" for a in page.all("section")
    ]
    found = lenet_sweep.analyse(folder)
    for sentence in found.conclusions:
        assert " ".join(sentence.split()) in page.text("conclusions")
    for warning in found.warnings:
        assert warning.sentence in page.text("warnings")
        assert warning.remedy in page.text("warnings")
    assert "lenet_sweep -m recipe=ce_sgd,nll_adam" in page.text("provenance")
    assert "diverged" in page.text("failures")
    assert re.search(r"Written to .*\n  report\.html\n  statistics\.csv\n", printed)


def test_the_command_of_a_row_selects_its_cell(real_sweep, tmp_path) -> None:
    """The command that the button of a row copies plans exactly this cell."""
    folder, _ = real_sweep
    page = Page((folder / "report.html").read_text())
    table = pd.read_csv(folder / "results.csv")
    commands = [a["data-copy"] for a in page.all("button") if "the command" not in str(a) and
                "title" in a]  # fmt: skip
    assert len(commands) == len(table) == 24
    for index in (0, 13):  # each dry run takes seconds
        words = shlex.split(commands[index])
        done = subprocess.run(
            [sys.executable, *words[1:], "dry_run=true", f"out={folder.parent.parent}"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "1 cell, 1 in the store" in done.stdout, commands[index] + done.stderr
        row = table.iloc[index]
        assert f"lr={row['lr']}" in words or row["lr"] in (0.1, 0.001)


def test_the_recorded_command_has_no_copy_button(real_sweep) -> None:
    """It may come from another person's sweep.json, so copied commands are built from cells."""
    folder, _ = real_sweep
    recorded = json.loads((folder / "sweep.json").read_text())["launches"][0]["command"]
    page = Page((folder / "report.html").read_text())
    text = unescape((folder / "report.html").read_text())
    assert f"Command: <code>{recorded}</code>" in text
    assert recorded not in [a.get("data-copy") for a in page.all("button")]


def test_page_is_self_contained(real_sweep) -> None:
    """It loads nothing, its policy allows only its own script, and its ids are unique."""
    folder, _ = real_sweep
    html = (folder / "report.html").read_text()
    page = Page(html)
    (policy,) = (a["content"] for a in page.all("meta") if "http-equiv" in a)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    links = [
        v for _, a in page.elements for k, v in a.items() if k in ("src", "href", "xlink:href")
    ]
    assert all(v.startswith(("#", "data:")) for v in links)
    outside = set(re.findall(r"https?://[^\"'\s<)]+", html))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ET.fromstring(svg)  # noqa: S314 - written by this package
    assert len(html) < 1_000_000


def test_rows_have_as_many_cells_as_headings(real_sweep, make_cells) -> None:
    """This also holds for failed rows and for tables with many columns."""
    folder, _ = real_sweep
    wide = make_cells(
        loss=["nll", "cross_entropy"], optimizer=["sgd", "adam"], lr=[0.1], seed=[0, 1]
    )
    for html in ((folder / "report.html").read_text(), page_of(*wide).html):
        (table,) = re.findall(r'<table class="ranked".*?</table>', html, re.DOTALL)
        rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        assert len(rows) > 6
        assert len({len(re.findall(r"<t[hd][ >]", row)) for row in rows}) == 1


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_varying_options_are_columns(make_cells, seeds) -> None:
    """Momentum has a column of its own, which is empty for optimizers without it."""
    axes = {"optimizer": ["sgd", "adam"], "optimizer.weight_decay": 1, "optimizer.momentum": [0, 1]}
    page = page_of(*make_cells(lr=[0.1], seed=seeds, **axes))
    (table,) = re.findall(r'<table class="ranked".*?</table>', page.html, re.DOTALL)
    head, *rows = (
        [re.sub("<.*?>", "", cell).strip() for cell in re.findall("(?s)<t[hd].*?</t[hd]>", row)]
        for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    )
    assert {row[head.index("momentum")] for row in rows} == {"0", "1", ""}
    assert "nesterov" not in " ".join(head)
    assert "weight_decay=1" in page.html


def test_page_is_accessible_to_screen_readers(real_sweep) -> None:
    """Images have descriptions, headings a scope, tables captions, and fields labels."""
    folder, _ = real_sweep
    page = Page((folder / "report.html").read_text())
    for svg in page.all("svg"):
        assert svg.get("aria-hidden") == "true" or svg["role"] == "img"
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("aria-label") for a in page.all("span") if a.get("role") == "img")
    labeled = {a.get("for") for a in page.all("label")}
    for field in page.all("input"):
        assert field["type"] in ("radio", "checkbox") or field["id"] in labeled
    names = {tag for tag, _ in page.elements}
    assert {"header", "nav", "main", "footer", "h1"} <= names
    assert page.all("html")[0]["lang"] == "en"


def test_statistics_csv_has_the_rows_of_results_csv(real_sweep) -> None:
    """It has the intervals and outcomes that `analyse` returns."""
    folder, _ = real_sweep
    table, statistics = pd.read_csv(folder / "results.csv"), pd.read_csv(folder / "statistics.csv")
    assert list(statistics["cell"]) == list(table["cell"])
    ok = statistics[statistics["status"] == "ok"]
    assert (ok["low"] <= ok["accuracy"]).all()
    assert (ok["accuracy"] <= ok["high"]).all()
    rows = lenet_sweep.analyse(folder).rows
    assert list(statistics["outcome"]) == [c.outcome for c in rows]
    assert statistics["reason"].iloc[-1] == "no accuracy (diverged)"


def test_all_tables_mark_the_best_and_its_ties(make_cells, small_folder) -> None:
    """The terminal, Markdown, LaTeX, and the page show the same outcomes."""
    wrong = [range(3), range(2, 7), range(60)]
    _, options = make_cells(lambda n: wrong[n], lr=[0.1, 0.2, 0.3])
    done = run_forked(
        "-m", "lr=0.1,0.2,0.3", "epochs=3", "device=cpu", "dataset=folder",
        f"dataset.root={small_folder()}", f"out={options.out}", "name=it", "figures=none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = options.out / "sweeps" / "it"
    markdown, latex = ((folder / f"results.{kind}").read_text() for kind in ("md", "tex"))
    for text, rank in (
        (done.stdout, r"^ *((?:best|=)? ?\d)  +\d\d\."),
        (markdown, r"^\| (.*?\d) \|"),
        (latex, r"^(.*?\d) & \d\d\."),
    ):
        assert re.findall(rank, text, re.MULTILINE) == ["best 1", "= 2", "3"]
        assert "1 tied (=, no significant difference), 1 worse." in " ".join(text.split())
    outcomes = re.findall(r'<tbody data-outcome="(\w+)"', (folder / "report.html").read_text())
    assert outcomes == ["best", "tied", "worse"]


# ---------------------------------------------------------------- sweeps of every kind


def test_a_chart_is_added_by_the_recipe_in_the_documentation(make_cells, monkeypatch) -> None:
    """The function in docs/extending.md adds a section with its chart and an entry in the list."""
    monkeypatch.setattr(charts, "SECTIONS", [*charts.SECTIONS])
    text = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
    flags = re.MULTILINE | re.DOTALL
    (code,) = re.findall(r"^```python\n(from lenet_sweep\.report.*?)^```", text, flags)
    exec(code, {})  # noqa: S102 - the code is a page of this repository
    page = page_of(*make_cells(lr=[0.1, 0.01]))
    assert "Histogram of the accuracies Number of rows by test" in page.text("histogram")
    assert "Histogram of 2 accuracies" in page.text("histogram")
    assert "#histogram" in [a["href"] for a in page.all("a")]


@pytest.mark.parametrize("name", ["parallel", "table", "filter", "front", "study-1", "two words"])
def test_an_id_of_the_page_is_no_section(name: str) -> None:
    """A section with the id of another element of the page is rejected where it is defined."""
    with pytest.raises(ValueError, match=f"section '{name}'"):
        charts.section(name, "Heading")


def test_a_single_cell(make_cells) -> None:
    """The page shows its row and its misclassified images, and no comparisons."""
    page = page_of(*make_cells(lr=0.1))
    ids = [a["id"] for a in page.all("section")]
    assert {"conclusions", "table", "best", "provenance", "curves"} <= set(ids)
    assert not {"maps", "recipes", "parallel", "time", "atlas"} & set(ids)
    assert "3 misclassified test images" in page.text("best")


def test_accuracies_of_100_and_0_percent(make_cells) -> None:
    """A perfect cell has no misclassified images, and a useless one no correct ones."""
    page = page_of(*make_cells(lambda n: range(200 * n), lr=[0.1, 0.01]))
    assert "100.00" in page.text("table")
    assert "misclassified" not in page.text("best")
    page = page_of(*make_cells(lambda n: range(200), lr=[0.3]))
    assert "200 misclassified test images" in page.text("best")


def test_all_cells_failed(tmp_path, small_folder) -> None:
    """The page shows the reasons and tracebacks."""
    cells, options = settings(small_folder(), tmp_path / "out", lr=[0.1, 0.01], epochs=[1, 2])
    for cell in cells:
        fail(
            cell, tmp_path / "out", reason="OutOfMemory", traceback='File "x.py", line 3\n  boom()'
        )
    page = page_of(cells, options)
    assert "No cell has an accuracy" in page.text("conclusions")
    assert page.html.count('<details class="failure">') == 2  # cells of one run fail together
    assert "lr=0.01 epochs=1,2" in page.text("failures")
    assert 'File "x.py", line 3\n  boom()' in page.sections["failures"]
    assert "best" not in page.sections


def test_no_results_yet(tmp_path, small_folder) -> None:
    """A sweep that was interrupted before its first result has a page that says so."""
    cells, options = settings(small_folder(), tmp_path / "out", lr=[0.1, 0.01])
    page = page_of(cells, options, interrupted=signal.SIGINT)
    assert "0 of 2 cells done" in page.text("conclusions")
    assert "No cell has a result yet" in page.text("table")
    assert "No cell has a result yet" in page_of(cells, options).text("table")


def test_interrupted_sweep(make_cells) -> None:
    """After Ctrl-C, the page has only the table, and the command that completes the page."""
    cells, options = make_cells(lr=[0.1, 0.01])
    more, _ = settings(options.data_root, options.out, lr=[0.2])
    page = page_of([*cells, *more], options, interrupted=signal.SIGINT)
    folder = run.sweep_folder(options, [*cells, *more])
    assert "Interrupted by SIGINT with 2 of 3 cells done" in page.text("conclusions")
    assert f"python -m lenet_sweep.report {folder}" in page.text("conclusions")
    assert not page.all("figure")
    assert "98.50" in page.text("table")
    assert not (folder / "statistics.csv").exists()
    assert main([str(folder)]) == 0
    complete = Page((folder / "report.html").read_text())
    assert "1 of 3 cells has no result yet" in complete.text("conclusions")
    assert complete.all("figure")


def test_page_after_interrupt_imports_no_slow_libraries(make_cells) -> None:
    """After Ctrl-C, writing the page imports neither SciPy nor matplotlib."""
    cells, options = make_cells(lr=[0.1, 0.01])
    folder = launched(cells, options).sweep.folder
    code = (
        "import sys; from pathlib import Path; from lenet_sweep.report import page_files;"
        "from lenet_sweep.results.sweep import load_sweep;"
        f"sweep = load_sweep(Path({str(folder)!r}));"
        "page_files.write_page(sweep, on_message=print, interrupted='SIGINT');"
        "assert not {'scipy', 'statsmodels', 'matplotlib', 'torch'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_several_seeds_are_grouped_into_settings(make_cells) -> None:
    """Settings are ranked by their mean, with their seeds below."""
    cells, options = make_cells(
        lambda n: range(n % 3 if n < 3 else 54 + n * n // 4), lr=[0.1, 0.01], seed=[0, 1, 2]
    )
    page = page_of(cells, options)
    assert page.html.count('<tr class="seed">') == 6
    assert "99.50" in page.text("table")  # the mean of 100, 99.5 and 99
    statistics = pd.read_csv(run.sweep_folder(options, cells) / "statistics.csv")
    assert list(statistics["mean"].round(2)) == [99.5] * 3 + [71.0] * 3
    assert list(statistics["outcome"]) == ["best"] * 3 + ["worse"] * 3
    (command,) = {
        a["data-copy"] for a in page.all("button") if "seed=0,1,2" in a.get("data-copy", "")
        and " lr=0.01 " in a["data-copy"]
    }  # fmt: skip
    assert command.startswith("python -m lenet_sweep -m ")


def test_recipes_are_compared_by_their_settings(make_cells) -> None:
    """With several seeds, the table of recipes shows their best settings and how they compare."""
    lost = [3, 4, 5, 160, 160, 160, 20, 23, 26, 170, 171, 172]  # of 200, by recipe, lr and seed
    page = page_of(*make_cells(lambda n: range(lost[n]), recipe=["ce_sgd", "nll_adam"],
                         lr=[0.1, 0.01], seed=[0, 1, 2]))  # fmt: skip
    text = page.text("recipes")
    assert "settings2 (3 seeds each)2 (3 seeds each)" in text
    assert "best mean98.00 ± 0.50%88.50 ± 1.50%" in text
    assert re.search(
        r"compared with the bestbestworse: 9.50 points below the best \(paired t test, adj", text
    )
    assert "did not learn1 setting below 50% or collapsed1 setting" in text
    assert "Each dot is the mean of a setting" in text


def test_front_leaves_out_rows_that_did_not_learn(make_cells) -> None:
    """The fastest row is not on the front if it did not learn."""
    lost = [170, 3, 9]
    page = page_of(*make_cells(lambda n: range(lost[n]), lr=[0.1, 0.2, 0.3], epochs=2))
    text = page.text("time")
    assert "98.50" in text
    assert "15.00" not in text
    assert "1 row that did not learn is left out" in text


@pytest.mark.parametrize(("rows", "number"), [("settings", 2), ("cells", 6)])
@pytest.mark.parametrize("interrupted", [None, signal.SIGINT])
def test_printed_rows_are_settings_or_cells(make_cells, rows, number, interrupted) -> None:
    """rows=settings prints one row per setting, rows=cells one per cell."""
    cells, options = make_cells(lr=[0.1, 0.01], seed=[0, 1, 2])
    options = replace(options, rows=rows)
    outcome = replace(launched(cells, options), interrupted=interrupted)
    outputs.write_tables(outcome.sweep, outputs.compare(outcome, options))
    lines = (outcome.sweep.folder / "results.md").read_text().splitlines()
    assert sum(bool(re.match(r"\| .*\d \| \d+\.\d\d", line)) for line in lines) == number
    assert len(pd.read_csv(outcome.sweep.folder / "results.csv")) == 6


def test_held_out_accuracy_is_a_column(make_cells, tmp_path, small_folder) -> None:
    """With holdout=N, the accuracy on held-out images ranks the rows, and the page shows it."""
    cells, options = settings(small_folder(), tmp_path / "out", lr=[0.1, 0.01], holdout=100)
    for n, cell in enumerate(cells):  # the second has the better held-out accuracy
        store_all([cell], tmp_path / "out", small_folder(), lambda _, n=n: range(3 + 9 * n),
                  holdout=90.0 + n)  # fmt: skip
    page = page_of(cells, options)
    assert "held-out (%)" in page.text("table")
    assert "chosen for its accuracy of 91.00% on 100 training images" in page.text("conclusions")
    assert page.text("best").startswith("The best row cross_entropy + sgd, lr 0.01")
    assert "selection" not in page.text("warnings")


def test_missing_test_images(make_cells, tmp_path, small_folder) -> None:
    """Without test images, the page has accuracies and curves, and says what is missing."""
    root = shutil.copytree(small_folder(), tmp_path / "images")
    cells, options = settings(root, tmp_path / "out", lr=[0.1, 0.01])
    store_all(cells, tmp_path / "out", root, lambda n: range(2 * n + 3))
    folder = launched(cells, options).sweep.folder
    shutil.rmtree(root)
    assert main([str(folder)]) == 0
    page = Page((folder / "report.html").read_text())
    assert "Test images are not available" in page.text("conclusions")
    assert "98.50" in page.text("table")
    assert not {"best", "atlas"} & set(page.sections)
    assert main([str(folder), "--data", str(small_folder())]) == 0
    assert "best" in Page((folder / "report.html").read_text()).sections


def test_error_atlas_counts_images(make_cells) -> None:
    """It counts images by the number of runs that misclassify them."""
    wrong = [[0, 1, 2], [0, 1, 3], [0, 1, 4, 5], range(150)]  # the last did not learn
    page = page_of(*make_cells(lambda n: wrong[n], lr=[0.1, 0.2, 0.3, 0.4]))
    text = page.text("atlas")
    assert "Of 200 test images, 194 are classified correctly by all 3 runs that learned" in text
    assert "2 are misclassified by all of them" in text
    assert "1 run that did not learn or has no predictions is left out" in text
    labels = [a["aria-label"] for a in page.all("span") if a.get("role") == "img"]
    assert sum("misclassified by 3 of 3 runs" in label for label in labels) == 2
    assert sum(label.startswith("test image 2:") for label in labels) == 1


def test_error_atlas_counts_each_run_once(make_cells) -> None:
    """Of a run's rows, the one with the most epochs counts, or the best row."""
    wrong = {(0.1, 2): [0], (0.1, 3): [0, 1], (0.2, 2): [2, 3], (0.2, 3): [0, 4, 5]}
    cells, _ = make_cells(lr=[0.1, 0.2], epochs=[2, 3])
    by_cell = [wrong[cell.lr, cell.epochs] for cell in cells]
    page = page_of(*make_cells(lambda n: by_cell[n], lr=[0.1, 0.2], epochs=[2, 3]))
    text = page.text("atlas")
    assert "197 are classified correctly by all 2 runs that learned, and 1 is" in text
    assert "Each run is counted once: after its last epoch or, for the run of the best row" in text


def test_page_of_a_collapsed_row_stays_small(tmp_path, small_folder) -> None:
    """The page shows the first of thousands of misclassified images, and their number."""
    root = small_folder(train=600, test=2000)
    cells, options = settings(root, tmp_path / "out", lr=0.1)
    store_all(cells, tmp_path / "out", root, lambda _: range(1800))
    page = page_of(cells, options)
    assert "The first 500 of 1,800 are shown" in page.text("best")
    assert len(page.html) < 700_000


def test_page_of_100_cells_stays_small(make_cells) -> None:
    """100 cells of 100 epochs take less than 5 MB, and all of them are in the table."""
    cells, options = make_cells(
        range, lr=[n / 100 for n in range(1, 21)], batch=[8, 16, 24, 32, 40],
        epochs=100,
    )  # fmt: skip
    page = page_of(cells, options)
    assert page.html.count("<tbody") >= 100
    assert len(page.html.encode()) < 5_000_000
    commands = [a for a in page.all("button") if a.get("title", "").startswith("python -m")]
    assert len(commands) == 100


@pytest.mark.slow
def test_page_with_many_test_images_stays_small(tmp_path, small_folder) -> None:
    """100 cells that misclassify up to 9,000 of 10,000 images take less than 5 MB."""
    root = small_folder(train=600, test=10_000)
    axes = {"lr": [n / 100 for n in range(1, 21)], "batch": [8, 16, 24, 32, 40], "epochs": 100}
    cells, options = settings(root, tmp_path / "out", **axes)
    random = np.random.default_rng(0)
    number = [min(80 + n * n, 9000) for n in range(100)]
    wrong = [random.choice(10_000, count, replace=False) for count in number]
    store_all(cells, tmp_path / "out", root, lambda n: wrong[n])
    assert len(page_of(cells, options).html.encode()) < 5_000_000


@pytest.mark.parametrize(
    ("settings_", "files", "figures"),
    [({"report": False}, False, False), ({"figures": "none"}, True, False), ({}, True, True)],
)
def test_report_and_figures_options(make_cells, settings_, files, figures) -> None:
    """report=false writes no page, and figures=none a page without charts and images."""
    cells, options = make_cells(lr=[0.1, 0.01])
    options = replace(options, **settings_)
    outcome = launched(cells, options)
    written = outputs.write_page(outcome, options, print)
    assert [path.name for path in written] == WRITTEN * files
    if files:
        page = Page(written[0].read_text())
        assert bool(page.all("figure")) == figures
        assert "data:image/png" in page.html if figures else "data:image/png" not in page.html


@pytest.mark.parametrize("source", ["report/charts.py", "analysis/ties.py", "core/text.py",
                                    "report/templates/style.css"])  # fmt: skip
def test_changed_code_rewrites_the_page(make_cells, tmp_path, monkeypatch, source) -> None:
    """An edited source file of the package gives a new page when a finished sweep is repeated."""
    cells, options = make_cells(lr=[0.1, 0.01])
    options = replace(options, figures="none", name="it")
    package = shutil.copytree(page_module.PACKAGE, tmp_path / "package")
    monkeypatch.setattr(page_module, "PACKAGE", package)

    def write():
        path, *_ = outputs.write_page(launched(cells, options), options, print)
        return path.stat().st_mtime_ns

    first = write()
    assert write() == first
    (package / source).write_text((package / source).read_text() + "\n")
    assert write() > first


def test_unchanged_page_is_not_rewritten(make_cells) -> None:
    """Repeating a finished sweep keeps its page, and new results replace it."""
    cells, options = make_cells(lr=[0.1, 0.01])

    def write(cells):
        outcome = launched(cells, options)
        path, *_ = outputs.write_page(outcome, replace(options, name="it"), print)
        return path, path.stat().st_mtime_ns, path.stat().st_ino

    options = replace(options, name="it")
    first = write(cells)
    assert write(cells) == first
    more, _ = settings(options.data_root, options.out, lr=[0.2])
    fail(more[0], options.out)
    assert write(more)[1:] != first[1:]


# ---------------------------------------------------------------- untrusted text


def test_untrusted_text_is_escaped(tmp_path, small_folder) -> None:
    """Names, errors, and tracebacks are shown literally and create no elements."""
    cells, options = settings(
        small_folder(), tmp_path / "out", lr=[0.01 * (n + 1) for n in range(len(PAYLOADS))]
    )
    options = replace(options, person="<i>Eve</i>")
    store_all(cells[:1], tmp_path / "out", small_folder(), lambda _: [1], person="<b>Ada</b>")
    for cell, text in zip(cells[1:], PAYLOADS, strict=False):
        valid = text.encode("utf-8", "replace").decode()  # JSON cannot hold lone surrogates
        fail(cell, tmp_path / "out", reason=valid, traceback=f"{valid}\n{valid}", person=valid)
    harmless = page_of(cells[:2], options)
    page = page_of(cells, options)
    assert [a.get("type") for a in page.all("script")] == ["application/json", None]
    assert len(page.all("style")) == 1
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in harmless.elements} | {"pre"}
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert not page.all("iframe") + page.all("img") + page.all("object")
    shown = page.sections["failures"] + page.sections["table"]
    for text in HTML:
        assert " ".join(text.split()) in " ".join(shown.split())
    assert "<b>Ada</b>" in shown
    assert re.sub(r"[\n\t]", "", page.html).isprintable()


def test_nothing_is_written_into_the_package(make_cells) -> None:
    """pip would leave such a file behind, and its folder would hide an editable installation."""
    cells, options = make_cells(range, lr=[0.1, 0.2])
    folder = launched(cells, options).sweep.folder

    def files() -> set[Path]:
        package = Path(lenet_sweep.__file__).parent
        return {path for path in package.rglob("*") if path.suffix != ".pyc"}

    before = files()
    environment = os.environ.copy()
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "lenet_sweep.report", str(folder)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert (folder / "report.html").exists()
    assert {path for path in files() if path.name != "__pycache__"} <= before
