"""From the store to the ranked table: one row a cell, best first; CSV, Markdown and LaTeX.

pandas is imported where it is used: it takes as long as all else that runs need to begin.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lenet_sweep import latex
from lenet_sweep.cells import Cell
from lenet_sweep.errors import StoreError
from lenet_sweep.keys import inert
from lenet_sweep.recipes import OPTIMIZERS, OPTION_DEFAULTS, Optimizer, OptionValue, option_text
from lenet_sweep.store import DamagedError, Failure, Snapshot, Store, read_json, write_atomic
from lenet_sweep.studies import Study

if TYPE_CHECKING:
    import pandas as pd

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

# Wide forms too: some spreadsheets take them for the plain ones.
ACTIVE = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\u2212")

Record = dict[str, Any]
# A table for reading: title, caption, rows as text.
Presented: TypeAlias = "tuple[str, str, pd.DataFrame]"


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
class Marks:
    """What printed tables say beyond results.csv.

    outcomes: how the rows, by their place in the table, compare with the best, one of those of
    `analysis.statistics`; caption: what that means. settings: the rows to print instead of cells,
    best first.
    """

    outcomes: Mapping[int, str] = field(default_factory=dict)
    caption: str = ""
    settings: tuple[SettingRow, ...] = ()


UNMARKED = Marks()


def record(
    cell: Cell, store: Store, person: str = "", failure: Failure | None = None
) -> Record | None:
    """The row of a cell, from the store; None where the cell has no outcome yet.

    The person is whoever trained the run; who asks (`person`) where it did not come so far.
    failure: of just now, which counts more than what the store has of the cell.
    """
    folder = store.run(cell.run_id)
    if failure and failure.epoch > cell.epochs:
        failure = None  # in a later epoch: it says nothing of this cell
    snapshot = None if failure else folder.read(folder.readout(cell.epochs))
    if not snapshot and not failure:
        failure = folder.failure()
        if failure is None or failure.epoch > cell.epochs:
            return None
    outcome = snapshot or failure
    person = (outcome and outcome.person) or person
    return _settings(cell, person) | (_success(snapshot) if snapshot else _failure(failure))


def _settings(cell: Cell, person: str) -> Record:
    return {
        "batch": cell.batch,
        "lr": cell.lr,
        "epochs": cell.epochs,
        "person": person,
        "device": cell.device,
        "loss": cell.loss,
        "optimizer": cell.optimizer.name,
        "activation": cell.activation,
        "seed": cell.seed,
        "engine": cell.engine,
        "dataset": cell.data,
        "cell": cell.id,
        **option_values(cell.optimizer),
    }


def option_values(optimizer: Optimizer) -> Record:
    """The columns of an optimizer's options; a pair of numbers is text, '[0.9,0.999]'."""
    return {
        f"optimizer.{name}": f"[{','.join(map(repr, value))}]"
        if isinstance(value, tuple)
        else value
        for name, value in optimizer.options
    }


def _success(snapshot: Snapshot) -> Record:
    last = snapshot.history[-1]
    training = [epoch.seconds for epoch in snapshot.history]
    testing = [epoch.test_seconds for epoch in snapshot.history]
    return {
        "status": "ok",
        "accuracy": last.accuracy,
        "train_loss": last.cost,
        "seconds_per_epoch": sum(training) / len(training),
        "seconds": sum(training) + sum(testing),
        "error": "",
        HOLDOUT: last.holdout_accuracy,
    }


def _failure(failure: Failure | None) -> Record:
    assert failure is not None
    nothing = dict.fromkeys(("accuracy", "train_loss", "seconds_per_epoch", "seconds"))
    return {"status": failure.status, "error": failure.reason} | nothing


def table(records: Iterable[Record]) -> pd.DataFrame:
    """The ranked table: best accuracy first, failed cells last, with COLUMNS.

    Then a column for each option of its optimizers, as 'optimizer.momentum'.

    Where every cell held images out, they rank it by their accuracy, the column HOLDOUT. Equal
    accuracies share a rank (1, 2, 2, 4), and failed cells have none; among equals the cell that
    trained for fewer epochs stands first.
    """
    return ranked(records)[0]


def ranked(records: Iterable[Record]) -> tuple[pd.DataFrame, list[int]]:
    """The ranked table, and for each of its rows which of the records it is."""
    import pandas as pd  # noqa: PLC0415 - see above

    records = list(records)
    used = [OPTIMIZERS[name] for name in {row["optimizer"] for row in records}]
    has = {f"optimizer.{option}" for spec in used for option in spec.options}
    options = [name for name in OPTION_DEFAULTS if name in has]
    frame = pd.DataFrame(records, columns=[*COLUMNS[1:], HOLDOUT, *options])
    numbers = ("accuracy", "train_loss", "seconds_per_epoch", "seconds", "lr", HOLDOUT)
    types = {bool: "boolean", float: "float64", tuple: "object"}
    frame = frame.astype(
        dict.fromkeys(numbers, "float64")
        | {name: types[type(OPTION_DEFAULTS[name])] for name in options}
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


def settings_of(columns: Iterable[str]) -> list[str]:
    """The settings among a table's columns, which are shown where they vary.

    Options of the optimizers follow the optimizer.
    """
    columns = set(columns)
    options = [name for name in OPTION_DEFAULTS if name in columns]
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
    return option_text(value.item() if hasattr(value, "item") else value)  # one of NumPy's


def ranked_by(frame: pd.DataFrame) -> str:
    """The column that ranks a table: HOLDOUT where every cell that is ok has it, else accuracy."""
    every = HOLDOUT in frame and frame.loc[frame["status"] == "ok", HOLDOUT].notna().all()
    return HOLDOUT if every else "accuracy"


def _ranks(accuracy: pd.Series[float]) -> pd.Series[int]:
    """Without an accuracy there is no rank."""
    return accuracy.rank(method="min", ascending=False).astype("Int64")


def rank_text(rank: Any, accuracy: float | None) -> str:
    """A rank as people read it; a dash where there is no accuracy."""
    return NO_RANK if accuracy is None or math.isnan(accuracy) else str(rank)


def load_results(folder: str | Path) -> pd.DataFrame:
    """The table of a sweep's folder (`outputs/sweeps/<name>`), rebuilt from the store.

    Rows whose runs are not in the store, or are damaged there, come from results.csv, with a
    warning. Cells without an outcome yet are left out. Raises FileNotFoundError where there is no
    sweep.
    """
    manifest = read_manifest(Path(folder))
    records = recorded(Path(folder), manifest)
    for path in dict.fromkeys(manifest.store.damaged):
        warnings.warn(f"{path} is damaged: run the sweep again to repair it", stacklevel=2)
    if lost := sum(not in_store(*row, manifest.store) for row in records.items()):
        warnings.warn(
            f"{lost} of {len(records)} rows come from results.csv alone: their runs are not in "
            f"{manifest.store.out / 'runs'}",
            stacklevel=2,
        )
    return table(records.values())


def recorded(folder: Path, manifest: Manifest) -> dict[Cell, Record]:
    """The rows of a sweep's cells, from the store, else from the folder's results.csv."""
    kept = kept_rows(folder, manifest.cells)
    rows = ((cell, known(cell, manifest.store, kept)) for cell in manifest.cells)
    return {cell: row for cell, row in rows if row}


def known(cell: Cell, store: Store, kept: Mapping[Cell, Record], person: str = "") -> Record | None:
    """The row of a cell from the store, else the one in `kept`; None where neither has an outcome.

    An accuracy in `kept` counts more than a failure in the store: the cell did finish once.
    """
    before = kept.get(cell)
    try:
        found = record(cell, store, person)
    except StoreError:  # the store cannot be read
        if before is None:
            raise
        return before
    if before and (found is None or (before["status"] == "ok" and found["status"] != "ok")):
        return before
    return found


def in_store(cell: Cell, row: Record, store: Store) -> bool:
    """Whether the store has the file that a row is from, and has not found it damaged."""
    run = store.run(cell.run_id)
    path = run.readout(cell.epochs) if row["status"] == "ok" else run.path / "failure.json"
    return path not in store.damaged and os.path.exists(path)  # noqa: PTH110 - False, not an error


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
            others.setdefault(_key(_settings(cell, "")), []).append(cell)
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
    return _settings(cell, "") | numbers | texts


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
            options += [f"{key.removeprefix('optimizer.')}={text}"] * (text != option_text(default))
    return (name, *sorted(options))


def _option_key(text: str, default: OptionValue) -> str:
    try:
        if isinstance(default, tuple):
            return option_text(tuple(map(float, text.split(","))))
        return text.lower() if isinstance(default, bool) else option_text(float(text))
    except ValueError:
        return text


@dataclass(frozen=True)
class Manifest:
    """What sweep.json says: the sweep's cells, the store that has their results, and its launches.

    data_root: where the images lay; None: in the user's cache. launches: command, git_revision
    and environment of each. studies: that its cells are of.
    """

    cells: tuple[Cell, ...]
    store: Store
    data_root: Path | None
    launches: tuple[dict[str, Any], ...]
    studies: tuple[Study, ...] = ()


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a sweep's folder.

    Raises FileNotFoundError where there is no sweep, StoreError where its sweep.json is of no use:
    DamagedManifestError if that is because it is damaged.
    """
    path = folder / "sweep.json"
    try:
        values = read_json(path)
    except DamagedError as error:
        raise DamagedManifestError(
            f"{path} is damaged: type the sweep's command again, which mends it"
        ) from error
    if values is None:
        raise FileNotFoundError(f"no sweep in {folder}: there is no sweep.json")
    try:
        root = values.get("data_root")
        return Manifest(
            cells=tuple(Cell.from_json(cell) for cell in values["cells"]),
            store=Store(folder / values["store"]),
            data_root=Path(root) if root else None,
            launches=tuple(values.get("launches", [])),
            studies=tuple(Study.from_json(study) for study in values.get("studies", [])),
        )
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{path} was written by another version: move it away and sweep again; "
            "results are in the store"
        ) from error


class DamagedManifestError(StoreError):
    """A sweep.json is not what was written."""


def cells_of_table(folder: Path, store: Store) -> list[Cell]:
    """The cells of a sweep's results.csv, for when its sweep.json is damaged.

    Settings come from the folders of their runs. Where one of these is missing too, the rows
    stay in a copy of results.csv: results-before-<digest>.csv.
    """
    import pandas as pd  # noqa: PLC0415 - see above

    try:
        names = pd.read_csv(folder / "results.csv", usecols=["cell"], dtype=str)["cell"]
    except (OSError, ValueError):  # there is none, or it is damaged as well
        return []
    cells = []
    for name in names:
        found = re.fullmatch(r"([0-9a-f]{16})-e(\d{1,6})", str(name))
        if found and (described := store.run(found[1]).description()):
            cells.append(Cell.from_json(described["settings"] | {"epochs": int(found[2])}))
    if len(cells) < len(names):  # their rows cannot stay in results.csv
        with contextlib.suppress(OSError):
            content = (folder / "results.csv").read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:8]
            write_atomic(folder / f"results-before-{digest}.csv", content)
    return cells


# ---------------------------------------------------------------- written


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """The whole table in full precision; text that a spreadsheet would run is made inert."""
    text = frame.select_dtypes(exclude="number").columns
    safe = frame.assign(**{name: frame[name].map(_unrun) for name in text})
    write_atomic(path, safe.to_csv(index=False).encode())


def _unrun(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = inert(value)  # one line: not every reader of CSV takes more
    # A spreadsheet evaluates a cell that starts like this; an apostrophe makes it text.
    return "'" + text if text.startswith(ACTIVE) else text


def _run_again(text: str) -> str:
    """A text from results.csv without the apostrophe that `write_csv` put in front."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(ACTIVE) else text


def write_texts(tables: Sequence[Presented], folder: Path, stem: str = "results") -> list[Path]:
    """Write tables for reading, stem.md and stem.tex; the files."""
    texts = {f"{stem}.md": to_markdown(tables), f"{stem}.tex": to_latex(tables, stem)}
    for name, text in texts.items():
        write_atomic(folder / name, text.encode())
    return [folder / name for name in texts]


def to_markdown(tables: Iterable[Presented]) -> str:
    """Tables as the terminal shows them in GitHub's Markdown."""
    parts = []
    for title, caption, rows in tables:
        header = [HEADINGS.get(name, name) for name in rows.columns]
        body = [[_markdown(value) for value in row] for row in rows.itertuples(index=False)]
        lines = [
            header,
            ["---:" if _is_number(rows[name]) else "---" for name in rows.columns],
            *body,
        ]
        table_text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"### {title}\n\n{table_text}\n\n{_markdown(caption)}\n")
    return "\n".join(parts)


def to_latex(tables: Iterable[Presented], stem: str = "results") -> str:
    """Tables as the terminal shows them, for a LaTeX document; see `latex.to_latex`."""
    return latex.to_latex(
        (
            latex.Table(
                title,
                caption,
                tuple(HEADINGS.get(name, name) for name in rows.columns),
                tuple(_is_number(rows[name]) for name in rows.columns),
                tuple(tuple(map(str, row)) for row in rows.itertuples(index=False)),
            )
            for title, caption, rows in tables
        ),
        stem,
    )


def presented(frame: pd.DataFrame, marks: Marks = UNMARKED) -> list[Presented]:
    """The table as people read it: (title, caption, rows as text), one entry per recipe.

    A row is a cell or, where `marks` has settings, a setting with its mean over the seeds. The
    report's columns come first, then the settings that vary; what does not vary is in the caption.
    Accuracy has two decimals. Ranks count within each table and carry MARKS: '= 2'.
    """
    by_setting = bool(marks.settings)
    units = _over_seeds(frame, marks) if by_setting else frame
    settings = [n for n in settings_of(frame.columns) if not (by_setting and n == "seed")]
    parts = []
    for loss, optimizer, rows in _by_recipe(units):
        varied = [name for name in varying(rows) if name in settings]
        failed = bool((rows["status"] != "ok").any())
        columns = ["rank", "accuracy", *([INTERVAL, "seeds"] if by_setting else [])]
        columns += [*REPORT_COLUMNS[2:], *([HOLDOUT] if HOLDOUT in rows else []), *varied]
        columns += [*(["status"] if failed else []), "train_loss", "seconds_per_epoch"]
        columns += ["error"] if failed else []
        shown = rows[columns].assign(
            rank=_marked(_ranks(rows[ranked_by(frame)].round(9)), marks),
            accuracy=_accuracies(rows),
            lr=rows["lr"].map("{:g}".format),
            train_loss=rows["train_loss"].map(cost_text),
            seconds_per_epoch=rows["seconds_per_epoch"].map(lambda x: _number(x, "{:.2f}")),
            **{name: rows[name].map(setting_text) for name in varied if name in OPTION_DEFAULTS},
        )
        if HOLDOUT in rows:
            shown[HOLDOUT] = rows[HOLDOUT].map(lambda x: _number(x, "{:.2f}"))
        constant = [
            f"{name} {rows[name].iloc[0]}"
            for name in settings
            if name in SETTINGS[2:] and name not in varied
        ]
        # Options that all rows share belong in the title.
        name = " ".join([optimizer, *shared_options(rows)])
        caption = f"All rows: {', '.join(constant)}." if constant else ""
        caption = " ".join(filter(None, [caption, OVER_SEEDS * by_setting, marks.caption]))
        parts.append((f"{loss} + {name}", caption, shown))
    return parts


OVER_SEEDS = (
    "Accuracy: mean \N{PLUS-MINUS SIGN} standard deviation over the seeds, interval of the mean."
)


def _over_seeds(frame: pd.DataFrame, marks: Marks) -> pd.DataFrame:
    """A row for each setting, indexed by the place of one of its cells in the table of cells.

    What is measured is the mean over the seeds that have an accuracy.
    """
    import pandas as pd  # noqa: PLC0415 - see above

    cells = frame.to_dict("records")
    measured = [c for c in ("train_loss", "seconds_per_epoch", HOLDOUT) if c in frame]
    rows = []
    for setting in marks.settings:
        own = [cells[place] for place in setting.places]
        known = [cell for cell in own if cell["status"] == "ok"]
        seeds = len({cell["seed"] for cell in own})
        persons = {cell["person"] for cell in own}
        row = own[0] | {name: _mean(cell[name] for cell in known) for name in measured}
        rows.append(
            row
            | {
                "accuracy": math.nan if setting.mean is None else setting.mean,
                "sd": setting.sd,
                INTERVAL: "" if setting.low is None else f"{setting.low:.2f} to {setting.high:.2f}",
                "seeds": str(seeds) if setting.n == seeds else f"{setting.n} of {seeds}",
                "person": "several" if len(persons) > 1 else own[0]["person"],
                "status": _statuses(own),
                "error": "; ".join(dict.fromkeys(cell["error"] for cell in own if cell["error"])),
            }
        )
    return pd.DataFrame(rows, index=[setting.places[0] for setting in marks.settings])


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else math.nan


def _statuses(own: Sequence[Mapping[Any, Any]]) -> str:
    """'ok', 'diverged' of all seeds, '1 diverged' of some."""
    failed = Counter(cell["status"] for cell in own if cell["status"] != "ok")
    if sum(failed.values()) < len(own):
        return ", ".join(f"{number} {status}" for status, number in failed.items()) or "ok"
    return ", ".join(failed)


def _accuracies(rows: pd.DataFrame) -> list[str]:
    texts = [_number(accuracy, "{:.2f}") for accuracy in rows["accuracy"]]
    if "sd" not in rows:
        return texts
    spread = [_number(sd, " \N{PLUS-MINUS SIGN} {:.2f}") for sd in rows["sd"].astype("float64")]
    return [text + sd for text, sd in zip(texts, spread, strict=True)]


def shared_options(frame: pd.DataFrame) -> list[str]:
    """The options that have one value in all rows, which is not the default: 'momentum=0.9'."""
    found = []
    for name in settings_of(frame.columns):
        values = list(frame[name].dropna().unique()) if name in OPTION_DEFAULTS else []
        if len(values) == 1 and setting_text(values[0]) != option_text(OPTION_DEFAULTS[name]):
            found.append(f"{HEADINGS[name]}={setting_text(values[0])}")
    return found


def _marked(ranks: pd.Series[int], marks: Marks) -> pd.Series[int] | list[str]:
    if not marks.outcomes and not ranks.isna().any():
        return ranks
    found = dict.fromkeys(ranks.index, "")
    for place in ranks.index if marks.outcomes else ():
        found[place] = MARKS[marks.outcomes.get(int(str(place)), "not compared")]
    known = {place: str(rank) for place, rank in ranks.dropna().items()}
    return [f"{found[place]} {known.get(place, NO_RANK)}".strip() for place in ranks.index]


def _by_recipe(frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    if frame.empty:
        return []
    groups = frame.groupby(["loss", "optimizer"], sort=False)
    return [(str(loss), str(optimizer), rows) for (loss, optimizer), rows in groups]


def cost_text(cost: float) -> str:
    """A cost in at most 9 characters: '0.0123', '1.2e-05', '6.1e+30'; '' for none."""
    if math.isnan(cost):
        return ""
    return f"{cost:.4f}" if cost == 0 or 1e-3 <= abs(cost) < 1e4 else f"{cost:.2g}"


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)


def _is_number(column: pd.Series[Any]) -> bool:
    numbers = {*REPORT_COLUMNS, HOLDOUT, "seed", "train_loss", "seconds_per_epoch", *NUMERIC}
    return column.name in (numbers | {*OPTION_DEFAULTS}) - {"person", "device", *OPTION_TEXTS}


def _markdown(value: object) -> str:
    """Text as Markdown shows it: no markup, HTML, mathematics, mention, or link made of it."""
    text = re.sub(r"([\\|`*_<>\[\]~$@]|&(?=[#\w])|:(?=//))", r"\\\1", inert(str(value)))
    return re.sub(r"(?i)\b(www)\.", r"\1\\.", text)
