"""Which figures a sweep gets, made from what the store holds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from lenet_sweep.core.cells import Cell, short_names
from lenet_sweep.core.errors import StoreError
from lenet_sweep.data.test_images import LabeledImages
from lenet_sweep.report import figures, sample_figures
from lenet_sweep.report.histories import trajectory_setting
from lenet_sweep.report.style import save
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.storage.files import make_folder
from lenet_sweep.storage.snapshots import Snapshot

BEST = 100  # cells whose curves figures=best draws together
PAGES = 10  # of misclassified digits that it draws: a network that learned has fewer
PNG_END = b"IEND\xaeB`\x82"  # of a file that is whole
FIRST, EVERY = 2.0, 10.0  # seconds until drawing says how far it has come


@dataclass(frozen=True)
class _Wanted:
    """A figure that is to be drawn. at: where it is among all, in words."""

    path: Path
    make: Callable[[], Figure]
    at: str


def draw(
    sweep: Sweep,
    which: str,
    say: Callable[[str], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> list[Path]:
    """Draw the figures of a sweep's finished cells; the file of each, best cells first.

    Samples are left out if the test images are not available, and `say` gets the reason.
    which: "best" draws the curves of the BEST best cells together, and the cost and up to PAGES
    pages of samples of the very best; "all" draws these of every cell. A figure that is newer than
    the read-out it shows is not drawn again, and figures of other cells are left alone.
    say: takes a line on what is left out, and now and then on how far it has come.
    """
    ranked, store, folder = sweep.finished_cells(), sweep.store, sweep.folder / "figures"
    progress = _Progress(say, clock)
    make_folder(folder)
    cells = ranked if which == "all" else ranked[:BEST]
    overlay, other = folder / "all-cells.png", folder / "best-cells.png"
    if len(cells) < len(ranked):
        overlay, other = other, overlay
        say(f"curves of the best {len(cells)} of {len(ranked)} cells; figures=all draws every one")
    with contextlib.suppress(OSError):  # of a sweep that had fewer cells, or more figures
        other.unlink()
    pages: dict[str, list[Path]] = {}  # the folder is read once: it may hold thousands of files
    for path in sorted(folder.glob("*_misclassified-*.png")):
        pages.setdefault(path.name.rpartition("_misclassified-")[0], []).append(path)
    names = short_names(ranked)
    # One for each run: cells of fewer epochs are part of it.
    curves: dict[str, tuple[Cell, figures.Curve]] = {}
    missing: dict[str, None] = {}
    lost = 0
    paths: list[Path] = []
    wanted: list[_Wanted] = []
    finishing: list[_Wanted] = []
    for place, cell in enumerate(cells):
        at = f"cell {place + 1} of {len(cells)}"
        progress(f"reading {at}")
        run = store.run(cell.run_id)
        readout = run.readout(cell.epochs)
        snapshot = run.read(readout)
        if snapshot is None:  # only results.csv has it
            lost += 1
            continue
        curve = _curve(cell.description, snapshot)
        if cell.run_id not in curves or len(curve.epochs) > len(curves[cell.run_id][1].epochs):
            curves[cell.run_id] = cell, replace(curve, label=names[cell], trace=())
        if place == 0 or which == "all":
            cost = folder / f"{cell.file_name}_cost.png"
            if not _is_newer(cost, readout):
                wanted.append(_Wanted(cost, partial(figures.cost_figure, curve), at))
            paths.append(cost)
            # Drawn when the pages are there, so that it stands for all of them.
            correct = folder / f"{cell.file_name}_correct.png"
            shown = pages.get(cell.file_name, [])
            cut_before = len(shown) == PAGES and which == "all"  # maybe: then they are drawn again
            if cut_before or not _is_newer(correct, readout):
                tests = sweep.test_images.get(cell.dataset, sweep.data_root)
                if tests is None:  # what is there stays: it may have been touched, no more
                    missing.update(sweep.test_images.missing)
                    continue
                for old in shown:
                    old.unlink(missing_ok=True)
                right, wrong = _samples(cell, snapshot, tests, folder)
                if which != "all" and len(wrong) > PAGES:
                    say(
                        f"the first {PAGES} of {len(wrong)} pages of misclassified digits; "
                        "figures=all draws every one"
                    )
                    wrong = dict(list(wrong.items())[:PAGES])
                shown = list(wrong)
                wanted += [_Wanted(path, make, at) for path, make in wrong.items()]
                finishing.append(_Wanted(correct, right, at))
            paths += [correct, *shown]
    for why in missing:
        say(f"test images are not drawn: {why}")
    if lost:
        runs = store.out / "runs"
        say(f"{lost} of {len(cells)} cells have no figures: their runs are not in {runs}")
    if lost and overlay.exists():
        paths.append(overlay)  # it may show curves that are no longer available
    elif len(curves) > 1:
        paths.append(overlay)
        both = partial(figures.overlay_figure, _by_setting(list(curves.values())))
        wanted.append(_Wanted(overlay, both, "all cells"))
    for those in (wanted, finishing):
        _draw(those, progress)
    return paths


def _draw(wanted: Iterable[_Wanted], progress: _Progress) -> None:
    for figure in wanted:
        try:
            save(figure.make(), figure.path)
        except OSError as error:
            raise StoreError(
                f"cannot write {figure.path}: {error.strerror}; the tables are written"
            ) from error
        progress(f"drawing {figure.at}")


class _Progress:
    """Says how far it has come where that takes long."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._say, self._clock = say, clock
        self._due = clock() + FIRST

    def __call__(self, at: str) -> None:
        if self._clock() >= self._due:
            self._due = self._clock() + EVERY
            self._say(f"figures: {at}")


def _by_setting(runs: Sequence[tuple[Cell, figures.Curve]]) -> list[figures.Curve]:
    """A curve for each setting, the mean over its seeds where there are several."""
    groups: dict[Cell, list[tuple[Cell, figures.Curve]]] = {}
    for cell, curve in runs:
        groups.setdefault(trajectory_setting(cell), []).append((cell, curve))
    if len(groups) == len(runs):
        return [curve for _, curve in runs]
    names = short_names([cell.setting for cell, _ in runs])
    return [
        figures.mean_curve(names[group[0][0].setting], [curve for _, curve in group])
        for group in groups.values()
    ]


def _curve(label: str, snapshot: Snapshot) -> figures.Curve:
    return figures.Curve(
        label=label,
        epochs=[epoch.epoch for epoch in snapshot.history],
        cost=[epoch.cost for epoch in snapshot.history],
        accuracy=[epoch.accuracy for epoch in snapshot.history],
        trace=snapshot.trace,
    )


def _samples(
    cell: Cell, snapshot: Snapshot, tests: LabeledImages, folder: Path
) -> tuple[Callable[[], Figure], dict[Path, Callable[[], Figure]]]:
    """What a cell got right, and by file the pages of all that it got wrong."""
    tested = snapshot.predictions[: len(tests.labels)]  # those held out follow
    arrays = (tests.images, tests.labels, tested)
    subject = cell.description
    pages = sample_figures.misclassified_figures(*arrays, subject=subject)
    return partial(
        sample_figures.correct_samples_figure, *arrays, subject=subject, seed=cell.seed
    ), {
        folder / f"{cell.file_name}_misclassified-{number:02d}.png": page
        for number, page in enumerate(pages, start=1)
    }


def _is_newer(figure: Path, readout: Path) -> bool:
    try:
        newer = figure.stat().st_mtime_ns > readout.stat().st_mtime_ns
        return newer and figure.read_bytes().endswith(PNG_END)
    except OSError:
        return False
