"""Writes the files that a sweep ends with: tables, figures and the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_sweep.config.validation import SweepOptions
from lenet_sweep.report.text_tables import text_tables, write_texts
from lenet_sweep.results.columns import REPRODUCTION
from lenet_sweep.results.csv_file import write_csv
from lenet_sweep.results.ranking import NO_COMPARISON, TieMarks
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.runner.run import SweepResult

if TYPE_CHECKING:
    from lenet_sweep.analysis.reproduction import Reproduction
    from lenet_sweep.analysis.statistics import Result


def compare(result: SweepResult, options: SweepOptions) -> TieMarks:
    """Compare the rows with the best one, for the printed tables.

    An interrupted sweep has no comparisons, since they take seconds.
    """
    sweep = result.sweep
    if len(sweep.finished_cells()) < 2:
        return NO_COMPARISON
    from lenet_sweep.analysis import ties  # noqa: PLC0415 - slow; one cell does not need it

    settings = ties.rows_over_seeds(sweep.cells_of(sweep.table), sweep.table)
    marks = NO_COMPARISON if result.interrupted else ties.tie_marks(_load_results(sweep))
    return replace(marks, settings=settings if options.rows == "settings" else ())


def reproduce(result: SweepResult) -> tuple[Reproduction, ...]:
    """Judge the studies of a sweep by its results. An interrupted sweep gets no verdicts."""
    studies = result.sweep.manifest.studies
    if result.interrupted or not studies:
        return ()
    from lenet_sweep.analysis import claim_checks  # noqa: PLC0415 - most sweeps have no study

    results = _load_results(result.sweep)
    return tuple(claim_checks.judge(study, results) for study in studies)


def _load_results(sweep: Sweep) -> Sequence[Result]:
    """The results of the table's first `loading.MAX_ROWS` rows, from the store."""
    from lenet_sweep.analysis import loading  # noqa: PLC0415 - a single cell does not need it

    first = sweep.table.head(loading.MAX_ROWS)
    return loading.load_results_of(first, loading.sources(sweep, first), sweep.test_images)


def write_tables(
    sweep: Sweep, marks: TieMarks = NO_COMPARISON, reproductions: Sequence[Reproduction] = ()
) -> list[Path]:
    """Write the tables as Markdown and LaTeX, and the verdicts on studies as CSV.

    Returns the files of the sweep, without its figures and its page.
    """
    folder = sweep.folder
    tables = text_tables(sweep.table, marks)
    files = [folder / "results.csv"]
    if reproductions:
        from lenet_sweep.analysis import (  # noqa: PLC0415 - most sweeps have no study
            reproduction_tables,
        )

        for judged in reproductions:
            tables += reproduction_tables.text_tables(judged)
        files.append(folder / REPRODUCTION)
        write_csv(reproduction_tables.reproduction_table(reproductions), files[-1])
    else:
        (folder / REPRODUCTION).unlink(missing_ok=True)  # of an earlier launch in this folder
    return [*files, *write_texts(tables, folder), folder / "sweep.json"]


def draw_figures(
    result: SweepResult, options: SweepOptions, on_message: Callable[[str], None]
) -> list[Path]:
    """Draw the figures that `options.figures` selects, and return their files.

    on_message: gets progress messages, and a line for everything that is left out.

    An interrupted sweep has no figures, so that Ctrl-C does not wait for them. They are drawn in
    this process: forking a process that has threads can deadlock, and a new process would take
    longer to import matplotlib than most sweeps take to draw.
    """
    if options.figures == "none" or result.interrupted or not result.sweep.finished_cells():
        return []
    from lenet_sweep.report import figure_set  # noqa: PLC0415 - importing matplotlib takes most of a second

    return figure_set.draw(result.sweep, options.figures, on_message)


def write_page(
    result: SweepResult, options: SweepOptions, on_message: Callable[[str], None]
) -> list[Path]:
    """Write the page and its statistics if `options.report` is true, and return their files.

    With `figures=none` the page has no pictures. After an interrupted sweep it has only the table.
    If an existing page shows more than the new one would, it is kept and `on_message` gets
    the reason.
    """
    if not options.report:
        return []
    from lenet_sweep.report import page_files  # noqa: PLC0415 - slow to import

    return page_files.write_page(
        result.sweep,
        pictures=options.figures != "none",
        interrupted=result.interrupted.name if result.interrupted else "",
        on_message=on_message,
    )
