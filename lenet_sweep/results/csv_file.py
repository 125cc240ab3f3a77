"""TODO."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lenet_sweep.config.registry import OPTION_DEFAULTS
from lenet_sweep.core.cells import Cell, OptionValue
from lenet_sweep.core.text import format_option, one_line
from lenet_sweep.results.columns import COLUMNS, HOLDOUT, MEASURED
from lenet_sweep.results.records import Record, settings_columns
from lenet_sweep.storage.files import write_atomic

# Wide forms too: some spreadsheets take them for the plain ones.
ACTIVE = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\u2212")


def kept_rows(folder: Path, cells: Iterable[Cell]) -> dict[Cell, Record]:
    """What the results.csv of a folder says of these cells; rows that are damaged are left out.

    A row belongs to the cell with its id. After an engine's version has changed, ids differ: then
    to the one cell that has its settings.
    """
    rows = {row["cell"]: row for row in _csv_rows(folder / "results.csv")}
    found: dict[Cell, Record] = {}
    others: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        if row := rows.pop(cell.id, None):
            found[cell] = _kept(cell, row)
        else:
            others.setdefault(_key(settings_columns(cell, "")), []).append(cell)
    by_settings: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows.values():
        by_settings.setdefault(_key(row), []).append(row)
    for key, (cell, *more) in others.items():
        matching = by_settings.get(key, [])
        if not more and len(matching) == 1:
            found[cell] = _kept(cell, matching[0])
    return found


def _csv_rows(path: Path) -> Iterable[Mapping[str, str]]:
    """The rows of a results.csv that can be read as `write_csv` wrote them, as text."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    lines = text.split("\n")[:-1]  # without a last line that was cut
    try:
        yield from (row for row in csv.DictReader(lines) if _is_sound(row))
    except csv.Error:
        return


def _is_sound(row: Mapping[str | None, str | None]) -> bool:
    if None in row or None in row.values() or not {*COLUMNS[1:]} <= {*row}:
        return False
    try:
        values = [float(row.get(name) or "nan") for name in (*MEASURED, HOLDOUT)]
    except ValueError:
        return False
    return row["status"] != "ok" or 0 <= values[0] <= 100


def _kept(cell: Cell, row: Mapping[str, str]) -> Record:
    numbers = {name: float(row[name]) if row.get(name) else None for name in (*MEASURED, HOLDOUT)}
    texts = {name: _run_again(row[name]) for name in ("person", "status", "error")}
    return settings_columns(cell, "") | numbers | texts


def _key(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """A cell's settings as text, from its record or its row in results.csv."""
    names = ("batch", "epochs", "device", "loss", "activation", "seed", "engine")
    dataset = _run_again(str(settings["dataset"]))
    lr = f"{float(settings['lr'])!r}"
    return (*(str(settings[name]) for name in names), *_optimizer_key(settings), dataset, lr)


def _optimizer_key(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The name of an optimizer, and each option that differs from its default.

    Earlier versions wrote both into one column: 'sgd momentum=0.9'.
    """
    name, *options = str(settings["optimizer"]).split() or [""]
    for key, default in OPTION_DEFAULTS.items():
        if settings.get(key) not in (None, ""):
            text = _option_key(str(settings[key]).strip("[]"), default)
            options += [f"{key.removeprefix('optimizer.')}={text}"] * (
                text != format_option(default)
            )
    return (name, *sorted(options))


def _option_key(text: str, default: OptionValue) -> str:
    try:
        if isinstance(default, tuple):
            return format_option(tuple(map(float, text.split(","))))
        return text.lower() if isinstance(default, bool) else format_option(float(text))
    except ValueError:
        return text


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """The whole table in full precision; text that a spreadsheet would run is made inert."""
    text = frame.select_dtypes(exclude="number").columns
    safe = frame.assign(**{name: frame[name].map(_unrun) for name in text})
    write_atomic(path, safe.to_csv(index=False).encode())


def _unrun(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = one_line(value)  # one line: not every reader of CSV takes more
    # A spreadsheet evaluates a cell that starts like this; an apostrophe makes it text.
    return "'" + text if text.startswith(ACTIVE) else text


def _run_again(text: str) -> str:
    """A text from results.csv without the apostrophe that `write_csv` put in front."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(ACTIVE) else text
