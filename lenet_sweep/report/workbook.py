"""Writes results.xlsx: the ranked table as an Excel workbook, with conclusions and warnings.

Text from outside is stored as text, which Excel does not evaluate.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_sweep.core.errors import UsageError
from lenet_sweep.core.text import one_line
from lenet_sweep.report.collect import Report
from lenet_sweep.storage.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

WORKBOOK = "results.xlsx"
LONGEST = 32_767  # characters that Excel accepts in a cell
WIDEST = 40.0  # width of a column in characters; longer texts are cut off on the screen
# Number formats of columns; those of other numbers are chosen by Excel.
FORMATS = {
    "accuracy": "0.00",
    "holdout_accuracy": "0.00",
    "accuracy_at": "0.00",
    "train_loss": "0.0000",
    "seconds_per_epoch": "0.00",
    "seconds": "0.0",
}


def check_openpyxl() -> None:
    """Raise UsageError if openpyxl, which writes the workbook, is not installed."""
    try:
        import openpyxl  # noqa: F401, PLC0415 - an optional extra
    except ImportError as error:
        raise UsageError(
            "--excel: openpyxl is not installed; run: pip install 'lenet-sweep[excel]'"
        ) from error


def write_workbook(table: pd.DataFrame, report: Report, folder: Path) -> Path:
    """Write results.xlsx into a folder, and return its path. Requires openpyxl.

    The sheet "results" has the columns and the full precision of results.csv. The sheet "notes" has
    the conclusions, the warnings with their remedies, the notes, and the commands of the sweeps.
    Raises StoreError if the file cannot be written.
    """
    import openpyxl  # noqa: PLC0415 - an optional extra

    book = openpyxl.Workbook()
    results = book.active
    results.title = "results"
    rows = ((_plain(value) for value in row) for row in table.itertuples(index=False, name=None))
    _fill(results, [str(name) for name in table.columns], rows)
    for column in results.iter_cols(min_row=2):
        if number_format := FORMATS.get(str(table.columns[column[0].column - 1])):
            for cell in column:
                cell.number_format = number_format
    results.freeze_panes = "B2"  # the ranks and the header stay visible
    results.auto_filter.ref = results.dimensions
    notes = book.create_sheet("notes")
    _fill(notes, ["kind", "text", "remedy"], _notes(report))
    notes.freeze_panes = "A2"
    for row in notes.iter_rows(min_row=2):
        for cell in row:
            cell.alignment = openpyxl.styles.Alignment(wrap_text=True, vertical="top")
    for column, width in (("A", 14), ("B", 90), ("C", 60)):
        notes.column_dimensions[column].width = width
    content = io.BytesIO()
    book.save(content)
    path = folder / WORKBOOK
    write_atomic(path, content.getvalue())
    return path


def _notes(report: Report) -> Iterable[Sequence[str]]:
    """The kind, the text, and the remedy of everything that a reader of the table should know."""
    if report.statistics:
        for conclusion in report.statistics.conclusions:
            yield "conclusion", conclusion, ""
        for warning in report.statistics.warnings:
            name = "note" if warning.severity == "note" else f"{warning.severity} warning"
            yield name, warning.sentence, warning.remedy
    for note in (*report.notes, *report.missing):
        yield "note", note, ""
    for launch in report.launches:
        yield "command", launch.command, ""


def _fill(sheet: Any, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a bold header and rows, and make the columns wide enough."""
    from openpyxl.styles import Font  # noqa: PLC0415 - an optional extra
    from openpyxl.utils import get_column_letter  # noqa: PLC0415

    widths = [0] * len(header)
    for number, row in enumerate((header, *rows), 1):
        for index, value in enumerate(row):
            cell = sheet.cell(number, index + 1)
            if isinstance(value, str):
                # Set the type: openpyxl would turn text that starts with "=" into a formula.
                cell.value = one_line(value)[:LONGEST]
                cell.data_type = "s"
                cell.quotePrefix = not value[:1].isalnum()  # it stays text if it is edited
            else:
                cell.value = value
            if number == 1:
                cell.font = Font(bold=True)
            shown = f"{value:.6g}" if isinstance(value, float) else str(value or "")
            widths[index] = max(widths[index], len(shown))
    for index, width in enumerate(widths):
        letter = get_column_letter(index + 1)
        # Space for the button of the filter.
        sheet.column_dimensions[letter].width = min(width + 4.0, WIDEST)


def _plain(value: Any) -> Any:
    """A value of a table as a Python value; None if it is missing."""
    import pandas as pd  # noqa: PLC0415 - slow to import

    if value is None or pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value
