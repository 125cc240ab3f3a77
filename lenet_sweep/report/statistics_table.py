"""statistics.csv (the statistics of each row of results.csv), and its summary as a text table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lenet_sweep.analysis.significance import Comparison, by_setting
from lenet_sweep.analysis.statistics import Interval, Result, epochs_text
from lenet_sweep.config.registry import OPTION_GROUPS
from lenet_sweep.core.cells import ADDED_SETTINGS, Cell
from lenet_sweep.core.text import format_option
from lenet_sweep.report.collect import Report
from lenet_sweep.report.text_tables import TextTable
from lenet_sweep.results.columns import in_option_order, rank_text, setting_text
from lenet_sweep.results.records import setting_value

COLUMNS = (
    "cell", "person", "status", "accuracy", "low", "high",
    "setting_rank", "seeds", "mean", "sd", "mean_low", "mean_high",
    "test", "difference", "p", "p_adjusted", "outcome", "reason",
)  # fmt: skip


def statistics_table(report: Report) -> pd.DataFrame:
    """The statistics of each row, with COLUMNS; accuracies in percent, differences in points.

    low, high: Wilson's interval. setting_rank to mean_high: of the row's setting over its seeds.
    test to reason: the comparison with the best, of the row, or of its setting if settings are
    compared.
    """
    assert report.statistics is not None
    settings = {s.cell.setting: s for s in report.statistics.settings}
    rows = []
    for row in report.rows:
        setting = settings[row.cell.setting]
        compared = row.comparison
        rows.append(
            {
                "cell": row.cell.id,
                "person": row.record["person"],
                "status": row.record["status"],
                "accuracy": row.result.accuracy,
                "low": row.interval and row.interval.low,
                "high": row.interval and row.interval.high,
                "setting_rank": None if setting.mean is None else setting.rank,
                "seeds": setting.n,
                "mean": setting.mean,
                "sd": setting.sd,
                "mean_low": setting.interval and setting.interval.low,
                "mean_high": setting.interval and setting.interval.high,
                "test": compared and compared.test,
                "difference": compared and compared.difference,
                "p": compared and compared.p,
                "p_adjusted": compared and compared.adjusted,
                "outcome": row.outcome,
                "reason": compared.reason if compared else "",
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"setting_rank": "Int64"})


def text_table(report: Report) -> TextTable:
    """The statistics as a text table: one row per setting, or per cell without several seeds.

    Returns title, caption, and rows as text, for `text_tables.write_texts`.
    """
    statistics = report.statistics
    assert statistics is not None
    if not statistics.by_seed:
        rows = [
            _line(rank_text(row.record["rank"], row.result.accuracy), [row.result], row.comparison)
            | {
                "accuracy": _percent(row.result.accuracy),
                "95 % interval": _bounds(row.interval),
            }
            for row in report.rows
        ]
        methods = (
            "Intervals: Wilson. Comparison with the best: exact McNemar test on the same test "
            "images."
        )
        return "Statistics of each row", _caption(methods), _arranged(rows)
    compared = by_setting(statistics.comparisons)
    rows = [
        _line(rank_text(s.rank, s.mean), s.results, compared.get(s.cell.setting))
        | {
            "seeds": str(s.n),
            "mean": _percent(s.mean),
            "sd": _percent(s.sd),
            "95 % interval": _bounds(s.interval),
        }
        for s in statistics.settings
    ]
    methods = (
        "Intervals of the mean: Student's t; none if all seeds have the same accuracy. Comparison "
        "with the best: t tests over the seeds; a tie also requires that the test images show no "
        "significant difference."
    )
    return "Statistics of each setting", _caption(methods), _arranged(rows)


def _caption(methods: str) -> str:
    return (
        f"{methods} Accuracies in percent; diff.: points below the best; p: adjusted by Holm's "
        "method for the number of comparisons."
    )


def _line(rank: str, results: Sequence[Result], compared: Comparison | None) -> dict[str, str]:
    cell = results[0].cell
    adjusted = compared.adjusted if compared else None
    difference = compared.difference if compared else None
    return {
        "rank": rank,
        "loss": cell.loss.name,
        "optimizer": cell.optimizer.name,
        **_options(cell),
        "batch": str(cell.batch),
        "lr": f"{cell.lr:g}",
        "epochs": epochs_text(results),
        "activation": setting_text(setting_value(cell, "activation")),
        **{name: setting_text(setting_value(cell, name)) for name in ADDED_SETTINGS},
        "dataset": cell.data,
        "diff.": "" if difference is None else f"{difference:.2f}",
        "p": "" if adjusted is None else f"{adjusted:.2g}",
        "outcome": compared.outcome if compared else "",
    }


def _options(cell: Cell) -> dict[str, str]:
    return {
        f"{group}.{name}": format_option(value)
        for group in OPTION_GROUPS
        for name, value in getattr(cell, group).options
    }


def _arranged(rows: list[dict[str, str]]) -> pd.DataFrame:
    """The rows without constant hyperparameters, and with the comparison in the last columns."""
    if not rows:
        return pd.DataFrame()
    frame = pd.DataFrame(rows).fillna("")  # options that a choice does not have
    options = in_option_order(frame.columns)
    hidden = [
        name
        for name in ("loss", "optimizer", *options, "activation", *ADDED_SETTINGS, "dataset")
        if len({*frame[name]} - ({""} if name in options else set())) <= 1
    ]
    first = ["rank", "loss", "optimizer", *options]
    last = ["diff.", "p", "outcome"]
    between = [name for name in frame.columns if name not in (*first, *last)]
    return frame[[name for name in (*first, *between, *last) if name not in hidden]]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:.2f} to {interval.high:.2f}"
