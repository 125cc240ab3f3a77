"""report.html and the statistics behind it, written where a sweep or several merged ones are."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path

import pandas as pd

from lenet_sweep.analysis import reproduction, ties
from lenet_sweep.config.studies import Study
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.text import pluralize
from lenet_sweep.report import collect, page, statistics_table
from lenet_sweep.report.collect import Launch, Report
from lenet_sweep.report.text_tables import text_tables, write_texts
from lenet_sweep.results.columns import REPRODUCTION
from lenet_sweep.results.csv_file import write_csv
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.storage.files import make_folder, write_atomic

PAGE, STATISTICS = "report.html", "statistics.csv"
READABLE = ("statistics.md", "statistics.tex")


def write_page(
    sweep: Sweep, *, say: Callable[[str], None], pictures: bool = True, interrupted: str = ""
) -> list[Path]:
    """Write the page of a sweep into its folder; the files.

    A page that already shows the same is kept, so that a finished sweep that is run again ends at
    once. A page that shows more is kept too, and `say` gets the reason. interrupted: the signal
    that cut the sweep short; the page then has the rows alone, which takes no time. Raises
    StoreError where it cannot be written.
    """
    folder = sweep.folder
    files = [folder / name for name in (PAGE, STATISTICS, *READABLE)]
    launches = collect.launches([sweep.manifest])
    studies = sweep.manifest.studies
    stamp = _stamp(sweep.table, launches, studies, len(sweep.cells), pictures, interrupted)
    if not _is_current(folder, stamp):
        report = collect.collect_sweep(sweep, interrupted)
        if loss := _loss(report, folder):
            say(f"{loss}; a page without them: {_command(folder)} --out FOLDER")
        else:
            _write(report, folder, stamp, pictures=pictures)
    return [path for path in files if path.exists()]


def rebuild_page(folders: Sequence[Path], out: Path, data_root: Path | None) -> list[Path]:
    """The page and the tables of several sweeps together, written into `out`; the files.

    data_root: where the images lie; None: where each sweep had them. Of a single sweep whose folder
    `out` is, only the page is made. Raises FileNotFoundError, and StoreError also where `out` has a
    page or a table that shows more.
    """
    report, table = collect.collect_merged(folders, data_root)
    if loss := _loss(report, out):
        raise StoreError(f"{loss}. Write the new page to another folder: --out FOLDER")
    make_folder(out)
    files = []
    if [folder.resolve() for folder in folders] != [out.resolve()]:
        found = ties.tie_marks([row.result for row in report.rows])
        found = replace(
            found,
            settings=ties.rows_over_seeds(
                [row.cell for row in report.rows], table.head(len(report.rows))
            ),
        )
        write_csv(table, out / "results.csv")
        tables = text_tables(table, found)
        tables += [t for each in report.reproductions for t in reproduction.text_tables(each)]
        files = [out / "results.csv", *write_texts(tables, out)]
    if report.reproductions:
        write_csv(reproduction.reproduction_table(report.reproductions), out / REPRODUCTION)
        files.append(out / REPRODUCTION)
    else:
        (out / REPRODUCTION).unlink(missing_ok=True)  # of what was merged there before
    studies = [each.study for each in report.reproductions]
    stamp = _stamp(table, report.launches, studies, report.planned, True, "")
    _write(report, out, stamp, pictures=True)
    return [*files, *(out / name for name in (PAGE, STATISTICS, *READABLE))]


def _stamp(
    table: pd.DataFrame,
    launches: Sequence[Launch],
    studies: Sequence[Study],
    planned: int,
    pictures: bool,
    interrupted: str,
) -> str:
    typed = [astuple(launch) for launch in launches]
    asked = [study.to_json() for study in studies]
    return page.digest(table, typed, asked, planned, pictures, interrupted)


def _is_current(folder: Path, stamp: str) -> bool:
    try:
        with (folder / PAGE).open(encoding="utf-8") as file:
            return page.digest_of(file.read(4000)) == stamp
    except (OSError, ValueError):
        return False


def _command(folder: Path) -> str:
    return f"python -m lenet_sweep.report {shlex.quote(str(folder))}"


def _loss(report: Report, folder: Path) -> str:
    """What a page and a table in `folder` show that the new ones would not; '' for nothing.

    Of the cells of this report alone, and not of those that have failed since.
    """
    before = _shown(folder)
    failed = {row.cell.id for row in report.rows if row.record["status"] != "ok"}
    lost = [
        cell.id
        for cell in report.cells
        if cell.id not in failed
        and not set(before.get(cell.id, "")) <= set(report.evidence.get(cell.id, ""))
    ]
    if not lost:
        return ""
    why = " ".join(report.missing) or "They have no outcome now."
    return (
        f"{folder / PAGE} is kept: of {pluralize(len(lost), 'cell')} it shows more than could be "
        f"shown now. {why}"
    ).removesuffix(".")


def _shown(folder: Path) -> dict[str, str]:
    """What the page in a folder has of each row, by cell id; see collect.Report.evidence."""
    try:
        html = (folder / PAGE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    if (found := page.evidence_of(html)) is not None:
        return found
    try:  # a page of an earlier version: the statistics beside it have the intervals
        table = pd.read_csv(folder / STATISTICS, usecols=["cell", "low"])
    except (OSError, ValueError):
        return {}
    known = zip(table["cell"], table["low"].notna(), strict=True)
    return {cell: collect.NUMBERS + collect.PREDICTIONS * has for cell, has in known}


def _write(report: Report, folder: Path, stamp: str, *, pictures: bool) -> None:
    if report.statistics is not None:
        # Before the page, whose digest says that both are there.
        write_csv(statistics_table.statistics_table(report), folder / STATISTICS)
        write_texts([statistics_table.text_table(report)], folder, "statistics")
    else:
        for name in (STATISTICS, *READABLE):  # of another state of the sweep
            (folder / name).unlink(missing_ok=True)
    html = page.page(report, stamp, folder=shlex.quote(str(folder)), pictures=pictures)
    write_atomic(folder / PAGE, html.encode(errors="replace"))
