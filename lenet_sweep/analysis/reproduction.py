"""Whether a study's reported accuracies hold: each row against what its seeds give here.

The rule, said in docs/reproducing-a-report.md: a row is reproduced if what was reported lies in the
interval in which one more training of the same settings is to be expected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING

from lenet_sweep.analysis import t_tests
from lenet_sweep.analysis.statistics import LEVEL, Result, Setting, Z, accuracies, group_by_setting
from lenet_sweep.config.registry import default_lr
from lenet_sweep.config.studies import Claim, Study, StudyRow
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.text import pluralize

if TYPE_CHECKING:
    import pandas as pd

FAR = 5.0  # points: a wider interval confirms nothing, a larger difference is no scatter of seeds
NEAR = 0.5  # points below what was reported, within which a course has been there
REPRODUCED, NOT, OPEN = "reproduced", "not reproduced", "cannot be told"
UNMEASURED, UNREPORTED = "not measured", "nothing reported"
SHORT = {REPRODUCED: "yes", NOT: "no", OPEN: "?", UNMEASURED: "not measured", UNREPORTED: ""}
COLUMNS = (
    "study", "row", "loss", "optimizer", "activation", "dataset", "lr", "batch", "epochs",
    "reported", "reported_on", "reported_by", "seeds", "mean", "sd", "low", "high", "difference",
    "verdict", "note", "cell",
)  # fmt: skip
RULE = (
    "Reproduced: what was reported lies within the measured mean \N{PLUS-MINUS SIGN}, as 95 % of "
    "further trainings of the same settings do."
)


@dataclass(frozen=True, eq=False)
class Verdict:
    """A row of a study with what was measured, percent and points.

    spread: half the width of the interval of one more training; None without an accuracy.
    difference: reported less the measured mean. note: evidence on a row that is far off.
    """

    row: StudyRow
    setting: Setting | None
    spread: float | None
    verdict: str
    difference: float | None = None
    note: str = ""

    @property
    def mean(self) -> float | None:
        """The mean over the seeds, percent."""
        return self.setting.mean if self.setting else None

    @property
    def far(self) -> bool:
        """Whether the row cannot be as it is labelled."""
        return self.verdict == NOT and abs(self.difference or 0.0) > FAR


@dataclass(frozen=True)
class ClaimResult:
    """A claim with what was measured of it: its verdict in a word or two, and a sentence."""

    claim: Claim
    verdict: str
    sentence: str


@dataclass(frozen=True, eq=False)
class Reproduction:
    """A study held against what was measured: a verdict for each of its rows, in its order.

    findings: on its claims, in their order.
    """

    study: Study
    verdicts: tuple[Verdict, ...]
    findings: tuple[ClaimResult, ...] = ()

    @property
    def headline(self) -> str:
        """How many rows are reproduced, and how many are not."""
        judged = [v for v in self.verdicts if v.row.reported is not None]
        number = {name: sum(v.verdict == name for v in judged) for name in (REPRODUCED, NOT, OPEN)}
        if not judged:
            return "Nothing was reported for any of its rows."
        held = f"{number[REPRODUCED]} of {pluralize(len(judged), 'row')}"
        says = [f"{held} {'is' if number[REPRODUCED] == 1 else 'are'} reproduced"]
        says.append(f"{number[NOT]} {'is' if number[NOT] == 1 else 'are'} not")
        if number[OPEN]:
            says.append(f"of {number[OPEN]} it cannot be told")
        if missing := len(judged) - sum(number.values()):
            says.append(f"{missing} {'has' if missing == 1 else 'have'} no accuracy here")
        return f"{', '.join(says[:-1])}, and {says[-1]}."

    @property
    def caption(self) -> str:
        """How the verdicts are to be read."""
        if all(v.row.reported is None for v in self.verdicts):
            return ""
        by_chance = (1 - LEVEL) * sum(v.verdict in (REPRODUCED, NOT) for v in self.verdicts)
        caveat = f" About {by_chance:.0f} would miss it by chance alone." if by_chance >= 1 else ""
        opened = [v for v in self.verdicts if v.verdict == OPEN]
        if any(v.spread is not None and v.spread > FAR for v in opened):
            caveat += f" ?: seeds that differ so much ({FAR:g} points or more) confirm nothing."
        if any(v.setting and v.setting.n < 2 for v in opened):
            caveat += " ?: outside, but how much seeds differ is not known of one: add seed=0,1,2."
        return RULE + caveat


def reproduce(study: Study, results: Sequence[Result]) -> Reproduction:
    """Judge every row of a study by these results; those of other cells may explain a row."""
    found = group_by_setting(results)
    verdicts = [_judge(row, _measured(row, found)) for row in study.rows]
    return Reproduction(study, tuple(_explained(v, found) for v in verdicts))


def spread(setting: Setting) -> float | None:
    """Half the width of the interval that LEVEL of further trainings fall into, points.

    The larger of two, both times sqrt(1 + 1/n) for the error of the mean itself: of the seeds,
    Student's t times their standard deviation (the prediction interval of a normal sample); and of
    the test images, 1.96 times sqrt(p (1 - p) / images), since seeds that happen to agree do not
    make 10,000 images more. None without an accuracy, or where neither is known.
    """
    known = [sampling(setting), _scatter(setting)]
    widths = [width for width in known if width]
    return sqrt(1 + 1 / setting.n) * max(widths) if widths else None


def sampling(setting: Setting) -> float | None:
    """What LEVEL of other test images may change one accuracy by, points; None without images."""
    images = max((r.correct.size for r in setting.results if r.correct is not None), default=0)
    if setting.mean is None or not images:
        return None
    share = min(max(setting.mean / 100, 1 / images), 1 - 1 / images)
    return 100 * Z * sqrt(share * (1 - share) / images)


def _scatter(setting: Setting) -> float | None:
    if setting.sd is None:
        return None
    return t_tests.t_quantile(LEVEL, setting.n - 1) * setting.sd


def _measured(row: StudyRow, found: Iterable[Setting]) -> Setting | None:
    for setting in found:
        if row.seeded:
            for result in setting.results:
                if result.cell == row.cell:
                    return group_by_setting([result])[0]
        elif setting.cell.setting == row.cell:
            return setting
    return None


def _judge(row: StudyRow, setting: Setting | None) -> Verdict:
    width = spread(setting) if setting else None
    if setting is None or setting.mean is None:
        return Verdict(row, setting, None, UNMEASURED)
    if row.reported is None:
        return Verdict(row, setting, width, UNREPORTED)
    difference = row.reported - setting.mean
    verdict = OPEN
    if width is not None and abs(difference) <= width:
        verdict = REPRODUCED if width <= FAR else OPEN
    elif width is not None and setting.n > 1:  # of one seed nobody knows what another gives
        verdict = NOT
    return Verdict(row, setting, width, verdict, difference)


def _explained(verdict: Verdict, found: Iterable[Setting]) -> Verdict:
    """With the evidence on a row that is far off: what its seeds gave, which setting would fit."""
    row = verdict.row
    if not verdict.far or verdict.setting is None or row.reported is None:
        return verdict
    runs = sorted(accuracies(verdict.setting.results))
    collapsed = sum(r.collapsed is not None for r in verdict.setting.results)
    each = f"{runs[0]:.2f}" + (f" to {runs[-1]:.2f} %" if runs[0] < runs[-1] else " %")
    note = f"{pluralize(len(runs), 'training')} gave {each}"
    note += f", {collapsed} answering one digit to all images" if collapsed else ""
    fell = [r for r in verdict.setting.results if r.history and _fell_from(r, row.reported)]
    if fell:
        peak = max(fell[0].history, key=lambda epoch: epoch.accuracy)
        before = f"after epoch {peak.epoch} one had {peak.accuracy:.2f} %, and lost it again"
        return replace(verdict, note=f"{note}; {before}")
    usual = default_lr(row.cell.optimizer)
    fitting = []
    for setting in found:
        width = spread(setting)
        changed = _one_change(row.cell, setting.cell)
        if changed and setting.mean is not None and width is not None and width <= FAR:
            off = abs(row.reported - setting.mean)
            if off <= width:
                default = changed == "lr" and setting.cell.lr == usual
                fitting.append((not default, off, changed, setting, default))
    if not fitting:
        return replace(verdict, note=f"{note}; no setting measured here explains {row.reported:g}")
    _, _, name, setting, default = min(fitting, key=lambda fit: fit[:2])
    value = getattr(setting.cell, name)
    why = f", {row.cell.optimizer.name}'s default" if default else ""
    return replace(
        verdict,
        note=f"{note}; {row.reported:g} is what {name} {value:g}{why} gives ({setting.mean:.2f} %)",
    )


def _fell_from(result: Result, reported: float) -> bool:
    """Whether a training had what was reported, and ended far below it."""
    peak = max(epoch.accuracy for epoch in result.history)
    return peak >= reported - NEAR and (result.accuracy or 0.0) < reported - FAR


def _one_change(one: Cell, other: Cell) -> str:
    """Which of lr, batch and epochs tells two cells apart, '' if it is not exactly one of them."""
    names = [n for n in ("lr", "batch", "epochs") if getattr(one, n) != getattr(other, n)]
    if len(names) != 1 or replace(other.setting, **{names[0]: getattr(one, names[0])}) != one:
        return ""
    return names[0]


# ---------------------------------------------------------------- tables


def reproduction_table(reproductions: Iterable[Reproduction]) -> pd.DataFrame:
    """reproduction.csv: a row for each row of a study, accuracies in percent, with COLUMNS."""
    rows = [
        {
            "study": reproduction.study.title,
            "row": v.row.number,
            "loss": v.row.cell.loss,
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
            "low": None if v.mean is None or v.spread is None else max(0.0, v.mean - v.spread),
            "high": None if v.mean is None or v.spread is None else min(100.0, v.mean + v.spread),
            "difference": v.difference,
            "verdict": v.verdict,
            "note": v.note,
            "cell": v.row.cell.id,
        }
        for reproduction in reproductions
        for v in reproduction.verdicts
    ]
    import pandas as pd  # noqa: PLC0415 - what begins a sweep does without

    return pd.DataFrame(rows, columns=list(COLUMNS))


def text_tables(reproduction: Reproduction) -> list[tuple[str, str, pd.DataFrame]]:
    """Its verdicts and findings as people read them: title, caption, rows as text, of each."""
    import pandas as pd  # noqa: PLC0415 - as above

    cells = [v.row.cell for v in reproduction.verdicts]
    settings = {name: [text(c) for c in cells] for name, text in _SETTINGS.items()}
    varied = [name for name, texts in settings.items() if len(set(texts)) > 1]
    if "optimizer" in varied and len({(c.loss, c.optimizer) for c in cells}) == len(
        {c.optimizer for c in cells}
    ):
        varied = [name for name in varied if name != "loss"]  # recipes: the optimizer says it all
    people = any(v.row.person for v in reproduction.verdicts)
    devices = any(v.row.device not in ("", v.row.cell.device) for v in reproduction.verdicts)
    rows = []
    for at, v in enumerate(reproduction.verdicts):
        cell, width, mean = v.row.cell, v.spread, v.mean
        line = {"row": str(v.row.number)} | {name: settings[name][at] for name in varied}
        line |= {"batch": str(cell.batch), "lr": f"{cell.lr:g}", "epochs": str(cell.epochs)}
        line |= {"reported": "" if v.row.reported is None else f"{v.row.reported:.2f}"}
        line |= {"on": v.row.device} if devices else {}
        line |= {"by": v.row.person} if people else {}
        wide = "" if width is None else f" \N{PLUS-MINUS SIGN}{_width(width)}"
        line |= {
            "measured": "" if mean is None else f"{mean:.2f}{wide}",
            "diff.": "" if v.difference is None else f"{v.difference:+.2f}",
            "reproduced": SHORT[v.verdict],
        }
        rows.append(line)
    notes = [f"Row {v.row.number}: {v.note}." for v in reproduction.verdicts if v.note]
    caption = " ".join(filter(None, [reproduction.headline, reproduction.caption, *notes]))
    title = f"Reproduction of '{reproduction.study.title}'"
    tables = [(title, caption, pd.DataFrame(rows))]
    if reproduction.findings:
        found = [
            {"claim": f.claim.says, "verdict": f.verdict, "measured here": f.sentence}
            for f in reproduction.findings
        ]
        title = f"Conclusions of '{reproduction.study.title}'"
        tables.append((title, "", pd.DataFrame(found)))
    return tables


def _width(points: float) -> str:
    return f"{points:.2f}" if points < 100 else "100"  # there is no more


_SETTINGS: Mapping[str, Callable[[Cell], str]] = {
    "loss": lambda cell: cell.loss,
    "optimizer": lambda cell: str(cell.optimizer),
    "activation": lambda cell: cell.activation,
    "data": lambda cell: cell.data,
}
