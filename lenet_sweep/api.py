"""The Python interface: the same sweep as the command line's, as a function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from rich.console import Console

from lenet_sweep.config import keys, studies, validation
from lenet_sweep.core.errors import InterruptedBySignal
from lenet_sweep.executors import local
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.runner.interrupts import handle_signals
from lenet_sweep.runner.outputs import compare, draw_figures, reproduce, write_page, write_tables
from lenet_sweep.runner.preview import preview
from lenet_sweep.runner.run import run_sweep
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.ui import views

if TYPE_CHECKING:
    import pandas as pd

    from lenet_sweep.analysis.conclusions import Statistics


T = TypeVar("T")
OneOrMany: TypeAlias = "T | Iterable[T]"  # a value, or several as an axis of the grid


class _Default:
    """The default of a key: the value that conf/config.yaml has."""

    def __repr__(self) -> str:
        return "<default>"


DEFAULT: Any = _Default()


def sweep(
    *,
    lr: OneOrMany[float] = DEFAULT,
    batch: OneOrMany[int] = DEFAULT,
    epochs: OneOrMany[int] = DEFAULT,
    loss: OneOrMany[str] = DEFAULT,
    optimizer: OneOrMany[str] = DEFAULT,
    recipe: OneOrMany[str] = DEFAULT,
    activation: OneOrMany[str] = DEFAULT,
    seed: OneOrMany[int] = DEFAULT,
    shuffle: OneOrMany[bool] = DEFAULT,
    holdout: int | None = DEFAULT,
    dataset: OneOrMany[str] = DEFAULT,
    device: OneOrMany[str] = DEFAULT,
    engine: OneOrMany[str] = DEFAULT,
    study: str | Mapping[str, Any] | None = None,
    workers: int | str = DEFAULT,
    person: str | None = DEFAULT,
    timeout: float | None = DEFAULT,
    retries: int = DEFAULT,
    reuse: bool = DEFAULT,
    dry_run: bool = DEFAULT,
    max_cells: int = DEFAULT,
    rows: str = DEFAULT,
    report: bool = DEFAULT,
    figures: str = DEFAULT,
    out: str | Path = DEFAULT,
    name: str | None = DEFAULT,
    progress: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Train LeNet5 for every combination of the settings; the ranked table, best cell first.

    Settings are the keys of the command line (conf/config.yaml has their defaults), each a value or
    a list of values: `sweep(lr=[1e-1, 1e-2], batch=[32, 64], recipe="nll_adam", epochs=5)`. Dotted
    keys are passed as `**{"optimizer.momentum": [0, 0.9]}`; an option applies to the optimizers
    that have it. Accuracies are percent of the test images.

    study="report" trains the rows of a study (conf/study), or those of a dict in the same form;
    other settings are axes over it.

    Everything else is as on the command line: finished cells come from the store, a failed cell
    is a row with its reason. `table.attrs["folder"]` is the folder with results.csv and the
    figures. `dry_run=True` trains nothing and returns what the store has. `progress=False` prints
    nothing.

    Raises UsageError for a key or value that is not allowed, DataError if the images cannot be
    had, StoreError if the output folder cannot be written. Ctrl-C and other signals to end raise
    InterruptedBySignal, a KeyboardInterrupt, after checkpoints and table are written; the same call
    resumes the sweep.
    """
    given = {key: value for key, value in locals().items() if value is not DEFAULT}
    for key in ("study", "progress", "settings"):
        del given[key]
    return _sweep(given | settings, study, progress=progress)


def _sweep(
    settings: dict[str, Any], study: str | Mapping[str, Any] | None, *, progress: bool
) -> pd.DataFrame:
    raws = keys.grid(settings)
    if study is not None:
        node = {studies.KEY: studies.load_study(study), studies.GIVEN: list(settings)}
        raws = [raw | node for raw in raws]
    cells, options = validation.validate_cells(raws, NATIVE)
    console = Console()
    if options.dry_run:
        found = preview(cells, options, local.LOCAL)
        for line in found.lines() if progress else ():
            console.print(line, markup=False, highlight=False)
        return ranked_table(found.rows)
    view = views.choose_view(single=False, console=console) if progress else views.QuietView()
    with handle_signals() as signals:
        result = run_sweep(cells, options, view, local.LOCAL)
        with signals.deferred():
            write_tables(result.sweep, compare(result, options), reproduce(result))
        if signals.received:
            result = replace(result, interrupted=signals.received[0])
        try:
            write_page(result, options, view.say)
            draw_figures(result, options, view.say)
        except KeyboardInterrupt:  # the figures are left out, but the tables are there
            if not signals.received or signals.insisted:
                raise
        if signals.received:
            raise InterruptedBySignal(
                signals.received[0],
                f"{signals.received[0].name}: the table so far is in "
                f"{result.sweep.folder / 'results.csv'}; the same call resumes the sweep",
            )
    result.sweep.table.attrs["folder"] = str(result.sweep.folder)
    return result.sweep.table


def analyse(folder: str | Path, data: str | Path | None = None) -> Statistics:
    """What a sweep's folder (`outputs/sweeps/<name>`) says, and what it does not.

    Intervals, settings over seeds, comparisons with the best, effects, warnings, conclusions; see
    `lenet_sweep.analysis.conclusions.Statistics` and docs/statistics.md. Accuracies are percent,
    differences points. data: the folder of the images, where they are no longer where they were;
    without them nothing is said of ties. Raises FileNotFoundError where there is no sweep.
    """
    from lenet_sweep.report import collect  # noqa: PLC0415 - `sweep` does not need it

    report, _ = collect.collect_merged([Path(folder)], None if data is None else Path(data))
    assert report.statistics is not None
    return report.statistics
