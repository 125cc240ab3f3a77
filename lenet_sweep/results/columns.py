"""The columns of the ranked table: their names, headings and order, and values as text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lenet_sweep.config.keys import is_option
from lenet_sweep.config.registry import OPTION_DEFAULTS, option_default
from lenet_sweep.core.cells import NETWORK_SETTINGS, OPTIONAL_COLUMNS, OPTIONAL_SETTINGS, Choice
from lenet_sweep.core.text import format_option

if TYPE_CHECKING:
    import pandas as pd

# The first columns of results.csv. A column for each option of the table's choices follows, which
# is empty for a choice without the option.
COLUMNS = (
    "rank", "accuracy", "batch", "lr", "epochs", "person", "device",  # as in the report
    "loss", "optimizer", "activation", "seed", "status", "train_loss", "seconds_per_epoch",
    "seconds", "engine", "dataset", "error", "cell",
)  # fmt: skip
REPORT_COLUMNS = COLUMNS[:7]
HOLDOUT = "holdout_accuracy"  # follows COLUMNS if images were held out
# Follows if a cell has patience or was stopped by a search; fewer than `epochs`: it ended early.
EPOCHS_TRAINED = "epochs_trained"
ACCURACY_AT = "accuracy_at"  # follows if a search stopped a cell: its accuracy at that epoch
STOPPED = "stopped"  # the status of a cell that a search stopped
# Columns that hold text, without those of options.
TEXT_COLUMNS = frozenset({
    "person", "device", "loss", "optimizer", "activation", "dataset", "engine", "status", "error",
    *(k for k, default in OPTIONAL_SETTINGS.items() if isinstance(default, (str, bool, Choice))),
})  # fmt: skip
REPRODUCTION = "reproduction.csv"  # the file with the verdicts on a study

_HEADINGS = {
    "accuracy": "accuracy (%)",
    HOLDOUT: "held-out (%)",
    EPOCHS_TRAINED: "epochs trained",
    ACCURACY_AT: "accuracy when stopped (%)",
    "lr": "learning rate",
    "train_loss": "cost",
    "seconds_per_epoch": "s/epoch",
}
INTERVAL = "95% interval"
NO_RANK = "\N{EN DASH}"

# Shown to people only if they vary. Other columns are always shown, or never.
SETTINGS = ("loss", "optimizer", "activation", *OPTIONAL_SETTINGS, "seed", "dataset", "engine")
# Columns of numbers in the tables of statistics and of studies.
NUMERIC = ("row", "reported", "measured", "diff.", "seeds", "mean", "sd", "p", INTERVAL)
# Results of a training: percent, loss per image, seconds, seconds.
MEASURED = ("accuracy", "train_loss", "seconds_per_epoch", "seconds")


def heading_of(name: str) -> str:
    """The heading of a column. That of an option is its own name, unless another column has it."""
    option = name.partition(".")[2] if is_option(name) else ""
    is_unique = option and option not in (*COLUMNS, *OPTIONAL_SETTINGS, *NUMERIC)
    return option if is_unique else _HEADINGS.get(name, name)


def holds_text(name: str) -> bool:
    """Whether a column holds text, not numbers."""
    if is_option(name):
        return isinstance(OPTION_DEFAULTS.get(name), (bool, str, tuple))
    return name in TEXT_COLUMNS


def holds_numbers(name: str) -> bool:
    """Whether a column of a printed table is right-aligned, because it holds numbers."""
    measured = {HOLDOUT, EPOCHS_TRAINED, "train_loss", "seconds_per_epoch"}
    numbers = {*REPORT_COLUMNS, *measured, "seed", *NUMERIC}
    is_setting = is_option(name) or name in OPTIONAL_SETTINGS
    return (name in numbers or is_setting) and not holds_text(name)


def is_partial(name: str) -> bool:
    """Whether the column of a setting may be empty: not every choice has it."""
    return is_option(name) or name in NETWORK_SETTINGS


def in_option_order(columns: Iterable[str]) -> list[str]:
    """The options among these columns: those of the registry in its order, then others."""
    options = set(filter(is_option, columns))
    known = [name for name in OPTION_DEFAULTS if name in options]
    return [*known, *sorted(options - {*known})]


def settings_of(columns: Iterable[str]) -> list[str]:
    """The SETTINGS among the columns, each followed by its options among them.

    Tables of earlier versions lack some settings.
    """
    columns = list(columns)
    options = in_option_order(columns)
    names = []
    for setting in (name for name in SETTINGS if name in columns):
        names += [setting, *(key for key in options if key.startswith(f"{setting}."))]
    return names


def varying(frame: pd.DataFrame) -> list[str]:
    """The settings with several values; if not every choice has one, among those that have it.

    Defaults that differ between the choices do not count.
    """
    return [
        name
        for name in settings_of(frame.columns)
        if len(_values(frame, name).unique()) > 1
        and not (is_option(name) and _has_only_defaults(frame, name))
    ]


def _values(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """The values of a setting, without the rows that do not have it."""
    return frame[name].dropna() if is_partial(name) else frame[name]


def _has_only_defaults(frame: pd.DataFrame, name: str) -> bool:
    """Whether an option has the default of its choice in every row that has the option."""
    pairs = frame[[name.partition(".")[0], name]].dropna().drop_duplicates()
    defaults = [option_default(name, choice) for choice in pairs.iloc[:, 0]]
    return all(
        default is not None and setting_text(value) == format_option(default)
        for default, value in zip(defaults, pairs.iloc[:, 1], strict=True)
    )


def has_optional_default(frame: pd.DataFrame, name: str) -> bool:
    """Whether a column is of OPTIONAL_SETTINGS and has its default in every row, without options.

    The rows of models that do not have the setting do not count.
    """
    if name not in OPTIONAL_SETTINGS or shared_options(frame, f"{name}."):
        return False
    text = setting_text(OPTIONAL_COLUMNS[name])
    return all(setting_text(value) == text for value in _values(frame, name).unique())


def setting_text(value: Any) -> str:
    """The value of a setting as text: 'tanh', '0.9', 'true'; '' for a missing option."""
    import pandas as pd  # noqa: PLC0415 - slow to import

    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return ""
    return format_option(value.item() if hasattr(value, "item") else value)  # NumPy to Python


def ranked_by(frame: pd.DataFrame) -> str:
    """The column that ranks a table: HOLDOUT if every finished cell has it, otherwise accuracy."""
    complete = HOLDOUT in frame and frame.loc[frame["status"] == "ok", HOLDOUT].notna().all()
    return HOLDOUT if complete else "accuracy"


def ended_early(frame: pd.DataFrame) -> bool:
    """Whether a row of a table is of a run that ended early, because of its patience."""
    return EPOCHS_TRAINED in frame and bool((frame[EPOCHS_TRAINED] < frame["epochs"]).any())


def rank_text(rank: Any, accuracy: float | None) -> str:
    """A rank as text; a dash without an accuracy."""
    return NO_RANK if accuracy is None or math.isnan(accuracy) else str(rank)


def shared_options(frame: pd.DataFrame, prefix: str = "") -> list[str]:
    """Options with the same value in all rows, if it is not the default: 'momentum=0.9'.

    prefix: of the keys of these options, such as "optimizer."; "" for the options of all groups.
    """
    texts = []
    for name in in_option_order(frame.columns):
        values = {*frame[name].dropna()} if name.startswith(prefix) else set()
        if len(values) == 1 and not _has_only_defaults(frame, name):
            texts.append(f"{name.partition('.')[2]}={setting_text(*values)}")
    return texts
