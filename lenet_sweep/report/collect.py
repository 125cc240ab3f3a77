"""From sweeps' folders to one `Report`: rows, statistics, failures, and how all was made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lenet_sweep.analysis import claim_checks, conclusions, loading, statistics
from lenet_sweep.analysis.conclusions import Statistics
from lenet_sweep.analysis.loading import MAX_ROWS, Source
from lenet_sweep.analysis.reproduction import Reproduction
from lenet_sweep.analysis.statistics import Comparison, Interval, Result
from lenet_sweep.config import studies
from lenet_sweep.config.studies import Study
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import Failure
from lenet_sweep.core.text import join_words, pluralize
from lenet_sweep.data.test_images import ImageCache, LabeledImages
from lenet_sweep.results import records
from lenet_sweep.results.manifest import Manifest, read_manifest
from lenet_sweep.results.ranking import rank_records
from lenet_sweep.results.records import Record
from lenet_sweep.results.sweep import Sweep, read_records

# What is available of a row: its numbers, its predictions, its cost and accuracy in each epoch.
NUMBERS, PREDICTIONS, CURVE = "n", "p", "c"
SAME = ("status", "accuracy", "train_loss")  # of a cell that two trained: equal rows are one


@dataclass(frozen=True)
class Launch:
    """A command that was typed for this sweep, and with what it ran."""

    command: str
    git_revision: str
    environment: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Row:
    """A row of the table with what is known of it; `at` is its place, from 0.

    comparison: with the best, of the row or of its setting. failure: None where it is ok.
    """

    at: int
    record: Record  # of the table, by column
    result: Result
    interval: Interval | None
    comparison: Comparison | None
    failure: Failure | None
    data_root: Path | None  # where its images lie; None: in the user's cache

    @property
    def cell(self) -> Cell:
        return self.result.cell

    @property
    def outcome(self) -> str:
        """Of its comparison with the best; '' without statistics."""
        return self.comparison.outcome if self.comparison else ""


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that the page shows.

    statistics: None where the sweep was cut, and nobody waits for them. rows: of the table, at most
    MOST of `total`. cells: of the sweeps, those without an outcome yet included.
    best: the first row, if it is ok; tests: its test images, if they are here.
    environments: of the runs, each with how many runs it made. notes: what a reader must know.
    reproductions: of the studies that the cells are of. evidence: what is available of each row,
    by cell id: NUMBERS, PREDICTIONS, CURVE or several of them. missing: why that is not all.
    """

    folders: tuple[Path, ...]
    rows: tuple[Row, ...]
    total: int
    cells: tuple[Cell, ...]
    statistics: Statistics | None
    best: Row | None
    tests: LabeledImages | None
    launches: tuple[Launch, ...]
    environments: tuple[tuple[Mapping[str, Any], int], ...]
    notes: tuple[str, ...]
    reproductions: tuple[Reproduction, ...]
    interrupted: str  # the signal's name, or ""
    evidence: Mapping[str, str]
    missing: tuple[str, ...]

    @property
    def planned(self) -> int:
        """The number of cells."""
        return len(self.cells)


def collect_sweep(sweep: Sweep, interrupted: str = "") -> Report:
    """The report of one sweep; `interrupted`: the signal that ended it early, or ""."""
    return _gather(
        sweep.table,
        loading.sources(sweep, sweep.table),
        sweep.test_images,
        [sweep.folder],
        launches([sweep.manifest]),
        sweep.manifest.studies,
        sweep.cells,
        [],
        interrupted,
    )


def collect_merged(folders: Sequence[Path], data_root: Path | None) -> tuple[Report, pd.DataFrame]:
    """The report of one or several sweeps' folders, and the table of all their rows.

    data_root: where the images lie; None: where each sweep had them. A cell that several trained
    is one row if their numbers are equal, else a row each. Raises FileNotFoundError and StoreError
    as `read_manifest` does.
    """
    records: list[Record] = []
    sources: list[Source] = []
    planned: dict[Cell, None] = {}
    notes: list[str] = []
    seen: dict[Cell, list[Record]] = {}
    equal = 0
    manifests = [read_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        planned |= dict.fromkeys(manifest.cells)
        # A folder of another machine may not exist here; the user's cache may have the same images.
        theirs = manifest.data_root if manifest.data_root and manifest.data_root.is_dir() else None
        root = data_root or theirs
        for cell, record in read_records(folder, manifest).items():
            others = seen.setdefault(cell, [])
            if any(all(other[name] == record[name] for name in SAME) for other in others):
                equal += any(other["person"] != record["person"] for other in others)
                continue
            others.append(record)
            records.append(record)
            sources.append(Source(cell, manifest.store, root))
    if equal:
        notes.append(f"{equal} rows of several people had equal numbers: each is counted once.")
    table, order = rank_records(records)
    ordered = [sources[at] for at in order]
    typed = launches(manifests)
    known = studies.merge_studies(study for manifest in manifests for study in manifest.studies)
    gathered = _gather(table, ordered, ImageCache(), folders, typed, known, [*planned], notes, "")
    return gathered, table


def _gather(
    table: pd.DataFrame,
    sources: Sequence[Source],
    sets: ImageCache,
    folders: Sequence[Path],
    launches: Sequence[Launch],
    asked: Sequence[Study],
    cells: Sequence[Cell],
    notes: Sequence[str],
    interrupted: str,
) -> Report:
    shown, sources = table.head(MAX_ROWS), sources[:MAX_ROWS]
    found: Statistics | None = None
    compared: Sequence[Comparison | None] = [None] * len(shown)
    intervals: Sequence[Interval | None] = compared  # type: ignore[assignment] # all None
    notes = list(notes)
    reproductions: tuple[Reproduction, ...] = ()
    if interrupted:  # without what takes seconds to compute
        outcomes = tuple(
            Result(s.cell, status, None if pd.isna(accuracy) else accuracy)
            for s, status, accuracy in zip(sources, shown["status"], shown["accuracy"], strict=True)
        )
    else:
        outcomes = loading.load_results_of(shown, sources, sets)
        first: dict[Cell, int] = {}
        for place, r in enumerate(outcomes):
            first.setdefault(r.cell, place)
        distinct = [outcomes[place] for place in first.values()]
        twice = len(outcomes) - len(distinct)
        of_rows = statistics.compare_rows(outcomes)
        found = conclusions.analyse(distinct, [of_rows[place] for place in first.values()])
        intervals = statistics.intervals(outcomes) if twice else found.intervals
        compared = _by_setting(outcomes, found) if found.by_seed else of_rows
        reproductions = tuple(claim_checks.judge(study, distinct) for study in asked)
        if twice:
            notes.append(
                f"{twice} rows are of cells that another row has too, trained elsewhere to other "
                "numbers. Conclusions and effects count the better row of each."
            )
    if len(table) > len(shown):
        notes.append(f"Of {len(table):,} rows the best {len(shown):,} are compared and shown.")
    missing = _missing(shown, sources, outcomes)
    notes += [*missing, *(f"Test images are not available ({why})" for why in sets.missing)]
    if interrupted:  # what the whole page would have
        evidence = {s.cell.id: NUMBERS + (PREDICTIONS + CURVE) * _is_there(s) for s in sources}
    else:
        evidence = {r.cell.id: _evidence(r) for r in outcomes}
    rows = [
        Row(
            at,
            {str(k): v for k, v in values.items()},
            result,
            interval,
            comparison,
            _failure(source, result),
            source.data_root and source.data_root.absolute(),
        )
        for at, (values, result, interval, comparison, source) in enumerate(
            zip(_records(shown), outcomes, intervals, compared, sources, strict=True)
        )
    ]
    best = rows[0] if rows and rows[0].record["status"] == "ok" else None
    tests = None
    if best and not interrupted and best.result.predictions is not None:
        tests = sets.get(best.cell.dataset, sources[0].data_root)
    return Report(
        folders=tuple(folders),
        rows=tuple(rows),
        total=len(table),
        cells=tuple(cells),
        statistics=found,
        best=best,
        tests=tests,
        launches=tuple(launches),
        environments=_environments(sources),
        notes=tuple(notes),
        reproductions=reproductions,
        interrupted=interrupted,
        evidence=evidence,
        missing=(
            *missing,
            *(
                f"Test images are not available ({why}); --data FOLDER says where"
                for why in sets.missing
            ),
        ),
    )


def _evidence(result: Result) -> str:
    return NUMBERS + PREDICTIONS * (result.correct is not None) + CURVE * bool(result.history)


def _is_there(source: Source) -> bool:
    return records.in_store(source.cell, {"status": "ok"}, source.store)


def _missing(
    table: pd.DataFrame, sources: Sequence[Source], outcomes: Sequence[Result]
) -> list[str]:
    """A sentence on the rows whose runs are not in the store: only results.csv has them."""
    ok = [
        (source, result)
        for source, result, status in zip(sources, outcomes, table["status"], strict=True)
        if status == "ok"
    ]
    lost = [source for source, result in ok if not result.history and not _is_there(source)]
    if not lost:
        return []
    stores = join_words([str(path / "runs") for path in dict.fromkeys(s.store.out for s in lost)])
    one = len(lost) == 1
    sentence = (
        f"Predictions and curves of {len(lost)} of {pluralize(len(ok), 'row')} are not available: "
        f"{'its run is' if one else 'their runs are'} not in {stores}. "
        f"{'Its' if one else 'Their'} numbers are those of results.csv."
    )
    return [sentence]


def _records(table: pd.DataFrame) -> list[Record]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _by_setting(outcomes: Sequence[Result], found: Statistics) -> Sequence[Comparison | None]:
    by_setting = {c.results[0].cell.setting: c for c in found.comparisons}
    return [by_setting.get(r.cell.setting) for r in outcomes]


def _failure(source: Source, result: Result) -> Failure | None:
    if result.status == "ok":
        return None
    return source.store.run(source.cell.run_id).failure()


def launches(manifests: Iterable[Manifest]) -> tuple[Launch, ...]:
    """The distinct ones: a finished sweep that is typed again adds nothing to tell."""
    found: dict[str, Launch] = {}
    for manifest in manifests:
        for launch in manifest.launches:
            environment = launch["environment"]
            lasting = {k: v for k, v in environment.items() if k != "time"}
            key = json.dumps([launch["command"], launch["git_revision"], lasting], sort_keys=True)
            revision = launch["git_revision"] or ""
            found.setdefault(key, Launch(launch["command"], revision, environment))
    return tuple(found.values())


def _environments(sources: Sequence[Source]) -> tuple[tuple[Mapping[str, Any], int], ...]:
    found: dict[str, tuple[Mapping[str, Any], int]] = {}
    runs = {(str(s.store.out), s.cell.run_id): s for s in sources}
    for source in runs.values():
        described = source.store.run(source.cell.run_id).description() or {}
        environment = described.get("environment", {})
        lasting = {k: v for k, v in environment.items() if k not in ("time", "person")}
        key = json.dumps(lasting, sort_keys=True)
        number = found[key][1] if key in found else 0
        found[key] = (lasting, number + 1)
    return tuple(each for each in found.values() if each[0])
