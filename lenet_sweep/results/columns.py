"""TODO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lenet_sweep.config.keys import is_option

if TYPE_CHECKING:
    import pandas as pd

import math
from collections.abc import Iterable
from typing import Any

from lenet_sweep.config.registry import OPTION_DEFAULTS
from lenet_sweep.core.text import format_option

COLUMNS = (
    "rank", "accuracy", "batch", "lr", "epochs", "person", "device",  # as in the report
    "loss", "optimizer", "activation", "seed", "status", "train_loss", "seconds_per_epoch",
    "seconds", "engine", "dataset", "error", "cell",
)  # fmt: skip


REPRODUCTION = "reproduction.csv"  # the file of a study's verdicts


HOLDOUT = "holdout_accuracy"  # the next column, where images were held out


NO_RANK = "\N{EN DASH}"


# The last columns are the options of the table's optimizers, empty for an optimizer without the
# option. These hold text or true and false.
OPTION_TEXTS = tuple(k for k, default in OPTION_DEFAULTS.items() if not isinstance(default, float))


REPORT_COLUMNS = COLUMNS[:7]


HEADINGS = {
    "accuracy": "accuracy (%)",
    HOLDOUT: "held-out (%)",
    "lr": "learning rate",
    "train_loss": "cost",
    "seconds_per_epoch": "s/epoch",
} | {key: key.removeprefix("optimizer.") for key in OPTION_DEFAULTS}


INTERVAL = "95 % interval"


# What is only looked at where it tells rows apart; the rest is always shown or never.
SETTINGS = ("loss", "optimizer", "activation", "seed", "dataset", "engine")


# Columns of numbers in the tables of statistics and of studies.
NUMERIC = ("row", "reported", "measured", "diff.", "seeds", "mean", "sd", "p", INTERVAL)


# What a training came to, in percent, per image and in seconds.
MEASURED = ("accuracy", "train_loss", "seconds_per_epoch", "seconds")


def in_option_order(columns: Iterable[str]) -> list[str]:
    """The options among these columns: those of the registry in its order, then others."""
    options = set(filter(is_option, columns))
    known = [name for name in OPTION_DEFAULTS if name in options]
    return [*known, *sorted(options - {*known})]


def settings_of(columns: Iterable[str]) -> list[str]:
    """The settings among a table's columns, which are shown where they vary.

    Options of the optimizers follow the optimizer.
    """
    options = in_option_order(columns)
    at = SETTINGS.index("optimizer") + 1
    return [*SETTINGS[:at], *options, *SETTINGS[at:]]


def varying(frame: pd.DataFrame) -> list[str]:
    """The settings with several values; an option, with several where it exists."""
    return [name for name in settings_of(frame.columns) if len({*frame[name].dropna()}) > 1]


def setting_text(value: Any) -> str:
    """The value of a setting as text: 'tanh', '0.9', 'true'; '' for an option it does not have."""
    import pandas as pd  # noqa: PLC0415 - see above

    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    return format_option(value.item() if hasattr(value, "item") else value)  # one of NumPy's


def ranked_by(frame: pd.DataFrame) -> str:
    """The column that ranks a table: HOLDOUT where every cell that is ok has it, else accuracy."""
    every = HOLDOUT in frame and frame.loc[frame["status"] == "ok", HOLDOUT].notna().all()
    return HOLDOUT if every else "accuracy"


def rank_text(rank: Any, accuracy: float | None) -> str:
    """A rank as people read it; a dash where there is no accuracy."""
    return NO_RANK if accuracy is None or math.isnan(accuracy) else str(rank)


def shared_options(frame: pd.DataFrame) -> list[str]:
    """The options that have one value in all rows, which is not the default: 'momentum=0.9'."""
    found = []
    for name in settings_of(frame.columns):
        values = list(frame[name].dropna().unique()) if is_option(name) else []
        default = OPTION_DEFAULTS.get(name)
        if len(values) == 1 and (
            default is None or setting_text(values[0]) != format_option(default)
        ):
            found.append(f"{name.removeprefix('optimizer.')}={setting_text(values[0])}")
    return found
