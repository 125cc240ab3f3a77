"""Judge the accuracies that a study reported by what was measured for the same settings.

A row is reproduced if one more training of its settings could give the reported accuracy: if that
lies within the 95% prediction interval. docs/reproducing-a-report.md has the rules;
reproduction_tables has the tables of the verdicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt

from lenet_sweep.analysis import t_tests
from lenet_sweep.analysis.statistics import LEVEL, Result, Setting, Z, accuracies, group_by_setting
from lenet_sweep.config.registry import default_lr
from lenet_sweep.config.studies import Claim, Study, StudyRow
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.text import pluralize

FAR = 5.0  # points; a larger margin would confirm anything, a larger miss is a wrong label
NEAR = 0.5  # points; a run that came this close to the reported accuracy has reached it
REPRODUCED, NOT, OPEN = "reproduced", "not reproduced", "inconclusive"
UNMEASURED, UNREPORTED = "not measured", "nothing reported"
RULE = (
    "Reproduced: the reported accuracy lies within the measured mean \N{PLUS-MINUS SIGN} its "
    "margin. This is the 95% prediction interval, which contains the result of one more run of "
    "the same setting with a probability of about 95%."
)


@dataclass(frozen=True, eq=False)
class Verdict:
    """The verdict on a row of a study.

    setting: what was measured; None if nothing was. margin: around the measured mean for one
    more training, in points; None if unknown. difference: reported minus measured mean, in points.
    note: evidence about a row that is far off, and runs that ended early.
    """

    row: StudyRow
    setting: Setting | None
    margin: float | None
    verdict: str
    difference: float | None = None
    note: str = ""

    @property
    def mean(self) -> float | None:
        """The measured mean over the seeds, in percent."""
        return self.setting.mean if self.setting else None

    @property
    def far(self) -> bool:
        """Whether the reported accuracy is so far off that the row is probably mislabeled."""
        return self.verdict == NOT and abs(self.difference or 0.0) > FAR


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its verdict, such as 'holds', and a sentence with the measured numbers."""

    claim: Claim
    verdict: str
    sentence: str


@dataclass(frozen=True, eq=False)
class Reproduction:
    """A study compared with what was measured.

    verdicts: one for each row, claim_results: one for each claim, both in the order of the study.
    """

    study: Study
    verdicts: tuple[Verdict, ...]
    claim_results: tuple[ClaimResult, ...] = ()

    @property
    def headline(self) -> str:
        """The number of rows with each verdict, as a sentence."""
        judged = [v for v in self.verdicts if v.row.reported is not None]
        number = {name: sum(v.verdict == name for v in judged) for name in (REPRODUCED, NOT, OPEN)}
        if not judged:
            return "The study reports no accuracy for any row."
        reproduced = f"{number[REPRODUCED]} of {pluralize(len(judged), 'row')}"
        parts = [f"{reproduced} {'is' if number[REPRODUCED] == 1 else 'are'} reproduced"]
        parts.append(f"{number[NOT]} {'is' if number[NOT] == 1 else 'are'} not")
        if number[OPEN]:
            parts.append(f"{number[OPEN]} {'is' if number[OPEN] == 1 else 'are'} inconclusive")
        if missing := len(judged) - sum(number.values()):
            parts.append(f"{missing} {'has' if missing == 1 else 'have'} no accuracy here")
        return f"{', '.join(parts[:-1])}, and {parts[-1]}."

    @property
    def caption(self) -> str:
        """How to read the verdicts."""
        if all(v.row.reported is None for v in self.verdicts):
            return ""
        by_chance = (1 - LEVEL) * sum(v.verdict in (REPRODUCED, NOT) for v in self.verdicts)
        caption = RULE
        if round(by_chance) >= 1:
            caption += (
                " Even if all reported accuracies were correct, about "
                f"{pluralize(round(by_chance), 'row')} would lie outside by chance."
            )
        inconclusive = [v for v in self.verdicts if v.verdict == OPEN]
        if any(v.margin is not None and v.margin > FAR for v in inconclusive):
            caption += (
                f" ?: inconclusive, because a margin of more than {FAR:g} points would confirm "
                "almost anything."
            )
        if any(v.setting and v.setting.n < 2 for v in inconclusive):
            caption += (
                " ?: inconclusive, because one seed does not show the variation between seeds; "
                "add seed=0,1,2."
            )
        return f"{caption} diff.: reported minus measured accuracy, in points."


def reproduce(study: Study, results: Sequence[Result]) -> Reproduction:
    """Judge each row of a study; results of other cells may explain why a row is far off."""
    settings = group_by_setting(results)
    verdicts = [_judge(row, _measured(row, settings)) for row in study.rows]
    return Reproduction(study, tuple(_note_early_ends(_explain(v, settings)) for v in verdicts))


def prediction_margin(setting: Setting) -> float | None:
    """The margin around the mean that contains one more run with probability LEVEL, in points.

    The larger of two margins, times sqrt(1 + 1/n) for the error of the mean over n seeds. For the
    seeds: Student's t for n - 1 degrees of freedom times their standard deviation, as in a
    prediction interval of a normal sample. For the test images: 1.96 sqrt(p (1 - p) / images),
    because seeds that happen to agree do not remove the sampling error of the images. None if
    there is neither.
    """
    margins = [margin for margin in (sampling_margin(setting), _seed_margin(setting)) if margin]
    return sqrt(1 + 1 / setting.n) * max(margins) if margins else None


def sampling_margin(setting: Setting) -> float | None:
    """The sampling error of the test images at LEVEL, in points; None without their predictions."""
    images = max((r.correct.size for r in setting.results if r.correct is not None), default=0)
    if setting.mean is None or not images:
        return None
    share = min(max(setting.mean / 100, 1 / images), 1 - 1 / images)
    return 100 * Z * sqrt(share * (1 - share) / images)


def _seed_margin(setting: Setting) -> float | None:
    if setting.sd is None:
        return None
    return t_tests.t_quantile(LEVEL, setting.n - 1) * setting.sd


def _measured(row: StudyRow, settings: Iterable[Setting]) -> Setting | None:
    for setting in settings:
        if row.seeded:
            for result in setting.results:
                if result.cell == row.cell:
                    return group_by_setting([result])[0]
        elif setting.cell.setting == row.cell:
            return setting
    return None


def _judge(row: StudyRow, setting: Setting | None) -> Verdict:
    margin = prediction_margin(setting) if setting else None
    if setting is None or setting.mean is None:
        return Verdict(row, setting, None, UNMEASURED)
    if row.reported is None:
        return Verdict(row, setting, margin, UNREPORTED)
    verdict = judge_accuracy(row.reported, setting)
    return Verdict(row, setting, margin, verdict, row.reported - setting.mean)


def judge_accuracy(reported: float, setting: Setting) -> str:
    """REPRODUCED if one more run of a setting could have this accuracy, otherwise NOT.

    OPEN if no margin is known, if it is above FAR, and if a single seed has another accuracy, since
    the variation between seeds is then unknown.
    """
    margin = prediction_margin(setting)
    if margin is None or setting.mean is None:
        return OPEN
    if abs(reported - setting.mean) <= margin:
        return REPRODUCED if margin <= FAR else OPEN
    return NOT if setting.n > 1 else OPEN


def _explain(verdict: Verdict, settings: Iterable[Setting]) -> Verdict:
    """Add a note to a verdict that is far off: what its seeds gave, and which setting would fit."""
    row = verdict.row
    if not verdict.far or verdict.setting is None or row.reported is None:
        return verdict
    measured = sorted(accuracies(verdict.setting.results))
    collapsed = sum(r.collapsed is not None for r in verdict.setting.results)
    values = f"{measured[0]:.2f}"
    values += f" to {measured[-1]:.2f}%" if measured[0] < measured[-1] else "%"
    note = f"{pluralize(len(measured), 'run')} ended at {values}"
    if collapsed:
        some = f"{collapsed} of them " if collapsed < len(measured) else ""
        some = "all " if not some and collapsed > 1 else some
        note += f", {some}predicting one class for nearly all images"
    fell = [r for r in verdict.setting.results if r.history and _fell_from(r, row.reported)]
    if fell:
        peak = max(fell[0].history, key=lambda epoch: epoch.accuracy)
        peak_text = f"one had reached {peak.accuracy:.2f}% after epoch {peak.epoch}"
        return replace(verdict, note=f"{note}; {peak_text}")
    usual_lr = default_lr(row.cell.optimizer)
    candidates = []
    for setting in settings:
        margin = prediction_margin(setting)
        changed = _one_change(row.cell, setting.cell)
        if changed and setting.mean is not None and margin is not None and margin <= FAR:
            distance = abs(row.reported - setting.mean)
            if distance <= margin:
                default = changed == "lr" and setting.cell.lr == usual_lr
                candidates.append((not default, distance, changed, setting, default))
    if not candidates:
        return replace(
            verdict,
            note=f"{note}; no measured setting that differs only in lr, batch, or epochs is "
            f"consistent with the reported {row.reported:.2f}%",
        )
    _, _, name, setting, default = min(candidates, key=lambda candidate: candidate[:2])
    value = getattr(setting.cell, name)
    hint = f", the default of {row.cell.optimizer.name}," if default else ""
    return replace(
        verdict,
        note=f"{note}; {name} {value:g}{hint} gives {setting.mean:.2f}%, which is consistent with "
        f"the reported {row.reported:.2f}%",
    )


def _note_early_ends(verdict: Verdict) -> Verdict:
    """Add a note to a verdict on runs that ended early, which are not those of the report."""
    runs = verdict.setting.results if verdict.setting else ()
    early = [r.history[-1].epoch for r in runs if r.ended_early]
    if not early:
        return verdict
    note = f"{len(early)} of {pluralize(len(runs), 'run')} ended early (patience), after "
    note += f"{min(early)} to {max(early)} epochs" if len(early) > 1 else f"{early[0]} epochs"
    return replace(verdict, note="; ".join(filter(None, [verdict.note, note])))


def _fell_from(result: Result, reported: float) -> bool:
    """Whether a run reached the reported accuracy and ended far below it."""
    peak = max(epoch.accuracy for epoch in result.history)
    return peak >= reported - NEAR and (result.accuracy or 0.0) < reported - FAR


def _one_change(one: Cell, other: Cell) -> str:
    """Which of lr, batch and epochs is the only difference between two settings; '' if none is."""
    changed = [n for n in ("lr", "batch", "epochs") if getattr(one, n) != getattr(other, n)]
    if len(changed) != 1:
        return ""
    (name,) = changed
    return name if other.setting.with_value(name, getattr(one, name)) == one.setting else ""
