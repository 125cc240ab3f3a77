"""Prints the final tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lenet_sweep.config.keys import is_option
from lenet_sweep.core.cells import OPTIONAL_SETTINGS
from lenet_sweep.core.text import escape_unencodable, one_line, pluralize
from lenet_sweep.report.text_tables import text_tables
from lenet_sweep.results.columns import (
    INTERVAL,
    NUMERIC,
    REPORT_COLUMNS,
    STOPPED,
    heading_of,
    holds_text,
    is_partial,
    settings_of,
)
from lenet_sweep.results.ranking import NO_COMPARISON, TieMarks
from lenet_sweep.ui.live_view import BOLD, PALE, RED

if TYPE_CHECKING:
    import pandas as pd

    from lenet_sweep.analysis.reproduction import Reproduction

ROWS = 100  # rows that are printed of each table; more would scroll the best ones off the screen
FAILURES = 20  # failed runs that are explained below each table
UNCLEAR = ("pool", "init", "normalize")  # settings whose values are shown with their names
ALL_ROWS = "All rows: "  # begins the caption of a table with constant settings
MOVABLE = ("person", "device", "epochs", "batch", "lr")  # if constant, may move to the caption
WORD = 20  # characters of a word that a narrow table does not break


def print_tables(console: Console, frame: pd.DataFrame, marks: TieMarks = NO_COMPARISON) -> None:
    """Print the ranked tables, one for each recipe, with the best rows in bold and failures below.

    Prints at most ROWS rows of each table and FAILURES failed runs.
    """
    if frame.empty:
        console.print("No cell has a result yet.")
        return

    def to_text(value: object) -> str:
        return escape_unencodable(one_line(str(value)), console.encoding)

    def to_texts(rows: pd.DataFrame) -> list[dict[str, str]]:
        return [
            {str(name): to_text(value) for name, value in row.items()}
            for row in rows.to_dict("records")
        ]

    def print_rest(number: int, what: str) -> None:
        if number > 0:
            console.print(f"and {pluralize(number, f'more {what}')}; results.md lists all of them")

    cells = {title: rows for title, _, rows in text_tables(frame)} if marks.settings else {}
    for title, caption, rows in text_tables(frame, marks):
        constant = [name for name in MOVABLE if len(set(rows[name])) == 1]
        texts = to_texts(rows.head(ROWS))
        console.print()
        console.print(_table(to_text(title), to_text(caption), texts, console.width, constant))
        print_rest(len(rows) - ROWS, "setting" if cells else "row")
        cell_rows = cells.get(title, rows)
        unranked = to_texts(cell_rows[cell_rows["accuracy"] == ""])
        failures = _failures([row for row in unranked if row["status"] != STOPPED])
        for failure in failures[:FAILURES]:
            lines = failure.wrap(console, console.width)
            if len(lines) > 3:
                lines[2].truncate(console.width - 3, overflow="crop")
                lines[2].append("...")
            for line in lines[:3]:
                console.print(line)
        print_rest(len(failures) - FAILURES, "failed run")


def print_reproduction(console: Console, reproduction: Reproduction) -> None:
    """Print the verdict on each row and claim of a study; rows not reproduced are in bold."""
    from lenet_sweep.analysis.reproduction import NOT  # noqa: PLC0415 - SciPy is slow
    from lenet_sweep.analysis.reproduction_tables import SHORT, verdict_tables  # noqa: PLC0415

    (title, caption, rows), *_ = verdict_tables(reproduction)
    texts = [
        {
            str(name): escape_unencodable(one_line(text), console.encoding)
            for name, text in row.items()
        }
        for row in rows.to_dict("records")
    ]
    names = [str(name) for name in rows.columns]

    def is_too_wide() -> bool:
        return _total(_widths(names, texts, split=True, wrap=False)) > console.width

    for optional in ("on", "diff.", "by"):  # results.md has these columns too
        if is_too_wide() and optional in names:
            names.remove(optional)
    settings = names[1 : names.index("batch")]
    if is_too_wide() and len(settings) > 1:
        names = ["row", "settings", *names[names.index("batch") :]]
        texts = [{**row, "settings": _join_settings(row, settings)} for row in texts]
    table = _empty_table(title, escape_unencodable(one_line(caption), console.encoding))
    for name, width in _widths(names, texts, split=True, wrap=False).items():
        right = name in (*NUMERIC, *REPORT_COLUMNS)
        min_width = width if right or name == "reproduced" else min(width, 8)
        justify: Literal["left", "right"] = "right" if right else "left"
        table.add_column(Text(name), justify=justify, min_width=min_width, overflow="fold")
    for row in texts:
        style = BOLD if row["reproduced"] == SHORT[NOT] else None
        table.add_row(*(Text(row[name]) for name in names), style=style)
    console.print()
    console.print(table)
    for result in reproduction.claim_results:
        claim = escape_unencodable(one_line(result.claim.says), console.encoding)
        reason = escape_unencodable(one_line(result.sentence), console.encoding)
        console.print(Text.assemble((f"{result.verdict}: {claim}. ", BOLD), reason))


def _empty_table(title: str, caption: str) -> Table:
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
    """A line for each failed run: 'lr 10 batch 64 epochs 5, 10  diverged: ...'."""
    epochs: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        run = _join_settings(
            row, [name for name in ("lr", "batch", *settings_of(row)) if name in row]
        )
        epochs.setdefault((run, f"{row['status']}: {row['error']}"), []).append(row["epochs"])
    return [
        Text.assemble((f"{run} epochs {', '.join(numbers)}  ", RED), reason)
        for (run, reason), numbers in epochs.items()
    ]


def _table(
    title: str,
    caption: str,
    rows: Sequence[Mapping[str, str]],
    width: int,
    constant: Sequence[str],
) -> Table:
    """The table, fitted to `width` characters. constant: columns with one value in all rows."""
    # A failed row shows its status in the column of the accuracy; its error is below the table.
    rows = [{**row, "accuracy": row["accuracy"] or row["status"]} for row in rows]
    widths, rows, moved, hidden = _fit_columns(rows, width, constant)
    if moved and caption.startswith(ALL_ROWS):
        caption = caption.replace(ALL_ROWS, f"{ALL_ROWS}{', '.join(moved)}, ", 1)
    elif moved:
        caption = f"{ALL_ROWS}{', '.join(moved)}. {caption}".rstrip()
    if hidden:
        caption = f"{caption} Also in results.md: {', '.join(hidden)}.".lstrip()
    table = _empty_table(title, caption)
    for name in widths:
        table.add_column(
            Text(heading_of(name)),
            justify="left" if _may_wrap(name) else "right",
            width=widths[name],
            overflow="fold",
        )
    for row in rows:
        best = row["rank"].split()[-1:] == ["1"] and row.get("status", "ok") == "ok"
        table.add_row(*(Text(row[name]) for name in widths), style=BOLD if best else None)
    return table


def _fit_columns(
    rows: Sequence[Mapping[str, str]], width: int, constant: Sequence[str]
) -> tuple[dict[str, int], Sequence[Mapping[str, str]], list[str], list[str]]:
    """The widths of the columns to show, the rows, the constants moved out, the hidden headings.

    A table that is too wide first wraps headings, then moves `constant` columns to the caption,
    hides others, joins settings in one column, and shrinks texts.
    """
    names = [name for name in rows[0] if name not in ("status", "error")]
    settings = [name for name in settings_of(rows[0]) if name in names]

    def fits(split: bool = True, wrap: bool = True) -> bool:
        return _total(_widths(names, rows, split=split, wrap=wrap)) <= width

    split = not fits(split=False, wrap=False)
    moved: list[str] = []
    hidden: list[str] = []

    def move(name: str) -> None:
        names.remove(name)
        moved.append(f"{heading_of(name)} {rows[0][name]}")

    for name in ("person", "device"):
        if name in constant and not fits(wrap=False):
            move(name)
    # Cost and time per epoch make room for an interval. Without one, texts wrap before they do.
    for name in ("seconds_per_epoch", "train_loss"):
        if name in names and not fits(wrap=INTERVAL not in names):
            names.remove(name)
            hidden.append(heading_of(name))
    for name in ("epochs", "batch", "lr"):
        if name in constant and not fits():
            move(name)
    if not fits() and len(settings) > 1:
        names = [*(name for name in names if name not in settings), "settings"]
        rows = [{**row, "settings": _join_settings(row, settings)} for row in rows]
    for name in (INTERVAL, *reversed(names[2:])):
        if name in names and not fits():
            names.remove(name)
            hidden.append(heading_of(name))
    return _shrunk_widths(names, rows, width, split=split), rows, moved, hidden


def _shrunk_widths(
    names: Sequence[str], rows: Sequence[Mapping[str, str]], width: int, *, split: bool
) -> dict[str, int]:
    """The widths of the columns in a table of `width` characters: the widest texts wrap first."""
    widths = _widths(names, rows, split=split, wrap=False)
    min_widths = _widths(names, rows, split=split, wrap=True)
    while _total(widths) > width and widths != min_widths:
        name = max((n for n in names if widths[n] > min_widths[n]), key=widths.__getitem__)
        widths[name] -= 1
    return widths


def _join_settings(row: Mapping[str, str], names: Sequence[str]) -> str:
    """Settings as one text: 'momentum 0.9 tanh no batch_norm seed 1'."""
    return " ".join(
        _setting(name, row[name]) for name in names if row[name] or not is_partial(name)
    )


def _setting(name: str, text: str) -> str:
    if isinstance(OPTIONAL_SETTINGS.get(name), (bool, type(None))) and name in OPTIONAL_SETTINGS:
        return {"true": name, "false": f"no {name}", "": f"no {name}"}.get(text, f"{name} {text}")
    if text == "none" and name in OPTIONAL_SETTINGS:
        return f"no {name}"
    named = is_option(name) or not holds_text(name) or name in UNCLEAR
    return f"{name.partition('.')[2] or name} {text}" if named else text


def _widths(
    names: Sequence[str], rows: Sequence[Mapping[str, str]], *, split: bool, wrap: bool
) -> dict[str, int]:
    """The width of each column in characters, where every word of up to WORD characters fits.

    split: whether headings break at spaces. wrap: whether the texts that may wrap do.
    """
    widths = {}
    for name in names:
        heading = heading_of(name)
        parts = heading.split() if split else [heading]
        width = max(Text(part).cell_len for part in parts)
        for row in rows:
            if wrap and _may_wrap(name):
                words = (min(WORD, Text(word).cell_len) for word in row[name].split())
                width = max(width, *words, 1)
            else:
                width = max(width, Text(row[name]).cell_len)
        widths[name] = width
    return widths


def _may_wrap(name: str) -> bool:
    """Whether the text of a column may wrap."""
    return name == "settings" or (holds_text(name) and name not in ("status", "error"))


def _total(widths: Mapping[str, int]) -> int:
    """The width of a table with these columns."""
    return sum(widths.values()) + 2 * (len(widths) - 1)
