"""results.xlsx: the table with number formats, filters and inert text, and the warnings."""

import subprocess
import sys
from dataclasses import replace

import openpyxl
import pandas as pd
import pytest
from made_sweeps import fail, launched, settings, store_all
from payloads import PAYLOADS

from lenet_sweep.core.text import one_line
from lenet_sweep.report.__main__ import main
from lenet_sweep.report.workbook import _fill


@pytest.fixture(scope="module")
def swept(tmp_path_factory, small_folder):
    """The folder of a sweep by a person with a hostile name, with results.xlsx."""
    out = tmp_path_factory.mktemp("swept")
    cells, options = settings(small_folder(), out, lr=[0.1, 0.2, 9.0])
    options = replace(options, name="it", person=HOSTILE)
    store_all(cells[:2], out, small_folder(), lambda n: range(2 * n + 3), person=HOSTILE)
    fail(cells[2], out, reason="=1+1", person=HOSTILE)
    folder = launched(cells, options).sweep.folder
    assert main([str(folder), "--excel"]) == 0
    return folder


HOSTILE = '=HYPERLINK("http://a/","b")'


def test_pandas_reads_the_table_of_results_csv(swept) -> None:
    """The first sheet has the columns, the order and the precision of results.csv."""
    sheet = pd.read_excel(swept / "results.xlsx")
    table = pd.read_csv(swept / "results.csv")
    assert list(sheet.columns) == list(table.columns)
    assert list(sheet["person"]) == [HOSTILE] * 3
    texts = ["person", "error"]  # escaped in results.csv
    sheet, table = sheet.drop(columns=texts), table.drop(columns=texts)
    pd.testing.assert_frame_equal(sheet, table, check_dtype=False)  # Excel writes 1.0 as 1


def test_the_sheet_is_ready_to_use(swept) -> None:
    """Accuracies have two decimals, the header stays visible, and every column has a filter."""
    sheet = openpyxl.load_workbook(swept / "results.xlsx")["results"]
    header = {cell.value: cell for cell in sheet[1]}
    assert all(cell.font.bold for cell in header.values())
    assert sheet.cell(2, header["accuracy"].column).number_format == "0.00"
    assert sheet.freeze_panes == "B2"
    assert sheet.auto_filter.ref == sheet.dimensions
    for name, cell in header.items():
        assert len(name) < sheet.column_dimensions[cell.column_letter].width <= 40


def test_warnings_are_on_the_second_sheet(swept) -> None:
    """The second sheet has the conclusions, the warnings with their remedies, and the command."""
    book = openpyxl.load_workbook(swept / "results.xlsx")
    assert book.sheetnames == ["results", "notes"]
    rows = list(book["notes"].iter_rows(values_only=True))
    kinds = {row[0] for row in rows}
    assert {"conclusion", "command"} <= kinds
    assert any(kind.endswith("warning") for kind in kinds)
    assert any(row[2] for row in rows[1:])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "#N/A", "a\x07b\nc", *PAYLOADS])
def test_text_from_outside_is_inert(text, tmp_path) -> None:
    """No text becomes a formula, an error value or a link."""
    book = openpyxl.Workbook()
    _fill(book.active, ["person"], [[text]])
    book.save(tmp_path / "a.xlsx")
    cell = openpyxl.load_workbook(tmp_path / "a.xlsx").active["A2"]
    assert cell.data_type in ("s", "inlineStr", "n")  # "n": empty
    assert cell.hyperlink is None
    assert (cell.value or "") == one_line(text)


def test_without_openpyxl_one_line_names_the_extra(swept, tmp_path) -> None:
    """The error says what to install, and nothing is written."""
    (tmp_path / "openpyxl.py").write_text("raise ImportError")
    before = (swept / "results.xlsx").read_bytes()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from lenet_sweep.report.__main__ import main; sys.exit(main([sys.argv[2], '--excel']))"
    )
    command = [sys.executable, "-c", code, tmp_path, swept]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "lenet-sweep[excel]" in done.stderr
    assert (swept / "results.xlsx").read_bytes() == before
