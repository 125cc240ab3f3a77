"""The data with which the script of the page compares two rows of the ranked table."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lenet_sweep.analysis.axes import axes
from lenet_sweep.core.names import short_names
from lenet_sweep.core.text import format_setting, one_line
from lenet_sweep.data.images import LabeledImages, Labels
from lenet_sweep.report import latex_text
from lenet_sweep.report.collect import Report, Row
from lenet_sweep.report.compared_items import ComparedItem, compared_items
from lenet_sweep.report.histories import Curve, mean_curve
from lenet_sweep.report.sprites import MAX_SIDE, make_sprite
from lenet_sweep.results.columns import STOPPED
from lenet_sweep.results.csv_file import FORMULA_STARTS

MAX_PREDICTIONS: Final = 1_000_000  # characters for the predictions of all rows
MAX_POINTS: Final = 20_000  # epochs of all curves; longer curves keep every k-th and the last one
MAX_PIXELS: Final = 800_000  # of the test images in the sprite


def page_data(report: Report, name: str, *, pictures: bool) -> str:
    """The data as JSON that is safe inside a <script> element.

    name: of the sweep, for the names of saved files. pictures: False leaves out test images.
    """
    items = compared_items(report) if report.statistics else ()
    settings = _settings(report, items)
    errors, comparable = _predictions(report, items)
    content = {
        "name": name,
        "noun": "setting" if report.statistics and report.statistics.by_seed else "row",
        "formulaStarts": FORMULA_STARTS,
        "latex": latex_text.rules(),
        "settings": [*settings],
        "shared": {name: values[0] for name, values in settings.items() if len({*values}) == 1},
        "rows": _rows(items, settings, errors),
        "tests": _tests(report.tests, comparable, pictures=pictures) if report.tests else None,
    }
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def encode_errors(labels: Labels, predictions: Labels) -> str:
    """The misclassified images and their predicted classes, as base64.

    For each misclassified image: its distance from the one before (from -1 for the first), and the
    predicted class. Both are little-endian base-128 numbers, whose bytes except the last have the
    high bit.
    """
    wrong = np.flatnonzero(labels != predictions)
    encoded = bytearray()
    for gap, predicted in zip(np.diff(wrong, prepend=-1), predictions[wrong], strict=True):
        _append_number(encoded, int(gap))
        _append_number(encoded, int(predicted))
    return base64.b64encode(encoded).decode()


def _append_number(encoded: bytearray, number: int) -> None:
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)


def most_informative(correct: NDArray[np.bool_], count: int) -> NDArray[np.intp]:
    """At most `count` images that some rows classify correctly and others do not, in order.

    correct: (rows, images), best row first. The images that separate the most pairs of rows come
    first; a row counts with 1 / its rank, so the best rows count most.
    """
    weights = 1 / np.arange(1, len(correct) + 1)
    right = weights @ correct
    separated = right * (weights.sum() - right)
    mixed = np.flatnonzero(correct.any(axis=0) & ~correct.all(axis=0))
    return np.sort(mixed[np.lexsort((mixed, -separated[mixed]))][:count])


def _settings(report: Report, items: Sequence[ComparedItem]) -> dict[str, list[str]]:
    """All settings by name, each with its value in every item; a dash if an item lacks it."""
    values = [axes(item.cell) for item in items]
    names = dict.fromkeys(name for settings in values for name in settings)
    if report.statistics and report.statistics.by_seed:
        names.pop("seed", None)
    return {
        name: [one_line(format_setting(settings.get(name))) for settings in values]
        for name in names
    }


def _rows(
    items: Sequence[ComparedItem],
    settings: Mapping[str, Sequence[str]],
    errors: Mapping[int, str],
) -> list[dict[str, Any]]:
    """The rows of the ranked table. errors: by the index of a row of the report."""
    names = short_names([item.cell for item in items])
    step = -(-sum(_epochs(item) for item in items) // MAX_POINTS) or 1
    rows = []
    for index, item in enumerate(items):
        reason = _unfinished(item)
        row: dict[str, Any] = {"name": one_line(names[item.cell]), "unfinished": reason}
        if not reason:
            row["settings"] = {
                name: values[index] for name, values in settings.items() if len({*values}) > 1
            }
            row["curve"] = _curve(item, step)
            row["seeds"] = [
                {"seed": row.cell.seed, "errors": errors.get(row.at)} for row in item.measured
            ]
        rows.append(row)
    return rows


def _unfinished(item: ComparedItem) -> str:
    """Why an item cannot be compared, as a sentence; '' if it can."""
    if any(row.record["status"] == STOPPED for row in item.rows):
        return "The search stopped it before its last epoch or seed."
    return "" if item.measured else "It has no accuracy."


def _epochs(item: ComparedItem) -> int:
    return max((len(row.result.history) for row in item.measured), default=0)


def _curve(item: ComparedItem, step: int) -> dict[str, list[float]] | None:
    """Every `step`-th epoch and the last one; of a setting, the means over its seeds."""
    histories = [row.result.history for row in item.measured if row.result.history]
    if not histories:
        return None
    seeds = [
        replace(Curve.of("", history), ended_early=len(history) < item.cell.epochs)
        for history in histories
    ]
    table = mean_curve("", seeds).before_divergence()
    if not table.shape[1]:
        return None
    chosen = np.unique(np.append(np.arange(0, table.shape[1], step), table.shape[1] - 1))
    epochs, costs, accuracies = table[:, chosen]
    return {
        "epochs": [int(epoch) for epoch in epochs],
        "cost": [float(f"{cost:.4g}") for cost in costs],
        "accuracy": [round(float(accuracy), 3) for accuracy in accuracies],
    }


def _predictions(report: Report, items: Sequence[ComparedItem]) -> tuple[dict[int, str], list[Row]]:
    """The encoded predictions by the index of a row, best first while there is space.

    Also returns these rows. Only rows with the test set of the best row have predictions here.
    """
    errors: dict[int, str] = {}
    rows: list[Row] = []
    if report.tests is None or report.best is None:
        return errors, rows
    left = MAX_PREDICTIONS
    for row in (row for item in items if not _unfinished(item) for row in item.measured):
        predictions = row.result.predictions
        if predictions is None or not row.cell.uses_test_set_of(report.best.cell):
            continue
        encoded = encode_errors(report.tests.labels, predictions)
        if len(encoded) <= left:
            left -= len(encoded)
            errors[row.at] = encoded
            rows.append(row)
    return errors, rows


def _tests(tests: LabeledImages, rows: Sequence[Row], *, pictures: bool) -> dict[str, Any]:
    """The test images that the rows classify differently, as many as fit into the sprite."""
    content: dict[str, Any] = {
        "total": len(tests.labels),
        "noun": tests.noun,
        "classes": [one_line(name) for name in tests.class_names],
        "indices": [],
    }
    learned = [row for row in rows if row.result.has_learned]
    compared = [row.result.correct for row in (learned if len(learned) > 1 else rows)]
    known = [correct for correct in compared if correct is not None]
    if not pictures or len(known) < 2:
        return content
    side = min(max(tests.images.shape[1:]), MAX_SIDE)
    chosen = most_informative(np.stack(known), MAX_PIXELS // side**2)
    if not len(chosen):
        return content
    sprite = make_sprite(tests.images[chosen], inverted=tests.inverted)
    return content | {
        "indices": [int(index) for index in chosen],
        "labels": [int(label) for label in tests.labels[chosen]],
        "sprite": {"uri": sprite.uri, "columns": sprite.columns, "rows": sprite.rows},
        "photos": not tests.inverted,
    }
