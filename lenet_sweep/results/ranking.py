"""Rank the records of a sweep, and the marks that printed tables put before ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lenet_sweep.config.keys import is_option
from lenet_sweep.config.registry import OPTION_GROUPS
from lenet_sweep.core.cells import OPTIONAL_COLUMNS, OPTIONAL_SETTINGS
from lenet_sweep.results.columns import (
    ACCURACY_AT,
    COLUMNS,
    EPOCHS_TRAINED,
    HOLDOUT,
    STOPPED,
    in_option_order,
    ranked_by,
)
from lenet_sweep.results.records import Record

if TYPE_CHECKING:
    import pandas as pd

# The mark before a rank for each outcome of the comparison with the best.
MARKS: Mapping[str, str] = {
    "best": "best", "better": "better", "tied": "=", "inconclusive": "?", "worse": "",
    "not compared": "n/a",
}  # fmt: skip


@dataclass(frozen=True)
class SettingRow:
    """A setting as one row of a printed table.

    places: the indices of its rows in the table of cells. n: the number of seeds with an accuracy;
    the others failed. mean (percent) and sd (points): over these seeds. low, high: the 95%
    confidence interval of the mean.
    """

    places: tuple[int, ...]
    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TieMarks:
    """What printed tables add to results.csv.

    outcomes: the outcome of the comparison with the best (one of
    `analysis.significance.OUTCOMES`), by the index of the row. caption: explains them. settings:
    rows to print instead of cells, best first; empty if no setting has several seeds.
    """

    outcomes: Mapping[int, str] = field(default_factory=dict)
    caption: str = ""
    settings: tuple[SettingRow, ...] = ()


NO_COMPARISON = TieMarks()


def ranked_table(records: Iterable[Record]) -> pd.DataFrame:
    """The ranked table: best accuracy first, failed cells last.

    It has COLUMNS, HOLDOUT if images were held out, EPOCHS_TRAINED if a cell has patience or was
    stopped, ACCURACY_AT if a search stopped a cell, OPTIONAL_SETTINGS, and a column for each option
    of its choices, such as 'optimizer.momentum'. If all finished cells have an accuracy on held-out
    images, that decides the rank. Equal accuracies share a rank (1, 2, 2, 4), with fewer epochs
    first. Failed and stopped cells have no rank.
    """
    return rank_records(records)[0]


def rank_records(records: Iterable[Record]) -> tuple[pd.DataFrame, list[int]]:
    """The ranked table, and the index of the record in each of its rows."""
    import pandas as pd  # noqa: PLC0415 - slow to import

    # Tables of earlier versions lack columns of settings; their cells have the defaults.
    records = [{**OPTIONAL_COLUMNS, **_encodable(record)} for record in records]
    one_of_each = {
        tuple(record.get(g) for g in OPTION_GROUPS): record for record in records
    }.values()
    types: dict[str, set[type]] = {}  # of each option
    for record in one_of_each:
        for name in filter(is_option, record):
            types.setdefault(name, set()).add(type(record[name]))
    options = in_option_order(types)
    columns = [*COLUMNS[1:], HOLDOUT, EPOCHS_TRAINED, ACCURACY_AT, *OPTIONAL_SETTINGS, *options]
    frame = pd.DataFrame(records, columns=columns)
    numbers = ("accuracy", "train_loss", "seconds_per_epoch", "seconds", "lr", HOLDOUT, ACCURACY_AT)
    frame = frame.astype(
        dict.fromkeys(numbers, "float64")
        | {EPOCHS_TRAINED: "Int64", "patience": "Int64"}
        | {name: _dtype(types[name]) for name in options}
    )
    if frame[HOLDOUT].isna().all():
        frame = frame.drop(columns=HOLDOUT)
    if frame[ACCURACY_AT].isna().all():
        frame = frame.drop(columns=ACCURACY_AT)
    if frame["patience"].isna().all() and not (frame["status"] == STOPPED).any():
        frame = frame.drop(columns=EPOCHS_TRAINED)
    key = ranked_by(frame)
    frame = frame.sort_values(
        [key, "epochs", "loss", "optimizer", "batch", "lr", "seed", "cell"],
        ascending=[False, True, True, True, True, False, True, True],
        na_position="last",
    )
    order = [int(index) for index in frame.index]
    frame = frame.reset_index(drop=True)
    frame.insert(0, "rank", _ranks(frame[key]))
    return frame, order


def _encodable(record: Record) -> Record:
    """The record with lone surrogates escaped, which pandas cannot store if pyarrow is installed.

    Names of files and persons that are not valid UTF-8 have them.
    """
    return {
        name: value.encode(errors="backslashreplace").decode()
        if isinstance(value, str) and not value.isascii()
        else value
        for name, value in record.items()
    }


def _dtype(types: set[type]) -> str:
    """The type of a column with values of these types, some of which may be missing."""
    if types <= {int, float}:
        return "float64" if float in types else "Int64"
    return "boolean" if types == {bool} else "object"


def _ranks(accuracy: pd.Series[float]) -> pd.Series[int]:
    """Ranks in descending order; missing without an accuracy."""
    return accuracy.rank(method="min", ascending=False).astype("Int64")
