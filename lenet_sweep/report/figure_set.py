"""Chooses and draws the PNG figures of a sweep from the results in the store."""

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

BEST = 100  # cells with a curve if figures=best
PAGES = 10  # pages of misclassified digits if figures=best; enough for a network that learned
PNG_END = b"IEND\xaeB`\x82"  # the last bytes of a complete PNG file
FIRST, EVERY = 2.0, 10.0  # seconds until the first progress message, and between messages


@dataclass(frozen=True)
class _Task:
    """A figure to draw. position: for progress messages, e.g. "cell 1 of 3"."""

    path: Path
    make: Callable[[], Figure]
    position: str


def draw(
    sweep: Sweep,
    which: str,
    on_message: Callable[[str], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> list[Path]:
    """Draw the figures of a sweep's finished cells; returns their paths, best cells first.

    which: "best" draws one figure with the curves of the BEST best cells, and of the single best
    cell its cost and up to PAGES pages of test images; "all" draws all of this for every cell.
    on_message: receives messages about figures that are left out (such as images, if the test
    images are not available) and about progress. clock: seconds.

    A figure that is newer than the snapshot it shows is not drawn again. Figures of other cells are
    left alone. Raises StoreError if a figure cannot be written.
    """
    ranked, store, folder = sweep.finished_cells(), sweep.store, sweep.folder / "figures"
    progress = _Progress(on_message, clock)
    make_folder(folder)
    cells = ranked if which == "all" else ranked[:BEST]
    overlay, outdated = folder / "all-cells.png", folder / "best-cells.png"
    if len(cells) < len(ranked):
        overlay, outdated = outdated, overlay
        on_message(
            f"figures show the curves of the best {len(cells)} of {len(ranked)} cells; "
            "figures=all draws every cell"
        )
    with contextlib.suppress(OSError):  # from when the sweep had fewer cells, or from figures=all
        outdated.unlink()
    pages: dict[str, list[Path]] = {}  # list the folder once: it may hold thousands of files
    for path in sorted(folder.glob("*_misclassified-*.png")):
        pages.setdefault(path.name.rpartition("_misclassified-")[0], []).append(path)
    names = short_names(ranked)
    # One curve per run: cells of fewer epochs are part of it.
    curves: dict[str, tuple[Cell, figures.Curve]] = {}
    missing: dict[str, None] = {}
    lost = 0
    paths: list[Path] = []
    tasks: list[_Task] = []
    final_tasks: list[_Task] = []
    for index, cell in enumerate(cells):
        position = f"cell {index + 1} of {len(cells)}"
        progress(f"reading {position}")
        run = store.run(cell.run_id)
        snapshot_path = run.snapshot_path(cell.epochs)
        snapshot = run.read(snapshot_path)
        if snapshot is None:  # only results.csv has this cell
            lost += 1
            continue
        curve = _curve(cell.description, snapshot)
        if cell.run_id not in curves or len(curve.epochs) > len(curves[cell.run_id][1].epochs):
            curves[cell.run_id] = cell, replace(curve, label=names[cell], trace=())
        if index == 0 or which == "all":
            cost = folder / f"{cell.file_name}_cost.png"
            if not _is_current(cost, snapshot_path):
                tasks.append(_Task(cost, partial(figures.cost_figure, curve), position))
            paths.append(cost)
            # Drawn after the pages, so that a current file means that the pages are complete.
            correct = folder / f"{cell.file_name}_correct.png"
            existing = pages.get(cell.file_name, [])
            maybe_cut = len(existing) == PAGES and which == "all"  # by an earlier figures=best
            if maybe_cut or not _is_current(correct, snapshot_path):
                tests = sweep.test_images.get(cell.dataset, sweep.data_root)
                if tests is None:  # keep existing files: the snapshot may only have been copied
                    missing.update(sweep.test_images.missing)
                    continue
                for old in existing:
                    old.unlink(missing_ok=True)
                draw_correct, draw_pages = _samples(cell, snapshot, tests, folder)
                if which != "all" and len(draw_pages) > PAGES:
                    on_message(
                        f"figures show the first {PAGES} of {len(draw_pages)} pages of "
                        "misclassified digits; figures=all draws every page"
                    )
                    draw_pages = dict(list(draw_pages.items())[:PAGES])
                existing = list(draw_pages)
                tasks += [_Task(path, make, position) for path, make in draw_pages.items()]
                final_tasks.append(_Task(correct, draw_correct, position))
            paths += [correct, *existing]
    for reason in missing:
        on_message(f"no figures of test images: {reason}")
    if lost:
        runs = store.out / "runs"
        on_message(f"{lost} of {len(cells)} cells have no figures: their runs are not in {runs}")
    if lost and overlay.exists():
        paths.append(overlay)  # it may show curves that are no longer available
    elif len(curves) > 1:
        paths.append(overlay)
        make = partial(figures.overlay_figure, _by_setting(list(curves.values())))
        tasks.append(_Task(overlay, make, "all cells"))
    for batch in (tasks, final_tasks):
        _draw(batch, progress)
    return paths


def _draw(tasks: Iterable[_Task], progress: _Progress) -> None:
    for task in tasks:
        try:
            save(task.make(), task.path)
        except OSError as error:
            raise StoreError(
                f"cannot write {task.path}: {error.strerror}; the tables were written"
            ) from error
        progress(f"drawing {task.position}")


class _Progress:
    """Says which step is done, but not more often than every few seconds."""

    def __init__(self, on_message: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._on_message, self._clock = on_message, clock
        self._due = clock() + FIRST

    def __call__(self, step: str) -> None:
        if self._clock() >= self._due:
            self._due = self._clock() + EVERY
            self._on_message(f"figures: {step}")


def _by_setting(runs: Sequence[tuple[Cell, figures.Curve]]) -> list[figures.Curve]:
    """One curve per setting: the mean over its seeds, if it has several."""
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
    """Functions that draw the correct samples, and each page of misclassified images by path."""
    predictions = snapshot.predictions[: len(tests.labels)]  # those of held-out images follow
    arrays = (tests.images, tests.labels, predictions)
    subject = cell.description
    pages = sample_figures.misclassified_figures(*arrays, subject=subject)
    return partial(
        sample_figures.correct_samples_figure, *arrays, subject=subject, seed=cell.seed
    ), {
        folder / f"{cell.file_name}_misclassified-{number:02d}.png": page
        for number, page in enumerate(pages, start=1)
    }


def _is_current(figure: Path, snapshot: Path) -> bool:
    """Whether a figure is a complete file, newer than the snapshot that it shows."""
    try:
        newer = figure.stat().st_mtime_ns > snapshot.stat().st_mtime_ns
        return newer and figure.read_bytes().endswith(PNG_END)
    except OSError:
        return False
