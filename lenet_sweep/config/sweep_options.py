"""The options of a sweep, which say how it is run and do not change any result."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lenet_sweep.config import checks
from lenet_sweep.config.checks import boolean, choice, finite, integer, positive, reject
from lenet_sweep.config.grids import MOST_CELLS
from lenet_sweep.config.pairs import Pair, parse_pairs
from lenet_sweep.config.studies import Study
from lenet_sweep.config.trackers import parse_trackers
from lenet_sweep.core.cells import Choice
from lenet_sweep.core.errors import UsageError

# The values of keys whose values are names.
CHOICES = {
    "figures": ("best", "all", "none"),
    "figure_format": ("png", "pdf", "svg"),
    "figure_width": ("screen", "single", "double"),
    "rows": ("settings", "cells"),
}


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep is run. Its options do not change results, so they are not part of a cell."""

    person: str
    workers: int | None  # None: as many as fit on the machine
    threads: int | None  # per run; None: the runs share all cores
    timeout: float | None  # seconds without progress before a run is killed; None: no limit
    retries: int  # how often a failed run is retried
    reuse: bool
    dry_run: bool
    figures: str  # best, all, or none
    figure_format: str  # png, pdf, or svg
    figure_width: str  # screen, single, or double
    search: Choice  # which runs are trained, and for how many epochs
    rows: str  # what a row of the printed tables is: settings or cells
    report: bool
    serve: bool  # whether to start the live page
    out: Path
    name: str | None  # None: the date and a hash of the cells
    pair: tuple[Pair, ...]  # keys whose values are used together
    max_cells: int  # a larger grid is rejected as a likely typo
    tracker: tuple[str, ...]  # the tracking tools that the sweep is written to
    data_root: Path | None  # None: the user's cache folder
    notes: tuple[str, ...] = ()  # sentences for the user on how the cells are trained
    unused: tuple[str, ...] = ()  # sentences on options that some optimizers do not have
    study: Study | None = None  # the study that the cells belong to


def read_options(raw: Mapping[str, Any], data_root: Any, notes: tuple[str, ...]) -> SweepOptions:
    """Validate the options.

    raw: has the keys SWEEP_KEYS; its search is a Choice. data_root: the value of dataset.root.
    Raises UsageError for the first value that is not allowed.
    """
    if raw["search"].name != "grid" and raw["reuse"] is False:
        reject("reuse", "false", "true with a search, which resumes runs that it has paused")
    return SweepOptions(
        person=checks.text("person", raw["person"]) or _login_name(),
        workers=_auto_or_number("workers", raw["workers"], "concurrent runs"),
        threads=_auto_or_number("threads", raw["threads"], "threads per run"),
        timeout=_timeout(raw["timeout"]),
        retries=integer("retries", raw["retries"], 0, 100, "retries of a failed run"),
        reuse=boolean("reuse", raw["reuse"]),
        dry_run=boolean("dry_run", raw["dry_run"]),
        figures=_choice("figures", raw),
        figure_format=_choice("figure_format", raw),
        figure_width=_choice("figure_width", raw),
        search=raw["search"],
        rows=_choice("rows", raw),
        report=boolean("report", raw["report"]),
        serve=boolean("serve", raw["serve"]),
        out=checks.folder("out", raw["out"]) or Path("outputs"),
        name=checks.folder_name("name", raw["name"]),
        pair=parse_pairs(raw["pair"]),
        max_cells=integer("max_cells", raw["max_cells"], 1, MOST_CELLS, "cells of a grid"),
        tracker=parse_trackers("tracker", raw["tracker"]),
        data_root=checks.folder("dataset.root", data_root),
        notes=notes,
    )


def merge_options(shared: SweepOptions, other: SweepOptions) -> SweepOptions:
    """The shared options with the notes of both. Raises UsageError if the options differ."""
    for field in fields(SweepOptions):
        same = getattr(other, field.name) == getattr(shared, field.name)
        if not same and field.name != "notes":
            key = "dataset.root" if field.name == "data_root" else field.name
            fix = "give one value"
            if key == "tracker":
                fix = "for several trackers, give a list, such as 'tracker=[tensorboard,mlflow]'"
            raise UsageError(f"{key} cannot be swept: it applies to the whole sweep; {fix}")
    return replace(shared, notes=tuple(dict.fromkeys([*shared.notes, *other.notes])))


def _choice(key: str, raw: Mapping[str, Any]) -> str:
    return choice(key, raw[key], CHOICES[key])


def _auto_or_number(key: str, value: Any, unit: str) -> int | None:
    if value == "auto":
        return None
    number = finite(value)
    if number is None or not number.is_integer() or not 1 <= number <= 1024:
        reject(key, value, f"auto, or a whole number from 1 to 1024 ({unit})")
    return int(number)


def _timeout(value: Any) -> float | None:
    if value is None:
        return None
    return positive("timeout", value, "a number of seconds above 0, or null for no limit")


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # some containers have no entry for the user
        return "unknown"
