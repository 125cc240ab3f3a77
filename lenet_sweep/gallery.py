"""Which figures a sweep gets, made from what the store holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lenet_sweep import figures
from lenet_sweep.cells import Cell, distinguish
from lenet_sweep.datasets import load
from lenet_sweep.store import Snapshot, Store, make_folder


def draw(
    ranked: Sequence[Cell], store: Store, folder: Path, data_root: Path | None, which: str
) -> Iterator[Path]:
    """Draw the figures of a sweep's finished cells, best first, and yield the file of each.

    which: "best" draws the samples of the best cell, "all" of every cell. What stands already is
    not drawn again, since a finished cell never changes.
    """
    make_folder(folder)
    names = distinguish(ranked)
    snapshots: list[tuple[Cell, Snapshot]] = []
    for cell in ranked:
        runs = store.run(cell.run_id)
        if snapshot := runs.read(runs.readout(cell.epochs)):
            snapshots.append((cell, snapshot))
    curves = [_curve(names[cell], snapshot) for cell, snapshot in snapshots]
    yield figures.save(figures.overlay_figure(curves), folder / "all-cells.png")
    for (cell, _), curve in zip(snapshots, curves, strict=True):
        path = folder / f"{cell.file_name}_cost.png"
        if not path.exists():
            figures.save(figures.cost_figure(curve), path)
        yield path
    for cell, snapshot in snapshots[: 1 if which == "best" else None]:
        yield from _samples(cell, snapshot, folder, data_root)


def _curve(label: str, snapshot: Snapshot) -> figures.Curve:
    return figures.Curve(
        label=label,
        epochs=[epoch.epoch for epoch in snapshot.history],
        cost=[epoch.cost for epoch in snapshot.history],
        accuracy=[epoch.accuracy for epoch in snapshot.history],
        trace=[(float(position), float(loss)) for position, loss in snapshot.trace],
    )


def _samples(
    cell: Cell, snapshot: Snapshot, folder: Path, data_root: Path | None
) -> Iterator[Path]:
    correct = folder / f"{cell.file_name}_correct.png"
    pages = sorted(folder.glob(f"{cell.file_name}_misclassified-*.png"))
    if not correct.exists():  # drawn last, so that it stands for all of them
        images = load(cell.dataset, data_root)
        arguments = (images.test_images, images.test_labels, snapshot.predictions)
        pages = [
            figures.save(page, folder / f"{cell.file_name}_misclassified-{number:02d}.png")
            for number, page in enumerate(figures.misclassified_figures(*arguments), start=1)
        ]
        figures.save(figures.correct_samples_figure(*arguments, seed=cell.seed), correct)
    yield correct
    yield from pages
