"""The final tables as the terminal shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lenet_sweep.config.keys import is_option
from lenet_sweep.core.text import escape_unencodable, one_line, pluralize
from lenet_sweep.report.text_tables import text_tables
from lenet_sweep.results.columns import HEADINGS, INTERVAL, NUMERIC, REPORT_COLUMNS, settings_of
from lenet_sweep.results.ranking import NO_COMPARISON, TieMarks
from lenet_sweep.ui.live_view import BOLD, PALE, RED, TEXTS

if TYPE_CHECKING:
    import pandas as pd

    from lenet_sweep.analysis.reproduction import Reproduction

ROWS = 100  # of a table that are printed: more would push the best ones out of sight
FAILURES = 20  # that are explained
CONSTANT = ("person", "device", "epochs", "batch", "lr")  # columns that the caption may replace
WRAPPED = (TEXTS - {"status", "error"}) | {"settings"}  # columns whose text may take several lines
WORD = 20  # characters of a word that a narrow table does not break


def print_tables(console: Console, frame: pd.DataFrame, marks: TieMarks = NO_COMPARISON) -> None:
    """Print the ranked tables, one per recipe, their best rows in bold, failures beneath.

    Of a long table the first ROWS, and of many failures the first FAILURES.
    """
    if frame.empty:
        console.print("No cell has an outcome yet.")
        return

    def plain(value: object) -> str:
        return escape_unencodable(one_line(str(value)), console.encoding)

    def texts(rows: pd.DataFrame) -> list[dict[str, str]]:
        return [
            {str(name): plain(value) for name, value in row.items()}
            for row in rows.to_dict("records")
        ]

    def rest(number: int, what: str) -> None:
        if number > 0:
            console.print(f"and {pluralize(number, f'more {what}')}; results.md has them all")

    cells = {title: rows for title, _, rows in text_tables(frame)} if marks.settings else {}
    for title, caption, rows in text_tables(frame, marks):
        same = [name for name in CONSTANT if len(set(rows[name])) == 1]
        shown = texts(rows.head(ROWS))
        console.print()
        console.print(_table(plain(title), plain(caption), shown, console.width, same))
        rest(len(rows) - ROWS, "setting" if cells else "row")
        single = cells.get(title, rows)
        failures = _failures(texts(single[single["accuracy"] == ""]))
        for failure in failures[:FAILURES]:
            lines = failure.wrap(console, console.width)
            if len(lines) > 3:
                lines[2].truncate(console.width - 3, overflow="crop")
                lines[2].append("...")
            for line in lines[:3]:
                console.print(line)
        rest(len(failures) - FAILURES, "failed run")


def print_reproduction(console: Console, reproduction: Reproduction) -> None:
    """Print what became of a study's rows; those that are not reproduced in bold."""
    from lenet_sweep.analysis.reproduction import NOT, SHORT, text_tables  # noqa: PLC0415 - SciPy is slow

    (title, caption, rows), *_ = text_tables(reproduction)
    shown = [
        {
            str(name): escape_unencodable(one_line(text), console.encoding)
            for name, text in row.items()
        }
        for row in rows.to_dict("records")
    ]
    names = [str(name) for name in rows.columns]
    for optional in ("on", "diff.", "by"):  # they are in results.md
        wide = _total(_widths(names, shown, split=True, wrap=False)) > console.width
        if wide and optional in names:
            names.remove(optional)
    table = _frame(title, escape_unencodable(one_line(caption), console.encoding))
    for name, least in _widths(names, shown, split=True, wrap=False).items():
        right = name in (*NUMERIC, *REPORT_COLUMNS)
        narrowest = least if right or name == "reproduced" else min(least, 8)
        justify: Literal["left", "right"] = "right" if right else "left"
        table.add_column(Text(name), justify=justify, min_width=narrowest, overflow="fold")
    for row in shown:
        style = BOLD if row["reproduced"] == SHORT[NOT] else None
        table.add_row(*(Text(row[name]) for name in names), style=style)
    console.print()
    console.print(table)
    for finding in reproduction.findings:
        claim = escape_unencodable(one_line(finding.claim.says), console.encoding)
        said = escape_unencodable(one_line(finding.sentence), console.encoding)
        console.print(Text.assemble((f"{finding.verdict}: {claim}. ", BOLD), said))


def _frame(title: str, caption: str) -> Table:
    return Table(
        title=Text(title, BOLD),
        caption=Text(caption, PALE),
        title_justify="left",
        caption_justify="left",
        header_style="",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
    )


def _failures(rows: Sequence[Mapping[str, str]]) -> list[Text]:
    """Why these rows failed, a line for each run: 'lr 10 batch 64 epochs 5, 10  diverged: ...'."""
    epochs: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        run = _words(row, [name for name in ("lr", "batch", *settings_of(row)) if name in row])
        epochs.setdefault((run, f"{row['status']}: {row['error']}"), []).append(row["epochs"])
    return [
        Text.assemble((f"{run} epochs {', '.join(numbers)}  ", RED), why)
        for (run, why), numbers in epochs.items()
    ]


def _table(
    title: str,
    caption: str,
    rows: Sequence[Mapping[str, str]],
    width: int,
    same: Sequence[str],
) -> Table:
    """same: columns with one value in the whole table, which move to the caption if need be."""
    # A failed row has its status in place of the accuracy, and its error beneath the table.
    rows = [{**row, "accuracy": row["accuracy"] or row["status"]} for row in rows]
    names = [name for name in rows[0] if name not in ("status", "error")]
    settings = [name for name in settings_of(rows[0]) if name in names]

    def fits(split: bool = True, wrap: bool = True) -> bool:
        return _total(_widths(names, rows, split=split, wrap=wrap)) <= width

    split = not fits(split=False, wrap=False)
    moved: list[str] = []
    hidden: list[str] = []

    def move(name: str) -> None:
        names.remove(name)
        moved.append(f"{HEADINGS.get(name, name)} {rows[0][name]}")

    for name in ("person", "device"):
        if name in same and not fits(wrap=False):
            move(name)
    # The interval is worth more than what an epoch took; without one, texts wrap first.
    for name in ("seconds_per_epoch", "train_loss"):
        if name in names and not fits(wrap=INTERVAL not in names):
            names.remove(name)
            hidden.append(HEADINGS[name])
    for name in ("epochs", "batch", "lr"):
        if name in same and not fits():
            move(name)
    if not fits() and len(settings) > 1:
        names = [*(name for name in names if name not in settings), "settings"]
        rows = [{**row, "settings": _words(row, settings)} for row in rows]
    for name in (INTERVAL, *reversed(names[2:])):
        if name in names and not fits():
            names.remove(name)
            hidden.append(HEADINGS.get(name, name))
    if moved:
        caption = f"{caption} Every row: {', '.join(moved)}.".strip()
    if hidden:
        caption = f"{caption} Also in results.md: {', '.join(hidden)}.".strip()
    widths = _widths(names, rows, split=split, wrap=False)
    least = _widths(names, rows, split=split, wrap=True)
    while _total(widths) > width and widths != least:  # shrink the widest text first
        name = max((n for n in names if widths[n] > least[n]), key=widths.__getitem__)
        widths[name] -= 1
    table = _frame(title, caption)
    for name in names:
        table.add_column(
            Text(HEADINGS.get(name, name)),
            justify="left" if name in WRAPPED else "right",
            width=widths[name],
            overflow="fold",
        )
    for row in rows:
        best = row["rank"].split()[-1:] == ["1"] and row.get("status", "ok") == "ok"
        table.add_row(*(Text(row[name]) for name in names), style=BOLD if best else None)
    return table


def _words(row: Mapping[str, str], names: Sequence[str]) -> str:
    """Settings in one text: 'momentum 0.9 tanh seed 1'."""
    return " ".join(
        row[n] if n in TEXTS and not is_option(n)
        else f"{n.removeprefix('optimizer.')} {row[n]}"
        for n in names
    )  # fmt: skip


def _widths(
    names: Sequence[str], rows: Sequence[Mapping[str, str]], *, split: bool, wrap: bool
) -> dict[str, int]:
    """Width of each column. split: its heading breaks at spaces. wrap: so does its text, if any.

    Words longer than WORD break where they must.
    """
    widths = {}
    for name in names:
        heading = HEADINGS.get(name, name)
        texts = heading.split() if split else [heading]
        least = max(Text(text).cell_len for text in texts)
        for row in rows:
            if wrap and name in WRAPPED:
                words = (min(WORD, Text(word).cell_len) for word in row[name].split())
                least = max(least, *words, 1)
            else:
                least = max(least, Text(row[name]).cell_len)
        widths[name] = least
    return widths


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + 2 * (len(widths) - 1)
