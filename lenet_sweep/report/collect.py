"""Collects everything that the page shows, from the folders of one or several sweeps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from lenet_sweep.analysis import claim_checks, conclusions, loading, significance, statistics
from lenet_sweep.analysis.commands import with_folders
from lenet_sweep.analysis.conclusions import Statistics
from lenet_sweep.analysis.loading import Source
from lenet_sweep.analysis.reproduction import Reproduction
from lenet_sweep.analysis.significance import Comparison
from lenet_sweep.analysis.statistics import Interval, Result
from lenet_sweep.config import keys, studies
from lenet_sweep.config.studies import Study
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Failure
from lenet_sweep.core.text import join_words, pluralize
from lenet_sweep.data.images import LabeledImages
from lenet_sweep.data.test_images import ImageCache
from lenet_sweep.report.search_history import SearchHistory, search_history
from lenet_sweep.results import records
from lenet_sweep.results.columns import EPOCHS_TRAINED, STOPPED
from lenet_sweep.results.manifest import Manifest, read_manifest
from lenet_sweep.results.ranking import rank_records
from lenet_sweep.results.records import Record
from lenet_sweep.results.sweep import Sweep, read_records
from lenet_sweep.search.sampling import samples

# What is available for a row: its numbers, its predictions, its cost and accuracy in each epoch.
NUMBERS, PREDICTIONS, CURVE = "n", "p", "c"
COMPARED = ("status", "accuracy", "train_loss")  # rows of one cell are merged if these are equal


@dataclass(frozen=True)
class Launch:
    """A command that started this sweep, with the code and the environment it ran in.

    search: the name of the search; "" if an earlier version did not record it.
    """

    command: str
    git_revision: str
    environment: Mapping[str, Any]
    search: str = ""


@dataclass(frozen=True, eq=False)
class Row:
    """A row of the table with its statistics.

    at: its index in the table, from 0. record: its values by column. comparison: of the row or of
    its setting with the best. failure: None if the row is ok. data_root: the folder of its images;
    None for the user's cache. out: the folder of its store; None for the default in the current
    folder.
    """

    at: int
    record: Record
    result: Result
    interval: Interval | None
    comparison: Comparison | None
    failure: Failure | None
    data_root: Path | None
    out: Path | None

    @property
    def cell(self) -> Cell:
        """The cell of this row."""
        return self.result.cell

    @property
    def outcome(self) -> str:
        """The outcome of its comparison with the best; '' without statistics."""
        return self.comparison.outcome if self.comparison else ""


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that the page shows.

    rows: of the table; of a long one, those that `loading.choose_rows` chooses. row_cells: the cell
    of each row of the table, shown or not. without_accuracy: how many of these have no accuracy.
    cells: all cells of the sweeps, also those without an outcome. statistics: None if the sweep was
    interrupted, since they take seconds. best: the first row, if it is ok. tests: its test images,
    if available. environments: of the runs, each with its number of runs. notes: what a reader
    should know. reproductions: of the studies that the cells belong to. interrupted: the name of
    the signal, or "". evidence: by cell id, what is available for a row: NUMBERS, PREDICTIONS,
    CURVE, concatenated. missing: reasons why something is not available. search: how it went, if a
    search stopped cells.
    """

    rows: tuple[Row, ...]
    row_cells: tuple[Cell, ...]
    without_accuracy: int
    cells: tuple[Cell, ...]
    statistics: Statistics | None
    best: Row | None
    tests: LabeledImages | None
    launches: tuple[Launch, ...]
    environments: tuple[tuple[Mapping[str, Any], int], ...]
    notes: tuple[str, ...]
    reproductions: tuple[Reproduction, ...]
    interrupted: str
    evidence: Mapping[str, str]
    missing: tuple[str, ...]
    search: SearchHistory | None = None

    @property
    def planned(self) -> int:
        """The number of cells."""
        return len(self.cells)


def collect_sweep(sweep: Sweep, interrupted: str = "") -> Report:
    """The report of one sweep. interrupted: the name of the signal that ended it early, or ""."""
    return _build_report(
        sweep.table,
        loading.sources(sweep, sweep.table),
        sweep.test_images,
        launches([sweep.manifest]),
        sweep.manifest.studies,
        sweep.cells,
        [],
        interrupted,
    )


def collect_merged(folders: Sequence[Path], data_root: Path | None) -> tuple[Report, pd.DataFrame]:
    """The report of one or several sweep folders, and the table of all their rows.

    A cell that several people trained is one row if their numbers are equal, else one row each. A
    row that a search stopped counts only if no other sweep has the cell, or has trained it further.

    data_root: the folder of the images; None for the folder that each sweep used. Raises
    FileNotFoundError and StoreError like `read_manifest`.
    """
    merged: list[Record] = []
    sources: list[Source] = []
    planned: dict[Cell, None] = {}
    notes: list[str] = []
    by_cell: dict[Cell, list[Record]] = {}
    stopped: list[tuple[Source, Record]] = []  # by a search
    repeated: set[Cell] = set()  # trained by several people with identical results
    manifests = [read_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        planned |= dict.fromkeys(manifest.cells)
        # The folder may be on another machine; the user's cache may have the same images.
        own = manifest.data_root if manifest.data_root and manifest.data_root.is_dir() else None
        root = data_root or own
        for cell, record in read_records(folder, manifest).items():
            rows = by_cell.setdefault(cell, [])
            if record["status"] == STOPPED:
                stopped.append((Source(cell, manifest.store, root), record))
            elif same := [
                other for other in rows if all(other[name] == record[name] for name in COMPARED)
            ]:
                if same[0]["person"] != record["person"]:
                    repeated.add(cell)
            else:
                rows.append(record)
                merged.append(record)
                sources.append(Source(cell, manifest.store, root))
    stopped.sort(key=lambda stop: -stop[1][EPOCHS_TRAINED])  # stable
    for source, record in stopped:
        if not by_cell[source.cell]:
            by_cell[source.cell].append(record)
            merged.append(record)
            sources.append(source)
    if repeated:
        verb, which = ("was", "it") if len(repeated) == 1 else ("were", "each")
        notes.append(
            f"{pluralize(len(repeated), 'row')} {verb} trained by several people with identical "
            f"results; {which} is counted once."
        )
    table, order = rank_records(merged)
    report = _build_report(
        table,
        [sources[index] for index in order],
        ImageCache(),
        launches(manifests),
        studies.merge_studies(study for manifest in manifests for study in manifest.studies),
        [*planned],
        notes,
        "",
    )
    return report, table


def _build_report(
    table: pd.DataFrame,
    sources: Sequence[Source],
    images: ImageCache,
    launches: Sequence[Launch],
    swept_studies: Sequence[Study],
    cells: Sequence[Cell],
    notes: Sequence[str],
    interrupted: str,
) -> Report:
    """Build a report from a ranked table; `sources` are in the order of its rows."""
    search = None if interrupted else search_history(table, sources)
    row_cells = tuple(source.cell for source in sources)
    places = loading.choose_rows(table, row_cells)
    shown, sources = table.iloc[places], [sources[place] for place in places]
    if interrupted:  # skip what takes seconds
        results = _numbers_only(shown, [source.cell for source in sources])
        analysis = _Analysis(results, [None] * len(results), [None] * len(results))
    else:
        results = list(loading.load_results_of(shown, sources, images))
        sampled = any(samples(launch.search) for launch in launches)
        left_out = sorted(set(range(len(table))) - set(places))
        others = _numbers_only(table.iloc[left_out], [row_cells[place] for place in left_out])
        analysis = _analyze(results, others, swept_studies, sampled=sampled)
    notes = [*notes, *analysis.notes]
    if len(table) > len(shown):
        notes.append(_shortened(len(shown), len(table)))
    missing = _missing(shown, sources, analysis.results)
    notes += [*missing, *(f"Test images are not available ({why})." for why in images.missing)]
    if interrupted:  # what a complete page of this sweep would have
        evidence = {s.cell.id: NUMBERS + (PREDICTIONS + CURVE) * _in_store(s) for s in sources}
    else:
        evidence = {r.cell.id: _evidence(r) for r in analysis.results}
    rows = _rows(shown, places, sources, analysis)
    statistics = analysis.statistics and _with_folders(analysis.statistics, rows)
    best = rows[0] if rows and rows[0].record["status"] == "ok" else None
    tests = None
    if best and not interrupted and best.result.predictions is not None:
        tests = images.get(best.cell.dataset, sources[0].data_root)
    return Report(
        rows=rows,
        row_cells=row_cells,
        without_accuracy=int(table["accuracy"].isna().sum()),
        cells=tuple(cells),
        statistics=statistics,
        best=best,
        tests=tests,
        launches=tuple(launches),
        environments=_environments(sources),
        notes=tuple(notes),
        reproductions=analysis.reproductions,
        interrupted=interrupted,
        evidence=evidence,
        missing=(
            *missing,
            *(
                f"Test images are not available ({why}); pass their folder with --data FOLDER"
                for why in images.missing
            ),
        ),
        search=search,
    )


@dataclass(frozen=True, eq=False)
class _Analysis:
    """The analysis of the rows. results, intervals, and comparisons: one for each row."""

    results: Sequence[Result]
    intervals: Sequence[Interval | None]
    comparisons: Sequence[Comparison | None]
    statistics: Statistics | None = None
    reproductions: tuple[Reproduction, ...] = ()
    notes: tuple[str, ...] = ()


def _numbers_only(table: pd.DataFrame, cells: Sequence[Cell]) -> list[Result]:
    """The results of these rows without predictions and curves, which need the store."""
    return [
        Result(cell, status, None if pd.isna(accuracy) else accuracy)
        for cell, status, accuracy in zip(cells, table["status"], table["accuracy"], strict=True)
    ]


def _analyze(
    results: Sequence[Result],
    others: Sequence[Result],
    swept_studies: Sequence[Study],
    *,
    sampled: bool,
) -> _Analysis:
    """others: the results of the rows that are not shown."""
    first = statistics.first_of_each_cell(r.cell for r in results)
    distinct = [results[index] for index in first]
    row_comparisons = significance.compare_rows(results)
    rows = [row_comparisons[index] for index in first]
    others = [others[index] for index in statistics.first_of_each_cell(r.cell for r in others)]
    stats = conclusions.analyse(distinct, rows, sampled=sampled, others=others)
    compared: Sequence[Comparison | None] = row_comparisons
    if stats.by_seed:
        setting_comparisons = significance.by_setting(stats.comparisons)
        compared = [setting_comparisons.get(r.cell.setting) for r in results]
    notes = []
    if repeated := len(results) - len(distinct):
        verb = "repeats" if repeated == 1 else "repeat"
        notes.append(
            f"{pluralize(repeated, 'row')} {verb} the cell of another row, trained elsewhere with "
            "different results. Conclusions and effects use the better row of each cell."
        )
    return _Analysis(
        results=results,
        intervals=statistics.intervals(results) if repeated else stats.intervals,
        comparisons=compared,
        statistics=stats,
        reproductions=tuple(claim_checks.judge(study, distinct) for study in swept_studies),
        notes=tuple(notes),
    )


def _shortened(shown: int, total: int) -> str:
    return (
        f"{shown:,} of {total:,} rows are compared and shown: those of the best settings and up to "
        f"{loading.MAX_FAILED} that failed. results.csv has all rows."
    )


def _rows(
    table: pd.DataFrame, places: Sequence[int], sources: Sequence[Source], analysis: _Analysis
) -> tuple[Row, ...]:
    default = Path(keys.defaults()["out"]).resolve()
    resolved = {source.store.out: source.store.out.resolve() for source in sources}
    outs = {out: None if path == default else path for out, path in resolved.items()}
    columns = zip(
        places,
        table.to_dict("records"),
        sources,
        analysis.results,
        analysis.intervals,
        analysis.comparisons,
        strict=True,
    )
    return tuple(
        Row(
            at=place,
            record={str(name): value for name, value in record.items()},
            result=result,
            interval=interval,
            comparison=comparison,
            failure=_failure(source, result),
            data_root=source.data_root and source.data_root.absolute(),
            out=outs[source.store.out],
        )
        for place, record, source, result, interval, comparison in columns
    )


def _with_folders(statistics: Statistics, rows: Sequence[Row]) -> Statistics:
    """Complete the commands of the warnings, if all rows have the same folders."""
    if len(folders := {(row.data_root, row.out) for row in rows}) != 1:
        return statistics
    ((data_root, out),) = folders
    warnings = [
        replace(warning, remedy=with_folders(warning.remedy, data_root, out))
        if warning.remedy.startswith("python")
        else warning
        for warning in statistics.warnings
    ]
    return replace(statistics, warnings=tuple(warnings))


def _evidence(result: Result) -> str:
    return NUMBERS + PREDICTIONS * (result.correct is not None) + CURVE * bool(result.history)


def _in_store(source: Source) -> bool:
    return records.in_store(source.cell, {"status": "ok"}, source.store)


def _missing(
    table: pd.DataFrame, sources: Sequence[Source], results: Sequence[Result]
) -> list[str]:
    """A sentence about rows that are in results.csv but whose runs are not in the store."""
    ok = [
        (source, result)
        for source, result, status in zip(sources, results, table["status"], strict=True)
        if status == "ok"
    ]
    lost = [source for source, result in ok if not result.history and not _in_store(source)]
    if not lost:
        return []
    stores = join_words([str(path / "runs") for path in dict.fromkeys(s.store.out for s in lost)])
    one = len(lost) == 1
    sentence = (
        f"Predictions and curves of {len(lost)} of {pluralize(len(ok), 'row')} are not available: "
        f"{'its run is' if one else 'their runs are'} not in {stores}. "
        f"{'Its' if one else 'Their'} numbers come from results.csv."
    )
    return [sentence]


def _failure(source: Source, result: Result) -> Failure | None:
    if result.status == "ok":
        return None
    return source.store.run_folder(source.cell.run_id).failure()


def launches(manifests: Iterable[Manifest]) -> tuple[Launch, ...]:
    """The distinct launches: repeating a command in the same environment adds none."""
    distinct: dict[str, Launch] = {}
    for manifest in manifests:
        for launch in manifest.launches:
            environment = launch["environment"]
            lasting = {k: v for k, v in environment.items() if k != "time"}
            key = json.dumps([launch["command"], launch["git_revision"], lasting], sort_keys=True)
            revision = launch["git_revision"] or ""
            search = str(launch.get("search", ""))
            distinct.setdefault(key, Launch(launch["command"], revision, environment, search))
    return tuple(distinct.values())


def _environments(sources: Sequence[Source]) -> tuple[tuple[Mapping[str, Any], int], ...]:
    """The distinct environments of the runs, each with its number of runs."""
    distinct: dict[str, tuple[Mapping[str, Any], int]] = {}
    runs = {(str(s.store.out), s.cell.run_id): s for s in sources}
    for source in runs.values():
        description = source.store.run_folder(source.cell.run_id).description() or {}
        environment = description.get("environment", {})
        lasting = {k: v for k, v in environment.items() if k not in ("time", "person")}
        key = json.dumps(lasting, sort_keys=True)
        number = distinct[key][1] if key in distinct else 0
        distinct[key] = (lasting, number + 1)
    return tuple(entry for entry in distinct.values() if entry[0])
