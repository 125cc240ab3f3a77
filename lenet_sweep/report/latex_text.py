"""LaTeX source of single texts: escaped characters, break points, and the width in print."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from lenet_sweep.core.text import one_line

BREAK = r"\allowbreak{}"
# Font size in points -> character width relative to that size (Computer Modern).
SIZES: Mapping[int, float] = {10: 1.0, 9: 1.03, 8: 1.065, 7: 1.14, 6: 1.225}

# pdfLaTeX shows characters without a glyph as a code (U+738B). XeLaTeX and LuaLaTeX show the
# character if the document's font or one of these fonts has it; a CJK font that xeCJK or luatexja
# sets up takes precedence.
FONTS = (
    "Noto Serif CJK SC", "Noto Sans CJK SC", "WenQuanYi Micro Hei", "DejaVu Sans",
    "Noto Sans", "Noto Emoji", "Noto Sans Symbols2", "Songti SC", "AR PL UMing CN",
    "Microsoft YaHei", "Segoe UI Symbol", "Arial Unicode MS",
)  # fmt: skip
UNICODE = (
    r"""% pdfLaTeX shows unknown characters as a code, e.g. U+738B; XeLaTeX and LuaLaTeX show them.
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

_COMMANDS: Mapping[str, str] = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    # Some languages of babel make quotes active; brackets and stars could be arguments of a \\.
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


def rules() -> dict[str, object]:
    """The rules of `escape` without `unbroken`, for the script of the HTML page."""
    return {"commands": _COMMANDS, "signs": _SIGNS, "accents": _ACCENTS, "unicode": UNICODE}


def escape(text: str, unbroken: int | None = None) -> str:
    """LaTeX source that shows `text` literally, in any engine.

    unbroken: longer words may be broken after punctuation, or anywhere if they have none. None: no
    word may be broken.
    """
    words = unicodedata.normalize("NFC", one_line(text)).split(" ")
    return " ".join(_word(word, unbroken) for word in words)


def _word(word: str, unbroken: int | None) -> str:
    characters = [_character(c) for c in word]
    for n in range(len(word) - 1):  # prevent ligatures
        if word[n : n + 2] in ("--", "''", "?`", "!`"):
            characters[n] += "{}"
    if unbroken is None or len(word) <= unbroken:
        return "".join(characters)
    text, start = "", 0
    for part in split_word(word):
        between = BREAK if len(part) > unbroken else ""
        text += between.join(characters[start : start + len(part)]) + BREAK
        start += len(part)
    return text.removesuffix(BREAK)


def split_word(word: str) -> list[str]:
    """A word split after punctuation: 'cross_entropy' into 'cross_' and 'entropy'."""
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
        text = base
        if marks[-1] not in "\u0323\u0327":  # accents above replace the dot of i and j
            text = {"i": r"\i", "j": r"\j"}.get(base, base)
        for mark in marks:
            text = f"\\{_ACCENTS[mark]}{{{text}}}"
        return text
    return f"\\sweepunicode{{{c}}}{{{ord(c):04X}}}"


_CHARACTER: Mapping[str, float] = (
    dict.fromkeys("ijl.,:;'!|", 2.8) | dict.fromkeys("frst()[]-` ", 3.95)
    | dict.fromkeys("mMWQ%@", 9.8) | dict.fromkeys("wABCDEFGHKLNOPRSTUVXYZ+=<>&", 7.9)
)  # fmt: skip


def text_width(text: str, size: int) -> float:
    """An upper estimate of the width of `text` in points, in Computer Modern of this size."""
    characters = sum(_CHARACTER.get(c, 5.6) if ord(c) < 0x250 or c in _SIGNS else 34 for c in text)
    return characters * size / 10 * SIZES[size]
