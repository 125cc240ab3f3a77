"""statistics.csv: how sure each row of results.csv is, row by row in the same order."""

from __future__ import annotations

import pandas as pd

from lenet_sweep.report.gather import Report

COLUMNS = (
    "cell", "person", "status", "accuracy", "low", "high",
    "setting_rank", "seeds", "mean", "sd", "mean_low", "mean_high",
    "test", "difference", "p", "p_adjusted", "tied", "reason",
)  # fmt: skip


def table(report: Report) -> pd.DataFrame:
    """The statistics of each row, accuracies in percent, differences in points, with COLUMNS.

    low and high: Wilson's interval. setting_rank to mean_high: of its setting over the seeds. test
    to reason: against the best, of the row, or of its setting where settings have several seeds.
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
                "setting_rank": setting.rank,
                "seeds": setting.n,
                "mean": setting.mean,
                "sd": setting.sd,
                "mean_low": setting.interval and setting.interval.low,
                "mean_high": setting.interval and setting.interval.high,
                "test": compared and compared.test,
                "difference": compared and compared.difference,
                "p": compared and compared.p,
                "p_adjusted": compared and compared.adjusted,
                "tied": "" if compared is None or compared.tied is None else str(compared.tied),
                "reason": compared.reason if compared else "",
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
