"""What a sweep leaves in its folder at the end: tables, figures, and the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_sweep.config.validation import Options
from lenet_sweep.report.text_tables import text_tables, write_texts
from lenet_sweep.results.columns import REPRODUCTION
from lenet_sweep.results.csv_file import write_csv
from lenet_sweep.results.ranking import NO_COMPARISON, TieMarks
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.runner.run import SweepResult

if TYPE_CHECKING:
    from lenet_sweep.analysis.reproduction import Reproduction
    from lenet_sweep.analysis.statistics import Result


def compare(result: SweepResult, options: Options) -> TieMarks:
    """How the rows compare with the best, for the printed tables.

    Without comparisons if the sweep was interrupted, since these take seconds.
    """
    sweep = result.sweep
    if len(sweep.finished_cells()) < 2:
        return NO_COMPARISON
    from lenet_sweep.analysis import ties  # noqa: PLC0415 - slow to import, useless for one cell

    settings = ties.rows_over_seeds(sweep.cells_of(sweep.table), sweep.table)
    found = NO_COMPARISON if result.interrupted else ties.tie_marks(_load_results(sweep))
    return replace(found, settings=settings if options.rows == "settings" else ())


def reproduce(result: SweepResult) -> tuple[Reproduction, ...]:
    """Judge the sweep's studies by its results; none if the sweep was interrupted."""
    studies = result.sweep.manifest.studies
    if result.interrupted or not studies:
        return ()
    from lenet_sweep.analysis import claim_checks  # noqa: PLC0415 - not for most sweeps

    found = _load_results(result.sweep)
    return tuple(claim_checks.judge(study, found) for study in studies)


def _load_results(sweep: Sweep) -> Sequence[Result]:
    """The results of the first rows of the table, from the store."""
    from lenet_sweep.analysis import loading  # noqa: PLC0415 - not for one cell

    first = sweep.table.head(loading.MAX_ROWS)
    return loading.load_results_of(first, loading.sources(sweep, first), sweep.test_images)


def write_tables(
    sweep: Sweep, marks: TieMarks = NO_COMPARISON, reproductions: Sequence[Reproduction] = ()
) -> list[Path]:
    """Write the tables for reading; the files of the sweep except its figures and its page."""
    folder = sweep.folder
    tables = text_tables(sweep.table, marks)
    files = [folder / "results.csv"]
    if reproductions:
        from lenet_sweep.analysis import reproduction  # noqa: PLC0415 - not for most sweeps

        tables += [table for each in reproductions for table in reproduction.text_tables(each)]
        files.append(folder / REPRODUCTION)
        write_csv(reproduction.reproduction_table(reproductions), files[-1])
    else:
        (folder / REPRODUCTION).unlink(missing_ok=True)  # of an earlier launch in this folder
    return [*files, *write_texts(tables, folder), folder / "sweep.json"]


def draw_figures(result: SweepResult, options: Options, say: Callable[[str], None]) -> list[Path]:
    """Draw the figures that `options.figures` asks for; their files.

    `say` gets a line for everything that is left out, and progress messages. An interrupted sweep
    has no figures, since Ctrl-C should not wait for them. They are drawn in this process: forking a
    process that has threads can deadlock, and a new process would take longer to import matplotlib
    than most sweeps take to draw.
    """
    if options.figures == "none" or result.interrupted or not result.sweep.finished_cells():
        return []
    from lenet_sweep.report import figure_set  # noqa: PLC0415 - matplotlib takes most of a second

    return figure_set.draw(result.sweep, options.figures, say)


def write_page(result: SweepResult, options: Options, say: Callable[[str], None]) -> list[Path]:
    """Write the page and its statistics if `options.report` asks for it; the files.

    The page has no pictures if `figures` is none, and only the table if the sweep was interrupted.
    If an existing page shows more than the new one would, it is kept and `say` gets the reason.
    """
    if not options.report:
        return []
    from lenet_sweep.report import page_files  # noqa: PLC0415 - it is slow to import

    return page_files.write_page(
        result.sweep,
        pictures=options.figures != "none",
        interrupted=result.interrupted.name if result.interrupted else "",
        say=say,
    )
