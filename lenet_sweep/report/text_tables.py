"""Tables of results for readers: the rows of the terminal as text, in Markdown, and in LaTeX."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_sweep.core.cells import OPTIONAL_SETTINGS
from lenet_sweep.core.text import format_cost, one_line
from lenet_sweep.report import latex
from lenet_sweep.results.columns import (
    EPOCHS_TRAINED,
    HOLDOUT,
    INTERVAL,
    NO_RANK,
    REPORT_COLUMNS,
    SETTINGS,
    STOPPED,
    ended_early,
    has_optional_default,
    heading_of,
    holds_numbers,
    is_partial,
    ranked_by,
    setting_text,
    settings_of,
    shared_options,
    varying,
)
from lenet_sweep.results.ranking import MARKS, NO_COMPARISON, TieMarks, _ranks
from lenet_sweep.results.text_table import TextTable
from lenet_sweep.storage.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd


def write_texts(tables: Sequence[TextTable], folder: Path, stem: str = "results") -> list[Path]:
    """Write the tables to `stem`.md and `stem`.tex; returns the files."""
    texts = {f"{stem}.md": to_markdown(tables), f"{stem}.tex": to_latex(tables, stem)}
    for name, text in texts.items():
        write_atomic(folder / name, text.encode())
    return [folder / name for name in texts]


def to_markdown(tables: Iterable[TextTable]) -> str:
    """The tables in GitHub-flavored Markdown."""
    parts = []
    for title, caption, rows in tables:
        header = [heading_of(name) for name in rows.columns]
        body = [[escape_markdown(value) for value in row] for row in rows.itertuples(index=False)]
        lines = [
            header,
            ["---:" if holds_numbers(str(name)) else "---" for name in rows.columns],
            *body,
        ]
        table_text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"### {title}\n\n{table_text}\n\n{escape_markdown(caption)}\n")
    return "\n".join(parts)


def to_latex(tables: Iterable[TextTable], stem: str = "results") -> str:
    """The tables for a LaTeX document; see `latex.to_latex`."""
    return latex.to_latex(
        (
            latex.Table(
                title,
                caption,
                tuple(heading_of(name) for name in rows.columns),
                tuple(holds_numbers(str(name)) for name in rows.columns),
                tuple(tuple(map(str, row)) for row in rows.itertuples(index=False)),
            )
            for title, caption, rows in tables
        ),
        stem,
    )


def text_tables(frame: pd.DataFrame, marks: TieMarks = NO_COMPARISON) -> list[TextTable]:
    """The ranked table as text, one table per recipe.

    A row is a cell, or if `marks` has settings, a setting with its mean over the seeds. The columns
    of the original report come first, then the settings that vary; constant settings are in the
    caption. Accuracies have two decimals. Ranks count within each table and start with a symbol of
    MARKS, such as '= 2' for a tie.
    """
    by_setting = bool(marks.settings)
    over_seeds = OVER_SEEDS * by_setting
    if any(setting.n > 1 and setting.low is None for setting in marks.settings):
        over_seeds += " No interval is given if all seeds have the same accuracy."
    all_rows = _over_seeds(frame, marks) if by_setting else frame
    settings = [n for n in settings_of(frame.columns) if not (by_setting and n == "seed")]
    tables = []
    for loss, optimizer, rows in _by_recipe(all_rows):
        varied = [name for name in varying(rows) if name in settings]
        constant = [name for name in settings if name not in varied]
        notes = [_constant_settings(rows, constant), *_early_ends(rows), over_seeds, marks.caption]
        tables.append(
            TextTable(
                _recipe_title(loss, optimizer, rows),
                " ".join(filter(None, notes)),
                _recipe_rows(rows, varied, ranked_by(frame), marks),
            )
        )
    return tables


def _recipe_title(loss: str, optimizer: str, rows: pd.DataFrame) -> str:
    """The loss and the optimizer, with the options that all rows share."""
    return " + ".join(
        " ".join([name, *shared_options(rows, f"{group}.")])
        for group, name in (("loss", loss), ("optimizer", optimizer))
    )


def _recipe_rows(
    rows: pd.DataFrame, varied: Sequence[str], ranking: str, marks: TieMarks
) -> pd.DataFrame:
    """The columns of a recipe's table, as text. ranking: the column that ranks the rows."""
    any_failed = bool((rows["status"] != "ok").any())
    early = ended_early(rows)
    columns = ["rank", "accuracy", *([INTERVAL, "seeds"] if marks.settings else [])]
    columns += [*REPORT_COLUMNS[2:], *([HOLDOUT] if HOLDOUT in rows else [])]
    columns += [*([EPOCHS_TRAINED] if early else []), *varied]
    columns += [*(["status"] if any_failed else []), "train_loss", "seconds_per_epoch"]
    columns += ["error"] if any_failed else []
    table = rows[columns].assign(
        rank=_marked(_ranks(rows[ranking].round(9)), marks),
        accuracy=_accuracies(rows),
        lr=rows["lr"].map("{:g}".format),
        train_loss=rows["train_loss"].map(format_cost),
        seconds_per_epoch=rows["seconds_per_epoch"].map(lambda x: _number(x, "{:.2f}")),
        **{
            name: rows[name].map(setting_text)
            for name in varied
            if is_partial(name) or name in OPTIONAL_SETTINGS
        },
    )
    if HOLDOUT in rows:
        table[HOLDOUT] = rows[HOLDOUT].map(lambda x: _number(x, "{:.2f}"))
    if early:
        trained = rows[EPOCHS_TRAINED].astype("float64")
        table[EPOCHS_TRAINED] = trained.map(lambda x: _number(x, "{:.4g}"))
    return table


def _constant_settings(rows: pd.DataFrame, names: Sequence[str]) -> str:
    """'All rows: activation relu, seed 0.'; '' if there are none to mention."""
    constant = [
        " ".join([name, setting_text(rows[name].iloc[0]), *shared_options(rows, f"{name}.")])
        for name in names
        if name in SETTINGS[2:]
        and not rows[name].isna().any()
        and not has_optional_default(rows, name)
    ]
    return f"All rows: {', '.join(constant)}." if constant else ""


def _early_ends(rows: pd.DataFrame) -> Iterator[str]:
    """Sentences on rows with fewer epochs than requested."""
    early = ended_early(rows)
    if early and not rows["patience"].isna().all():
        yield EARLY_END
    if (rows["status"] == STOPPED).any():
        yield STOPPED_ROWS
    if early and HOLDOUT not in rows:
        yield "The test images decided when to stop."


EARLY_END = (
    "Runs with fewer epochs than requested ended early because their accuracy had stopped "
    "improving (patience); their accuracy is that of the last epoch trained."
)
STOPPED_ROWS = 'The search stopped the rows with status "stopped" after the number of epochs shown.'
OVER_SEEDS = (
    "Accuracy: mean \N{PLUS-MINUS SIGN} standard deviation over the seeds. 95% interval: "
    "confidence interval of the mean, which reflects only the variation between seeds."
)


def _over_seeds(frame: pd.DataFrame, marks: TieMarks) -> pd.DataFrame:
    """One row per setting, indexed by the position of one of its cells in `frame`.

    Measured values are means over the seeds with an accuracy.
    """
    import pandas as pd  # noqa: PLC0415 - slow to import; runs start before

    records = frame.to_dict("records")
    names = ("train_loss", "seconds_per_epoch", HOLDOUT)
    measured = [name for name in names if name in frame]
    rows = []
    for setting in marks.settings:
        own = [records[place] for place in setting.places]
        ok = [record for record in own if record["status"] == "ok"]
        seeds = len({record["seed"] for record in own})
        persons = {record["person"] for record in own}
        row = own[0] | {name: _mean(record[name] for record in ok) for name in measured}
        if EPOCHS_TRAINED in frame:
            trained = (record[EPOCHS_TRAINED] for record in ok or own)
            row[EPOCHS_TRAINED] = _mean(number for number in trained if pd.notna(number))
        rows.append(
            row
            | {
                "accuracy": math.nan if setting.mean is None else setting.mean,
                "sd": setting.sd,
                INTERVAL: "" if setting.low is None else f"{setting.low:.2f} to {setting.high:.2f}",
                "seeds": str(seeds) if setting.n == seeds else f"{setting.n} of {seeds}",
                "person": "several" if len(persons) > 1 else own[0]["person"],
                "status": _statuses(own),
                "error": "; ".join(dict.fromkeys(r["error"] for r in own if r["error"])),
            }
        )
    return pd.DataFrame(rows, index=[setting.places[0] for setting in marks.settings])


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else math.nan


def _statuses(own: Sequence[Mapping[Any, Any]]) -> str:
    """'ok', 'diverged' if all seeds diverged, '1 diverged' if some did."""
    failed = Counter(r["status"] for r in own if r["status"] != "ok")
    if sum(failed.values()) < len(own):
        return ", ".join(f"{number} {status}" for status, number in failed.items()) or "ok"
    return ", ".join(failed)


def _accuracies(rows: pd.DataFrame) -> list[str]:
    texts = [_number(accuracy, "{:.2f}") for accuracy in rows["accuracy"]]
    if "sd" not in rows:
        return texts
    sds = [_number(sd, " \N{PLUS-MINUS SIGN} {:.2f}") for sd in rows["sd"].astype("float64")]
    return [text + sd for text, sd in zip(texts, sds, strict=True)]


def _marked(ranks: pd.Series[int], marks: TieMarks) -> pd.Series[int] | list[str]:
    """Ranks with the symbols of their outcomes, and NO_RANK for rows without a rank."""
    if not marks.outcomes and not ranks.isna().any():
        return ranks
    symbols = dict.fromkeys(ranks.index, "")
    for index in ranks.index if marks.outcomes else ():
        symbols[index] = MARKS[marks.outcomes.get(int(str(index)), "not compared")]
    texts = {index: str(rank) for index, rank in ranks.dropna().items()}
    return [f"{symbols[index]} {texts.get(index, NO_RANK)}".strip() for index in ranks.index]


def _by_recipe(frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    if frame.empty:
        return []
    groups = frame.groupby(["loss", "optimizer"], sort=False)
    return [(str(loss), str(optimizer), rows) for (loss, optimizer), rows in groups]


def _number(value: float, template: str) -> str:
    return "" if math.isnan(value) else template.format(value)


def escape_markdown(value: object) -> str:
    """Text that Markdown shows literally: no markup, HTML, math, mentions, or links."""
    text = re.sub(r"([\\|`*_<>\[\]~$@]|&(?=[#\w])|:(?=//))", r"\\\1", one_line(str(value)))
    return re.sub(r"(?i)\b(www)\.", r"\1\\.", text)
