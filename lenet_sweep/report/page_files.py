"""Writes report.html and the statistics files of one sweep or of several merged sweeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lenet_sweep.analysis import ties
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.text import join_command, pluralize
from lenet_sweep.report import collect, page, statistics_csv, table_files, workbook
from lenet_sweep.report.collect import Report
from lenet_sweep.report.text_tables import write_texts
from lenet_sweep.results.csv_file import write_csv
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.storage.files import make_folder, write_atomic

PAGE, STATISTICS = "report.html", "statistics.csv"
STATISTICS_TEXTS = ("statistics.md", "statistics.tex")


def write_page(
    sweep: Sweep, *, on_message: Callable[[str], None], pictures: bool = True, interrupted: str = ""
) -> list[Path]:
    """Write the page of a sweep and its statistics files into its folder; returns the files.

    A page with the same content is kept, so repeating a finished sweep takes no time. A page that
    shows more than the new one would is kept too, and `on_message` receives the reason.

    pictures: False leaves out charts and images. interrupted: the name of the signal that ended the
    sweep early, or ""; if given, the page has only the table, which takes no time to compute.
    Raises StoreError if a file cannot be written.
    """
    folder = sweep.folder
    files = [folder / name for name in (PAGE, STATISTICS, *STATISTICS_TEXTS)]
    launches = collect.launches([sweep.manifest])
    studies = sweep.manifest.studies
    digest = page.compute_digest(
        sweep.table,
        launches,
        studies,
        len(sweep.cells),
        pictures=pictures,
        interrupted=interrupted,
    )
    if not _is_current(folder, digest):
        report = collect.collect_sweep(sweep, interrupted)
        if lost := _missing_evidence(report, folder):
            command = f"python -m lenet_sweep.report {join_command([str(folder)])} --out FOLDER"
            on_message(f"{lost}; to write the new page elsewhere, run: {command}")
        else:
            _write(report, folder, digest, pictures=pictures)
    return [path for path in files if path.exists()]


def rebuild_page(
    folders: Sequence[Path], out: Path, data_root: Path | None, *, excel: bool = False
) -> list[Path]:
    """Write the page and the tables of one or several sweeps into `out`; returns the files.

    If `out` is the folder of the only sweep, its results.csv and the files made from it stay as
    they are.

    data_root: the folder of the images; None for the folder that each sweep used. excel: also write
    results.xlsx.

    Raises FileNotFoundError if there is no sweep, and StoreError if a manifest is damaged or if a
    page in `out` shows more than the new one would.
    """
    report, table = collect.collect_merged(folders, data_root)
    if lost := _missing_evidence(report, out):
        raise StoreError(f"{lost}. Write the new page to another folder with --out FOLDER")
    make_folder(out)
    files = []
    if [folder.resolve() for folder in folders] != [out.resolve()]:
        rows = report.rows
        marks = ties.tie_marks([row.result for row in rows], [row.at for row in rows], len(table))
        marks = replace(marks, settings=ties.rows_over_seeds(report.row_cells, table))
        write_csv(table, out / "results.csv")
        texts = table_files.write_results(table, marks, report.reproductions, out)
        files = [out / "results.csv", *texts]
    files += table_files.write_reproduction(report.reproductions, out)
    if excel:
        files.append(workbook.write_workbook(table, report, out))
    studies = [reproduction.study for reproduction in report.reproductions]
    digest = page.compute_digest(table, report.launches, studies, report.planned)
    _write(report, out, digest, pictures=True)
    return [*files, *(out / name for name in (PAGE, STATISTICS, *STATISTICS_TEXTS))]


def _is_current(folder: Path, digest: str) -> bool:
    try:
        with (folder / PAGE).open(encoding="utf-8") as file:
            return page.digest_of(file.read(4000)) == digest
    except (OSError, ValueError):
        return False


def _missing_evidence(report: Report, folder: Path) -> str:
    """What the page in `folder` shows and a new page would not, as a sentence; '' for nothing.

    Only cells of this report count, and not those that have failed since or that are left out
    because the table is long.
    """
    before = _evidence_in(folder)
    shown = {row.cell.id: row.record["status"] for row in report.rows}
    ignored = {name for name, status in shown.items() if status != "ok"}
    ignored |= {cell.id for cell in report.row_cells} - shown.keys()
    cells = [
        cell.id
        for cell in report.cells
        if cell.id not in ignored
        and not set(before.get(cell.id, "")) <= set(report.evidence.get(cell.id, ""))
    ]
    if not cells:
        return ""
    reasons = " ".join(report.missing) or "They have no results now."
    return (
        f"{folder / PAGE} is kept because it shows more about {pluralize(len(cells), 'cell')} than "
        f"a new page would. {reasons}"
    ).removesuffix(".")


def _evidence_in(folder: Path) -> dict[str, str]:
    """`Report.evidence` of the page in a folder."""
    try:
        html = (folder / PAGE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return page.evidence_of(html)


def _write(report: Report, folder: Path, digest: str, *, pictures: bool) -> None:
    if report.statistics is not None:
        # Before the page, since a page with a current digest means that these files exist.
        write_csv(statistics_csv.statistics_table(report), folder / STATISTICS)
        write_texts([statistics_csv.summary_table(report)], folder, "statistics")
    else:
        for name in (STATISTICS, *STATISTICS_TEXTS):  # of an earlier state of the sweep
            (folder / name).unlink(missing_ok=True)
    html = page.page(
        report,
        digest,
        folder=join_command([str(folder)]),
        name=folder.resolve().name,
        pictures=pictures,
    )
    write_atomic(folder / PAGE, html.encode(errors="replace"))
