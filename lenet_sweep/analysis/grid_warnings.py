"""Warnings about the grid: values that change together, the best at an edge, equal losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from lenet_sweep.analysis.axes import Value, axes, describe_setting, ordered, varied
from lenet_sweep.analysis.commands import command
from lenet_sweep.analysis.factors import confounded_groups, connected_groups
from lenet_sweep.analysis.significance import Comparison, compared_thing, describe_leaders, leaders
from lenet_sweep.analysis.statistics import Result
from lenet_sweep.analysis.warning_types import ResultWarning, accuracy_of
from lenet_sweep.config.keys import is_option
from lenet_sweep.config.registry import choice_name, make_choice, option_limits
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.names import short_names
from lenet_sweep.core.text import format_setting, join_words, pluralize

MAX_ALTERNATIVES = 6  # values that a warning lists
NOT_TUNED = ("seed", "dataset.limit", "dataset.size", "holdout")  # numbers that have no best value


def confounded_settings(results: Sequence[Result]) -> Iterable[ResultWarning]:
    """Warn about swept hyperparameters whose effects this grid cannot separate."""
    cells = [r.cell for r in results]
    by_cell = [axes(cell) for cell in cells]
    for group in confounded_groups(cells):
        # An option cannot be crossed with a choice that does not have it.
        names = [name for name in group if all(name in settings for settings in by_cell)]
        if len(names) < 2 or not (combinations := _describe_groups(by_cell, names)):
            continue
        values = varied(cells)
        yield ResultWarning(
            "together",
            f"{join_words(names)} change together: {combinations}. A difference between these "
            f"groups cannot be attributed to {'either' if len(names) == 2 else 'any'} "
            "hyperparameter alone.",
            tuple(cells),
            "caution",
            command(cells, {name: values[name] for name in names}),
        )


def _describe_groups(by_cell: Sequence[Mapping[str, Value]], names: Sequence[str]) -> str:
    """Which values never meet: 'cross_entropy ran only with sgd and nll ran only with adam'."""
    for first in names:
        rest = [name for name in names if name != first]
        groups = connected_groups(
            [settings[first] for settings in by_cell],
            [tuple(settings[n] for n in rest) for settings in by_cell],
        )
        if len(groups) > 1:
            break
    else:  # what cannot be separated are the options that were left out
        return ""
    texts = []
    for a, b in groups:
        values = [describe_setting(first, value) for value in ordered(a)]
        others = [
            ", ".join(describe_setting(n, v) for n, v in zip(rest, level, strict=True))
            for level in _ordered_levels(b)
        ]
        texts.append(f"{_join_alternatives(values)} ran only with {_join_alternatives(others)}")
    return join_words(texts)


def _join_alternatives(texts: Sequence[str]) -> str:
    """'a or b'; beyond MAX_ALTERNATIVES texts, which a search may have sampled, '... or 9 more'."""
    if len(texts) > MAX_ALTERNATIVES:
        texts = [*texts[: MAX_ALTERNATIVES - 1], f"{len(texts) - MAX_ALTERNATIVES + 1} more"]
    return " or ".join(texts)


def _ordered_levels(levels: Iterable[tuple[Value, ...]]) -> list[tuple[Value, ...]]:
    """The distinct combinations of values, sorted by the order of each value."""
    distinct = list(dict.fromkeys(levels))
    columns = [ordered(column) for column in zip(*distinct, strict=True)]
    places = [{value: i for i, value in enumerate(column)} for column in columns]
    return sorted(distinct, key=lambda level: [p[v] for p, v in zip(places, level, strict=True)])


def same_loss(results: Sequence[Result]) -> Iterable[ResultWarning]:
    """Note that cross entropy (of the logits) and NLL (of their log-softmax) are one function."""
    by_cell = {r.cell: r for r in results if r.accuracy is not None}
    cross_entropy, nll = make_choice("loss", "cross_entropy"), make_choice("loss", "nll")
    pairs = [
        (r, by_cell[other])
        for cell, r in by_cell.items()
        if cell.loss == cross_entropy and (other := replace(cell, loss=nll)) in by_cell
    ]
    if not pairs:
        return
    a, b = max(pairs, key=lambda pair: abs(accuracy_of(pair[0]) - accuracy_of(pair[1])))
    largest = abs(accuracy_of(a) - accuracy_of(b))
    known = [
        (x.predictions, y.predictions)
        for x, y in pairs
        if x.predictions is not None and y.predictions is not None
    ]
    differing = sum(int(np.count_nonzero(x != y)) for x, y in known)
    numbers = f"{accuracy_of(a):.2f}% and {accuracy_of(b):.2f}%"
    if a.history and b.history:
        numbers += f", cost {a.history[-1].cost:.6g} and {b.history[-1].cost:.6g}"
    name = short_names([pair[0].cell for pair in pairs])[a.cell]
    agreement = f"all {'predictions' if len(known) == len(pairs) else 'accuracies'} agree"
    if largest > 0 or differing:
        agreement = (
            f"accuracies differ by at most {largest:.2f} points and "
            f"{pluralize(differing, 'prediction')} {'differs' if differing == 1 else 'differ'} in "
            "total, because training amplifies differences in rounding"
        )
    yield ResultWarning(
        "same loss",
        "Cross entropy and NLL (negative log-likelihood) are the same function here, because the "
        f"network ends in log-softmax: in {pluralize(len(pairs), 'pair')} of cells that differ "
        f"only in the loss, {agreement} ({name}: {numbers}).",
        tuple(r.cell for pair in pairs for r in pair),
        "note",
    )


def edges(results: Sequence[Result], compared: Sequence[Comparison]) -> Iterable[ResultWarning]:
    """Warn about each numeric axis of which all leading rows have the same extreme value."""
    top = leaders(compared)
    leading = [r.cell for c in top for r in c.results]
    early = any(r.ended_early for c in top for r in c.results)
    if not leading:
        return
    thing = compared_thing(compared)
    number = "Both" if len(top) == 2 else f"All {len(top)}"
    subject = f"{number} leading {thing}s ({describe_leaders(compared)}) have"
    if len(top) == 1:
        subject = f"The best {thing} has"
    cells = [r.cell for r in results]
    for name, values in varied(cells).items():
        numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if name in NOT_TUNED or len(numbers) < 2 or len(numbers) < len(values):
            continue
        reached = {axes(cell)[name] for cell in leading}
        if reached not in ({numbers[0]}, {numbers[-1]}):
            continue
        (extreme,) = reached
        lowest = extreme == numbers[0]
        if name == "epochs" and early and not lowest:
            continue  # more epochs would train nothing more
        if lowest and (extreme == 0 or (isinstance(extreme, int) and extreme == 1)):
            continue  # there are no smaller values
        if _is_limit(name, extreme, leading):
            continue  # no value beyond it is allowed
        which = "smallest" if lowest else "largest"
        beyond, remedy = _next_value(numbers, lowest=lowest), ""
        if beyond is not None and name in ("lr", "batch", "epochs"):
            remedy = command(cells, {name: ordered([*numbers, beyond])})
        yield ResultWarning(
            "edge",
            f"{subject} the {which} value of {name} in the grid, "
            f"{format_setting(extreme)} (values: "
            f"{join_words([format_setting(v) for v in numbers], 8)}). A better value may lie "
            "beyond it.",
            tuple(leading),
            "caution" if len(numbers) > 2 else "note",
            remedy,
        )


def _is_limit(name: str, value: Value, cells: Sequence[Cell]) -> bool:
    """Whether an option has its smallest or largest allowed value."""
    group, _, _ = name.partition(".")
    return is_option(name) and all(
        value in option_limits(name, choice_name(getattr(cell, group))) for cell in cells
    )


def _next_value(numbers: Sequence[float], *, lowest: bool) -> float | None:
    """The next value beyond the end of an axis, continuing the ratio of its last two values."""
    end, inner = (numbers[0], numbers[1]) if lowest else (numbers[-1], numbers[-2])
    value = float(f"{end * end / inner:.3g}") if inner else 0.0
    if all(isinstance(v, int) for v in numbers):
        value = round(value)
    return value if value > 0 and value not in numbers else None
