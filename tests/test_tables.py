"""The tables that are printed when a sweep has ended."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from screens import BASE, HARMLESS, HOSTILE, LRS, printed, row, terminal, without_styles

from lenet_sweep.analysis import ties
from lenet_sweep.config.registry import make_optimizer
from lenet_sweep.report.text_tables import text_tables, to_latex, to_markdown
from lenet_sweep.results.columns import HEADINGS
from lenet_sweep.results.ranking import TieMarks, ranked_table
from lenet_sweep.ui.tables import print_tables

WRITERS = (to_markdown, to_latex)


def tables(frame: pd.DataFrame, width: int = 80) -> str:
    console = terminal(width)
    print_tables(console, frame)
    return printed(console)


def test_tables_as_the_report_has_them() -> None:
    """Each recipe has a table: best first, numbers flush right, below it what is the same."""
    adam = replace(BASE, loss="nll", optimizer=make_optimizer("adam"), lr=0.001)
    frame = ranked_table([row(BASE, 99.216), row(LRS[1], 8.5), row(adam, 98.5)])
    lines = [line.rstrip() for line in without_styles(tables(frame, 140)).splitlines()]
    assert lines == [
        "",
        "cross_entropy + sgd",
        "rank  accuracy (%)  batch  learning rate  epochs  person  device    cost  s/epoch",
        "─" * 81,
        "   1         99.22     64            0.1      10  ada     cpu     0.0312     9.10",
        "   2          8.50     64           0.01      10  ada     cpu     0.0312     9.10",
        "All rows: activation relu, seed 0, dataset mnist, engine torch.",
        "",
        "nll + adam",
        "rank  accuracy (%)  batch  learning rate  epochs  person  device    cost  s/epoch",
        "─" * 81,
        "   1         98.50     64          0.001      10  ada     cpu     0.0312     9.10",
        "All rows: activation relu, seed 0, dataset mnist, engine torch.",
    ]


def several_seeds() -> tuple[pd.DataFrame, TieMarks]:
    """Three settings of three seeds: whole, with a seed that failed, and without any accuracy."""
    rows = [
        row(replace(cell, seed=seed), accuracy, error="no" if accuracy is None else "")
        for cell, accuracies in zip(
            LRS, ([99.0, 99.2, 99.1], [98.0, None, 98.4], [None] * 3), strict=True
        )
        for seed, accuracy in enumerate(accuracies)
    ]
    frame = ranked_table(rows)
    cells = {r["cell"]: replace(c, seed=s) for r, (c, s) in zip(
        rows, [(c, s) for c in LRS for s in range(3)], strict=True)}  # fmt: skip
    settings_ = ties.rows_over_seeds([cells[name] for name in frame["cell"]], frame)
    return frame, TieMarks(settings=settings_)


def test_several_seeds_are_one_row_per_setting() -> None:
    """With seeds a row is a setting: mean, standard deviation, interval, and how many succeeded."""
    frame, shown = several_seeds()
    console = terminal(120)
    print_tables(console, frame, shown)
    lines = [line.rstrip() for line in without_styles(printed(console)).splitlines()]
    assert [re.split(r"  +", line.strip())[:6] for line in lines[4:7]] == [
        ["1", "99.10 ± 0.10", "98.85 to 99.35", "3", "64", "0.1"],
        ["2", "98.20 ± 0.28", "95.66 to 100.00", "2 of 3", "64", "0.01"],
        ["\N{EN DASH}", "failed", "0 of 3", "64", "0.001", "10"],
    ]
    assert "mean ± standard deviation over the seeds" in " ".join(lines)
    assert sum("failed: no" in line for line in lines) == 4  # each seed that failed
    markdown, latex = (write(text_tables(frame, shown)) for write in WRITERS)
    assert "| 2 | 98.20 ± 0.28 | 95.66 to 100.00 | 2 of 3 |" in markdown
    assert r"2 & 98.20 \ensuremath{\pm} 0.28 & 95.66 to 100.00 & 2 of 3 &" in latex
    assert "1 failed" in markdown
    assert len(re.findall(r"\b64\b", markdown)) == 3
    assert latex.count("batch 64") == 1  # the same in all rows: in the caption


def test_a_single_seed_each_leaves_the_table_as_it_is() -> None:
    """Without several seeds, or where all but one failed, a row is a cell."""
    assert ties.rows_over_seeds(LRS, ranked_table([row(c, 99.0) for c in LRS])) == ()
    two = [BASE, replace(BASE, seed=1)]
    assert ties.rows_over_seeds(two, ranked_table([row(two[0], 99.0), row(two[1], None)])) == ()


@settings(deadline=None, max_examples=20)
@given(width=st.integers(80, 140))
def test_settings_fit_the_terminal(width: int) -> None:
    """From 80 columns on the mean, its interval and the settings stand in one line."""
    frame, shown = several_seeds()
    console = terminal(width)
    print_tables(console, frame, shown)
    lines = without_styles(printed(console)).splitlines()
    assert max(map(len, lines)) <= width
    assert (
        sum("± 0.28  95.66 to 100.00  2 of 3" in line and " 0.01 " in line for line in lines) == 1
    )


def test_best_rows_stand_out() -> None:
    """The best row is bold, and so is its equal; a failed one is never the best."""
    text = tables(ranked_table([row(BASE, 99.0), row(LRS[1], 99.0), row(LRS[2], 98.0)]))
    bold = [without_styles(line).split()[0] for line in text.splitlines() if "\x1b[1m   " in line]
    assert bold == ["1", "1"]
    text = tables(ranked_table([row(BASE, None)]))
    assert "\x1b[1m   " not in text


def test_failures_are_explained_beneath_the_table() -> None:
    """A failed cell is a row without accuracy; why it failed stands below, once for each run."""
    frame = ranked_table(
        [
            row(LRS[1], 99.0),
            row(BASE, None, error=HOSTILE),
            row(replace(BASE, epochs=5), None, error=HOSTILE),
            row(LRS[2], None, status="diverged", error=60 * "long "),
        ]
    )
    text = without_styles(tables(frame))
    assert len(re.findall("^   \N{EN DASH} +failed ", text, re.MULTILINE)) == 2
    assert len(re.findall("^   \N{EN DASH} +diverged ", text, re.MULTILINE)) == 1
    below = text[text.index("All rows") :].splitlines()[1:]
    assert " ".join(below[0].split()) == (f"lr 0.1 batch 64 epochs 5, 10 failed: {HARMLESS}")
    cut = [line for line in below if "long" in line]
    assert len(cut) == 3
    assert cut[0].startswith("lr 0.001 batch 64 epochs 10  diverged: long long")
    assert cut[2].endswith("...")


@settings(deadline=None)
@given(
    width=st.integers(80, 200),
    person=st.sampled_from(["ada", "a.very.long.login.name@some.institute", "[b]亜\x1b[2J"]),
    seeds=st.booleans(),
)
def test_tables_fit_the_terminal(width: int, person: str, seeds: bool) -> None:
    """From 80 columns on no line wraps, no figure is cut, and the person is still named."""
    frame = ranked_table(
        row(replace(BASE, epochs=200, seed=n if seeds else 0, lr=1e-5 * n), 99.25, person=person)
        for n in range(1, 4)
    )
    text = tables(frame, width)
    lines = without_styles(text).splitlines()
    assert max(len(line) + line.count("亜") for line in lines) <= width
    assert sum(" 99.25 " in line and " 200 " in line and "9.10" in line for line in lines) == 3
    assert "\x1b[2J" not in text
    if len(person) < 20:
        assert person.replace("\x1b", r"\x1b") in without_styles(text)


@settings(deadline=None, max_examples=50)
@given(
    width=st.integers(40, 120),
    momentum=st.booleans(),
    activation=st.booleans(),
    limit=st.booleans(),
    seeds=st.booleans(),
)
def test_narrow_tables_lose_nothing_silently(
    width: int, momentum: bool, activation: bool, limit: bool, seeds: bool
) -> None:
    """Headings are whole words, and what has no column is in a text, the caption or results.md."""
    cells = [
        replace(
            BASE,
            lr=lr,
            seed=seed,
            optimizer=make_optimizer("sgd", (("momentum", 0.9),) if last and momentum else ()),
            activation="leaky_relu" if last and activation else "relu",
            dataset=replace(BASE.dataset, limit=6000 if last and limit else None),
        )
        for lr, last in ((0.1, False), (0.001, True))
        for seed in ((0, 1, 2) if seeds else (0,))
    ]
    frame = ranked_table(
        row(c, 99 - c.lr, optimizer="sgd", **{f"optimizer.{k}": v for k, v in c.optimizer.options})
        for c in cells
    )
    by_id = {cell.id: cell for cell in cells}
    over = ties.rows_over_seeds([by_id[name] for name in frame["cell"]], frame) if seeds else ()
    shown = TieMarks(settings=over)
    console = terminal(width)
    print_tables(console, frame, shown)
    text = without_styles(printed(console))
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    headings = " ".join(lines[2 : next(n for n, line in enumerate(lines) if "──" in line)]).split()
    names = [n for _, _, rows in text_tables(frame, shown) for n in rows.columns]
    words = {word for name in names for word in HEADINGS.get(name, name).split()}
    assert set(headings) <= words | {"settings"}
    moved = " ".join(text[text.index("All rows") :].split())
    for name in names:
        heading = HEADINGS.get(name, name)
        in_text = "settings" in headings or "settings" in moved.partition("Also in")[2]
        assert set(heading.split()) <= set(headings) or heading in moved or in_text, name


def test_of_a_long_table_the_best_rows_are_printed() -> None:
    """After a thousand cells the screen holds the best ones and says where the others are."""
    many = [row(replace(BASE, seed=n), 99 - n / 1000) for n in range(1000)]
    failed = [row(replace(BASE, seed=n), None) for n in range(1000, 1025)]
    text = without_styles(tables(ranked_table(many + failed), 120))
    lines = [line.split() for line in text.splitlines()]
    assert [words[0] for words in lines if words and words[0].isdigit()] == [
        str(rank) for rank in range(1, 101)
    ]
    assert "and 925 more rows; results.md has them all" in text
    assert text.count("failed: RuntimeError: no") == 20
    assert text.endswith("and 5 more failed runs; results.md has them all\n")


def test_a_column_that_differs_out_of_sight_is_not_called_the_same() -> None:
    """Where space is short, a person is named below for all rows only if that is true of all."""
    two = [row(replace(BASE, seed=n), 99 - n / 1000) for n in range(100)]
    two.append(row(replace(BASE, seed=100), 9.8, person="bo"))
    assert "person ada" not in without_styles(tables(ranked_table(two), 60))
    assert "person ada" in without_styles(tables(ranked_table(two[:-1]), 60))


def test_no_table_is_said() -> None:
    """A sweep that was stopped before its first result does not end in silence."""
    assert tables(ranked_table([])) == "No cell has an outcome yet.\n"
