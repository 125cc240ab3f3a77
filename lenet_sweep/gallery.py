"""Which figures a sweep gets, made from what the store holds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from lenet_sweep import figures, samples
from lenet_sweep.beside import beside
from lenet_sweep.cells import Cell, distinguish
from lenet_sweep.datasets import load
from lenet_sweep.errors import StoreError
from lenet_sweep.store import Snapshot, Store, make_folder
from lenet_sweep.style import save

BEST = 100  # cells that figures=best draws: a page takes a tenth of a second, and someone's look
PNG_END = b"IEND\xaeB`\x82"  # of a file that is whole
FIRST, EVERY = 2.0, 10.0  # seconds until drawing says how far it has come
FEW = 4  # figures: for fewer another process does not pay


@dataclass(frozen=True)
class _Wanted:
    """A figure that is to be drawn. at: where it is among all, in words."""

    path: Path
    make: Callable[[], Figure]
    at: str = "the last"


def draw(
    ranked: Sequence[Cell],
    store: Store,
    folder: Path,
    data_root: Path | None,
    which: str,
    say: Callable[[str], None],
    *,
    processes: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> list[Path]:
    """Draw the figures of a sweep's finished cells; the file of each, best cells first.

    which: "best" draws the costs of the BEST best cells and the samples of the very best, "all"
    both of every cell. A figure that is newer than the read-out it shows is not drawn again.
    say: takes a line on what is left out, and now and then on how far it has come.
    processes: how many may draw, this one included.
    """
    make_folder(folder)
    cells = ranked if which == "all" else ranked[:BEST]
    overlay, other = folder / "all-cells.png", folder / "best-cells.png"
    if len(cells) < len(ranked):
        overlay, other = other, overlay
        say(f"figures of the best {len(cells)} of {len(ranked)} cells; figures=all draws every one")
    with contextlib.suppress(OSError):  # of a sweep that had fewer cells, or more figures
        other.unlink()
    pages: dict[str, list[Path]] = {}  # the folder is read once: it may hold thousands of files
    for path in folder.glob("*_misclassified-*.png"):
        pages.setdefault(path.name.rpartition("_misclassified-")[0], []).append(path)
    names = distinguish(ranked)
    curves: dict[str, figures.Curve] = {}  # one a run: cells of fewer epochs are part of it
    paths: list[Path] = []
    wanted: list[_Wanted] = []
    for place, cell in enumerate(cells):
        run = store.run(cell.run_id)
        readout = run.readout(cell.epochs)
        snapshot = run.read(readout)
        if snapshot is None:  # damaged since the table was made; the next sweep trains it again
            continue
        curve = _curve(cell.description, snapshot)
        if cell.run_id not in curves or len(curve.epochs) > len(curves[cell.run_id].epochs):
            curves[cell.run_id] = replace(curve, label=names[cell], trace=())
        cost = folder / f"{cell.file_name}_cost.png"
        shown: dict[Path, Callable[[], Figure]] = {cost: partial(figures.cost_figure, curve)}
        if place == 0 or which == "all":
            shown |= _samples(cell, snapshot, folder, data_root)
            for old in pages.get(cell.file_name, []):
                if old not in shown:  # it was of a worse network
                    old.unlink(missing_ok=True)
        paths += shown
        at = f"cell {place + 1} of {len(cells)}"
        wanted += [
            _Wanted(path, make, at) for path, make in shown.items() if not _is_newer(path, readout)
        ]
    if len(curves) > 1:
        paths.append(overlay)
        wanted.append(_Wanted(overlay, partial(figures.overlay_figure, list(curves.values()))))
    _draw_beside(wanted, processes, _Progress(say, clock))
    return paths


def _draw_beside(wanted: Sequence[_Wanted], processes: int, progress: _Progress) -> None:
    """Draw each, those that are far apart in the same process, since neighbours take as long."""
    count = max(1, min(processes, len(wanted) // FEW))
    mine, *others = (wanted[first::count] for first in range(count))
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(beside(partial(_draw, share))) for share in others]
        _draw(mine, progress)
        for end in ends:
            end()


def _draw(wanted: Iterable[_Wanted], progress: _Progress | None = None) -> None:
    for figure in wanted:
        try:
            save(figure.make(), figure.path)
        except OSError as error:
            raise StoreError(
                f"cannot write {figure.path}: {error.strerror}; the tables are written"
            ) from error
        if progress:
            progress(figure.at)


class _Progress:
    """Says how far it has come where that takes long."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._say, self._clock = say, clock
        self._due = clock() + FIRST

    def __call__(self, at: str) -> None:
        if self._clock() >= self._due:
            self._due = self._clock() + EVERY
            self._say(f"drawing figures: now at {at}")


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
) -> dict[Path, Callable[[], Figure]]:
    """The figures of what a cell got right, and of all that it got wrong."""
    images = load(cell.dataset, data_root)
    tested = snapshot.predictions[: len(images.test_labels)]  # those held out follow
    arrays = (images.test_images, images.test_labels, tested)
    subject = cell.description
    correct = partial(samples.correct_samples_figure, *arrays, subject=subject, seed=cell.seed)
    return {folder / f"{cell.file_name}_correct.png": correct} | {
        folder / f"{cell.file_name}_misclassified-{number:02d}.png": page
        for number, page in enumerate(
            samples.misclassified_figures(*arrays, subject=subject), start=1
        )
    }


def _is_newer(figure: Path, readout: Path) -> bool:
    try:
        newer = figure.stat().st_mtime_ns > readout.stat().st_mtime_ns
        return newer and figure.read_bytes().endswith(PNG_END)
    except OSError:
        return False
