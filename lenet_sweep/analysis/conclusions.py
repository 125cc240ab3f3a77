"""The plain sentences that open a report, and everything they are drawn from in one piece."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lenet_sweep.analysis.effects import Effects, effects, has_learned
from lenet_sweep.analysis.statistics import (
    ALPHA,
    Comparison,
    Interval,
    Outcome,
    Result,
    Setting,
    by_holdout,
    compare,
    compare_rows,
    compare_settings,
    counts,
    group_by_setting,
    intervals,
)
from lenet_sweep.analysis.warning import ResultWarning, percent
from lenet_sweep.analysis.warnings import find_warnings
from lenet_sweep.core.cells import Cell, short_names
from lenet_sweep.core.text import join_words, pluralize


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a sweep's results say, and what they do not.

    intervals: Wilson's, of each result in its order. comparisons: of settings where one has
    several seeds (`by_seed`), else of rows in the results' order. rows: of rows in any case.
    """

    results: tuple[Result, ...]
    intervals: tuple[Interval | None, ...]
    settings: tuple[Setting, ...]
    rows: tuple[Comparison, ...]
    comparisons: tuple[Comparison, ...]
    by_seed: bool
    effects: Effects
    doubts: tuple[ResultWarning, ...]
    conclusions: tuple[str, ...]

    def __repr__(self) -> str:
        lines = [f"Statistics of {pluralize(len(self.results), 'row')}"]
        lines += [f"  {sentence}" for sentence in self.conclusions]
        lines += [f"  {doubt.severity}: {doubt.sentence}" for doubt in self.doubts]
        return "\n".join(lines)


def analyse(
    results: Sequence[Result], compared_rows: Sequence[Comparison] | None = None
) -> Statistics:
    """All statistics of a sweep. Results come in the order of the table, best first.

    compared_rows: of `compare_rows`, for each result, where they are known; they may be part of the
    comparisons of a larger table.
    """
    found = group_by_setting(results)
    by_seed = any(s.n > 1 for s in found)
    rows = compare_rows(results) if compared_rows is None else tuple(compared_rows)
    compared = compare_settings(found) if by_seed else rows
    shares = effects(results)
    doubted = find_warnings(results, compared)
    return Statistics(
        results=tuple(results),
        intervals=intervals(results),
        settings=found,
        rows=rows,
        comparisons=compared,
        by_seed=by_seed,
        effects=shares,
        doubts=doubted,
        conclusions=conclusions(results, compared, shares, doubted),
    )


def conclusions(
    results: Sequence[Result],
    compared: Sequence[Comparison] | None = None,
    shares: Effects | None = None,
    doubted: Sequence[ResultWarning] | None = None,
) -> tuple[str, ...]:
    """The best and how sure it is, what is tied with it, what matters, what stays open."""
    compared = compare(results) if compared is None else compared
    shares = effects(results) if shares is None else shares
    doubted = find_warnings(results, comparisons=compared) if doubted is None else doubted
    if not any(r.accuracy is not None for r in results):
        return (f"None of {pluralize(len(results), 'cell')} has an accuracy.",)
    names = short_names([c.results[0].cell for c in compared])
    best = [c for c in compared if c.test == "best"]
    sentences: list[str] = []
    for top in best:
        sentences.append(_best(top, names, several=len(best) > 1))
        if by_holdout(results):
            sentences.append(_chosen(top))
        digest = top.results[0].cell.dataset.digest
        rivals = [
            c for c in compared if c is not top and c.results[0].cell.dataset.digest == digest
        ]
        by_seed = any(len(c.results) > 1 for c in compared)
        sentences += _compared(rivals, names, by_seed=by_seed, several=len(best) > 1)
    return (*sentences, *_matters(results, compared, shares), *_open(doubted))


def _best(top: Comparison, names: Mapping[Cell, str], *, several: bool) -> str:
    first = top.results[0]
    where = f" on {first.cell.data}" if several else ""
    name = names[first.cell]
    accuracies = [percent(r) for r in top.results if r.accuracy is not None]
    if len(accuracies) > 1:
        (setting,) = group_by_setting(top.results)
        assert setting.interval is not None
        return (
            f"Best{where}: {name}, {setting.mean:.2f} % on average over {setting.n} seeds "
            f"(95 % interval of the mean {_span(setting.interval)}; standard deviation "
            f"{setting.sd:.2f} points)."
        )
    only = next(r for r in top.results if r.accuracy is not None)
    (interval,) = intervals([only])
    sure = f" (95 % interval {_span(interval)})" if interval else ""
    images = f" of {only.correct.size:,} test images" if only.correct is not None else ""
    return f"Best{where}: {name}, {only.accuracy:.2f} %{images}{sure}."


def _chosen(top: Comparison) -> str:
    known = [r.holdout_accuracy for r in top.results if r.holdout_accuracy is not None]
    mean = "a mean of " if len(known) > 1 else ""
    return (
        f"It was chosen by {mean}{sum(known) / len(known):.2f} % on "
        f"{top.results[0].cell.dataset.holdout or 0:,} training images that were held out, so its "
        "accuracy on the test images is no result of the choice."
    )


def _span(interval: Interval) -> str:
    return f"{interval.low:.2f} to {interval.high:.2f} %"


def _compared(
    rivals: Sequence[Comparison], names: Mapping[Cell, str], *, by_seed: bool, several: bool
) -> Iterable[str]:
    """One sentence that says how many rows have each outcome, and one for what stays undecided."""
    if not rivals:
        return
    thing = "setting" if by_seed else "row"
    parts = []
    for outcome, number in counts(rivals).items():
        group = sorted((c for c in rivals if c.outcome == outcome), key=lambda c: c.difference or 0)
        which = f": {join_words([names[c.results[0].cell] for c in group])}"
        if number == len(rivals) or outcome == "worse":
            which = ""
        if number:
            verb = "is" if number == 1 else "are"
            parts.append(f"{number} {verb} {_OUTCOMES[outcome]}{which}")
    how = "t tests over the seeds" if by_seed else "McNemar's test on the same test images"
    how = f" ({how}, Holm's correction)" if any(c.p is not None for c in rivals) else ""
    where = " on the same test images" if several else ""
    if len(rivals) == 1:
        yield f"The only other {thing}{where} is {_OUTCOMES[rivals[0].outcome]}{how}."
    else:
        yield f"Of {len(rivals)} other {thing}s{where}, {'; '.join(parts)}{how}."
    for outcome in ("inconclusive", "not compared"):
        reasons = dict.fromkeys(c.reason for c in rivals if c.outcome == outcome)
        if reasons:
            yield f"{outcome[0].upper()}{outcome[1:]}: {'; '.join(reasons)}."


_OUTCOMES: Mapping[Outcome, str] = {
    "best": "the best",
    "better": "better than it on the test images",
    "tied": "tied with it",
    "inconclusive": "inconclusive",
    "worse": "worse",
    "not compared": "not compared",
}


def _matters(
    results: Sequence[Result], compared: Sequence[Comparison], shares: Effects
) -> Iterable[str]:
    ranked = [e for e in shares.effects if e.share is not None and e.settings != ("seed",)]
    if not ranked:
        yield from (c.sentence for c in shares.caveats if c.kind == "equal")
        return
    top = ranked[0]
    known = [level for level in top.levels if level.mean is not None]
    low = min(known, key=lambda level: level.mean or 0.0)
    high = max(known, key=lambda level: level.mean or 0.0)
    means = (
        f"on average {high.mean:.2f} % with {_names(top.settings, high.label)}, "
        f"{low.mean:.2f} % with {_names(top.settings, low.label)}"
    )
    if len(shares.effects) == 1:
        yield f"Only {join_words(top.settings)} varied: {means}."
        return
    assert top.share is not None
    if shares.interactions and shares.interactions[0].share > max(top.share, 0.5):
        pair = shares.interactions[0]
        yield (
            f"The combination of {pair.names[0]} and {pair.names[1]} matters most: "
            f"{_share(pair.share)} of the variance. The best value of one depends on the other."
        )
        yield from _dominated(results, shares)
        return
    if top.p is None and all(
        c.outcome in ("best", "tied") for c in compared if c.difference is not None
    ):
        yield (
            "No setting is shown to matter, since all are tied with the best: of what little "
            f"varies the largest share, {_share(top.share)}, is that of {top.name}."
        )
        return
    if all(e.p is not None and e.p >= ALPHA for e in ranked):
        yield (
            f"No setting is shown to matter: even the largest share of the variance, "
            f"{_share(top.share)} for {top.name}, may be chance (F test, p = {top.p:.2g})."
        )
        return
    sentence = f"{_subject(top.settings)} most: {_share(top.share)} of the variance; {means}."
    if len(ranked) > 1 and ranked[1].share is not None:
        sentence = f"{sentence[:-1]}. Next is {ranked[1].name}, {_share(ranked[1].share)}."
    yield sentence
    if shares.interactions and shares.interactions[0].share > top.share:
        pair = shares.interactions[0]
        yield (
            f"More than either, the combination of {pair.names[0]} and {pair.names[1]} counts "
            f"({_share(pair.share)}): the best value of one depends on the other."
        )
    if shares.residual is not None and shares.residual > top.share:
        yield f"But {_share(shares.residual)} of the variance is of none of the settings alone."
    yield from _dominated(results, shares)


def _dominated(results: Sequence[Result], shares: Effects) -> Iterable[str]:
    """What to know where cells that have not learned make up most of the variance."""
    for caveat in shares.caveats:
        if caveat.kind == "dominated":
            yield caveat.sentence
            learned = [r for r in results if has_learned(r)]
            among = [e for e in effects(learned).effects if e.share and e.settings != ("seed",)]
            if len(learned) > 2 and len(among) > 1:
                yield (
                    f"Among the {len(learned)} cells that have learned, {among[0].name} matters "
                    f"most ({_share(among[0].share or 0.0)})."
                )


def _share(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def _subject(names: Sequence[str]) -> str:
    if names[0] == "optimizer" and all(name.startswith("optimizer") for name in names):
        return "optimizer with its options matters" if len(names) > 1 else "optimizer matters"
    if len(names) == 1:
        return f"{names[0]} matters"
    return f"{join_words(names)}, which cannot be told apart, matter"


def _names(names: Sequence[str], label: str) -> str:
    return f"{names[0]} {label}" if len(names) == 1 else label


def _open(doubted: Sequence[ResultWarning]) -> Iterable[str]:
    """What cannot be concluded, for each doubt that stands in the way."""
    reasons = {
        "together": "which of the settings that change together matters",
        "one seed": "that the order would be the same with other seeds",
        "selection": "that the best accuracy would be as high on new images",
        "edge": "that the best value lies inside the grid",
        "still falling": "that the order would be the same after longer training",
        "failed": "anything about the cells without a result",
    }
    found = [reasons[d.kind] for d in doubted if d.kind in reasons and d.severity != "note"]
    if found:
        texts = list(dict.fromkeys(found))
        yield f"This sweep does not show {'; nor '.join(texts)}."
