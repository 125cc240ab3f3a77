"""statistics.csv (the statistics of each row of results.csv), and its summary for readers."""

from __future__ import annotations

import pandas as pd

from lenet_sweep.analysis.statistics_tables import rows_table, settings_table
from lenet_sweep.report.collect import Report
from lenet_sweep.results.text_table import TextTable

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


def summary_table(report: Report) -> TextTable:
    """The statistics for readers: one row per setting, or per cell without several seeds."""
    statistics = report.statistics
    assert statistics is not None
    if statistics.by_seed:
        return settings_table(statistics.settings, statistics.comparisons)
    rows = report.rows
    return rows_table(
        [row.result for row in rows],
        [row.interval for row in rows],
        [row.comparison for row in rows],
    )
