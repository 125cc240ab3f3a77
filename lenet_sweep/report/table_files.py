"""Writes the tables of a sweep, or of several merged sweeps, next to its results.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_sweep.report.text_tables import text_tables, write_texts
from lenet_sweep.results.columns import REPRODUCTION
from lenet_sweep.results.csv_file import write_csv
from lenet_sweep.results.ranking import TieMarks

if TYPE_CHECKING:
    import pandas as pd

    from lenet_sweep.analysis.reproduction import Reproduction


def write_results(
    table: pd.DataFrame, marks: TieMarks, reproductions: Sequence[Reproduction], folder: Path
) -> list[Path]:
    """Write the ranked table and the verdicts on studies as Markdown and LaTeX; returns the files.

    marks: comparisons of the rows with the best one.
    """
    tables = text_tables(table, marks)
    if reproductions:
        from lenet_sweep.analysis import reproduction_tables  # noqa: PLC0415 - as below

        for reproduction in reproductions:
            tables += reproduction_tables.verdict_tables(reproduction)
    return write_texts(tables, folder)


def write_reproduction(reproductions: Sequence[Reproduction], folder: Path) -> list[Path]:
    """Write the verdicts on studies as CSV; returns the file. Without any, remove an old file."""
    path = folder / REPRODUCTION
    if not reproductions:
        path.unlink(missing_ok=True)
        return []
    from lenet_sweep.analysis import reproduction_tables  # noqa: PLC0415 - most sweeps have no study

    write_csv(reproduction_tables.reproduction_table(reproductions), path)
    return [path]
