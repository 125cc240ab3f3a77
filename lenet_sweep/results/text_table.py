"""A table for readers, before it is written as Markdown, LaTeX or HTML, or printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


class TextTable(NamedTuple):
    """A table for readers. rows: as text, apart from ranks, which may be numbers."""

    title: str
    caption: str
    rows: pd.DataFrame
