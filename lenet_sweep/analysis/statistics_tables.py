"""The statistics of a sweep as text tables: one row per cell, or one row per setting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lenet_sweep.analysis.significance import Comparison, by_setting
from lenet_sweep.analysis.statistics import (
    Interval,
    Result,
    Setting,
    epochs_text,
    scoring,
)
from lenet_sweep.config.registry import OPTION_GROUPS
from lenet_sweep.core.cells import OPTIONAL_SETTINGS, Cell
from lenet_sweep.core.text import format_option
from lenet_sweep.results.columns import INTERVAL, in_option_order, rank_text, setting_text
from lenet_sweep.results.records import setting_value
from lenet_sweep.results.text_table import TextTable

if TYPE_CHECKING:
    import pandas as pd


def rows_table(
    results: Sequence[Result],
    intervals: Iterable[Interval | None],
    comparisons: Iterable[Comparison | None],
) -> TextTable:
    """A row for each result, best first.

    intervals: Wilson's. comparisons: with the best row. Both in the order of the results.
    """
    score = scoring(results)
    scores = [score(result) for result in results]
    ranks: dict[float, int] = {}  # by score
    for position, own in enumerate(sorted(scores, reverse=True), start=1):
        ranks.setdefault(own, position)
    rows = [
        _line(rank_text(ranks[own], result.accuracy), [result], compared)
        | {
            "accuracy": _percent(result.accuracy) or result.status,
            INTERVAL: _bounds(interval),
        }
        for own, result, interval, compared in zip(
            scores, results, intervals, comparisons, strict=True
        )
    ]
    methods = (
        "Intervals: Wilson. Comparison with the best: exact McNemar test on the same test images."
    )
    return TextTable("Statistics of each row", _caption(methods), _arranged(rows))


def settings_table(settings: Iterable[Setting], comparisons: Iterable[Comparison]) -> TextTable:
    """A row for each setting, best first.

    comparisons: of the settings, in any order.
    """
    compared = by_setting(comparisons)
    rows = [
        _line(rank_text(s.rank, s.mean), s.results, compared.get(s.cell.setting))
        | {
            "seeds": str(s.n),
            "mean": _percent(s.mean) or ", ".join(dict.fromkeys(r.status for r in s.results)),
            "sd": _percent(s.sd),
            INTERVAL: _bounds(s.interval),
        }
        for s in settings
    ]
    methods = (
        "Intervals of the mean: Student's t; none if all seeds have the same accuracy. Comparison "
        "with the best: t tests over the seeds; a tie also requires that the test images show no "
        "significant difference."
    )
    return TextTable("Statistics of each setting", _caption(methods), _arranged(rows))


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
        **{name: setting_text(setting_value(cell, name)) for name in OPTIONAL_SETTINGS},
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
    import pandas as pd  # noqa: PLC0415 - slow to import, and not needed to start a sweep

    if not rows:
        return pd.DataFrame()
    frame = pd.DataFrame(rows).fillna("")  # options that a choice does not have
    options = in_option_order(frame.columns)
    hidden = [
        name
        for name in ("loss", "optimizer", *options, "activation", *OPTIONAL_SETTINGS, "dataset")
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
