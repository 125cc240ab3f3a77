"""Collect the learning curves of a sweep: python -m benchmarks.record_curves SWEEP [--out FOLDER].

SWEEP is the folder of a sweep with several seeds and held-out images, outputs/sweeps/<name>. The
sweep may still be running: settings with an unfinished run are left out, and their number is
printed. The result is what benchmarks.curves reads.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.curves import FOLDER, Curves, save_curves
from lenet_sweep.core.cells import Cell, Dataset
from lenet_sweep.core.errors import StoreError
from lenet_sweep.data import datasets
from lenet_sweep.results.manifest import Manifest, read_manifest
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import Store

# The names of the curves, and those of the fields of Epoch.
FIELDS = {
    "train_loss": "cost", "test_accuracy": "accuracy", "test_loss": "test_cost",
    "holdout_accuracy": "holdout_accuracy", "holdout_loss": "holdout_cost",
    "seconds": "seconds", "test_seconds": "test_seconds",
}  # fmt: skip


def collect(manifest: Manifest) -> tuple[Curves, int]:
    """The curves of the finished settings, and the number of the others.

    Raises ValueError if no setting is finished, or the settings differ in their seeds, epochs or
    images.
    """
    by_setting: dict[Cell, dict[int, list[Cell]]] = {}
    for cell in manifest.cells:
        setting = replace(cell.setting, epochs=1)  # a name for all lengths of the setting
        by_setting.setdefault(setting, {}).setdefault(cell.seed, []).append(cell)
    settings = [dict(sorted(runs.items())) for runs in by_setting.values()]
    seeds, epochs, dataset = _common(settings)
    snapshots = [_snapshots(manifest.store, runs) for runs in settings]
    finished = [(r, s) for r, s in zip(settings, snapshots, strict=True) if s]
    if not finished:
        raise ValueError("no setting is finished: wait until all seeds of one are")
    images = datasets.load_dataset(dataset, manifest.data_root)
    curves = Curves(
        settings=tuple(_setting_json(runs) for runs, _ in finished),
        seeds=seeds,
        source=_source(manifest),
        **{name: _curve(field, [s for _, s in finished]) for name, field in FIELDS.items()},
        readouts=np.array(epochs),
        predictions=np.array([[[s.predictions for s in run] for run in s] for _, s in finished]),
        labels=np.concatenate([images.test_labels, images.holdout_labels]),
        test_images=len(images.test_labels),
    )
    return curves, len(settings) - len(finished)


def _common(settings: Sequence[Mapping[int, Sequence[Cell]]]) -> tuple[Any, Any, Dataset]:
    """The seeds, epochs and images of all settings. Raises ValueError if they differ."""
    kinds = {
        (tuple(runs), tuple(sorted(c.epochs for c in cells)), cells[0].dataset)
        for runs in settings
        for cells in runs.values()
    }
    if len(kinds) != 1:
        raise ValueError("the settings differ in their seeds, epochs or images")
    return kinds.pop()


def _snapshots(store: Store, runs: Mapping[int, Sequence[Cell]]) -> list[list[Snapshot]]:
    """By seed and epoch, the snapshots of a setting; [] if a run is not finished."""
    found = []
    for cells in runs.values():
        folder = store.run_folder(cells[0].run_id)
        longest = max(cells, key=lambda cell: cell.epochs)
        if not folder.snapshot_path(longest.epochs).exists():
            return []
        snapshots = [folder.result(cell) for cell in sorted(cells, key=lambda c: c.epochs)]
        found.append([snapshot for snapshot in snapshots if snapshot])
        if len(found[-1]) < len(cells):
            return []
    return found


def _curve(field: str, settings: Sequence[Sequence[Sequence[Snapshot]]]) -> NDArray[np.float64]:
    """(settings, seeds, epochs): a field of Epoch in the history of the last snapshot."""
    values = [[[getattr(e, field) for e in run[-1].history] for run in runs] for runs in settings]
    return np.array(values, np.float64)


def _setting_json(runs: Mapping[int, Sequence[Cell]]) -> dict[str, Any]:
    cells = next(iter(runs.values()))
    values = max(cells, key=lambda cell: cell.epochs).to_json()
    del values["seed"]
    return json.loads(json.dumps(values))  # as it is read back


def _source(manifest: Manifest) -> dict[str, Any]:
    """How the sweep was launched, without the names of people and machines."""
    launch = manifest.launches[0]
    public = {k: v for k, v in launch["environment"].items() if k not in ("person", "host")}
    return {**launch, "environment": public}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.record_curves", description=__doc__)
    parser.add_argument("sweep", type=Path, help="the folder of the sweep")
    parser.add_argument("--out", type=Path, default=FOLDER, help="default: benchmarks/curves")
    options = parser.parse_args(arguments)
    try:
        curves, unfinished = collect(read_manifest(options.sweep))
    except (OSError, ValueError, StoreError) as error:
        print(f"error: {options.sweep}: {error}", file=sys.stderr)
        return 1
    save_curves(curves, options.out)
    size = sum(path.stat().st_size for path in options.out.iterdir() if path.is_file())
    print(
        f"{len(curves.settings)} settings, {len(curves.seeds)} seeds, "
        f"{curves.seconds.shape[-1]} epochs, {size / 1e6:.1f} MB in {options.out}; "
        f"{unfinished} settings are not finished"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
