"""TODO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lenet_sweep.config.keys import is_option
from lenet_sweep.results.columns import COLUMNS, in_option_order

if TYPE_CHECKING:
    import pandas as pd

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lenet_sweep.results.columns import HOLDOUT, ranked_by
from lenet_sweep.results.records import Record

# What stands before a rank: how the row compares with the best, '' for a row that is worse.
MARKS: Mapping[str, str] = {
    "best": "best", "better": "better", "tied": "=", "inconclusive": "?", "worse": "",
    "not compared": "n/a",
}  # fmt: skip


@dataclass(frozen=True)
class SettingRow:
    """A setting as one row of a printed table: the accuracy of its seeds, in percent.

    places: of its rows in the table of cells. n: how many of them have an accuracy, the others
    failed. low, high: the 95 % interval of the mean.
    """

    places: tuple[int, ...]
    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TieMarks:
    """What printed tables say beyond results.csv.

    outcomes: how the rows, by their place in the table, compare with the best, one of those of
    `analysis.statistics`; caption: what that means. settings: the rows to print instead of cells,
    best first.
    """

    outcomes: Mapping[int, str] = field(default_factory=dict)
    caption: str = ""
    settings: tuple[SettingRow, ...] = ()


NO_COMPARISON = TieMarks()


def ranked_table(records: Iterable[Record]) -> pd.DataFrame:
    """The ranked table: best accuracy first, failed cells last, with COLUMNS.

    Then a column for each option of its optimizers, as 'optimizer.momentum'.

    Where every cell held images out, they rank it by their accuracy, the column HOLDOUT. Equal
    accuracies share a rank (1, 2, 2, 4), and failed cells have none; among equals the cell that
    trained for fewer epochs stands first.
    """
    return rank_records(records)[0]


def rank_records(records: Iterable[Record]) -> tuple[pd.DataFrame, list[int]]:
    """The ranked table, and for each of its rows which of the records it is."""
    import pandas as pd  # noqa: PLC0415 - see above

    records = list(records)
    of_each = {row["optimizer"]: row for row in records}.values()
    values = {name: value for row in of_each for name, value in row.items() if is_option(name)}
    options = in_option_order(values)
    frame = pd.DataFrame(records, columns=[*COLUMNS[1:], HOLDOUT, *options])
    numbers = ("accuracy", "train_loss", "seconds_per_epoch", "seconds", "lr", HOLDOUT)
    types = {bool: "boolean", float: "float64", str: "object"}
    frame = frame.astype(
        dict.fromkeys(numbers, "float64") | {name: types[type(values[name])] for name in options}
    )
    if frame[HOLDOUT].isna().all():
        frame = frame.drop(columns=HOLDOUT)
    key = ranked_by(frame)
    frame = frame.sort_values(
        [key, "epochs", "loss", "optimizer", "batch", "lr", "seed", "cell"],
        ascending=[False, True, True, True, True, False, True, True],
        na_position="last",
    )
    order = [int(place) for place in frame.index]
    frame = frame.reset_index(drop=True)
    frame.insert(0, "rank", _ranks(frame[key]))
    return frame, order


def _ranks(accuracy: pd.Series[float]) -> pd.Series[int]:
    """Without an accuracy there is no rank."""
    return accuracy.rank(method="min", ascending=False).astype("Int64")
