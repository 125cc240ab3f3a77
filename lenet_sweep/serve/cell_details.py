"""The details of a cell: its settings, why it failed, and the test images it misclassifies."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from lenet_sweep.analysis.commands import command
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.text import format_option, one_line
from lenet_sweep.data.catalog import OWN_DATASETS
from lenet_sweep.data.test_images import ImageCache
from lenet_sweep.report.confusion import MAX_MATRIX, make_confusion
from lenet_sweep.report.samples import misclassified
from lenet_sweep.report.sprites import make_sprite
from lenet_sweep.results.columns import heading_of
from lenet_sweep.results.manifest import Manifest
from lenet_sweep.results.records import settings_columns
from lenet_sweep.serve.served_folder import UNUSABLE, RefusedError, ServedFolder
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import RunFolder

MAX_SAMPLES = 200  # misclassified images that are shown
MAX_TRACEBACK = 20_000  # characters


class CellDetails:
    """Reads the details of cells.

    data_root: the folder of the images; None for the user's cache. The folder that a sweep.json
    names is not used, because it may lead anywhere.
    """

    def __init__(self, served: ServedFolder, data_root: Path | None) -> None:
        self._served = served
        self._data_root = data_root
        self._images = ImageCache(read_only=True)
        self._lock = threading.Lock()  # one cell at a time

    def read(self, cell: Cell, manifest: Manifest) -> dict[str, Any]:
        """The details as JSON values. What cannot be read is a line in `notes`."""
        values: dict[str, Any] = {
            "settings": _settings(cell),
            "command": _command(cell),
            "notes": [],
            "failure": None,
            "samples": None,
        }
        with self._lock:
            try:
                self._served.inside(manifest.store.out)
                # Not the store's own folder object, which would keep a list of damaged files.
                folder = RunFolder(manifest.store.run_folder(cell.run_id).path)
                self._served.run_folder(folder.path)
                failure = folder.failure()
                snapshot = folder.result(cell) or folder.latest(cell.epochs)
                if failure and not (snapshot and snapshot.epoch == cell.epochs):
                    values["failure"] = _failure(failure)
                if snapshot:
                    values["samples"] = self._samples(cell, snapshot, values["notes"])
                else:
                    values["notes"].append(
                        "No snapshot of this run is in the store yet, so there are no predictions."
                    )
            except RefusedError as refusal:
                values["notes"].append(str(refusal))
            except UNUSABLE as error:
                reason = one_line(str(error))[:300]
                values["notes"].append(f"The run of this cell cannot be read: {reason}")
        return values

    def _samples(self, cell: Cell, snapshot: Snapshot, notes: list[str]) -> dict[str, Any] | None:
        """The misclassified test images of a snapshot; None if there are no images."""
        tests = self._images.get(cell.dataset, self._data_root)
        if tests is None:
            hint = ""
            if cell.dataset.name in OWN_DATASETS:
                hint = (
                    "; to show them, start the server with --data DIR, the folder of these images"
                )
            notes.append(f"The test images of {one_line(cell.data)} are not available{hint}.")
            return None
        labels, names = tests.labels, tests.class_names
        predictions = snapshot.predictions[: len(labels)]
        if predictions.shape != labels.shape or int(predictions.max(initial=0)) >= len(names):
            notes.append("The stored predictions do not match the test images.")
            return None
        wrong = misclassified(labels, predictions)
        # An even sample, so that all classes are shown.
        shown = wrong[np.linspace(0, len(wrong) - 1, min(MAX_SAMPLES, len(wrong))).astype(int)]
        confusion = make_confusion(labels, predictions, names, tests.noun)
        values: dict[str, Any] = {
            "epoch": snapshot.epoch,
            "images": len(labels),
            "wrong": len(wrong),
            "noun": tests.noun,
            "names": [one_line(name) for name in names],
            "inverted": tests.inverted,
            "items": [[int(i), int(labels[i]), int(predictions[i])] for i in shown],
            "sprite": None,
            "confusion": confusion.counts.tolist() if len(names) <= MAX_MATRIX else None,
        }
        if len(shown):
            sprite = make_sprite(tests.images[shown], inverted=tests.inverted)
            values["sprite"] = {"uri": sprite.uri, "columns": sprite.columns, "rows": sprite.rows}
        return values


def _settings(cell: Cell) -> list[tuple[str, str]]:
    """The settings of a cell as pairs of text."""
    return [
        (heading_of(name), one_line(format_option(value)))
        for name, value in settings_columns(cell).items()
        if value is not None
    ]


def _command(cell: Cell) -> str:
    """The command that trains the cell, or '' if it would not fit a line."""
    text = command([cell], {"device": [cell.device], "engine": [cell.engine]})
    return text if text.isprintable() and len(text) < 2000 else ""


def _failure(failure: Any) -> dict[str, Any]:
    return {
        "status": one_line(str(failure.status)),
        "epoch": failure.epoch if isinstance(failure.epoch, int) else 0,
        "reason": one_line(str(failure.reason))[:2000],
        "traceback": str(failure.traceback)[-MAX_TRACEBACK:],
    }
