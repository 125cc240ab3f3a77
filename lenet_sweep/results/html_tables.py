"""Text tables as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from lenet_sweep.core.text import one_line, pluralize, shorten
from lenet_sweep.results.columns import heading_of, holds_numbers

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 100  # as on a terminal; a saved notebook stays small
MAX_TEXT = 200  # characters of a text, such as an error
_UNBROKEN = {"left": "", "right": "; white-space: nowrap"}  # numbers stay on one line


def html_table(title: str, caption: str, rows: pd.DataFrame) -> str:
    """A table for a notebook, with the best row in bold; at most MAX_ROWS rows.

    rows: as text, with the column `rank`. A row without an accuracy shows its status instead, if
    the table has one. Colors and lines are those of the notebook, in its light or dark theme.
    """
    sides = {name: "right" if holds_numbers(str(name)) else "left" for name in rows.columns}
    head = "".join(
        f'<th style="text-align: {side}">{_escaped(heading_of(str(name)))}</th>'
        for name, side in sides.items()
    )
    body = ""
    for row in rows.head(MAX_ROWS).to_dict("records"):
        if row.get("accuracy") == "" and "status" in row:
            row["accuracy"] = row["status"]
        is_best = str(row["rank"]).split()[-1:] == ["1"]
        weight = ' style="font-weight: bold"' if is_best else ""
        cells = (
            f'<td style="text-align: {side}{_UNBROKEN[side]}">{_escaped(row[name])}</td>'
            for name, side in sides.items()
        )
        body += f"<tr{weight}>{''.join(cells)}</tr>\n"
    more = max(0, len(rows) - MAX_ROWS)
    caption += f" And {pluralize(more, 'more row')}." if more else ""
    return (
        f'<div style="overflow-x: auto">\n<p><strong>{_escaped(title)}</strong></p>\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"
        f"<p>{escape(one_line(caption))}</p>\n</div>\n"
    )


def html_list(texts: Sequence[str]) -> str:
    """Texts as a list with bullets; '' for none."""
    if not texts:
        return ""
    return "<ul>\n" + "".join(f"<li>{escape(one_line(text))}</li>\n" for text in texts) + "</ul>\n"


def _escaped(value: object) -> str:
    text = one_line(str(value))
    return escape(shorten(text, MAX_TEXT))
