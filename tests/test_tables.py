"""The tables that a sweep prints at its end."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from screens import BASE, HARMLESS, HOSTILE, LRS, printed, row, terminal, without_styles

from lenet_sweep.analysis import ties
from lenet_sweep.config.registry import make_choice
from lenet_sweep.report.text_tables import text_tables, to_latex, to_markdown
from lenet_sweep.results.columns import heading_of
from lenet_sweep.results.ranking import TieMarks, ranked_table
from lenet_sweep.ui.tables import print_tables

WRITERS = (to_markdown, to_latex)


def tables(frame: pd.DataFrame, width: int = 80) -> str:
    console = terminal(width)
    print_tables(console, frame)
    return printed(console)


def test_each_recipe_has_a_table() -> None:
    """Tables have the best row first, right-aligned numbers, and constant settings below."""
    adam = replace(
        BASE, loss=make_choice("loss", "nll"), optimizer=make_choice("optimizer", "adam"), lr=0.001
    )
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
    """Three settings with three seeds: all ok, one failed, all failed."""
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
    """With several seeds, a row has the mean, standard deviation, interval and number of seeds."""
    frame, marks = several_seeds()
    console = terminal(120)
    print_tables(console, frame, marks)
    lines = [line.rstrip() for line in without_styles(printed(console)).splitlines()]
    assert [re.split(r"  +", line.strip())[:6] for line in lines[4:7]] == [
        ["1", "99.10 ± 0.10", "98.85 to 99.35", "3", "64", "0.1"],
        ["2", "98.20 ± 0.28", "95.66 to 100.00", "2 of 3", "64", "0.01"],
        ["\N{EN DASH}", "failed", "0 of 3", "64", "0.001", "10"],
    ]
    assert "mean ± standard deviation over the seeds" in " ".join(lines)
    assert sum("failed: no" in line for line in lines) == 4  # one for each failed seed
    markdown, latex = (write(text_tables(frame, marks)) for write in WRITERS)
    assert "| 2 | 98.20 ± 0.28 | 95.66 to 100.00 | 2 of 3 |" in markdown
    assert r"2 & 98.20 \ensuremath{\pm} 0.28 & 95.66 to 100.00 & 2 of 3 &" in latex
    assert "1 failed" in markdown
    assert len(re.findall(r"\b64\b", markdown)) == 3
    assert latex.count("batch 64") == 1  # constant, therefore in the caption


def test_with_one_seed_a_row_is_a_cell() -> None:
    """Rows are cells if there is one seed, or if all seeds but one failed."""
    assert ties.rows_over_seeds(LRS, ranked_table([row(c, 99.0) for c in LRS])) == ()
    two = [BASE, replace(BASE, seed=1)]
    assert ties.rows_over_seeds(two, ranked_table([row(two[0], 99.0), row(two[1], None)])) == ()


@settings(deadline=None, max_examples=20)
@given(width=st.integers(80, 140))
def test_settings_fit_the_terminal(width: int) -> None:
    """From a width of 80, the mean, its interval and the settings are on one line."""
    frame, marks = several_seeds()
    console = terminal(width)
    print_tables(console, frame, marks)
    lines = without_styles(printed(console)).splitlines()
    assert max(map(len, lines)) <= width
    assert (
        sum("± 0.28  95.66 to 100.00  2 of 3" in line and " 0.01 " in line for line in lines) == 1
    )


def test_the_best_rows_are_bold() -> None:
    """Rows with the best accuracy are bold; failed rows never are."""
    text = tables(ranked_table([row(BASE, 99.0), row(LRS[1], 99.0), row(LRS[2], 98.0)]))
    bold = [without_styles(line).split()[0] for line in text.splitlines() if "\x1b[1m   " in line]
    assert bold == ["1", "1"]
    text = tables(ranked_table([row(BASE, None)]))
    assert "\x1b[1m   " not in text


def test_failures_are_explained_below_the_table() -> None:
    """A failed cell is a row without accuracy; the reason follows below, once for each run."""
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
    truncated = [line for line in below if "long" in line]
    assert len(truncated) == 3
    assert truncated[0].startswith("lr 0.001 batch 64 epochs 10  diverged: long long")
    assert truncated[2].endswith("...")


@settings(deadline=None)
@given(
    width=st.integers(80, 200),
    person=st.sampled_from(["ada", "a.very.long.login.name@some.institute", "[b]亜\x1b[2J"]),
    seeds=st.booleans(),
)
def test_tables_fit_the_terminal(width: int, person: str, seeds: bool) -> None:
    """From a width of 80, no line wraps, numbers are complete, and the person is named."""
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
def test_narrow_tables_mention_hidden_columns(
    width: int, momentum: bool, activation: bool, limit: bool, seeds: bool
) -> None:
    """Headings break at spaces; a column without space moves to the settings or the caption."""
    cells = [
        replace(
            BASE,
            lr=lr,
            seed=seed,
            optimizer=make_choice(
                "optimizer", "sgd", (("momentum", 0.9),) if last and momentum else ()
            ),
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
    rows = ties.rows_over_seeds([by_id[name] for name in frame["cell"]], frame) if seeds else ()
    marks = TieMarks(settings=rows)
    console = terminal(width)
    print_tables(console, frame, marks)
    text = without_styles(printed(console))
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    headings = " ".join(lines[2 : next(n for n, line in enumerate(lines) if "──" in line)]).split()
    names = [n for _, _, rows in text_tables(frame, marks) for n in rows.columns]
    words = {word for name in names for word in heading_of(name).split()}
    assert set(headings) <= words | {"settings"}
    caption = " ".join(text[text.index("All rows") :].split())
    for name in names:
        heading = heading_of(name)
        in_settings = "settings" in headings or "settings" in caption.partition("Also in")[2]
        assert set(heading.split()) <= set(headings) or heading in caption or in_settings, name


def test_a_long_table_is_limited_to_the_best_rows() -> None:
    """The terminal shows the best 100 rows and 20 failures, and names the file with the others."""
    ok = [row(replace(BASE, seed=n), 99 - n / 1000) for n in range(1000)]
    failed = [row(replace(BASE, seed=n), None) for n in range(1000, 1025)]
    text = without_styles(tables(ranked_table(ok + failed), 120))
    lines = [line.split() for line in text.splitlines()]
    assert [words[0] for words in lines if words and words[0].isdigit()] == [
        str(rank) for rank in range(1, 101)
    ]
    assert "and 925 more rows; results.md lists all of them" in text
    assert text.count("failed: RuntimeError: no") == 20
    assert text.endswith("and 5 more failed runs; results.md lists all of them\n")


def test_a_column_moves_to_the_caption_only_if_all_rows_are_equal() -> None:
    """The caption names a person for all rows only if the hidden rows have the same person."""
    rows = [row(replace(BASE, seed=n), 99 - n / 1000) for n in range(100)]
    rows.append(row(replace(BASE, seed=100), 9.8, person="bo"))
    assert "person ada" not in without_styles(tables(ranked_table(rows), 60))
    assert "person ada" in without_styles(tables(ranked_table(rows[:-1]), 60))


def test_an_empty_table_is_reported() -> None:
    """A sweep that was stopped before its first result prints a sentence instead of a table."""
    assert tables(ranked_table([])) == "No cell has a result yet.\n"
