"""Read and write results.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_sweep.config.keys import defaults
from lenet_sweep.config.registry import OPTION_GROUPS, option_default
from lenet_sweep.core.cells import OPTIONAL_SETTINGS, Cell, OptionValue
from lenet_sweep.core.text import format_option, format_setting, one_line
from lenet_sweep.results.columns import ACCURACY_AT, COLUMNS, EPOCHS_TRAINED, HOLDOUT, MEASURED
from lenet_sweep.results.records import Record, settings_columns
from lenet_sweep.storage.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

# Texts that begin with one of these may be formulas in a spreadsheet. Some spreadsheets treat the
# full-width forms like the plain ones.
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\u2212")


def read_records_csv(folder: Path, cells: Iterable[Cell]) -> dict[Cell, Record]:
    """The records of these cells in the results.csv of a folder, without damaged rows.

    A row belongs to the cell with its id. Ids change with the version of an engine; then a row
    belongs to the only cell with its settings.
    """
    rows = {row["cell"]: row for row in _read_rows(folder / "results.csv")}
    records: dict[Cell, Record] = {}
    others = []
    for cell in cells:
        if row := rows.pop(cell.id, None):
            records[cell] = _record(cell, row)
        elif not cell.model_source:  # a user's model may have changed under the same name
            others.append(cell)
    if not rows:
        return records
    unmatched: dict[tuple[str, ...], list[Cell]] = {}
    for cell in others:
        unmatched.setdefault(_settings_key(settings_columns(cell)), []).append(cell)
    by_settings: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows.values():
        by_settings.setdefault(_settings_key(row), []).append(row)
    for key, (cell, *more) in unmatched.items():
        matching = by_settings.get(key, [])
        if not more and len(matching) == 1:
            records[cell] = _record(cell, matching[0])
    return records


def _read_rows(path: Path) -> Iterable[Mapping[str, str]]:
    """The intact rows of a results.csv, as text; none if there is no such file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    lines = text.split("\n")[:-1]  # the last line is empty or incomplete
    try:
        yield from (row for row in csv.DictReader(lines) if _is_intact(row))
    except csv.Error:
        return


_NUMBERS = (*MEASURED, HOLDOUT, ACCURACY_AT)


def _is_intact(row: Mapping[str | None, str | None]) -> bool:
    if None in row or None in row.values() or not {*COLUMNS[1:]} <= {*row}:
        return False
    try:
        values = [float(row.get(name) or "nan") for name in _NUMBERS]
        int(row.get(EPOCHS_TRAINED) or 0)
    except ValueError:
        return False
    return row["status"] != "ok" or 0 <= values[0] <= 100


def _record(cell: Cell, row: Mapping[str, str]) -> Record:
    numbers = {name: float(row[name]) if row.get(name) else None for name in _NUMBERS}
    trained = {EPOCHS_TRAINED: int(row[EPOCHS_TRAINED]) if row.get(EPOCHS_TRAINED) else None}
    texts = {name: _unescape(row[name]) for name in ("person", "status", "error")}
    return settings_columns(cell) | {"cell": cell.id} | numbers | trained | texts


def _settings_key(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings of a cell as text, from its record or from its row in results.csv."""
    names = ("batch", "epochs", "device", "activation", "seed", "engine")
    dataset = _unescape(str(settings["dataset"]))
    lr = f"{float(settings['lr'])!r}"
    # Tables from before a setting was added lack its column; their cells have its default.
    added = (
        _optional_key(name, settings.get(name))
        for name in OPTIONAL_SETTINGS
        if name not in OPTION_GROUPS
    )
    # A user's model has no activation.
    texts = ("" if settings[name] is None else str(settings[name]) for name in names)
    choices = (text for group in OPTION_GROUPS for text in _choice_key(group, settings))
    return (*texts, *added, *choices, dataset, lr)


def _optional_key(name: str, value: Any) -> str:
    default = OPTIONAL_SETTINGS[name]
    if value in (None, ""):
        value = default
    try:
        return format_setting(value if isinstance(value, bool) else float(value))
    except (TypeError, ValueError):
        return str(value).lower()


def _choice_key(group: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The name of a choice, and its options that differ from their defaults.

    Earlier versions wrote both into one column, such as 'sgd momentum=0.9'.
    """
    added = OPTIONAL_SETTINGS.get(group)  # tables from before its group lack the column
    default_name = added.name if added else defaults()[group]["name"]
    name, *options = str(settings.get(group) or default_name).split()
    for key in settings:
        if key.startswith(f"{group}.") and settings[key] not in (None, ""):
            default = option_default(key, name)
            text = _normalize_option(str(settings[key]).strip("[]"), default)
            options += [f"{key.removeprefix(f'{group}.')}={text}"] * (
                default is None or text != format_option(default)
            )
    return (name, *sorted(options))


def _normalize_option(text: str, default: OptionValue | None) -> str:
    """An option's text as `format_option` writes it. default: None if it is not known."""
    if isinstance(default, str):
        return text
    try:
        if isinstance(default, tuple):
            return format_option(tuple(map(float, text.split(","))))
        return text.lower() if isinstance(default, bool) else format_option(float(text))
    except ValueError:
        return text


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the table in full precision, with text that could be a formula escaped.

    Raises StoreError if the file cannot be written.
    """
    text = frame.select_dtypes(exclude="number").columns
    safe = frame.assign(**{name: frame[name].map(_escape) for name in text})
    write_atomic(path, safe.to_csv(index=False, lineterminator="\n").encode())


def _escape(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = one_line(value)  # not every CSV reader accepts line breaks
    # A leading apostrophe keeps spreadsheets from evaluating the text.
    return "'" + text if text.startswith(FORMULA_STARTS) else text


def _unescape(text: str) -> str:
    """The text without the apostrophe that `_escape` added."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(FORMULA_STARTS) else text
