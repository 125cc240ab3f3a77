"""The table that `sweep` returns: a DataFrame that a notebook shows as the terminal does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from lenet_sweep.core.errors import StoreError
from lenet_sweep.report.text_tables import text_tables
from lenet_sweep.results.html_tables import html_table
from lenet_sweep.results.ranking import NO_COMPARISON, TieMarks
from lenet_sweep.results.sweep import load_sweep


class SweepTable(pd.DataFrame):
    """The ranked table of a sweep, with ranks, ties and intervals in a notebook.

    Only the HTML display differs from that of other DataFrames. Tables derived from it, such as
    filtered ones, are plain DataFrames, and it is displayed like one after a change in place.
    """

    _metadata = ["_unchanged", "_marks"]  # noqa: RUF012 - the name and type that pandas defines
    _unchanged: pd.DataFrame
    _marks: TieMarks | None

    def __init__(
        self, table: pd.DataFrame, folder: Path | str = "", marks: TieMarks | None = None
    ) -> None:
        """Create it from a ranked table.

        folder: of the sweep, for `attrs`. marks: the comparison of its rows; None: computed when
        it is displayed.
        """
        super().__init__(table.copy())  # type: ignore[call-arg] # the stubs have only __new__
        self._unchanged = table
        self._marks = marks
        if folder:
            self.attrs["folder"] = str(folder)

    def _repr_html_(self) -> str | None:
        if not pd.get_option("display.notebook_repr_html") or not self._unchanged.equals(self):
            html: str | None = super()._repr_html_()  # type: ignore[misc] # not in the stubs
            return html
        if self.empty:
            return "<p>No cell has a result yet.</p>"
        if self._marks is None:
            folder = self.attrs.get("folder")
            self._marks = _compare(self._unchanged, Path(folder)) if folder else NO_COMPARISON
        tables = text_tables(self._unchanged, self._marks)
        below = [""] * (len(tables) - 1) + [self._marks.caption]  # about the rows of all tables
        return "".join(
            html_table(title, f"{caption.removesuffix(self._marks.caption)}{last}", rows)
            for (title, caption, rows), last in zip(tables, below, strict=True)
        )


def _compare(table: pd.DataFrame, folder: Path) -> TieMarks:
    """The comparison of the rows, without one if the sweep is no longer there."""
    from lenet_sweep.analysis import ties  # noqa: PLC0415 - slow; only a display needs it

    try:
        return ties.compare_sweep(replace(load_sweep(folder), table=table))
    except (FileNotFoundError, StoreError, KeyError):  # KeyError: it has other cells by now
        return NO_COMPARISON
