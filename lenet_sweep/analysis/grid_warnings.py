"""Doubts about the grid: settings that change together, a best value at its edge, equal losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from lenet_sweep.analysis.axes import Value, axes, command, describe_setting, ordered, varied
from lenet_sweep.analysis.factors import meetings, together
from lenet_sweep.analysis.statistics import Comparison, Result, leaders
from lenet_sweep.analysis.warning import ResultWarning, percent
from lenet_sweep.core.cells import short_names
from lenet_sweep.core.text import format_setting, join_words, pluralize

NOT_TUNED = ("seed", "dataset.limit", "holdout")  # numbers without a best value to look for


def together_doubts(results: Sequence[Result]) -> Iterable[ResultWarning]:
    cells = [r.cell for r in results]
    every = [axes(cell) for cell in cells]
    for group in together(cells):
        # An option does not apply to an optimizer that lacks it: there is nothing to cross.
        names = [n for n in group if all(n in each for each in every)]
        if len(names) < 2 or not (crossing := _apart(every, names)):
            continue
        found = varied(cells)
        yield ResultWarning(
            "together",
            f"{join_words(names)} change together: {crossing}. No difference between these can be put "
            f"down to {'either' if len(names) == 2 else 'one'} of them.",
            tuple(cells),
            "caution",
            command(cells, {name: found[name] for name in names}),
        )


def _apart(every: Sequence[Mapping[str, Value]], names: Sequence[str]) -> str:
    """Which values never meet: 'cross_entropy ran only with sgd and nll ran only with adam'."""
    for first in names:
        rest = [name for name in names if name != first]
        groups = meetings([e[first] for e in every], [tuple(e[n] for n in rest) for e in every])
        if len(groups) > 1:
            break
    else:  # options that were left out are what cannot be separated
        return ""
    texts = []
    for a, b in groups:
        values = " or ".join(describe_setting(first, value) for value in ordered(a))
        others = " or ".join(
            ", ".join(describe_setting(n, v) for n, v in zip(rest, level, strict=True))
            for level in _ordered_levels(b)
        )
        texts.append(f"{values} ran only with {others}")
    return join_words(texts)


def _ordered_levels(levels: Iterable[tuple[Value, ...]]) -> list[tuple[Value, ...]]:
    """Distinct combinations of values, by the order of each value."""
    distinct = list(dict.fromkeys(levels))
    columns = [ordered(column) for column in zip(*distinct, strict=True)]
    places = [{value: i for i, value in enumerate(column)} for column in columns]
    return sorted(distinct, key=lambda level: [p[v] for p, v in zip(places, level, strict=True)])


def same_loss(results: Sequence[Result]) -> Iterable[ResultWarning]:
    """Cross entropy takes the logits here, NLL their log-softmax: one function, as rows show."""
    by_cell = {r.cell: r for r in results if r.accuracy is not None}
    pairs = [
        (r, by_cell[other])
        for cell, r in by_cell.items()
        if cell.loss == "cross_entropy" and (other := replace(cell, loss="nll")) in by_cell
    ]
    if not pairs:
        return
    apart = max(abs(percent(a) - percent(b)) for a, b in pairs)
    a, b = max(pairs, key=lambda pair: abs(percent(pair[0]) - percent(pair[1])))
    differing = sum(
        int(np.count_nonzero(x.predictions != y.predictions))
        for x, y in pairs
        if x.predictions is not None and y.predictions is not None
    )
    numbers = f"{percent(a):.2f} % and {percent(b):.2f} %"
    if a.history and b.history:
        numbers += f", cost {a.history[-1].cost:.6g} and {b.history[-1].cost:.6g}"
    name = short_names([pair[0].cell for pair in pairs])[a.cell]
    what = "their rows agree in every prediction"
    if apart > 0 or differing:
        what = (
            f"accuracies differ by at most {apart:.2f} points and "
            f"{pluralize(differing, 'prediction')} {'differs' if differing == 1 else 'differ'}, "
            "which is rounding carried on by the training"
        )
    yield ResultWarning(
        "same loss",
        "Cross entropy and NLL are one function after log-softmax, so they are no choice: in "
        f"{pluralize(len(pairs), 'pair')} of cells that differ in the loss alone, {what} ({name}: "
        f"{numbers}).",
        tuple(r.cell for pair in pairs for r in pair),
        "note",
    )


def edges(results: Sequence[Result], compared: Sequence[Comparison]) -> Iterable[ResultWarning]:
    top = leaders(compared)
    best = [r.cell for c in top for r in c.results]
    if not best:
        return
    thing = "setting" if any(len(c.results) > 1 for c in compared) else "row"
    who = {1: f"The best {thing} has", 2: f"Both leading {thing}s have"}.get(
        len(top), f"All {len(top)} leading {thing}s have"
    )
    cells = [r.cell for r in results]
    for name, values in varied(cells).items():
        numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if name in NOT_TUNED or len(numbers) < 2 or len(numbers) < len(values):
            continue
        reached = {axes(cell)[name] for cell in best}
        if reached not in ({numbers[0]}, {numbers[-1]}):
            continue
        (at,) = reached
        lowest = at == numbers[0]
        if lowest and (at == 0 or (isinstance(at, int) and at == 1)):
            continue  # nothing lies below
        which = "smallest" if lowest else "largest"
        further, remedy = _beyond(numbers, lowest=lowest), ""
        if further is not None and name in ("lr", "batch", "epochs"):
            remedy = command(cells, {name: ordered([*numbers, further])})
        yield ResultWarning(
            "edge",
            f"{who} the {which} {name} of the grid, {format_setting(at)} out of "
            f"{join_words([format_setting(v) for v in numbers], 8)}: a better one may lie beyond.",
            tuple(best),
            "caution" if len(numbers) > 2 else "note",
            remedy,
        )


def _beyond(numbers: Sequence[float], *, lowest: bool) -> float | None:
    """The next value outside the axis, as far from its end as the one before it, in ratio."""
    at, inner = (numbers[0], numbers[1]) if lowest else (numbers[-1], numbers[-2])
    value = float(f"{at * at / inner:.3g}") if inner else 0.0
    if all(isinstance(v, int) for v in numbers):
        value = round(value)
    return value if value > 0 and value not in numbers else None
