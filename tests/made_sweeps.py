"""Synthetic sweeps: a store as it is after training, without training."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from lenet_sweep.config import grids, validation
from lenet_sweep.core.events import Epoch, Failure
from lenet_sweep.data import datasets
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.runner.outputs import draw_figures
from lenet_sweep.runner.run import run_sweep
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import Store
from lenet_sweep.training.engines.support import NATIVE


def settings(root, out, **axes):
    """Cells and options of a grid on the data in `root`; two underscores in a key are a dot."""
    defaults = {"dataset": "folder", "dataset.root": str(root), "device": "cpu", "epochs": 3}
    values = {key.replace("__", "."): value for key, value in axes.items()}
    return validation.validate_cells(
        grids.grid(defaults | {"out": str(out), "person": "Ada"} | values), NATIVE
    )


def trained(cell, labels, wrong, person="Ada", holdout=None):
    """The snapshot of a cell that predicts the next class for the test images `wrong` (indices)."""
    predictions = labels.copy()
    predictions[wrong] = (labels[wrong] + 1) % 10
    accuracy = 100 * float(np.mean(predictions == labels))
    history = tuple(
        Epoch(n, 2.0 / n, accuracy - 10 / n + 10 / cell.epochs, 0.5, 1.0 + n / 10, 0.1, holdout)
        for n in range(1, cell.epochs + 1)
    )
    held_out = np.zeros(cell.dataset.holdout or 0, np.uint8)
    state = {"weights": np.zeros(8, np.float32)}
    trace = np.array([[0.1, 2.3], [1.0, 0.5]], np.float32)
    return Snapshot(state, np.concatenate([predictions, held_out]), trace, history, person)


def store_all(cells, out, root, wrong, **more):
    """Write a snapshot of each cell; `wrong(n)` gives the images that the n-th cell misses."""
    labels = datasets.load_dataset(replace(cells[0].dataset, holdout=None), Path(root)).test_labels
    for n, cell in enumerate(cells):
        folder = Store(out).run_folder(cell.run_id)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write_snapshot(trained(cell, labels, np.array(wrong(n), int), **more))
        folder.write_description(cell, {"host": "here", "cores": 2, "versions": {"numpy": "1"}})


def fail(cell, out, status="failed", **texts):
    """Write a failure of a cell to the store."""
    values = {"reason": "RuntimeError: no", "traceback": "Traceback: no\n", "person": "Ada"}
    Store(out).run_folder(cell.run_id).write_failure(Failure(status, 1, **(values | texts)))


def launched(cells, options):
    """Run a sweep of these cells without training; results come from the store."""
    return run_sweep(cells, options, (), replace(LOCAL, execute=lambda runs, context: iter(())))


def tracked(root, out, person="Ada"):
    """A sweep for trackers, with figures: two finished cells of 3 epochs, and one that failed."""
    cells, options = settings(
        root, out, lr=[0.1, 0.01, 0.001], clip_norm=[None], name="it", person=person
    )
    store_all(cells[:2], out, root, lambda n: range(n + 1), person=person)
    fail(cells[2], out, person=person)
    result = launched(cells, options)
    draw_figures(result, options, lambda _: None)
    return result.sweep
