"""Which figures a sweep gets, made from what the store holds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from lenet_sweep import figures, samples
from lenet_sweep.cells import Cell, distinguish
from lenet_sweep.datasets import load
from lenet_sweep.errors import StoreError
from lenet_sweep.store import Snapshot, Store, make_folder
from lenet_sweep.style import save as save_figure

BEST = 100  # cells that figures=best draws: a page takes a tenth of a second, and someone's look
PNG_END = b"IEND\xaeB`\x82"  # of a file that is whole
FIRST, EVERY = 2.0, 10.0  # seconds until drawing says how far it has come


def draw(
    ranked: Sequence[Cell],
    store: Store,
    folder: Path,
    data_root: Path | None,
    which: str,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Path]:
    """Draw the figures of a sweep's finished cells, best first, and yield the file of each.

    which: "best" draws the costs of the BEST best cells and the samples of the very best, "all"
    both of every cell. A cell's figures that are newer than its read-out are not drawn again.
    say: takes a line on what is left out, and now and then on how far it has come.
    """
    make_folder(folder)
    names = distinguish(ranked)
    cells = ranked if which == "all" else ranked[:BEST]
    overlay, other = folder / "all-cells.png", folder / "best-cells.png"
    if len(cells) < len(ranked):
        overlay, other = other, overlay
        say(f"figures of the best {len(cells)} of {len(ranked)} cells; figures=all draws every one")
    with contextlib.suppress(OSError):  # of a sweep that had fewer cells, or more figures
        other.unlink()
    pages: dict[str, list[Path]] = {}  # the folder is read once: it may hold thousands of files
    for path in sorted(folder.glob("*_misclassified-*.png")):
        pages.setdefault(path.name.rpartition("_misclassified-")[0], []).append(path)
    save = _Saving(say, clock)
    curves: dict[str, figures.Curve] = {}  # one a run: cells of fewer epochs are part of it
    longest: dict[str, int] = {}
    for cell in cells:
        longest[cell.run_id] = max(cell.epochs, longest.get(cell.run_id, 0))
    for place, cell in enumerate(cells):
        save.at = f"cell {place + 1} of {len(cells)}"
        run = store.run(cell.run_id)
        readout = run.readout(cell.epochs)
        snapshot = run.read(readout)
        if snapshot is None:  # damaged since the table was made; the next sweep trains it again
            continue
        if cell.epochs == longest[cell.run_id]:
            curves[cell.run_id] = replace(_curve(names[cell], snapshot), trace=())
        cost = folder / f"{cell.file_name}_cost.png"
        if not _is_newer(cost, readout):
            save(figures.cost_figure(_curve(cell.description, snapshot)), cost)
        yield cost
        if place == 0 or which == "all":
            if not _is_newer(_last_sample(cell, folder), readout):
                for old in pages.get(cell.file_name, []):
                    old.unlink(missing_ok=True)
                pages[cell.file_name] = _draw_samples(cell, snapshot, folder, data_root, save)
            yield _last_sample(cell, folder)
            yield from pages.get(cell.file_name, [])
    if len(curves) > 1:
        yield save(figures.overlay_figure(list(curves.values())), overlay)


class _Saving:
    """Saves figures, and says how far it has come where that takes long. `at`: where it is."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self.at = ""
        self._say, self._clock = say, clock
        self._count, self._due = 0, clock() + FIRST

    def __call__(self, figure: Figure, path: Path) -> Path:
        try:
            save_figure(figure, path)
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {error.strerror}; the tables are written"
            ) from error
        self._count += 1
        if self._clock() >= self._due:
            self._due = self._clock() + EVERY
            self._say(f"figures drawn: {self._count}, now at {self.at}")
        return path


def _curve(label: str, snapshot: Snapshot) -> figures.Curve:
    return figures.Curve(
        label=label,
        epochs=[epoch.epoch for epoch in snapshot.history],
        cost=[epoch.cost for epoch in snapshot.history],
        accuracy=[epoch.accuracy for epoch in snapshot.history],
        trace=[(float(position), float(loss)) for position, loss in snapshot.trace],
    )


def _draw_samples(
    cell: Cell, snapshot: Snapshot, folder: Path, data_root: Path | None, save: _Saving
) -> list[Path]:
    """The pages of misclassified images that were drawn."""
    images = load(cell.dataset, data_root)
    tested = snapshot.predictions[: len(images.test_labels)]  # those held out follow
    arrays = (images.test_images, images.test_labels, tested)
    pages = [
        save(page, folder / f"{cell.file_name}_misclassified-{number:02d}.png")
        for number, page in enumerate(
            samples.misclassified_figures(*arrays, subject=cell.description), start=1
        )
    ]
    correct = samples.correct_samples_figure(*arrays, subject=cell.description, seed=cell.seed)
    save(correct, _last_sample(cell, folder))
    return pages


def _last_sample(cell: Cell, folder: Path) -> Path:
    # Drawn after the misclassified ones, so that it stands for all of them.
    return folder / f"{cell.file_name}_correct.png"


def _is_newer(figure: Path, readout: Path) -> bool:
    try:
        newer = figure.stat().st_mtime_ns > readout.stat().st_mtime_ns
        return newer and figure.read_bytes().endswith(PNG_END)
    except OSError:
        return False
