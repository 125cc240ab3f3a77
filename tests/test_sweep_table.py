"""The table and the statistics of a sweep as HTML, which notebooks show."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import made_sweeps
import pandas as pd
import pytest

from lenet_sweep import analyse, load_results, sweep
from lenet_sweep.core.cells import Cell

HOSTILE = "<script>alert('x')</script> & \x1b[31m"


class Page(HTMLParser):
    """The tables of a page, as rows of texts, and the names of all tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: set[str] = set()
        self.text = ""
        self.in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_cell:
            self.tables[-1][-1][-1] += data

    def rows(self, *columns: str) -> list[list[str]]:
        """These columns of all tables."""
        return [
            [row[table[0].index(name)] for name in columns]
            for table in self.tables
            for row in table[1:]
        ]


@pytest.fixture
def make(tmp_path: Path, small_folder: Callable[..., Path]) -> Callable[..., pd.DataFrame]:
    """A sweep whose results are in the store: wrong(n) are the images that the n-th cell misses."""

    def run(
        wrong: Callable[[int], Any],
        fails: Callable[[Cell], bool] = lambda _: False,
        person: str = "Ada",
        **axes: Any,
    ) -> pd.DataFrame:
        root, out = small_folder(), tmp_path / "out"
        cells, _ = made_sweeps.settings(root, out, **axes)
        finished = [cell for cell in cells if not fails(cell)]
        made_sweeps.store_all(finished, out, root, wrong, person=person)
        for cell in filter(fails, cells):
            made_sweeps.fail(cell, out, "diverged", reason=HOSTILE, person=person)
        return sweep(
            out=out, dataset="folder", device="cpu", epochs=3, progress=False, name="it",
            figures="none", **{"dataset.root": str(root)} | axes,
        )  # fmt: skip

    return run


def html_of(shown: object) -> Page:
    return Page(shown._repr_html_())  # type: ignore[attr-defined] # of notebooks


def test_rows_have_ranks_ties_and_failures(make: Callable[..., pd.DataFrame]) -> None:
    """The display marks the best and tied rows, shows failures as such, and escapes their texts."""
    table = make(
        lambda n: range([2, 3, 90][n]),
        lambda cell: cell.lr == 9.0,
        person=HOSTILE,
        lr=[0.1, 0.2, 0.3, 9.0],
    )
    page = html_of(table)
    assert page.rows("rank", "accuracy (%)", "learning rate") == [
        ["best 1", "99.00", "0.1"],
        ["= 2", "98.50", "0.2"],
        ["3", "55.00", "0.3"],
        ["n/a \N{EN DASH}", "diverged", "9"],
    ]
    assert "1 tied (=, no significant difference), 1 worse, 1 not compared" in page.text
    assert page.rows("person")[0] == [r"<script>alert('x')</script> & \x1b[31m"]
    assert "script" not in page.tags
    assert "ran" not in page.tags
    assert str(table) == str(pd.DataFrame(table))


def test_settings_have_intervals_over_seeds(make: Callable[..., pd.DataFrame]) -> None:
    """With several seeds, a row of the display is a setting; the table still has all seeds."""
    table = make(lambda n: range(n % 3 + (n // 3) * 80), lr=[0.1, 0.2], seed=[0, 1, 2])
    assert len(table) == 6
    page = html_of(table)
    rows = page.rows("rank", "accuracy (%)", "95% interval", "seeds", "learning rate")
    assert rows == [
        ["best 1", "99.50 ± 0.50", "98.26 to 100.00", "3", "0.1"],
        ["? 2", "59.50 ± 0.50", "58.26 to 60.74", "3", "0.2"],
    ]
    assert "mean ± standard deviation over the seeds" in page.text
    statistics = html_of(analyse(table.attrs["folder"]))
    assert statistics.rows("rank", "mean", "95% interval", "diff.", "outcome") == [
        ["1", "99.50", "98.26 to 100.00", "0.00", "best"],
        ["2", "59.50", "58.26 to 60.74", "40.00", "inconclusive"],
    ]
    assert "Best: lr 0.1, 99.50% on average over 3 seeds" in statistics.text


@pytest.mark.usefixtures("train_here")
def test_stopped_rows_are_not_shown_as_finished(
    small_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """A row that a search stopped has the status instead of a rank and an accuracy."""
    table = sweep(
        lr=[0.1, 0.03, 0.01, 0.003], epochs=9, search="halving", device="cpu", workers=1,
        dataset="folder", out=tmp_path, figures="none", progress=False,
        **{"dataset.root": str(small_folder()), "search.keep": 1},
    )  # fmt: skip
    stopped = table["status"] == "stopped"
    assert stopped.any()
    for shown in (table, load_results(table.attrs["folder"])):
        rows = html_of(shown).rows("rank", "accuracy (%)")
        assert [row[1] == "stopped" for row in rows] == list(stopped)
        assert ["\N{EN DASH}" in row[0] for row in rows] == list(stopped)
    rows = html_of(analyse(table.attrs["folder"])).rows("rank", "accuracy (%)", "outcome")
    assert rows[-1] == ["\N{EN DASH}", "stopped", "not compared"]


def test_a_long_table_is_cut(make: Callable[..., pd.DataFrame]) -> None:
    """A saved notebook stays small, and says how many rows are not shown."""
    page = html_of(make(range, lr=[n / 1000 for n in range(1, 121)]))
    assert len(page.tables[0]) == 101
    assert "And 20 more rows." in page.text


def test_each_recipe_has_a_table(make: Callable[..., pd.DataFrame]) -> None:
    """The recipes are titles; the comparison of all rows is described below the last table."""
    page = html_of(make(range, recipe=["ce_sgd", "nll_adam"]))
    assert len(page.tables) == 2
    order = ["cross_entropy + sgd", "nll + adam", "Compared with the best of the 2 rows"]
    assert sorted(order, key=page.text.index) == order
    assert page.text.count("Compared with the best") == 1


def test_derived_and_changed_tables_are_plain(make: Callable[..., pd.DataFrame]) -> None:
    """A filtered table, or one that was changed in place, is displayed as pandas does."""
    table = make(range, lr=[0.1, 0.2])
    assert type(table[table["lr"] == 0.2]) is pd.DataFrame
    assert type(table.sort_values("lr")) is pd.DataFrame
    assert table.head(1).attrs == table.attrs
    assert html_of(pickle.loads(pickle.dumps(table))).tables == html_of(table).tables  # noqa: S301 - our own bytes
    table.loc[0, "accuracy"] = 12.5
    assert "12.5" in table._repr_html_()
    assert "best 1" not in table._repr_html_()


def test_an_empty_table_says_so(small_folder: Callable[..., Path], tmp_path: Path) -> None:
    """A dry run without results in the store displays a sentence."""
    table = sweep(
        dataset="folder", out=tmp_path, dry_run=True, progress=False,
        **{"dataset.root": str(small_folder())},
    )  # fmt: skip
    assert table._repr_html_() == "<p>No cell has a result yet.</p>"
