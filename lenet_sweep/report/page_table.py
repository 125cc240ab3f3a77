"""The ranked table as the page shows it: texts, sorting keys, bars, and the command of each row."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lenet_sweep.analysis.axes import Value, command
from lenet_sweep.analysis.statistics import LEVEL, OUTCOMES, Comparison, Interval, Setting
from lenet_sweep.config.registry import OPTION_DEFAULTS
from lenet_sweep.core.text import format_cost, one_line
from lenet_sweep.report.collect import Report, Row
from lenet_sweep.report.compared_items import compared_items
from lenet_sweep.report.encodings import AccuracyScale
from lenet_sweep.results.columns import (
    HEADINGS,
    HOLDOUT,
    OPTION_TEXTS,
    SETTINGS,
    rank_text,
    setting_text,
    settings_of,
    shared_options,
)
from lenet_sweep.results.ranking import MARKS

TEXTS = ("person", "device", "loss", "optimizer", "activation", "dataset", "engine", "status",
         *OPTION_TEXTS)  # fmt: skip


@dataclass(frozen=True)
class TableCell:
    """A table cell. key: what it is sorted by, where that is not the text."""

    text: str
    key: str = ""
    number: bool = False


@dataclass(frozen=True)
class Bar:
    """An accuracy and its interval as positions on the table's axis, 0 to 100."""

    low: float
    high: float
    at: float
    text: str


@dataclass(frozen=True)
class TableRow:
    """A row of the table, or a setting that stands for its seeds."""

    rank: str
    outcome: str  # of the comparison with the best, '' without one
    mark: str  # what stands before the rank
    verdict: str  # the outcome and the numbers behind it
    accuracy: TableCell
    bar: Bar | None
    entries: tuple[TableCell, ...]
    command: str
    failed: bool


@dataclass(frozen=True)
class RowGroup:
    """What stays together when the table is sorted: a line, with its seeds below it."""

    line: TableRow
    seeds: tuple[TableRow, ...]


@dataclass(frozen=True)
class PageTable:
    """headings: (column name, heading, whether numbers) of the entries behind the accuracy."""

    headings: tuple[tuple[str, str, bool], ...]
    groups: tuple[RowGroup, ...]
    ticks: tuple[tuple[str, float], ...]
    by_seed: bool
    same: str  # what all rows share
    counts: Mapping[str, int]  # of the groups' outcomes; empty without statistics


def page_table(report: Report) -> PageTable:
    """The rows of a report; where settings have several seeds, those with their seeds below."""
    rows = report.rows
    by_seed = bool(report.statistics and report.statistics.by_seed)
    columns = _columns(rows)
    if by_seed:
        columns.remove("seed") if "seed" in columns else None
    bars = AccuracyScale(_shown(rows))
    shared = _same(rows)
    if len(columns) + 2 * by_seed > 9:  # then the table is wider than a page
        for name in ("person", "device"):
            if len({row.record[name] for row in rows}) == 1:
                columns.remove(name)
                shared.append(f"{name} {rows[0].record[name]}")
    lines = {row.at: _line(row, columns, bars, seed=by_seed) for row in rows}
    extra: list[tuple[str, str, bool]] = []
    if by_seed:
        assert report.statistics is not None
        extra = [("sd", "sd (points)", True), ("n", "seeds", True)]
        groups = _by_setting(report, columns, lines, bars)
    else:
        groups = [RowGroup(lines[row.at], ()) for row in rows]
    headings = [*extra, *((name, HEADINGS.get(name, name), name not in TEXTS) for name in columns)]
    outcomes = Counter(group.line.outcome for group in groups)
    return PageTable(
        headings=tuple(headings),
        groups=tuple(groups),
        ticks=tuple(bars.ticks()),
        by_seed=by_seed,
        same=", ".join(shared),
        counts={name: outcomes[name] for name in OUTCOMES} if report.statistics else {},
    )


def command_for(rows: Sequence[Row]) -> str:
    """What trains these rows, which differ in their seeds alone, again as they were."""
    cell, seeds = rows[0].cell, [row.cell.seed for row in rows]
    changes: dict[str, list[Value]] = {"device": [cell.device], "engine": [cell.engine]}
    if len(seeds) > 1:
        changes["seed"] = [*seeds]
    typed = command([row.cell for row in rows], changes)
    if cell.dataset.name == "folder" and rows[0].data_root:
        root = shlex.quote(f"dataset.root={rows[0].data_root}")
        typed = typed.replace("dataset.root=FOLDER", root)
    return typed


def _shown(rows: Sequence[Row]) -> list[float]:
    known = [row.result.accuracy for row in rows if row.result.accuracy is not None]
    ends = [end for row in rows if row.interval for end in (row.interval.low, row.interval.high)]
    return known + ends


def _columns(rows: Sequence[Row]) -> list[str]:
    def varies(name: str) -> bool:
        return len({setting_text(row.record[name]) for row in rows} - {""}) > 1

    held_out = [HOLDOUT] if any(HOLDOUT in row.record for row in rows) else []
    columns = [*held_out, "batch", "lr", "epochs", "person", "device"]
    columns += [name for name in settings_of(rows[0].record if rows else ()) if varies(name)]
    return [*columns, "train_loss", "seconds_per_epoch"]


def _same(rows: Sequence[Row]) -> list[str]:
    constant = [n for n in SETTINGS if len({row.record[n] for row in rows}) == 1]
    options = shared_options(pd.DataFrame([row.record for row in rows]))
    return [*(f"{name} {rows[0].record[name]}" for name in constant), *options]


def _entry(name: str, value: object) -> TableCell:
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return TableCell("", number=name not in TEXTS)
    if name in OPTION_TEXTS:
        return TableCell(setting_text(value))
    if name in TEXTS:
        return TableCell(one_line(str(value)))
    assert isinstance(value, (int, float))
    if name in ("accuracy", HOLDOUT, "seconds_per_epoch"):
        return TableCell(f"{value:.2f}", repr(float(value)), number=True)
    text = (
        format_cost(value)
        if name == "train_loss"
        else f"{value:g}"
        if name == "lr" or name in OPTION_DEFAULTS
        else str(value)
    )
    return TableCell(text, repr(float(value)), number=True)


def _accuracy(accuracy: float | None, status: str) -> TableCell:
    """The number, or in its place why there is none."""
    if accuracy is None:
        return TableCell(one_line(status), number=True)
    return _entry("accuracy", accuracy)


def _line(row: Row, columns: Sequence[str], bars: AccuracyScale, *, seed: bool) -> TableRow:
    entries = [_entry(name, row.record[name]) for name in columns]
    if seed:  # in place of the setting's sd and number of seeds
        entries = [TableCell(""), TableCell(f"seed {row.cell.seed}"), *entries]
    accuracy = row.result.accuracy
    return TableRow(
        rank=rank_text(row.record["rank"], accuracy),
        outcome=row.outcome,
        mark=MARKS.get(row.outcome, ""),
        verdict=describe_comparison(row.comparison),
        accuracy=_accuracy(accuracy, row.record["status"]),
        bar=None if accuracy is None else _bar(accuracy, row.interval, bars),
        entries=tuple(entries),
        command=command_for([row]),
        failed=accuracy is None,
    )


def _bar(accuracy: float, interval: Interval | None, bars: AccuracyScale) -> Bar:
    at = bars.at(accuracy)
    if interval is None:
        return Bar(at, at, at, "")
    text = f"{100 * LEVEL:.0f} % interval {interval.low:.2f} to {interval.high:.2f} %"
    return Bar(bars.at(interval.low), bars.at(interval.high), at, text)


def describe_comparison(compared: Comparison | None) -> str:
    """How a row or setting compares with the best: 'tied: 0.05 points below the best (...)'."""
    if compared is None:
        return ""
    if compared.outcome == "best":
        return "best"
    if compared.difference is None:
        return f"{compared.outcome}: {compared.reason}"
    side = "below" if compared.difference >= 0 else "above"
    apart = f"{compared.outcome}: {abs(compared.difference):.2f} points {side} the best"
    p = f"{compared.test}, adjusted p {compared.adjusted:.2g}" if compared.p is not None else ""
    return f"{apart} ({'; '.join(filter(None, [p, compared.reason]))})"


def _by_setting(
    report: Report, columns: Sequence[str], lines: dict[int, TableRow], bars: AccuracyScale
) -> list[RowGroup]:
    assert report.statistics is not None
    return [
        RowGroup(
            _mean_line(setting, unit.rows, columns, bars),
            tuple(lines[row.at] for row in unit.rows),
        )
        for setting, unit in zip(report.statistics.settings, compared_items(report), strict=True)
    ]


def _mean_line(
    setting: Setting, rows: Sequence[Row], columns: Sequence[str], bars: AccuracyScale
) -> TableRow:
    def mean(name: str) -> TableCell:
        values = [row.record[name] for row in rows]
        if name in OPTION_DEFAULTS:
            return _entry(name, values[0])
        if name in TEXTS or name in ("batch", "lr", "epochs"):
            return _entry(name, values[0]) if len(set(values)) == 1 else TableCell("several")
        known = [v for v in values if v is not None and not pd.isna(v)]
        return _entry(name, sum(known) / len(known)) if known else TableCell("", number=True)

    sd = TableCell("", number=True) if setting.sd is None else TableCell(
        f"{setting.sd:.2f}", repr(setting.sd), number=True)  # fmt: skip
    whole = str(setting.n) if setting.n == len(rows) else f"{setting.n} of {len(rows)}"
    return TableRow(
        rank=rank_text(setting.rank, setting.mean),
        outcome=rows[0].outcome,
        mark=MARKS.get(rows[0].outcome, ""),
        verdict=describe_comparison(rows[0].comparison),
        accuracy=_accuracy(setting.mean, rows[0].record["status"]),
        bar=None if setting.mean is None else _bar(setting.mean, setting.interval, bars),
        entries=(sd, TableCell(whole, str(setting.n), number=True), *map(mean, columns)),
        command=command_for(rows),
        failed=setting.mean is None,
    )
