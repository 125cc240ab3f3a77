"""The Python interface: sweeps as a function call, with the settings of the command line."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from rich.console import Console

from lenet_sweep.config import (
    grids,
    own_models,
    registry,
    sampled_settings,
    studies,
    validation,
)
from lenet_sweep.config.model_import import note_sweep_call
from lenet_sweep.config.pairs import describe_pair, parse_pairs
from lenet_sweep.config.search_space import Composed, SearchSpace
from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.cells import Cell, Choice
from lenet_sweep.core.errors import InterruptedBySignal, UsageError
from lenet_sweep.executors import local
from lenet_sweep.results.manifest import read_manifest
from lenet_sweep.results.ranking import NO_COMPARISON, TieMarks, ranked_table
from lenet_sweep.results.records import in_store
from lenet_sweep.results.sweep import read_records
from lenet_sweep.runner.interrupts import handle_signals
from lenet_sweep.runner.live_page import start_live_page
from lenet_sweep.runner.outputs import write_outputs
from lenet_sweep.runner.preview import preview
from lenet_sweep.runner.run import run_sweep
from lenet_sweep.search.sampling import samples
from lenet_sweep.training.engines.support import NATIVE
from lenet_sweep.ui.observer import Observer
from lenet_sweep.ui.views import choose_view

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from lenet_sweep.analysis.conclusions import Statistics


MAX_CHECKED = 20  # models that are created before the training starts
T = TypeVar("T")
OneOrMany: TypeAlias = "T | Iterable[T]"  # one value, or several as an axis of the grid


class _Default:
    """Stands for the value of a key in conf/config.yaml."""

    def __repr__(self) -> str:
        return "<default>"


DEFAULT: Any = _Default()


def sweep(
    *,
    lr: OneOrMany[float] | str = DEFAULT,
    batch: OneOrMany[int] | str = DEFAULT,
    epochs: OneOrMany[int] = DEFAULT,
    loss: OneOrMany[str] = DEFAULT,
    optimizer: OneOrMany[str] = DEFAULT,
    recipe: OneOrMany[str] = DEFAULT,
    activation: OneOrMany[str] = DEFAULT,
    model: OneOrMany[str | type[nn.Module]] = DEFAULT,
    pool: OneOrMany[str] = DEFAULT,
    width: OneOrMany[float] | str = DEFAULT,
    batch_norm: OneOrMany[bool] = DEFAULT,
    dropout: OneOrMany[float] | str = DEFAULT,
    init: OneOrMany[str] = DEFAULT,
    normalize: OneOrMany[str] = DEFAULT,
    augment: OneOrMany[str] = DEFAULT,
    schedule: OneOrMany[str] = DEFAULT,
    clip_norm: OneOrMany[float | None] | str = DEFAULT,
    patience: OneOrMany[int | None] | str = DEFAULT,
    seed: OneOrMany[int] = DEFAULT,
    shuffle: OneOrMany[bool] = DEFAULT,
    holdout: int | None = DEFAULT,
    dataset: OneOrMany[str] = DEFAULT,
    device: OneOrMany[str] = DEFAULT,
    engine: OneOrMany[str] = DEFAULT,
    study: str | Mapping[str, Any] | None = None,
    workers: int | str = DEFAULT,
    threads: int | str = DEFAULT,
    person: str | None = DEFAULT,
    timeout: float | None = DEFAULT,
    retries: int = DEFAULT,
    reuse: bool = DEFAULT,
    dry_run: bool = DEFAULT,
    pair: Sequence[str] | Sequence[Sequence[str]] | None = DEFAULT,
    max_cells: int = DEFAULT,
    search: str = DEFAULT,
    rows: str = DEFAULT,
    report: bool = DEFAULT,
    figures: str = DEFAULT,
    figure_format: str = DEFAULT,
    figure_width: str = DEFAULT,
    serve: bool = DEFAULT,
    tracker: str | Sequence[str] | None = DEFAULT,
    out: str | Path = DEFAULT,
    name: str | None = DEFAULT,
    progress: bool = True,
    observers: Iterable[Observer] = (),
    **settings: Any,
) -> pd.DataFrame:
    """Train networks for every combination of the settings, and return the ranked table.

    The settings are the keys of the command line, with the defaults of conf/config.yaml. Each takes
    a value or a list of values: `sweep(lr=[1e-1, 1e-2], batch=[32, 64], epochs=5)`. Pass keys with
    a dot as `**{"optimizer.momentum": [0, 0.9]}`. An option applies to the choices that have it.

    model: a name, such as "lenet5_1998", or your own class, a subclass of torch.nn.Module. It maps
    images (B, 1, height, width), with pixels in [0, 1], to one score (logit) per class,
    (B, classes). Its arguments are options, such as "model.hidden". See docs/extending.md.

    pair: the keys whose values are used together instead of in all combinations, such as
    `pair=["lr", "batch"]`, or several such lists.

    search: "grid" trains every cell to its last epoch; see docs/search.md for the others. With
    "tpe", a value may also be text such as "interval(0, 0.5)" or "tag(log, interval(1e-4, 1e-1))".

    study: the name of a study in conf/study, such as "report", or a dict in the same form. Its rows
    are trained for every combination of the other settings.

    As on the command line, finished cells come from the store, and a failed cell becomes a row that
    gives the reason. `dry_run=True` trains nothing and returns the rows that the store already has.
    `progress=False` prints nothing.

    serve: True shows the sweeps of `out` in the browser until this process ends, and prints the URL
    even with `progress=False`; see docs/live-page.md.

    tracker: a tracking tool, such as "tensorboard", or a list of them; see docs/trackers.md.

    observers: objects that follow the sweep in addition to its display on the terminal; see
    `lenet_sweep.Observer`. A dry run does not call them. An observer that raises an exception is
    removed and the sweep continues; a message, or with `progress=False` a RuntimeWarning at the
    end, gives the reason.

    Returns a DataFrame with the columns of results.csv, best cell first, and accuracies in percent
    of the test images. `table.attrs["folder"]` is the folder with results.csv and the figures. A
    notebook shows the table as the terminal does, with ties, and intervals over the seeds.

    Raises UsageError for a key or value that is not allowed, DataError if the images cannot be
    obtained, and StoreError if the output folder cannot be written. Ctrl-C, SIGTERM and SIGHUP
    raise InterruptedBySignal, a KeyboardInterrupt, after the checkpoints and the table are written.
    The same call resumes the sweep.
    """
    typed = {key: value for key, value in locals().items() if value is not DEFAULT}
    for key in ("study", "progress", "observers", "settings"):
        del typed[key]
    return _sweep(typed | settings, study, list(observers), progress=progress)


def _sweep(
    settings: dict[str, Any],
    study: str | Mapping[str, Any] | None,
    observers: list[Observer],
    *,
    progress: bool,
) -> pd.DataFrame:
    note_sweep_call()
    registry.add_datasets()
    own_models.add_models()
    if "model" in settings:
        settings["model"] = own_models.names_of_classes(settings["model"])
    node: dict[str, Any] = {}
    if study is not None:
        node = {studies.KEY: studies.load_study(study), studies.GIVEN: list(settings)}
    if search := _sampling_search(settings):
        space, options = _sampled(settings, search, node)
        cells: list[Cell] = []
    else:
        space = None
        raws = grids.grid(settings)
        cells, options = validation.validate_cells([raw | node for raw in raws], NATIVE)
        _check_models(cells)
    console = Console()
    if options.dry_run:
        planned = preview(cells, options, local.LOCAL, space)
        if progress:  # as one text: in a notebook, each call would be an output of its own
            console.print("\n".join(planned.lines()), markup=False, highlight=False)
        return _table(ranked_table(planned.records), marks=NO_COMPARISON)
    if options.serve:
        on_message = partial(console.print, markup=False, highlight=False, soft_wrap=True)
        start_live_page(options, None, on_message)
    view = choose_view(console) if progress else Observer()
    with handle_signals():
        result = run_sweep(cells, options, [view, *observers], local.LOCAL, space=space)
        marks: list[TieMarks] = []
        result, _ = write_outputs(
            result, options, view.on_message, lambda compared, _: marks.append(compared)
        )
        view.on_end()  # no more messages
    if result.interrupted:
        raise InterruptedBySignal(
            result.interrupted,
            f"{result.interrupted.name}: the table so far is in "
            f"{result.sweep.folder / 'results.csv'}; the same call resumes the sweep",
        )
    for error in () if progress else result.observer_errors:  # no view has shown them
        warnings.warn(error, RuntimeWarning, stacklevel=3)
    return _table(result.sweep.table, result.sweep.folder, marks[0])


def _table(
    table: pd.DataFrame, folder: str | Path = "", marks: TieMarks | None = None
) -> pd.DataFrame:
    """The table that the user gets, as described in SweepTable."""
    from lenet_sweep.report.sweep_table import SweepTable  # noqa: PLC0415 - imports pandas

    return SweepTable(table, folder, marks)


def _sampling_search(settings: Mapping[str, Any]) -> str | None:
    """The name of the search if it samples settings; None for other searches."""
    value = settings.get("search")
    name = value.get("name") if isinstance(value, Mapping) else value
    return name if isinstance(name, str) and samples(name) else None


def _sampled(
    settings: Mapping[str, Any], search: str, study: Mapping[str, Any]
) -> tuple[SearchSpace, SweepOptions]:
    """The search space of the settings, and the options of the sweep."""
    if study:
        raise validation.study_conflict(search)
    for pair in parse_pairs(settings.get("pair")):
        raise UsageError(
            f"{describe_pair(pair)}: search={search} samples each key on its own; remove pair"
        )
    checked: set[Choice] = set()  # models

    def validate(
        raws: Sequence[Mapping[str, Any]], chosen: Mapping[str, Collection[str]]
    ) -> Composed:
        cells, cell_options = validation.validate_cells(raws, NATIVE, other_choices=chosen)
        _check_models(cell for cell in cells if cell.model not in checked)
        checked.update(cell.model for cell in cells)
        return cells, cell_options.notes

    space, base, chosen = sampled_settings.settings_space(settings, search, validate)
    _, options = validation.validate_cells([base], NATIVE, other_choices=chosen)
    unused = validation.unused_of(settings, chosen)
    return space, replace(options, unused=unused)


def _check_models(cells: Iterable[Cell]) -> None:
    """Check that the users' models among the cells can be created and have the right output.

    Those beyond the first MAX_CHECKED are checked when their runs start. Raises ModelError.
    """
    own = {cell.model: cell for cell in cells if cell.model_source}
    if own:
        from lenet_sweep.training.own_model import check_model  # noqa: PLC0415 - imports torch

        for cell in islice(own.values(), MAX_CHECKED):
            check_model(cell)


def load_results(folder: str | Path) -> pd.DataFrame:
    """The ranked table of a sweep, rebuilt from the store.

    folder: the folder of the sweep, `outputs/sweeps/<name>`. If the run of a row is damaged or
    missing from the store, the row comes from results.csv, with a warning. Cells without an outcome
    are left out.

    Raises FileNotFoundError if there is no sweep, and StoreError if its sweep.json cannot be used.
    """
    manifest = read_manifest(Path(folder))
    records = read_records(Path(folder), manifest)
    for path in dict.fromkeys(manifest.store.damaged):
        warnings.warn(f"{path} is damaged: run the sweep again to repair it", stacklevel=2)
    if lost := sum(not in_store(*item, manifest.store) for item in records.items()):
        warnings.warn(
            f"{lost} of {len(records)} rows come only from results.csv: their runs are not in "
            f"{manifest.store.out / 'runs'}",
            stacklevel=2,
        )
    return _table(ranked_table(records.values()), folder)


def analyse(folder: str | Path, data: str | Path | None = None) -> Statistics:
    """Compute the statistics of a finished sweep.

    folder: the folder of the sweep, `outputs/sweeps/<name>`. data: the folder of its images, if
    they have been moved. Without images, rows are not compared for ties.

    Returns intervals, settings over seeds, comparisons with the best, effects, warnings and
    conclusions; see `lenet_sweep.analysis.conclusions.Statistics` and docs/statistics.md.
    Accuracies are percentages; differences are in percentage points.

    Raises FileNotFoundError if the folder has no sweep.
    """
    from lenet_sweep.report import collect  # noqa: PLC0415 - `sweep` does not need it

    report, _ = collect.collect_merged([Path(folder)], None if data is None else Path(data))
    assert report.statistics is not None
    return report.statistics
