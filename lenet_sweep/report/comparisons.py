"""Side-by-side comparisons of the page: recipes, and heatmaps of learning rate by batch size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from lenet_sweep.analysis.axes import axes, ordered, varied
from lenet_sweep.analysis.significance import OUTCOMES
from lenet_sweep.analysis.statistics import describe_min_learned
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.names import short_names
from lenet_sweep.core.text import format_setting, pluralize
from lenet_sweep.report.collect import Row
from lenet_sweep.report.compared_items import ComparedItem
from lenet_sweep.report.encodings import stretch
from lenet_sweep.report.page_table import describe_comparison
from lenet_sweep.results.columns import STOPPED

MAX_HEATMAPS = 12


@dataclass(frozen=True)
class Recipe:
    """The numbers of a recipe as text; '' if there is none.

    count: its settings or rows. best, interval, setting, compared: of its best item, and how that
    one compares with the best of all. median: of the accuracies. not_learned: how many items failed
    or did not learn. pace: seconds per epoch, median.
    """

    name: str
    count: str
    best: str
    interval: str
    setting: str
    compared: str
    median: str
    not_learned: str
    pace: str


@dataclass(frozen=True)
class HeatmapCell:
    """A square of a heatmap.

    shade: from 0 (worst) to 1 (best); None without an accuracy, and `text` says why. outcome: the
    first of OUTCOMES that one of its rows has, or ''.
    """

    text: str
    tooltip: str
    shade: float | None
    outcome: str


@dataclass(frozen=True)
class Heatmap:
    """Mean accuracy by learning rate (rows: label, squares) and batch size (columns)."""

    name: str
    batches: tuple[str, ...]
    rows: tuple[tuple[str, tuple[HeatmapCell, ...]], ...]


def by_recipe(compared: Sequence[ComparedItem]) -> list[tuple[str, list[ComparedItem]]]:
    """The settings or rows of each recipe, in the order of their best items.

    If there are several sets of test images, each of them has its own groups.
    """
    names = _recipe_names([item.cell for item in compared])
    groups: dict[str, list[ComparedItem]] = {}
    for item, name in zip(compared, names, strict=True):
        groups.setdefault(name, []).append(item)
    return list(groups.items())


def _recipe_names(cells: Sequence[Cell]) -> list[str]:
    """The recipe of each cell, with its dataset if they have several sets of test images."""
    sets = {(cell.dataset.name, cell.dataset.digest) for cell in cells}
    names = Counter(name for name, _ in sets)

    def dataset(cell: Cell) -> str:
        name, digest = cell.dataset.name, cell.dataset.digest
        return f" on {name}" if names[name] == 1 else f" on {name} ({digest[:6]})"

    return [
        f"{cell.loss.name} + {cell.optimizer.name}{dataset(cell) if len(sets) > 1 else ''}"
        for cell in cells
    ]


def recipes(groups: Sequence[tuple[str, Sequence[ComparedItem]]]) -> list[Recipe]:
    """The numbers of each recipe. groups: see `by_recipe`."""
    names = short_names([item.cell for _, items in groups for item in items])
    return [_recipe(name, items, names) for name, items in groups]


def _recipe(name: str, items: Sequence[ComparedItem], names: dict[Cell, str]) -> Recipe:
    known = [(item, item.accuracy) for item in items if item.accuracy is not None]
    paces = [item.mean("seconds_per_epoch") for item, _ in known]
    best = known[0][0] if known else None  # items are sorted best first
    return Recipe(
        name=name,
        count=_count(items),
        best=_accuracy(best) if best else "",
        interval=f"{best.interval.low:.2f} to {best.interval.high:.2f}%"
        if best and best.interval
        else "",
        setting=names[best.cell] if best else "",
        compared=describe_comparison(best.comparison) if best else "",
        median=f"{median(accuracy for _, accuracy in known):.2f}%" if known else "",
        not_learned=_not_learned(items),
        pace=f"{median(paces):.2f} s" if paces else "",
    )


def _count(items: Sequence[ComparedItem]) -> str:
    """'12' for rows, '4 (3 seeds each)' for settings."""
    seeds = sorted({len(item.rows) for item in items})
    if seeds == [1]:
        return str(len(items))
    seeds_each = f"{seeds[0]} seeds each" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    return f"{len(items)} ({seeds_each})"


def _accuracy(item: ComparedItem) -> str:
    """'98.50%', or '98.50 ± 0.12%' for a mean over seeds."""
    sd = "" if item.sd is None else f" \N{PLUS-MINUS SIGN} {item.sd:.2f}"
    return f"{item.accuracy:.2f}{sd}%"


def _not_learned(items: Sequence[ComparedItem]) -> str:
    noun = "setting" if any(len(item.rows) > 1 for item in items) else "row"
    unmeasured = [item for item in items if item.accuracy is None]
    stopped = sum(any(row.record["status"] == STOPPED for row in item.rows) for item in unmeasured)
    failed = len(unmeasured) - stopped
    poor = sum(item.accuracy is not None and not item.has_learned for item in items)
    seeds = sum(
        row.result.accuracy is None and row.record["status"] != STOPPED
        for item in items
        if item.accuracy is not None
        for row in item.rows
    )
    parts = [f"{pluralize(stopped, noun)} stopped"] if stopped else []
    parts += [f"{pluralize(failed, noun)} failed"] if failed else []
    limit = describe_min_learned(item.cell for item in items)
    parts += [f"{pluralize(poor, noun)} below {limit} or collapsed"] if poor else []
    parts += [f"{pluralize(seeds, 'seed')} failed"] if seeds else []
    return ", ".join(parts) or "none"


def heatmaps(rows: Sequence[Row]) -> tuple[list[Heatmap], int]:
    """Heatmaps of learning rate by batch size, for each recipe, dataset and number of epochs.

    Returns the first MAX_HEATMAPS, and how many there are: ([], 0) unless both learning rate and
    batch size vary. All heatmaps share one color scale.
    """
    if not {"lr", "batch"} <= set(varied(row.cell for row in rows)):
        return [], 0
    groups: dict[tuple[str, int], list[Row]] = {}
    for row, name in zip(rows, _recipe_names([row.cell for row in rows]), strict=True):
        groups.setdefault((name, row.cell.epochs), []).append(row)
    heights = [
        float(stretch(row.result.accuracy)) for row in rows if row.result.accuracy is not None
    ]
    low, high = min(heights, default=0.0), max(heights, default=1.0)
    useful = [
        (name, group)
        for name, group in groups.items()
        if len({r.cell.lr for r in group}) > 1 or len({r.cell.batch for r in group}) > 1
    ]
    epochs_vary = len({epochs for _, epochs in groups}) > 1

    def title(name: str, epochs: int, group: Sequence[Row]) -> str:
        up_to = "up to " if any(row.result.ended_early for row in group) else ""
        return f"{name}, {up_to}{pluralize(epochs, 'epoch')}" if epochs_vary or up_to else name

    return [
        _heatmap(title(name, epochs, group), group, low, high)
        for (name, epochs), group in sorted(useful, key=lambda entry: entry[0])[:MAX_HEATMAPS]
    ], len(useful)


def _heatmap(name: str, rows: Sequence[Row], low: float, high: float) -> Heatmap:
    lrs = [v for v in reversed(ordered(row.cell.lr for row in rows)) if isinstance(v, float)]
    batches = [v for v in ordered(row.cell.batch for row in rows) if isinstance(v, int)]
    squares = []
    for lr in lrs:
        line = []
        for batch in batches:
            matching = [r for r in rows if r.cell.lr == lr and r.cell.batch == batch]
            line.append(_heatmap_cell(matching, low, high))
        squares.append((format_setting(lr), tuple(line)))
    return Heatmap(name, tuple(map(format_setting, batches)), tuple(squares))


def _heatmap_cell(rows: Sequence[Row], low: float, high: float) -> HeatmapCell:
    """low, high: the range of the color scale, in the units of `stretch`."""
    if not rows:
        return HeatmapCell("\N{EN DASH}", "no result", None, "")
    known = [row.result.accuracy for row in rows if row.result.accuracy is not None]
    if not known:
        return HeatmapCell(rows[0].record["status"], "no accuracy", None, "")
    mean = sum(known) / len(known)
    shade = (float(stretch(mean)) - low) / (high - low) if high > low else 1.0
    tooltip = f"mean of {len(known)} cells, which range from {min(known):.2f} to {max(known):.2f}%"
    if len(known) == 1:
        tooltip = "one cell"
    outcomes = {r.outcome for r in rows}
    outcome = next((o for o in OUTCOMES if o in outcomes), "")
    return HeatmapCell(f"{mean:.2f}", tooltip, min(1.0, max(0.0, shade)), outcome)


def varied_settings(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """The hyperparameters that vary, each with its values as text."""
    varying = []
    for name, values in varied(cells).items():
        texts = [format_setting(value) for value in values]
        if len(texts) > 8:
            texts = [*texts[:7], f"{len(texts) - 7} more"]
        varying.append((name, ", ".join(texts)))
    return varying


def fixed_settings(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """The hyperparameters that all cells share, each with its value as text."""
    swept = varied(cells)
    shared = axes(cells[0]) if cells else {}
    return [(name, format_setting(value)) for name, value in shared.items() if name not in swept]
