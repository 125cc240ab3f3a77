"""The ranked table of the page: texts, sort keys, interval bars, and a command for each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lenet_sweep.analysis.axes import Value
from lenet_sweep.analysis.commands import command, with_folders
from lenet_sweep.analysis.significance import OUTCOMES, Comparison
from lenet_sweep.analysis.statistics import LEVEL, Interval, Setting
from lenet_sweep.config.keys import is_option
from lenet_sweep.core.cells import OPTIONAL_SETTINGS
from lenet_sweep.core.text import format_cost, one_line
from lenet_sweep.report.collect import Report, Row
from lenet_sweep.report.compared_items import compared_items
from lenet_sweep.report.encodings import AccuracyScale
from lenet_sweep.results.columns import (
    EPOCHS_TRAINED,
    HOLDOUT,
    SETTINGS,
    has_optional_default,
    heading_of,
    holds_text,
    is_partial,
    rank_text,
    setting_text,
    settings_of,
    shared_options,
)
from lenet_sweep.results.ranking import MARKS


@dataclass(frozen=True)
class TableCell:
    """A table cell. key: the number to sort by; '' to sort by the text."""

    text: str
    key: str = ""
    number: bool = False


@dataclass(frozen=True)
class Bar:
    """An accuracy (`at`) and its interval as positions on the table's axis, from 0 to 100.

    interval: its bounds in percent as text, or ''.
    """

    low: float
    high: float
    at: float
    interval: str

    @property
    def text(self) -> str:
        """The interval as a phrase."""
        return f"{100 * LEVEL:.0f}% interval {self.interval}%" if self.interval else ""


@dataclass(frozen=True)
class TableRow:
    """A row of the table, or the mean row of a setting.

    outcome: of the comparison with the best, or ''. mark: the symbol before the rank. verdict: the
    outcome with its numbers, as text. cells: those after the accuracy.
    """

    rank: str
    outcome: str
    mark: str
    verdict: str
    accuracy: TableCell
    bar: Bar | None
    cells: tuple[TableCell, ...]
    command: str
    failed: bool


@dataclass(frozen=True)
class RowGroup:
    """Rows that stay together when the table is sorted: a row, and its seeds if it is a setting."""

    line: TableRow
    seeds: tuple[TableRow, ...]


@dataclass(frozen=True)
class PageTable:
    """The ranked table.

    headings: (column name, heading, whether it holds numbers) of the columns after the accuracy.
    ticks: labels and positions on the axis of the bars. shared: what all rows have in common.
    counts: number of groups by outcome; empty without statistics.
    """

    headings: tuple[tuple[str, str, bool], ...]
    groups: tuple[RowGroup, ...]
    ticks: tuple[tuple[str, float], ...]
    by_seed: bool
    shared: str
    counts: Mapping[str, int]


def page_table(report: Report) -> PageTable:
    """The ranked table of a report: settings with their seeds below, or single rows."""
    rows = report.rows
    by_seed = bool(report.statistics and report.statistics.by_seed)
    columns = _columns(rows)
    if by_seed and "seed" in columns:
        columns.remove("seed")
    scale = AccuracyScale(_accuracies_and_bounds(rows))
    shared = _shared_settings(rows)
    if len(columns) + 2 * by_seed > 9:  # too wide for a page
        for name in ("person", "device", "epochs", "batch", "lr"):
            if len({row.record[name] for row in rows}) == 1:
                columns.remove(name)
                shared.append(f"{name} {_table_cell(name, rows[0].record[name]).text}")
    lines = {row.at: _row(row, columns, scale, is_seed=by_seed) for row in rows}
    seed_headings: list[tuple[str, str, bool]] = []
    if by_seed:
        seed_headings = [("sd", "sd (points)", True), ("n", "seeds", True)]
        groups = _by_setting(report, columns, lines, scale)
    else:
        groups = [RowGroup(lines[row.at], ()) for row in rows]
    headings = [(name, heading_of(name), not holds_text(name)) for name in columns]
    outcomes = Counter(group.line.outcome for group in groups)
    return PageTable(
        headings=(*seed_headings, *headings),
        groups=tuple(groups),
        ticks=tuple(scale.ticks()),
        by_seed=by_seed,
        shared=", ".join(shared),
        counts={name: outcomes[name] for name in OUTCOMES} if report.statistics else {},
    )


def command_for(rows: Sequence[Row]) -> str:
    """The command that trains these rows, which differ only in seeds and epochs."""
    cell, seeds = rows[0].cell, [*dict.fromkeys(row.cell.seed for row in rows)]
    changes: dict[str, list[Value]] = {"device": [cell.device], "engine": [cell.engine]}
    if len(seeds) > 1:
        changes["seed"] = [*seeds]
    text = command([row.cell for row in rows], changes)
    folders = {(row.data_root, row.out) for row in rows}
    return with_folders(text, *folders.pop()) if len(folders) == 1 else text


def _accuracies_and_bounds(rows: Sequence[Row]) -> list[float]:
    accuracies = [row.result.accuracy for row in rows if row.result.accuracy is not None]
    bounds = [b for row in rows if row.interval for b in (row.interval.low, row.interval.high)]
    return accuracies + bounds


def _columns(rows: Sequence[Row]) -> list[str]:
    """The columns after the accuracy and its interval."""

    def varies(name: str) -> bool:
        return len({setting_text(row.record[name]) for row in rows} - {""}) > 1

    held_out = [HOLDOUT] if any(HOLDOUT in row.record for row in rows) else []
    early = [EPOCHS_TRAINED] if any(row.result.ended_early for row in rows) else []
    columns = [*held_out, "batch", "lr", "epochs", *early, "person", "device"]
    columns += [name for name in settings_of(rows[0].record if rows else ()) if varies(name)]
    return [*columns, "train_loss", "seconds_per_epoch"]


def _shared_settings(rows: Sequence[Row]) -> list[str]:
    frame = pd.DataFrame([row.record for row in rows])
    shared = []
    for name in SETTINGS:
        values = {row.record[name] for row in rows} - ({None} if is_partial(name) else set())
        if len(values) == 1 and not has_optional_default(frame, name):
            shared.append(f"{name} {setting_text(values.pop())}")
    return [*shared, *shared_options(frame)]


def _table_cell(name: str, value: object) -> TableCell:
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return TableCell("", number=not holds_text(name))
    if holds_text(name) or (is_option(name) and not isinstance(value, (int, float))):
        return TableCell(one_line(setting_text(value)))
    assert isinstance(value, (int, float))
    if name in ("accuracy", HOLDOUT, "seconds_per_epoch"):
        return TableCell(f"{value:.2f}", repr(float(value)), number=True)
    text = (
        format_cost(value)
        if name == "train_loss"
        else f"{value:g}"
        if name in ("lr", EPOCHS_TRAINED) or is_option(name) or name in OPTIONAL_SETTINGS
        else str(value)
    )
    return TableCell(text, repr(float(value)), number=True)


def _accuracy(accuracy: float | None, status: str) -> TableCell:
    """The accuracy, or the status if there is none."""
    if accuracy is None:
        return TableCell(one_line(status), number=True)
    return _table_cell("accuracy", accuracy)


def _row(row: Row, columns: Sequence[str], scale: AccuracyScale, *, is_seed: bool) -> TableRow:
    cells = [_table_cell(name, row.record[name]) for name in columns]
    if is_seed:  # in the columns of the setting's sd and number of seeds
        cells = [TableCell(""), TableCell(f"seed {row.cell.seed}"), *cells]
    accuracy = row.result.accuracy
    return TableRow(
        rank=rank_text(row.record["rank"], accuracy),
        outcome=row.outcome,
        mark=MARKS.get(row.outcome, ""),
        verdict=describe_comparison(row.comparison),
        accuracy=_accuracy(accuracy, row.record["status"]),
        bar=None if accuracy is None else _bar(accuracy, row.interval, scale),
        cells=tuple(cells),
        command=command_for([row]),
        failed=accuracy is None,
    )


def _bar(accuracy: float, interval: Interval | None, scale: AccuracyScale) -> Bar:
    at = scale.at(accuracy)
    if interval is None:
        return Bar(at, at, at, "")
    text = f"{interval.low:.2f} to {interval.high:.2f}"
    return Bar(scale.at(interval.low), scale.at(interval.high), at, text)


def describe_comparison(compared: Comparison | None) -> str:
    """A comparison with the best as text, such as 'tied: 0.05 points below the best (...)'."""
    if compared is None:
        return ""
    if compared.outcome == "best":
        return "best"
    if compared.difference is None:
        return f"{compared.outcome}: {compared.reason}"
    side = "below" if compared.difference >= 0 else "above"
    result = f"{compared.outcome}: {abs(compared.difference):.2f} points {side} the best"
    test = _TESTS.get(compared.test, compared.test)
    p = f"{test}, adjusted p = {compared.adjusted:.2g}" if compared.p is not None else ""
    return f"{result} ({'; '.join(filter(None, [p, compared.reason]))})"


_TESTS = {"McNemar": "McNemar's test", "paired t": "paired t test", "Welch": "Welch's t test"}


def _by_setting(
    report: Report, columns: Sequence[str], lines: dict[int, TableRow], scale: AccuracyScale
) -> list[RowGroup]:
    assert report.statistics is not None
    return [
        RowGroup(
            _mean_row(setting, item.rows, columns, scale),
            tuple(lines[row.at] for row in item.rows),
        )
        for setting, item in zip(report.statistics.settings, compared_items(report), strict=True)
    ]


def _mean_row(
    setting: Setting, rows: Sequence[Row], columns: Sequence[str], scale: AccuracyScale
) -> TableRow:
    def mean(name: str) -> TableCell:
        values = [row.record[name] for row in rows]
        if is_option(name):
            return _table_cell(name, values[0])
        if holds_text(name) or name in ("batch", "lr", "epochs"):
            return _table_cell(name, values[0]) if len(set(values)) == 1 else TableCell("several")
        finished = [row.record[name] for row in rows if row.record["status"] == "ok"]
        known = [v for v in finished or values if v is not None and not pd.isna(v)]
        return _table_cell(name, sum(known) / len(known)) if known else TableCell("", number=True)

    sd = TableCell("", number=True) if setting.sd is None else TableCell(
        f"{setting.sd:.2f}", repr(setting.sd), number=True)  # fmt: skip
    planned = len({row.cell.seed for row in rows})  # several people may have trained a seed
    seeds = str(setting.n) if setting.n == planned else f"{setting.n} of {planned}"
    return TableRow(
        rank=rank_text(setting.rank, setting.mean),
        outcome=rows[0].outcome,
        mark=MARKS.get(rows[0].outcome, ""),
        verdict=describe_comparison(rows[0].comparison),
        accuracy=_accuracy(setting.mean, rows[0].record["status"]),
        bar=None if setting.mean is None else _bar(setting.mean, setting.interval, scale),
        cells=(sd, TableCell(seeds, str(setting.n), number=True), *map(mean, columns)),
        command=command_for(rows),
        failed=setting.mean is None,
    )
