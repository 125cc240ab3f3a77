"""Which figures a sweep gets, made from what the store holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lenet_sweep import figures, samples
from lenet_sweep.cells import Cell, distinguish
from lenet_sweep.datasets import load
from lenet_sweep.errors import StoreError
from lenet_sweep.store import Snapshot, Store, make_folder
from lenet_sweep.style import save as save_figure


def draw(
    ranked: Sequence[Cell], store: Store, folder: Path, data_root: Path | None, which: str
) -> Iterator[Path]:
    """Draw the figures of a sweep's finished cells, best first, and yield the file of each.

    which: "best" draws the samples of the best cell, "all" of every cell. A cell's figures that
    are newer than its read-out are not drawn again.
    """
    make_folder(folder)
    names = distinguish(ranked)
    curves: dict[str, figures.Curve] = {}  # one a run: cells of fewer epochs are part of it
    longest: dict[str, int] = {}
    for cell in ranked:
        longest[cell.run_id] = max(cell.epochs, longest.get(cell.run_id, 0))
    for place, cell in enumerate(ranked):
        run = store.run(cell.run_id)
        readout = run.readout(cell.epochs)
        snapshot = run.read(readout)
        if snapshot is None:  # damaged since the table was made; the next sweep trains it again
            continue
        if cell.epochs == longest[cell.run_id]:
            curves[cell.run_id] = _curve(names[cell], snapshot)
        cost = folder / f"{cell.file_name}_cost.png"
        if not _is_newer(cost, readout):
            save(figures.cost_figure(_curve(cell.description, snapshot)), cost)
        yield cost
        if place == 0 or which == "all":
            if not _is_newer(_last_sample(cell, folder), readout):
                _draw_samples(cell, snapshot, folder, data_root)
            yield _last_sample(cell, folder)
            yield from sorted(folder.glob(f"{cell.file_name}_misclassified-*.png"))
    if len(curves) > 1:
        yield save(figures.overlay_figure(list(curves.values())), folder / "all-cells.png")


def save(figure: Figure, path: Path) -> Path:
    try:
        return save_figure(figure, path)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; the tables are written"
        ) from error


def _curve(label: str, snapshot: Snapshot) -> figures.Curve:
    return figures.Curve(
        label=label,
        epochs=[epoch.epoch for epoch in snapshot.history],
        cost=[epoch.cost for epoch in snapshot.history],
        accuracy=[epoch.accuracy for epoch in snapshot.history],
        trace=[(float(position), float(loss)) for position, loss in snapshot.trace],
    )


def _draw_samples(cell: Cell, snapshot: Snapshot, folder: Path, data_root: Path | None) -> None:
    images = load(cell.dataset, data_root)
    arrays = (images.test_images, images.test_labels, snapshot.predictions)
    for old in folder.glob(f"{cell.file_name}_misclassified-*.png"):
        old.unlink()
    pages = samples.misclassified_figures(*arrays, subject=cell.description)
    for number, page in enumerate(pages, start=1):
        save(page, folder / f"{cell.file_name}_misclassified-{number:02d}.png")
    correct = samples.correct_samples_figure(*arrays, subject=cell.description, seed=cell.seed)
    save(correct, _last_sample(cell, folder))


def _last_sample(cell: Cell, folder: Path) -> Path:
    # Drawn after the misclassified ones, so that it stands for all of them.
    return folder / f"{cell.file_name}_correct.png"


def _is_newer(figure: Path, readout: Path) -> bool:
    return figure.exists() and figure.stat().st_mtime_ns > readout.stat().st_mtime_ns
