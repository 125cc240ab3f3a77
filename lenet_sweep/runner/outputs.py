"""The end of a sweep: writes its tables, figures and page, and describes what was written."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.text import join_command, pluralize
from lenet_sweep.machine import provenance
from lenet_sweep.report import table_files
from lenet_sweep.results.columns import STOPPED
from lenet_sweep.results.ranking import NO_COMPARISON, TieMarks
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.runner.interrupts import Interrupts, handle_signals
from lenet_sweep.runner.run import SweepResult
from lenet_sweep.storage.launches import mark_running
from lenet_sweep.storage.store import Store
from lenet_sweep.track.tracking import Tracking

if TYPE_CHECKING:
    from lenet_sweep.analysis.reproduction import Reproduction

MAX_FAILURES = 10  # failed cells that are listed with the file of their traceback
MAX_FILES = 5  # files of a kind that are listed one by one


def write_outputs(
    result: SweepResult,
    options: SweepOptions,
    on_message: Callable[[str], None],
    on_tables: Callable[[TieMarks, Sequence[Reproduction]], None] | None = None,
    *,
    comparisons: bool = True,
) -> tuple[SweepResult, list[Path]]:
    """Write the tables, then the page and the figures, and return the result and all files.

    The trackers get the result at the end, and are ended.

    A signal does not stop the tables from being written, but it stops the page and the figures at
    once; the returned result then has it as `interrupted`. A second Ctrl-C raises
    InterruptedBySignal.

    on_message: gets the progress of the page and the figures, and what is left out. on_tables:
    called when the tables are written, which is long before the end: the figures take seconds.
    comparisons: False leaves out the comparison of rows with the best one.
    """
    with contextlib.ExitStack() as stack, handle_signals() as signals:
        stack.enter_context(mark_running(result.sweep.folder))
        if result.tracking:
            stack.enter_context(result.tracking.abandoned_after_error())
        with signals.deferred():
            marks = compare(result, options) if comparisons else NO_COMPARISON
            reproductions = reproduce(result)
            files = write_tables(result.sweep, marks, reproductions)
            if on_tables:
                on_tables(marks, reproductions)
        if signals.received:
            result = replace(result, interrupted=signals.received[0])
        page: list[Path] = []
        figures: list[Path] = []
        try:
            page = write_page(result, options, on_message)
            figures = draw_figures(result, options, on_message)
        except KeyboardInterrupt:
            if signals.force_quit or result.interrupted or not signals.received:
                raise
            result = replace(result, interrupted=signals.received[0])
        if options.tracker:
            result = _write_to_trackers(result, options, on_message, signals)
    return result, [*page, *files, *figures]


def _write_to_trackers(
    result: SweepResult,
    options: SweepOptions,
    on_message: Callable[[str], None],
    signals: Interrupts,
) -> SweepResult:
    """Write the final state to the trackers, wait for them within limits, and end them.

    Under Hydra's own launchers and sweepers, no tracker has run before.
    """
    sweep = result.sweep
    with signals.deferred():
        tracking = result.tracking or Tracking(
            options.tracker, sweep.folder, sweep.manifest, options.person, on_message
        )
        tracking.finish(sweep, on_message, lambda: bool(result.interrupted or signals.received))
    interrupted = result.interrupted or next(iter(signals.received), None)
    errors = (*result.observer_errors, *tracking.warnings)
    return replace(result, interrupted=interrupted, observer_errors=errors, tracking=None)


def compare(result: SweepResult, options: SweepOptions) -> TieMarks:
    """Compare the rows with the best one, for the printed tables.

    An interrupted sweep has no comparisons, since they take seconds.
    """
    sweep = result.sweep
    if len(sweep.finished_cells()) < 2:
        return NO_COMPARISON
    from lenet_sweep.analysis import ties  # noqa: PLC0415 - slow; one cell does not need it

    if result.interrupted:
        marks = TieMarks(settings=ties.rows_over_seeds(sweep.cells_of(sweep.table), sweep.table))
    else:
        marks = ties.compare_sweep(sweep)
    return marks if options.rows == "settings" else replace(marks, settings=())


def reproduce(result: SweepResult) -> tuple[Reproduction, ...]:
    """Judge the studies of a sweep by its results. An interrupted sweep gets no verdicts."""
    studies = result.sweep.manifest.studies
    if result.interrupted or not studies:
        return ()
    from lenet_sweep.analysis import (  # noqa: PLC0415 - most sweeps have no study
        claim_checks,
        loading,
    )

    results = loading.load_compared_results(result.sweep)
    return tuple(claim_checks.judge(study, results) for study in studies)


def write_tables(
    sweep: Sweep, marks: TieMarks = NO_COMPARISON, reproductions: Sequence[Reproduction] = ()
) -> list[Path]:
    """Write the tables as Markdown and LaTeX, and the verdicts on studies as CSV.

    Returns the files of the sweep, without its figures and its page.
    """
    folder = sweep.folder
    return [
        folder / "results.csv",
        *table_files.write_reproduction(reproductions, folder),
        *table_files.write_results(sweep.table, marks, reproductions, folder),
        folder / "sweep.json",
    ]


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
    from lenet_sweep.report import figure_set, style  # noqa: PLC0415 - importing matplotlib takes most of a second

    return figure_set.draw(
        result.sweep,
        options.figures,
        on_message,
        suffix=options.figure_format,
        layout=style.LAYOUTS[options.figure_width],
    )


def write_page(
    result: SweepResult, options: SweepOptions, on_message: Callable[[str], None]
) -> list[Path]:
    """Write the page and its statistics if `options.report` is true, and return their files.

    With `figures=none` the page has no pictures. After an interrupted sweep it has only the table.
    If an existing page shows more than the new one would, it is kept and `on_message` gets the
    reason.
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


def describe_outputs(
    result: SweepResult, options: SweepOptions, files: Sequence[Path]
) -> list[str]:
    """Lines that list the files that were written and the cells that failed."""
    folder, table = result.sweep.folder, result.sweep.table
    lines = [f"Written to {folder}{os.sep}"]
    lines += [f"  {name}" for name in _shortened([path.relative_to(folder) for path in files])]
    failed = table[~table["status"].isin(["ok", "diverged", STOPPED])]
    for name in failed["cell"][:MAX_FAILURES]:
        run = Store(options.out).run_folder(name.partition("-e")[0])
        failure = run.failure()
        has_traceback = failure and failure.traceback
        where = f"traceback in {run.path / 'failure.json'}; " if has_traceback else ""
        lines.append(f"{name} failed: {where}the same command retries it")
    if len(failed) > MAX_FAILURES:
        lines.append(f"and {len(failed) - MAX_FAILURES} more failed")
    return lines


def describe_interruption(result: SweepResult) -> list[str]:
    """Lines that say how much was done and how to resume; none if it was not interrupted."""
    if not result.interrupted:
        return []
    requested = {cell.id for cell in result.requested}
    finished = len(requested & set(result.sweep.table["cell"]) - result.not_retrained)
    done = f"{finished} of {pluralize(len(result.requested), 'cell')}"
    return [
        f"Stopped by {result.interrupted.name} with {done} done. To resume:",
        f"  {join_command(provenance.command())}",
    ]


def _shortened(paths: Sequence[Path]) -> list[str]:
    """One line per file, or one per kind (pattern and number) if there are more than MAX_FILES."""
    kinds = Counter(_kind(path) for path in paths)
    lines: dict[str, None] = {}  # ordered, without duplicates
    for path in paths:
        kind, number = _kind(path), kinds[_kind(path)]
        line = f"{kind} ({number} files)" if number > MAX_FILES else str(path)
        lines[line] = None
    return list(lines)


def _kind(path: Path) -> str:
    """'figures/*_cost.png' for 'figures/nll-adam_..._cost.png'; the name itself without '_'."""
    _, separator, last = path.stem.rpartition("_")
    return (
        str(path.parent / f"*_{last.partition('-')[0]}*{path.suffix}") if separator else str(path)
    )
