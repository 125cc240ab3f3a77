r"""Tables as LaTeX for \input in any document: no row or column off the page, no character lost."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lenet_sweep.core.text import one_line

WIDTH = 340.0  # points: a line of article, report and book at 10 pt is 345
LONGEST = 160  # characters of one cell; results.csv has all of them
UNBROKEN, IN_CAPTION = 12, 40  # characters of a word that is never broken
KEYS = 2  # columns that name a row: rank and accuracy
BREAK = r"\allowbreak{}"

HEADER = r"""% Tables by lenet-sweep. \input this file in a one-column document whose preamble has
%   \usepackage{array, booktabs, longtable}
"""
# What pdfLaTeX cannot typeset is spelled there (U+738B). XeLaTeX and LuaLaTeX show it if the font
# of the document or one of these has it. A CJK font set up by xeCJK or luatexja comes first.
FONTS = (
    "Noto Serif CJK SC", "Noto Sans CJK SC", "WenQuanYi Micro Hei", "DejaVu Sans",
    "Noto Sans", "Noto Emoji", "Noto Sans Symbols2", "Songti SC", "AR PL UMing CN",
    "Microsoft YaHei", "Segoe UI Symbol", "Arial Unicode MS",
)  # fmt: skip
UNICODE = (
    r"""% Characters that pdfLaTeX cannot typeset are spelled there, as U+738B; XeLaTeX shows them.
\def\sweepunicode#1#2{U+#2}
\ifdefined\suppressfontnotfounderror % XeLaTeX and LuaLaTeX
\protected\def\sweepunicode#1#2{\leavevmode\begingroup\suppressfontnotfounderror=1
  \def\sweepshown{U+#2}%
  \def\sweeptry##1{\font\sweepfont=\string"##1\string" at \csname f@size\endcsname pt
    \ifx\sweepfont\nullfont\else\iffontchar\sweepfont`#1
    \def\sweepshown{\sweepfont#1}\def\sweeptry####1{}\fi\fi}%
"""
    + "".join(f"  \\sweeptry{{{name}}}%\n" for name in FONTS)
    + r"""  \iffontchar\font`#1 \def\sweepshown{#1}\fi
  \ifcsname ver@xeCJK.sty\endcsname\def\sweepshown{#1}\fi
  \sweepshown\endgroup}
\fi
"""
)

# Font sizes in points; how much wider their characters are in proportion (Computer Modern).
SIZES: Mapping[int, float] = {10: 1.0, 9: 1.03, 8: 1.065, 7: 1.14, 6: 1.225}


@dataclass(frozen=True)
class Table:
    """A table as text. numeric: which columns are numbers, to be aligned at the right."""

    title: str
    caption: str
    header: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _Layout:
    """How a table fits. widths: of a column whose text wraps, in points; None: as wide as it is."""

    size: int
    gap: float  # between two columns, half of it on each side
    stacked: bool  # headings of several words, one a line
    widths: tuple[float | None, ...]
    unbroken: int = UNBROKEN


def to_latex(tables: Iterable[Table], stem: str) -> str:
    """The tables, each as a longtable with a caption and the label tab:<stem>-<title>.

    They need the packages that a comment on top names, and fit into a line of WIDTH points.
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
    table = replace(table, rows=tuple(tuple(map(_short, row)) for row in table.rows))
    parts = _fitted(table)
    texts = []
    for n, (part, layout) in enumerate(parts, start=1):
        more = f" (part {n} of {len(parts)}: further columns)" if n > 1 else ""
        shown = replace(part, title=part.title + more, caption="") if more else part
        texts.append(_longtable(shown, layout, f"{label}-part-{n}" if more else label))
    return "\n".join(texts)


def _longtable(table: Table, layout: _Layout, label: str) -> str:
    columns = "".join(map(_column, table.numeric, layout.widths))
    header = " & ".join(
        _heading(name, numeric=numeric, layout=layout, width=width)
        for name, numeric, width in zip(table.header, table.numeric, layout.widths, strict=True)
    )
    lines = [
        " & ".join(
            escaped(text, layout.unbroken if width is not None else None)
            for text, width in zip(row, layout.widths, strict=True)
        )
        for row in table.rows
    ]
    title = escaped(table.title, IN_CAPTION)
    listed = re.sub(r"\\sweepunicode\{.\}\{(\w+)\}", r"U+\1", title)  # read before this file
    caption = " ".join(filter(None, [f"{title}.", escaped(table.caption, IN_CAPTION)]))
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


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _column(numeric: bool, width: float | None) -> str:
    if width is None:
        return "r" if numeric else "l"
    side = "left" if numeric else "right"
    return f">{{\\ragged{side}\\arraybackslash}}p{{{width:.1f}pt}}"


def _heading(name: str, *, numeric: bool, layout: _Layout, width: float | None) -> str:
    words = name.split(" ")
    if not layout.stacked or width is not None or len(words) == 1:
        return escaped(name, layout.unbroken if width is not None else None)
    side = "r" if numeric else "l"
    lines = r" \\ ".join(escaped(line) for line in _stacked(name))
    return f"\\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{lines}\\end{{tabular}}"


def _stacked(name: str) -> list[str]:
    """A heading in two lines, broken where the longer one is shortest."""
    words = name.split(" ")
    breaks = [(" ".join(words[:n]), " ".join(words[n:])) for n in range(1, len(words))]
    return list(min(breaks, key=lambda pair: max(map(len, pair)), default=(name,)))


# ---------------------------------------------------------------- fitting


def _fitted(table: Table) -> list[tuple[Table, _Layout]]:
    """The table as large as it fits, and how.

    Too wide, it loses columns of one value first, which stand in its caption then. A table that is
    still too wide becomes several, each with the first two columns.
    """
    wide, narrow = table, _without_constants(table, short=False)
    for given, size, gap, stacked, wraps in (
        (wide, 10, 12, False, False),
        (wide, 9, 10, True, False),
        (wide, 8, 8, True, False),
        (narrow, 9, 10, True, False),
        (narrow, 8, 8, True, False),
        (narrow, 8, 8, True, True),
        (narrow, 7, 6, True, False),
        (narrow, 7, 6, True, True),
        (narrow, 6, 5, True, True),
    ):
        widths = _widths(given, size, gap, stacked=stacked, wraps=wraps)
        if widths is not None:
            return [(given, _Layout(size, gap, stacked, widths))]
    return _split(_without_constants(table, short=True))


def _split(table: Table) -> list[tuple[Table, _Layout]]:
    found: list[tuple[Table, _Layout]] = []
    left = list(range(KEYS, len(table.header)))
    while left or not found:
        for count in range(len(left), 0, -1):
            part = _of_columns(table, [*range(KEYS), *left[:count]])
            widths = _widths(part, 8, 8, stacked=True, wraps=True)
            if widths is not None:
                found.append((part, _Layout(8, 8, True, widths)))
                break
        else:
            count = 1
            part = _of_columns(table, [*range(min(KEYS, len(table.header))), *left[:count]])
            found.append((part, _squeezed(part)))
        left = left[count:]
    return found


def _of_columns(table: Table, places: Sequence[int]) -> Table:
    return replace(
        table,
        header=tuple(table.header[n] for n in places),
        numeric=tuple(table.numeric[n] for n in places),
        rows=tuple(tuple(row[n] for n in places) for row in table.rows),
    )


def _squeezed(table: Table) -> _Layout:
    """For columns that do not fit otherwise: text is broken wherever the line ends."""
    size, gap, count = 7, 6, len(table.header)
    room = WIDTH - gap * (count - 1)
    natural = [_column_width(table, n, size, stacked=True) for n in range(count)]
    least = [min(width, room / count) for width in natural]
    return _Layout(size, gap, True, tuple(_shared(natural, least, room)), 1)


def _without_constants(table: Table, *, short: bool) -> Table:
    """The table without columns that have one value in all rows, which its caption then names.

    short: those of a single row too, where the value is short.
    """
    values = list(zip(*table.rows, strict=True))
    same = [
        n
        for n, column in enumerate(values)
        if n >= KEYS
        and len(set(column)) == 1
        and (len(column) > 1 or not column[0] or (short and len(column[0]) < UNBROKEN))
    ]
    told = ", ".join(f"{table.header[n]} {values[n][0]}" for n in same if values[n][0])
    caption = table.caption
    if told and caption.startswith("All rows: "):
        caption = caption.replace("All rows: ", f"All rows: {told}, ", 1)
    elif told:
        caption = f"All rows: {told}. {caption}".rstrip()
    left = [n for n in range(len(table.header)) if n not in same]
    return replace(_of_columns(table, left), caption=caption)


def _widths(
    table: Table, size: int, gap: float, *, stacked: bool, wraps: bool
) -> tuple[float | None, ...] | None:
    """The widths of the columns, None if they do not fit at this size."""
    places = range(len(table.header))
    natural = [_column_width(table, n, size, stacked=stacked) for n in places]
    room = WIDTH - gap * (len(natural) - 1)
    if sum(natural) <= room:
        return (None,) * len(natural)
    texts = [n for n in places if not table.numeric[n]]
    room -= sum(natural[n] for n in places if n not in texts)
    least = [_least_width(table, n, size) for n in texts]
    if not wraps or not texts or sum(least) > room:
        return None
    shared = dict(zip(texts, _shared([natural[n] for n in texts], least, room), strict=True))
    return tuple(shared[n] if n in shared and shared[n] < natural[n] else None for n in places)


def _shared(natural: Sequence[float], least: Sequence[float], room: float) -> list[float]:
    """`room` among columns: the narrow ones as wide as they are, the others equally wide."""
    level, found = room, list(least)
    for _ in range(40):  # the level at which all together are as wide as the room, by halves
        found = [min(w, max(m, level)) for w, m in zip(natural, least, strict=True)]
        if sum(found) <= room:
            break
        level *= 0.9
    return found


def _column_width(table: Table, place: int, size: int, *, stacked: bool) -> float:
    heading = _stacked(table.header[place]) if stacked else [table.header[place]]
    return max(width_of(text, size) for text in [*heading, *(row[place] for row in table.rows)])


def _least_width(table: Table, place: int, size: int) -> float:
    """The width of the longest piece that is never broken."""
    texts = [table.header[place], *(row[place] for row in table.rows)]
    words = {word for text in texts for word in text.split(" ")}
    short = {word for word in words if len(word) <= UNBROKEN}
    parts = {part[:UNBROKEN] for word in words - short for part in _parts(word)}
    return max((width_of(part, size) for part in short | parts), default=0.0) + 1


_CHARACTER: Mapping[str, float] = (
    dict.fromkeys("ijl.,:;'!|", 2.8) | dict.fromkeys("frst()[]-` ", 3.95)
    | dict.fromkeys("mMWQ%@", 9.8) | dict.fromkeys("wABCDEFGHKLNOPRSTUVXYZ+=<>&", 7.9)
)  # fmt: skip


def width_of(text: str, size: int) -> float:
    """The width of a text in points, rather too large, in Computer Modern of this size."""
    characters = sum(_CHARACTER.get(c, 5.6) if ord(c) < 0x250 or c in _SIGNS else 34 for c in text)
    return characters * size / 10 * SIZES[size]


# ---------------------------------------------------------------- characters

_COMMANDS: Mapping[str, str] = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    # Quotes are active in some languages of babel; brackets and stars would belong to the \\ above.
    '"': r"{\char34}", "`": r"{\char96}", "[": "{[}", "]": "{]}", "*": "{*}",
} | {c: "\\" + c for c in "&%$#_{}"}  # fmt: skip
_SIGNS: Mapping[str, str] = {
    "\N{EN DASH}": "--", "\N{EM DASH}": "---", "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{LEFT SINGLE QUOTATION MARK}": "`", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``", "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{PLUS-MINUS SIGN}": r"\ensuremath{\pm}", "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
    "\N{MINUS SIGN}": r"\ensuremath{-}", "\N{MIDDLE DOT}": r"\ensuremath{\cdot}",
    "\N{LESS-THAN OR EQUAL TO}": r"\ensuremath{\leq}",
    "\N{GREATER-THAN OR EQUAL TO}": r"\ensuremath{\geq}",
    "\N{NO-BREAK SPACE}": r"\nobreakspace{}", "\N{LATIN SMALL LETTER DOTLESS I}": r"{\i}",
    "ß": r"{\ss}", "æ": r"{\ae}", "Æ": r"{\AE}", "ø": r"{\o}", "Ø": r"{\O}", "œ": r"{\oe}",
    "Œ": r"{\OE}", "ł": r"{\l}", "Ł": r"{\L}", "å": r"{\aa}", "Å": r"{\AA}",
}  # fmt: skip
_ACCENTS: Mapping[str, str] = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d",
    "\u0327": "c", "\u0331": "b",
}  # fmt: skip


def escaped(text: str, unbroken: int | None = None) -> str:
    """Text as LaTeX shows it, with any engine.

    unbroken: longer words may be broken, after their signs or where there is none anywhere.
    """
    words = unicodedata.normalize("NFC", one_line(text)).split(" ")
    return " ".join(_word(word, unbroken) for word in words)


def _word(word: str, unbroken: int | None) -> str:
    shown = [_character(c) for c in word]
    for n in range(len(word) - 1):  # no ligature of two signs
        if word[n : n + 2] in ("--", "''", "?`", "!`"):
            shown[n] += "{}"
    if unbroken is None or len(word) <= unbroken:
        return "".join(shown)
    text, at = "", 0
    for part in _parts(word):
        between = BREAK if len(part) > unbroken else ""
        text += between.join(shown[at : at + len(part)]) + BREAK
        at += len(part)
    return text.removesuffix(BREAK)


def _parts(word: str) -> list[str]:
    """A long word after its signs: 'cross_entropy' to 'cross_' and 'entropy'."""
    return re.findall(r"[^_=/,;:-]*[_=/,;:-]|[^_=/,;:-]+", word)


def _character(c: str) -> str:
    if c in _COMMANDS:
        return _COMMANDS[c]
    if c in _SIGNS:
        return _SIGNS[c]
    if c.isascii():
        return c
    base, *marks = list(unicodedata.normalize("NFD", c))
    if base.isascii() and base.isalpha() and marks and all(mark in _ACCENTS for mark in marks):
        shown = (
            {"i": r"\i", "j": r"\j"}.get(base, base) if marks[-1] not in "\u0323\u0327" else base
        )
        for mark in marks:
            shown = f"\\{_ACCENTS[mark]}{{{shown}}}"
        return shown
    return f"\\sweepunicode{{{c}}}{{{ord(c):04X}}}"
