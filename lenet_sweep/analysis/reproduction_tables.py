"""Tables of the verdicts on a study: reproduction.csv, and text for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from lenet_sweep.analysis import axes
from lenet_sweep.analysis.reproduction import (
    NOT,
    OPEN,
    REPRODUCED,
    UNMEASURED,
    UNREPORTED,
    Reproduction,
)
from lenet_sweep.analysis.statistics import epochs_text
from lenet_sweep.core.cells import OPTIONAL_SETTINGS, Cell, Choice
from lenet_sweep.core.text import format_setting
from lenet_sweep.results.text_table import TextTable

if TYPE_CHECKING:
    import pandas as pd

SHORT = {REPRODUCED: "yes", NOT: "no", OPEN: "?", UNMEASURED: "not measured", UNREPORTED: ""}
COLUMNS = (
    "study", "row", "loss", "optimizer", "activation", "dataset", "lr", "batch", "epochs",
    "reported", "reported_on", "reported_by", "seeds", "mean", "sd", "low", "high", "difference",
    "verdict", "note", "cell",
)  # fmt: skip
CLAIMS_RULE = (
    "Significant: p < 0.05 in Welch's t test over the seeds, without correction for the number of "
    "pairs. With fewer than three seeds, or without variation between them: a difference beyond "
    "the sampling error of the test images."
)


def reproduction_table(reproductions: Iterable[Reproduction]) -> pd.DataFrame:
    """The content of reproduction.csv: one row per row of a study, with COLUMNS, and those of
    OPTIONAL_SETTINGS that a row changes.

    Accuracies are percent, differences points; low and high are the mean minus and plus its margin.
    """
    reproductions = list(reproductions)
    changed = {
        name
        for reproduction in reproductions
        for v in reproduction.verdicts
        for name in v.row.cell.changed_settings
    }
    added = [name for name in OPTIONAL_SETTINGS if name in changed]
    rows = [
        {
            "study": reproduction.study.title,
            "row": v.row.number,
            "loss": str(v.row.cell.loss),
            "optimizer": str(v.row.cell.optimizer),
            "activation": v.row.cell.activation,
            "dataset": v.row.cell.data,
            "lr": v.row.cell.lr,
            "batch": v.row.cell.batch,
            "epochs": v.row.cell.epochs,
            "reported": v.row.reported,
            "reported_on": v.row.device,
            "reported_by": v.row.person,
            "seeds": v.setting.n if v.setting else 0,
            "mean": v.mean,
            "sd": v.setting.sd if v.setting else None,
            "low": None if v.mean is None or v.margin is None else max(0.0, v.mean - v.margin),
            "high": None if v.mean is None or v.margin is None else min(100.0, v.mean + v.margin),
            "difference": v.difference,
            "verdict": v.verdict,
            "note": v.note,
            "cell": v.row.cell.id,
            **{name: _optional_text(v.row.cell, name) for name in added},
        }
        for reproduction in reproductions
        for v in reproduction.verdicts
    ]
    import pandas as pd  # noqa: PLC0415 - slow to import, and not needed to start a sweep

    return pd.DataFrame(rows, columns=[*COLUMNS, *added])


def verdict_tables(reproduction: Reproduction) -> list[TextTable]:
    """Tables for readers: of its verdicts and, if the study has claims, of these."""
    import pandas as pd  # noqa: PLC0415 - as above

    cells = [v.row.cell for v in reproduction.verdicts]
    settings = {name: [text(c) for c in cells] for name, text in _SETTINGS.items()}
    implied = {"activation", "pool"} - axes.varied(cells).keys()  # by the model
    varied = [
        name for name, texts in settings.items() if len(set(texts)) > 1 and name not in implied
    ]
    if "optimizer" in varied and len({(c.loss, c.optimizer) for c in cells}) == len(
        {c.optimizer for c in cells}
    ):
        varied = [name for name in varied if name != "loss"]  # the optimizer identifies the recipe
    people = any(v.row.person for v in reproduction.verdicts)
    devices = any(v.row.device not in ("", v.row.cell.device) for v in reproduction.verdicts)
    rows = []
    for index, v in enumerate(reproduction.verdicts):
        cell, mean = v.row.cell, v.mean
        line = {"row": str(v.row.number)} | {name: settings[name][index] for name in varied}
        epochs = epochs_text(v.setting.results) if v.setting else str(cell.epochs)
        line |= {"batch": str(cell.batch), "lr": f"{cell.lr:g}", "epochs": epochs}
        line |= {"reported": "" if v.row.reported is None else f"{v.row.reported:.2f}"}
        line |= {"on": v.row.device} if devices else {}
        line |= {"by": v.row.person} if people else {}
        margin = "" if v.margin is None else f" \N{PLUS-MINUS SIGN}{_format_margin(v.margin)}"
        line |= {
            "measured": "" if mean is None else f"{mean:.2f}{margin}",
            "diff.": "" if v.difference is None else f"{v.difference:+.2f}",
            "reproduced": SHORT[v.verdict],
        }
        rows.append(line)
    notes = [f"Row {v.row.number}: {v.note}." for v in reproduction.verdicts if v.note]
    caption = " ".join(filter(None, [reproduction.headline, reproduction.caption, *notes]))
    title = f"Reproduction of '{reproduction.study.title}'"
    tables = [TextTable(title, caption, pd.DataFrame(rows))]
    if reproduction.claim_results:
        claims = [
            {"claim": f.claim.says, "verdict": f.verdict, "measured here": f.sentence}
            for f in reproduction.claim_results
        ]
        title = f"Claims of '{reproduction.study.title}'"
        tables.append(TextTable(title, CLAIMS_RULE, pd.DataFrame(claims)))
    return tables


def _format_margin(points: float) -> str:
    return f"{points:.2f}" if points < 100 else "100"  # no accuracy is further away


def _optional_text(cell: Cell, name: str) -> str:
    value = getattr(cell, name)
    return str(value) if isinstance(value, Choice) else format_setting(value)


_SETTINGS: Mapping[str, Callable[[Cell], str]] = {
    "loss": lambda cell: str(cell.loss),
    "optimizer": lambda cell: str(cell.optimizer),
    "activation": lambda cell: cell.activation,
    **{name: partial(_optional_text, name=name) for name in OPTIONAL_SETTINGS},
    "data": lambda cell: cell.data,
}
