r"""LaTeX tables for \input in any document: every row, column, and character fits on the page."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lenet_sweep.core.text import one_line, shorten
from lenet_sweep.report.latex_text import UNICODE, escape, split_word, text_width

WIDTH = 340.0  # points; the text width of article, report, and book at 10 pt is 345
MAX_CELL = 160  # characters; longer cells are cut, since results.csv has the full text
UNBROKEN, UNBROKEN_IN_CAPTION = 12, 40  # characters; words up to this length are not broken
KEY_COLUMNS = 2  # rank and accuracy, which identify a row in each part of a split table
HEADER = r"""% Tables by lenet-sweep. \input this file in a one-column document whose preamble has
%   \usepackage{array, booktabs, longtable}
"""


@dataclass(frozen=True)
class Table:
    """A table as text. numeric: which columns hold numbers, which are right-aligned."""

    title: str
    caption: str
    header: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _Layout:
    """How a table is made to fit.

    size: of the font, in points. gap: points between two columns. stacked: whether headings of
    several words take two lines. widths: points for a column whose text wraps, else None. unbroken:
    the length of the longest words that are not broken.
    """

    size: int
    gap: float
    stacked: bool
    widths: tuple[float | None, ...]
    unbroken: int = UNBROKEN


def to_latex(tables: Iterable[Table], stem: str) -> str:
    """The tables as longtables, each with a caption and the label tab:<stem>-<title>.

    They fit into a text width of WIDTH points. A comment at the top names the required packages.
    """
    labels: dict[str, int] = {}
    parts = [HEADER]
    for table in tables:
        label = f"tab:{stem}-{_slug(table.title)}".rstrip("-")
        labels[label] = labels.get(label, 0) + 1
        parts.append(_longtables(table, f"{label}-{labels[label]}" if labels[label] > 1 else label))
    text = "\n".join(parts)
    return text.replace(HEADER, HEADER + UNICODE, 1) if r"\sweepunicode" in text else text


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _longtables(table: Table, label: str) -> str:
    table = replace(table, rows=tuple(tuple(map(_shorten, row)) for row in table.rows))
    parts = _fit(table)
    texts = []
    for n, (part, layout) in enumerate(parts, start=1):
        if n == 1:
            texts.append(_longtable(part, layout, label))
        else:
            title = f"{part.title} (part {n} of {len(parts)}: further columns)"
            continued = replace(part, title=title, caption="")
            texts.append(_longtable(continued, layout, f"{label}-part-{n}"))
    return "\n".join(texts)


def _longtable(table: Table, layout: _Layout, label: str) -> str:
    columns = "".join(map(_column, table.numeric, layout.widths))
    header = " & ".join(
        _heading(name, numeric=numeric, layout=layout, width=width)
        for name, numeric, width in zip(table.header, table.numeric, layout.widths, strict=True)
    )
    lines = [
        " & ".join(
            escape(text, layout.unbroken if width is not None else None)
            for text, width in zip(row, layout.widths, strict=True)
        )
        for row in table.rows
    ]
    title = escape(table.title, UNBROKEN_IN_CAPTION)
    # The list of tables is typeset before \sweepunicode is defined.
    listed = re.sub(r"\\sweepunicode\{.\}\{(\w+)\}", r"U+\1", title)
    caption = " ".join(filter(None, [f"{title}.", escape(table.caption, UNBROKEN_IN_CAPTION)]))
    leading = f"{1.2 * layout.size:.1f}".removesuffix(".0")
    body = "".join(f"{line} \\\\\n" for line in lines)
    return (
        f"{{\\fontsize{{{layout.size}}}{{{leading}}}\\selectfont\n"
        f"\\setlength{{\\tabcolsep}}{{{layout.gap / 2:g}pt}}\n"
        "\\setlength{\\LTcapwidth}{\\linewidth}\\emergencystretch=3em\n"
        f"\\begin{{longtable}}{{@{{}}{columns}@{{}}}}\n"
        f"\\caption[{{{listed}}}]{{{caption}}}\\label{{{label}}}\\\\\n"
        f"\\toprule\n{header} \\\\\n\\midrule\n\\endfirsthead\n"
        f"\\toprule\n{header} \\\\\n\\midrule\n\\endhead\n"
        "\\bottomrule\n\\endfoot\n"
        f"{body}\\end{{longtable}}}}\n"
    )


def _shorten(text: str) -> str:
    return shorten(one_line(text), MAX_CELL)


def _column(numeric: bool, width: float | None) -> str:
    if width is None:
        return "r" if numeric else "l"
    side = "left" if numeric else "right"
    return f">{{\\ragged{side}\\arraybackslash}}p{{{width:.1f}pt}}"


def _heading(name: str, *, numeric: bool, layout: _Layout, width: float | None) -> str:
    words = name.split(" ")
    if not layout.stacked or width is not None or len(words) == 1:
        return escape(name, layout.unbroken if width is not None else None)
    side = "r" if numeric else "l"
    lines = r" \\ ".join(escape(line) for line in _stack(name))
    return f"\\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{lines}\\end{{tabular}}"


def _stack(name: str) -> list[str]:
    """A heading of several words in two lines of about equal length."""
    words = name.split(" ")
    breaks = [(" ".join(words[:n]), " ".join(words[n:])) for n in range(1, len(words))]
    return list(min(breaks, key=lambda pair: max(map(len, pair)), default=(name,)))


# ---------------------------------------------------------------- fitting


def _fit(table: Table) -> list[tuple[Table, _Layout]]:
    """The table in the largest layout that fits.

    If the table is too wide, its constant columns move to the caption. If it is still too wide, it
    is split into parts that each start with the KEY_COLUMNS.
    """
    full, narrow = table, _without_constants(table, single_row=False)
    for candidate, size, gap, stacked, wrap in (
        (full, 10, 12, False, False),
        (full, 9, 10, True, False),
        (full, 8, 8, True, False),
        (narrow, 9, 10, True, False),
        (narrow, 8, 8, True, False),
        (narrow, 8, 8, True, True),
        (narrow, 7, 6, True, False),
        (narrow, 7, 6, True, True),
        (narrow, 6, 5, True, True),
    ):
        widths = _widths(candidate, size, gap, stacked=stacked, wrap=wrap)
        if widths is not None:
            return [(candidate, _Layout(size, gap, stacked, widths))]
    return _split(_without_constants(table, single_row=True))


def _split(table: Table) -> list[tuple[Table, _Layout]]:
    """Parts of a table with as many columns each as fit."""
    parts: list[tuple[Table, _Layout]] = []
    left = list(range(KEY_COLUMNS, len(table.header)))
    while left or not parts:
        for count in range(len(left), 0, -1):
            part = _select_columns(table, [*range(KEY_COLUMNS), *left[:count]])
            widths = _widths(part, 8, 8, stacked=True, wrap=True)
            if widths is not None:
                parts.append((part, _Layout(8, 8, True, widths)))
                break
        else:
            count = 1
            keys = range(min(KEY_COLUMNS, len(table.header)))
            part = _select_columns(table, [*keys, *left[:count]])
            parts.append((part, _squeezed_layout(part)))
        left = left[count:]
    return parts


def _select_columns(table: Table, columns: Sequence[int]) -> Table:
    return replace(
        table,
        header=tuple(table.header[n] for n in columns),
        numeric=tuple(table.numeric[n] for n in columns),
        rows=tuple(tuple(row[n] for n in columns) for row in table.rows),
    )


def _squeezed_layout(table: Table) -> _Layout:
    """The last resort for columns that do not fit: text may be broken after any character."""
    size, gap, count = 7, 6, len(table.header)
    room = WIDTH - gap * (count - 1)
    natural = [_column_width(table, n, size, stacked=True) for n in range(count)]
    least = [min(width, room / count) for width in natural]
    return _Layout(size, gap, True, tuple(_share_width(natural, least, room)), 1)


def _without_constants(table: Table, *, single_row: bool) -> Table:
    """The table without constant columns, which are named in its caption instead.

    The columns of a table with one row are kept, except empty ones. single_row: whether short
    values of a single row move to the caption too.
    """
    values = list(zip(*table.rows, strict=True))
    constant = [
        n
        for n, column in enumerate(values)
        if n >= KEY_COLUMNS
        and len(set(column)) == 1
        and (len(column) > 1 or not column[0] or (single_row and len(column[0]) < UNBROKEN))
    ]
    named = ", ".join(f"{table.header[n]} {values[n][0]}" for n in constant if values[n][0])
    caption = table.caption
    if named and caption.startswith("All rows: "):
        caption = caption.replace("All rows: ", f"All rows: {named}, ", 1)
    elif named:
        caption = f"All rows: {named}. {caption}".rstrip()
    left = [n for n in range(len(table.header)) if n not in constant]
    return replace(_select_columns(table, left), caption=caption)


def _widths(
    table: Table, size: int, gap: float, *, stacked: bool, wrap: bool
) -> tuple[float | None, ...] | None:
    """`_Layout.widths` at a font size; None if the table does not fit."""
    columns = range(len(table.header))
    natural = [_column_width(table, n, size, stacked=stacked) for n in columns]
    room = WIDTH - gap * (len(natural) - 1)
    if sum(natural) <= room:
        return (None,) * len(natural)
    texts = [n for n in columns if not table.numeric[n]]
    room -= sum(natural[n] for n in columns if n not in texts)
    least = [_least_width(table, n, size) for n in texts]
    if not wrap or not texts or sum(least) > room:
        return None
    shared = dict(zip(texts, _share_width([natural[n] for n in texts], least, room), strict=True))
    return tuple(shared[n] if n in shared and shared[n] < natural[n] else None for n in columns)


def _share_width(natural: Sequence[float], least: Sequence[float], room: float) -> list[float]:
    """Distribute `room` among columns: narrow ones keep their width, the others become equal."""
    limit, widths = room, list(least)
    for _ in range(40):  # lower the limit until the sum fits
        widths = [min(w, max(m, limit)) for w, m in zip(natural, least, strict=True)]
        if sum(widths) <= room:
            break
        limit *= 0.9
    return widths


def _column_width(table: Table, column: int, size: int, *, stacked: bool) -> float:
    heading = _stack(table.header[column]) if stacked else [table.header[column]]
    return max(text_width(text, size) for text in [*heading, *(row[column] for row in table.rows)])


def _least_width(table: Table, column: int, size: int) -> float:
    """The width of the longest piece of text that is not broken."""
    texts = [table.header[column], *(row[column] for row in table.rows)]
    words = {word for text in texts for word in text.split(" ")}
    short = {word for word in words if len(word) <= UNBROKEN}
    parts = {part[:UNBROKEN] for word in words - short for part in split_word(word)}
    return max((text_width(part, size) for part in short | parts), default=0.0) + 1
