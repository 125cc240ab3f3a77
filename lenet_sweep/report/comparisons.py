"""Rows side by side: by recipe, and by learning rate and batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from lenet_sweep.analysis.axes import axes, ordered, varied
from lenet_sweep.analysis.effects import LEARNED
from lenet_sweep.analysis.statistics import OUTCOMES
from lenet_sweep.core.cells import Cell, short_names
from lenet_sweep.core.text import format_setting, pluralize
from lenet_sweep.report.collect import Row
from lenet_sweep.report.compared_items import ComparedItem
from lenet_sweep.report.encodings import stretch
from lenet_sweep.report.page_table import describe_comparison

MAPS = 12  # heatmaps that are shown


@dataclass(frozen=True)
class Recipe:
    """The settings or rows of one loss and optimizer in numbers, as text; '' for none.

    best, interval, setting, compared: of its best one, and how that compares with the best of all.
    """

    name: str
    count: str
    best: str
    interval: str
    setting: str
    compared: str
    middle: str
    failed: str
    pace: str


@dataclass(frozen=True)
class HeatmapCell:
    """A field of a heatmap. shade: 0 to 1, None where there is no accuracy; `text` says why."""

    text: str
    title: str
    shade: float | None
    outcome: str  # of the rows in it the first in the order of OUTCOMES, or ""


@dataclass(frozen=True)
class Heatmap:
    """Mean accuracy by learning rate (rows) and batch size (columns)."""

    name: str
    batches: tuple[str, ...]
    lines: tuple[tuple[str, tuple[HeatmapCell, ...]], ...]


def by_recipe(found: Sequence[ComparedItem]) -> list[tuple[str, list[ComparedItem]]]:
    """The settings or rows of each loss and optimizer, the one with the best of them first."""
    groups: dict[str, list[ComparedItem]] = {}
    for unit in found:
        groups.setdefault(f"{unit.cell.loss} + {unit.cell.optimizer.name}", []).append(unit)
    return list(groups.items())


def recipes(groups: Sequence[tuple[str, Sequence[ComparedItem]]]) -> list[Recipe]:
    """What each recipe has come to."""
    names = short_names([unit.cell for _, found in groups for unit in found])
    return [_recipe(name, found, names) for name, found in groups]


def _recipe(name: str, found: Sequence[ComparedItem], names: dict[Cell, str]) -> Recipe:
    known = [(unit, unit.accuracy) for unit in found if unit.accuracy is not None]
    paces = [unit.mean("seconds_per_epoch") for unit, _ in known]
    best = known[0][0] if known else None  # in the table's order
    return Recipe(
        name=name,
        count=_count(found),
        best=_mean(best) if best else "",
        interval=f"{best.interval.low:.2f} to {best.interval.high:.2f} %"
        if best and best.interval
        else "",
        setting=names[best.cell] if best else "",
        compared=describe_comparison(best.comparison) if best else "",
        middle=f"{median(accuracy for _, accuracy in known):.2f} %" if known else "",
        failed=_not_learned(found),
        pace=f"{median(paces):.2f} s" if paces else "",
    )


def _count(found: Sequence[ComparedItem]) -> str:
    """'12', or for settings '4 (3 seeds each)'."""
    seeds = sorted({len(unit.rows) for unit in found})
    if seeds == [1]:
        return str(len(found))
    each = f"{seeds[0]} seeds each" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    return f"{len(found)} ({each})"


def _mean(unit: ComparedItem) -> str:
    spread = "" if unit.sd is None else f" \N{PLUS-MINUS SIGN} {unit.sd:.2f}"
    return f"{unit.accuracy:.2f}{spread} %"


def _not_learned(found: Sequence[ComparedItem]) -> str:
    thing = "setting" if any(len(unit.rows) > 1 for unit in found) else "row"
    failed = sum(unit.accuracy is None for unit in found)
    poor = sum(unit.accuracy is not None and not unit.has_learned for unit in found)
    seeds = sum(len(unit.rows) - len(unit.known) for unit in found if unit.accuracy is not None)
    parts = [f"{pluralize(failed, thing)} failed"] if failed else []
    parts += [f"{pluralize(poor, thing)} below {LEARNED:g} % or collapsed"] if poor else []
    parts += [f"{pluralize(seeds, 'seed')} failed"] if seeds else []
    return ", ".join(parts) or "none"


def heatmaps(rows: Sequence[Row]) -> tuple[list[Heatmap], int]:
    """Learning rate by batch size, a map for each recipe and number of epochs; how many there are.

    None where only one of the two varies, or neither.
    """
    if not {"lr", "batch"} <= set(varied(row.cell for row in rows)):
        return [], 0
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        name = f"{row.cell.loss} + {row.cell.optimizer.name}"
        groups.setdefault((name, row.cell.epochs), []).append(row)
    heights = [
        float(stretch(row.result.accuracy)) for row in rows if row.result.accuracy is not None
    ]
    low, high = min(heights, default=0.0), max(heights, default=1.0)
    wide = [
        (name, group)
        for name, group in groups.items()
        if len({r.cell.lr for r in group}) > 1 or len({r.cell.batch for r in group}) > 1
    ]
    several = len({epochs for _, epochs in groups}) > 1
    ordered_maps = sorted(wide, key=lambda item: (item[0][0], item[0][1]))
    return [
        _heatmap(f"{name}, {epochs} epoch{'s' * (epochs > 1)}" if several else name, group,
                 low, high)
        for (name, epochs), group in ordered_maps[:MAPS]
    ], len(wide)  # fmt: skip


def _heatmap(name: str, rows: Sequence[Row], low: float, high: float) -> Heatmap:
    lrs = [v for v in reversed(ordered(row.cell.lr for row in rows)) if isinstance(v, float)]
    batches = [v for v in ordered(row.cell.batch for row in rows) if isinstance(v, int)]
    lines = []
    for lr in lrs:
        squares = []
        for batch in batches:
            here = [r for r in rows if r.cell.lr == lr and r.cell.batch == batch]
            squares.append(_square(here, low, high))
        lines.append((format_setting(lr), tuple(squares)))
    return Heatmap(name, tuple(map(format_setting, batches)), tuple(lines))


def _square(rows: Sequence[Row], low: float, high: float) -> HeatmapCell:
    if not rows:
        return HeatmapCell("\N{EN DASH}", "not trained", None, "")
    known = [row.result.accuracy for row in rows if row.result.accuracy is not None]
    if not known:
        return HeatmapCell(rows[0].record["status"], "no accuracy", None, "")
    mean = sum(known) / len(known)
    shade = (float(stretch(mean)) - low) / (high - low) if high > low else 1.0
    count = f"mean of {len(known)} rows, {min(known):.2f} to {max(known):.2f} %"
    title = count if len(known) > 1 else "one row"
    here = {r.outcome for r in rows}
    outcome = next((o for o in OUTCOMES if o in here), "")
    return HeatmapCell(f"{mean:.2f}", title, min(1.0, max(0.0, shade)), outcome)


def what_varies(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Each swept setting with its values, in words."""
    found = []
    for name, values in varied(cells).items():
        texts = [format_setting(value) for value in values]
        if len(texts) > 8:
            texts = [*texts[:7], f"{len(texts) - 7} more"]
        found.append((name, ", ".join(texts)))
    return found


def fixed(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Each setting that all cells share, in words."""
    swept = varied(cells)
    shared = axes(cells[0]) if cells else {}
    return [(name, format_setting(value)) for name, value in shared.items() if name not in swept]
