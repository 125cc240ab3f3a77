"""All statistics of a sweep in one object, and the sentences that open its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lenet_sweep.analysis.effects import Effect, Effects, effects
from lenet_sweep.analysis.significance import (
    ALPHA,
    Comparison,
    Outcome,
    compare_rows,
    compare_settings,
    counts,
)
from lenet_sweep.analysis.statistics import (
    Interval,
    Result,
    Setting,
    by_holdout,
    group_by_setting,
    intervals,
)
from lenet_sweep.analysis.statistics_tables import rows_table, settings_table
from lenet_sweep.analysis.warning_types import ResultWarning, accuracy_of
from lenet_sweep.analysis.warnings import find_warnings
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.names import short_names
from lenet_sweep.core.text import join_words, pluralize
from lenet_sweep.results.html_tables import html_list, html_table


@dataclass(frozen=True, eq=False)
class Statistics:
    """The statistics of a sweep.

    intervals: the Wilson interval of each result, in the order of `results`. rows: a comparison of
    each row with the best row. comparisons: of settings if one has several seeds (`by_seed`),
    otherwise the same as `rows`. warnings: the most serious first. conclusions: plain sentences.
    """

    results: tuple[Result, ...]
    intervals: tuple[Interval | None, ...]
    settings: tuple[Setting, ...]
    rows: tuple[Comparison, ...]
    comparisons: tuple[Comparison, ...]
    by_seed: bool
    effects: Effects
    warnings: tuple[ResultWarning, ...]
    conclusions: tuple[str, ...]

    def __repr__(self) -> str:
        lines = [f"Statistics of {pluralize(len(self.results), 'row')}"]
        lines += [f"  {sentence}" for sentence in self.conclusions]
        lines += [f"  {warning.severity}: {warning.sentence}" for warning in self.warnings]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows: conclusions, warnings, and the comparisons as a table."""
        if self.by_seed:
            table = settings_table(self.settings, self.comparisons)
        else:
            table = rows_table(self.results, self.intervals, self.rows)
        warnings = [f"{warning.severity}: {warning.sentence}" for warning in self.warnings]
        return html_list(self.conclusions) + html_list(warnings) + html_table(*table)


def analyse(
    results: Sequence[Result],
    compared_rows: Sequence[Comparison] | None = None,
    *,
    sampled: bool = False,
    others: Sequence[Result] = (),
) -> Statistics:
    """Compute all statistics of a sweep.

    results: in the order of the table, best first. compared_rows: one comparison per result, as
    `compare_rows` returns them, if they are known already; they may come from a larger table.
    sampled: whether a search has sampled the settings, so that they are no grid. others: the other
    rows of a long table. They are not compared, but are part of the grid and count for the effects.
    """
    settings = group_by_setting(results)
    by_seed = any(s.n > 1 for s in settings)
    rows = compare_rows(results) if compared_rows is None else tuple(compared_rows)
    compared = compare_settings(settings) if by_seed else rows
    all_results = [*results, *others]
    shares = effects(all_results)
    warnings = find_warnings(results, compared, sampled=sampled, others=others)
    return Statistics(
        results=tuple(results),
        intervals=intervals(results),
        settings=settings,
        rows=rows,
        comparisons=compared,
        by_seed=by_seed,
        effects=shares,
        warnings=warnings,
        conclusions=_conclusions(all_results, compared, shares, warnings),
    )


def _conclusions(
    results: Sequence[Result],
    compared: Sequence[Comparison],
    shares: Effects,
    warnings: Sequence[ResultWarning],
) -> tuple[str, ...]:
    """Sentences on the best row, how others compare with it, what matters, and what stays open."""
    if not any(r.accuracy is not None for r in results):
        return ("No cell has an accuracy.",)
    by_seed = any(len(c.results) > 1 for c in compared)
    firsts = [c.results[0].cell for c in compared]
    named = short_names([cell.setting if by_seed else cell for cell in firsts])
    names = {cell: named[cell.setting if by_seed else cell] for cell in firsts}
    best = [c for c in compared if c.test == "best"]
    sentences: list[str] = []
    for top in best:
        sentences.append(_best(top, names, several=len(best) > 1))
        if by_holdout(results):
            sentences.append(_chosen_by_holdout(top))
        digest = top.results[0].cell.dataset.digest
        others = [
            c for c in compared if c is not top and c.results[0].cell.dataset.digest == digest
        ]
        sentences += _comparisons(others, names, by_seed=by_seed, several=len(best) > 1)
    return (*sentences, *_effects(results, compared, shares), *_open_questions(warnings))


def _best(top: Comparison, names: Mapping[Cell, str], *, several: bool) -> str:
    first = top.results[0]
    where = f" on {first.cell.data}" if several else ""
    name = names[first.cell]
    accuracies = [accuracy_of(r) for r in top.results if r.accuracy is not None]
    if len(accuracies) > 1:
        (setting,) = group_by_setting(top.results)
        variation = "no confidence interval, because all seeds have the same accuracy"
        if setting.interval:
            variation = (
                f"95% confidence interval of the mean {_range(setting.interval)}; standard "
                f"deviation between seeds {setting.sd:.2f} points"
            )
        return (
            f"Best{where}: {name}, {setting.mean:.2f}% on average over {setting.n} seeds "
            f"({variation})."
        )
    only = next(r for r in top.results if r.accuracy is not None)
    (interval,) = intervals([only])
    confidence = ""
    if interval:
        confidence = (
            f" (95% confidence interval {_range(interval)}, which reflects only the choice of "
            "images)"
        )
    images = f" of {only.correct.size:,} test images" if only.correct is not None else ""
    return f"Best{where}: {name}, {only.accuracy:.2f}%{images}{confidence}."


def _chosen_by_holdout(top: Comparison) -> str:
    held_out = [r.holdout_accuracy for r in top.results if r.holdout_accuracy is not None]
    mean = "mean " if len(held_out) > 1 else ""
    return (
        f"It was chosen for its {mean}accuracy of {sum(held_out) / len(held_out):.2f}% on "
        f"{top.results[0].cell.dataset.holdout or 0:,} training images that were held out, so the "
        "choice does not inflate its accuracy on the test images."
    )


def _range(interval: Interval) -> str:
    return f"{interval.low:.2f} to {interval.high:.2f}%"


def _comparisons(
    others: Sequence[Comparison], names: Mapping[Cell, str], *, by_seed: bool, several: bool
) -> Iterable[str]:
    """How many rows or settings have each outcome, which ones, and why some are inconclusive."""
    if not others:
        return
    thing = "setting" if by_seed else "row"
    groups = {
        outcome: sorted(
            (c for c in others if c.outcome == outcome), key=lambda c: c.difference or 0
        )
        for outcome, number in counts(others).items()
        if number
    }
    parts = [
        f"{len(group)} {'is' if len(group) == 1 else 'are'} {_OUTCOMES[outcome]}"
        for outcome, group in groups.items()
    ]
    test = "t tests over the seeds" if by_seed else "McNemar's test on the same test images"
    tests = ""
    if any(c.p is not None for c in others):
        meaning = "; tied: no significant difference" if "tied" in groups else ""
        tests = f" ({test}, with Holm's correction for multiple comparisons{meaning})"
    where = " on the same test images" if several else ""
    if len(others) == 1:
        yield f"The only other {thing}{where} is {_OUTCOMES[others[0].outcome]}{tests}."
    else:
        counted = f"{', '.join(parts[:-1])}{',' * (len(parts) > 2)} and {parts[-1]}"
        if len(parts) == 1:
            counted = parts[0]
        yield f"Of the {len(others)} other {thing}s{where}, {counted}{tests}."
    for outcome, group in groups.items():
        named = len(group) < len(others) and outcome != "worse"
        listed = join_words([names[c.results[0].cell] for c in group]) if named else ""
        reasons = "; ".join(dict.fromkeys(c.reason for c in group if c.reason))
        if listed or reasons:
            text = ". Reason: ".join(filter(None, [listed, reasons]))
            yield f"{outcome[0].upper()}{outcome[1:]}: {text}."


_OUTCOMES: Mapping[Outcome, str] = {
    "best": "the best",
    "better": "better than it on the test images",
    "tied": "tied with it",
    "inconclusive": "inconclusive",
    "worse": "worse",
    "not compared": "not compared",
}


def _effects(
    results: Sequence[Result], compared: Sequence[Comparison], shares: Effects
) -> Iterable[str]:
    """Which hyperparameters matter, by their shares of the variance between cells."""
    ranked = [e for e in shares.effects if e.share is not None and e.settings != ("seed",)]
    if not ranked:
        yield from (c.sentence for c in shares.caveats if c.kind == "equal")
        return
    top = ranked[0]
    if len(shares.effects) == 1 and _may_matter(top):
        seed = ["the seed"] if len({r.cell.seed for r in results}) > 1 else []
        yield f"Only {join_words([*top.settings, *seed])} varied: the {_mean_accuracies(top)}."
        return
    assert top.share is not None
    if shares.interactions and shares.interactions[0].share > max(top.share, 0.5):
        pair = shares.interactions[0]
        yield (
            f"The combination of {pair.names[0]} and {pair.names[1]} matters most: it explains "
            f"{_percent(pair.share)} of the variance between cells, beyond what each explains "
            "alone. The effect of one depends on the value of the other."
        )
        yield from _dominated(results, shares)
        return
    if top.p is None and all(
        c.outcome in ("best", "tied") for c in compared if c.difference is not None
    ):
        yield (
            "No hyperparameter is shown to matter, because all accuracies are tied with the best. "
            f"{top.name} has the largest {shares.share_name} ({_percent(top.share)}), but there is "
            "little variance to explain."
        )
        return
    if not any(map(_may_matter, ranked)):
        yield (
            f"No hyperparameter is shown to matter: even the largest {shares.share_name}, "
            f"{_percent(top.share)} for {top.name}, may be due to chance (F test against the "
            f"unexplained variance, adjusted p = {top.p:.2g})."
        )
        return
    top, *following = filter(_may_matter, ranked)
    assert top.share is not None
    pronoun = "they explain" if _subject(top.settings).endswith(" matter") else "it explains"
    relative = "" if shares.full else _RELATIVE
    sentence = (
        f"{_subject(top.settings)} most: {pronoun} {_percent(top.share)} of the variance between "
        f"cells{relative}. The {_mean_accuracies(top)}."
    )
    if following and following[0].share is not None:
        sentence += f" Next is {following[0].name} with {_percent(following[0].share)}."
    yield sentence + _larger_by_chance(ranked, top)
    if shares.interactions and shares.interactions[0].share > top.share:
        pair = shares.interactions[0]
        yield (
            f"The combination of {pair.names[0]} and {pair.names[1]} matters even more "
            f"({_percent(pair.share)}): the effect of one depends on the value of the other."
        )
    if shares.residual is not None and shares.residual > top.share:
        pair_too = " or pair of hyperparameters" if shares.interactions else ""
        yield (
            f"{_percent(shares.residual)} of the variance is not explained by any single "
            f"hyperparameter{pair_too}{relative}."
        )
    yield from _dominated(results, shares)


_RELATIVE = " (approximately, because the grid is incomplete)"


def _may_matter(effect: Effect) -> bool:
    """Whether its F test is significant, or there is nothing to test it against."""
    return effect.p is None or effect.p < ALPHA


def _larger_by_chance(ranked: Sequence[Effect], top: Effect) -> str:
    """Sentences on the effects with a larger share than `top`, whose F tests are not significant.

    An effect with many values may have a large share by chance.
    """
    return "".join(
        f" The larger share of {effect.name} ({_percent(effect.share or 0.0)}) may be due to "
        f"chance (adjusted p = {effect.p:.2g})."
        for effect in ranked[: ranked.index(top)]
    )


def _mean_accuracies(effect: Effect) -> str:
    levels = [level for level in effect.levels if level.mean is not None]
    low = min(levels, key=lambda level: level.mean or 0.0)
    high = max(levels, key=lambda level: level.mean or 0.0)
    return (
        f"accuracy averages {high.mean:.2f}% with {_level(effect, high.label)} and "
        f"{low.mean:.2f}% with {_level(effect, low.label)}"
    )


def _level(effect: Effect, label: str) -> str:
    return f"{effect.name} {label}" if len(effect.settings) == 1 else label.replace(", ", " + ")


def _dominated(results: Sequence[Result], shares: Effects) -> Iterable[str]:
    """If cells that did not learn dominate the variance: that, and what matters among the rest."""
    for caveat in shares.caveats:
        if caveat.kind == "dominated":
            yield caveat.sentence
            learned = [r for r in results if r.has_learned]
            among_learned = effects(learned)
            ranked = [e for e in among_learned.effects if e.share and e.settings != ("seed",)]
            if len(learned) < 3 or len(ranked) < 2:
                continue
            among = f"Among the {len(learned)} cells that learned"
            top = next(filter(_may_matter, ranked), None)
            if top is None:
                yield (
                    f"{among}, no hyperparameter is shown to matter: even the largest "
                    f"{among_learned.share_name}, {_percent(ranked[0].share or 0.0)} for "
                    f"{ranked[0].name}, may be due to chance (adjusted p = {ranked[0].p:.2g})."
                )
            else:
                relative = "" if among_learned.full else _RELATIVE
                yield (
                    f"{among}, {top.name} matters most: it explains {_percent(top.share or 0.0)} "
                    f"of their variance{relative}.{_larger_by_chance(ranked, top)}"
                )


def _percent(share: float) -> str:
    return "under 1%" if share < 0.01 else f"{100 * share:.0f}%"


def _subject(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} matters"
    if all(name.startswith(f"{names[0]}.") for name in names[1:]):
        return f"{names[0]} with its options matters"
    return f"{join_words(names)}, which change together, matter"


def _open_questions(warnings: Sequence[ResultWarning]) -> Iterable[str]:
    """One sentence on the conclusions that the warnings rule out."""
    texts = {
        "together": "which of the hyperparameters that change together matters",
        "one seed": "that the order would be the same with other seeds",
        "selection": "that the best accuracy would be as high on new images",
        "edge": "that the best value lies inside the grid",
        "still falling": "that the order would be the same after longer training",
        "search": "what accuracy the cells stopped by the search would have reached",
        "failed": "anything about the cells without a result",
    }
    open_questions = [texts[w.kind] for w in warnings if w.kind in texts and w.severity != "note"]
    if open_questions:
        yield f"This sweep does not show {', or '.join(dict.fromkeys(open_questions))}."
