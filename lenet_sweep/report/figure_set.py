"""Chooses and draws the figures of a sweep from the results in the store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lenet_sweep.analysis import loading
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.errors import StoreError
from lenet_sweep.core.events import Epoch
from lenet_sweep.core.names import short_names
from lenet_sweep.data.images import LabeledImages
from lenet_sweep.report import PROGRESS, figures, sample_figures
from lenet_sweep.report.histories import Curve, curves_by_setting
from lenet_sweep.report.search_charts import search_figure
from lenet_sweep.report.search_history import search_history
from lenet_sweep.report.style import ENDS, SCREEN, Layout, render, save, vector_graphics
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.storage import atomic
from lenet_sweep.storage.files import make_folder
from lenet_sweep.storage.snapshots import Snapshot

BEST = 100  # cells with a curve if figures=best
PAGES = 10  # pages of misclassified images if figures=best; enough for a network that learned
FIRST, EVERY = 2.0, 10.0  # seconds until the first progress message, and between messages


@dataclass(frozen=True)
class FigureKind:
    """The file format of figures (png, pdf or svg) and their layout."""

    suffix: str
    layout: Layout

    @property
    def part(self) -> str:
        """The part of a file name that names the layout, such as '-single'; '' for SCREEN."""
        return "" if self.layout is SCREEN else f"-{self.layout.name}"

    @property
    def end(self) -> str:
        """The end of a file name, such as '-single.pdf'."""
        return f"{self.part}.{self.suffix}"

    def is_current(self, figure: Path, snapshot: Path) -> bool:
        """Whether a figure is a complete file, newer than the snapshot that it shows."""
        try:
            newer = figure.stat().st_mtime_ns > snapshot.stat().st_mtime_ns
            return newer and figure.read_bytes().endswith(ENDS[self.suffix])
        except OSError:
            return False


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
    suffix: str = "png",
    layout: Layout = SCREEN,
    clock: Callable[[], float] = time.monotonic,
) -> list[Path]:
    """Draw the figures of a sweep's finished cells, and of its search; returns their paths.

    which: "best" draws one figure with the curves of the BEST best cells, and of the single best
    cell its cost and up to PAGES pages of test images; "all" draws all of this for every cell.
    on_message: receives messages about figures that are left out (such as images, if the test
    images are not available) and about progress. suffix: png, pdf or svg. layout: is part of the
    file names, except SCREEN. clock: seconds.

    A figure that is newer than the snapshot it shows is not drawn again. Figures of other cells are
    left alone. Raises StoreError if a figure cannot be written.
    """
    ranked, store, folder = sweep.finished_cells(), sweep.store, sweep.folder / "figures"
    progress = _Progress(on_message, clock)
    make_folder(folder)
    cells = ranked if which == "all" else ranked[:BEST]
    if len(cells) < len(ranked):
        on_message(
            f"figures show the curves of the best {len(cells)} of {len(ranked)} cells; "
            "figures=all draws every cell"
        )
    kind = FigureKind(suffix, layout)
    plan = _Figures(sweep, folder, on_message, kind, draw_all=which == "all")
    histories: list[tuple[Cell, Sequence[Epoch]]] = []
    for index, cell in enumerate(cells):
        position = f"cell {index + 1} of {len(cells)}"
        progress(f"reading {position}")
        run = store.run_folder(cell.run_id)
        snapshot = run.result(cell)
        if snapshot is None:  # only results.csv has this cell
            continue
        histories.append((cell, snapshot.history))
        if index == 0 or which == "all":
            path = run.snapshot_path(snapshot.epoch)
            plan.add_cell(cell, snapshot, path, position)
    for reason in plan.missing:
        on_message(f"no figures of test images: {reason}")
    if lost := len(cells) - len(histories):
        runs = store.out / "runs"
        on_message(
            f"{lost} of {len(cells)} cells {'has' if lost == 1 else 'have'} no figures: "
            f"{'its run is' if lost == 1 else 'their runs are'} not in {runs}"
        )
    plan.add_overlay(histories, of_all=len(cells) == len(ranked), complete=not lost)
    plan.add_search()
    _draw([*plan.tasks, *plan.final_tasks], kind, progress)
    return plan.paths


class _Figures:
    """The figures of a sweep: the paths of all, and those to draw.

    final_tasks: drawn last, so that a current file means that the pages of its cell are complete.
    missing: why test images are not available.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        on_message: Callable[[str], None],
        kind: FigureKind,
        *,
        draw_all: bool,
    ) -> None:
        self.paths: list[Path] = []
        self.tasks: list[_Task] = []
        self.final_tasks: list[_Task] = []
        self.missing: dict[str, None] = {}
        self._sweep, self._folder = sweep, folder
        self._on_message, self._draw_all, self._kind = on_message, draw_all, kind
        self._pages: dict[str, list[Path]] = {}
        pages = f"*_misclassified{kind.part}-[0-9]*.{kind.suffix}"
        for path in sorted(folder.glob(pages)):  # it may hold thousands of files
            self._pages.setdefault(path.name.rpartition("_misclassified-")[0], []).append(path)

    def add_cell(self, cell: Cell, snapshot: Snapshot, snapshot_path: Path, position: str) -> None:
        """Add the figures of a cell: its cost, and its test images if they are available."""
        kind = self._kind
        cost = self._folder / f"{cell.file_name}_cost{kind.end}"
        if not kind.is_current(cost, snapshot_path):
            curve = Curve.of(cell.description, snapshot.history, snapshot.trace)
            make = partial(figures.cost_figure, curve, kind.layout)
            self.tasks.append(_Task(cost, make, position))
        self.paths.append(cost)
        correct = self._folder / f"{cell.file_name}_correct{kind.end}"
        pages = self._pages.get(cell.file_name, [])
        maybe_cut = len(pages) == PAGES and self._draw_all  # by an earlier figures=best
        if maybe_cut or not kind.is_current(correct, snapshot_path):
            images = self._sweep.test_images
            tests = images.get(cell.dataset, self._sweep.data_root)
            if tests is None:  # keep existing files: the snapshot may only have been copied
                self.missing.update(images.missing)
                return
            for old in pages:
                old.unlink(missing_ok=True)
            draw_correct, draw_pages = _samples(cell, snapshot, tests, self._folder, kind)
            if not self._draw_all and len(draw_pages) > PAGES:
                self._on_message(
                    f"figures show the first {PAGES} of {len(draw_pages)} pages of "
                    "misclassified images; figures=all draws every page"
                )
                draw_pages = dict(list(draw_pages.items())[:PAGES])
            pages = list(draw_pages)
            self.tasks += [_Task(path, make, position) for path, make in draw_pages.items()]
            self.final_tasks.append(_Task(correct, draw_correct, position))
        self.paths += [correct, *pages]

    def add_overlay(
        self, histories: Sequence[tuple[Cell, Sequence[Epoch]]], *, of_all: bool, complete: bool
    ) -> None:
        """Add the figure with the curves of several cells.

        of_all: whether these are all finished cells of the sweep, or the best ones. complete:
        whether none of them lacks its run.
        """
        path, outdated = (self._folder / f"{n}-cells{self._kind.end}" for n in ("all", "best"))
        if not of_all:
            path, outdated = outdated, path
        with contextlib.suppress(OSError):  # from when there were fewer cells, or from figures=all
            outdated.unlink()
        if not complete and path.exists():
            self.paths.append(path)  # it may show curves that are no longer available
        elif len({cell.run_id for cell, _ in histories}) > 1:
            self.paths.append(path)
            make = partial(figures.overlay_figure, _labeled_curves(histories), self._kind.layout)
            self.tasks.append(_Task(path, make, "all cells"))

    def add_search(self) -> None:
        """Add the figure of the search, if there was one."""
        path, sweep = self._folder / f"search{self._kind.end}", self._sweep
        if history := search_history(sweep.table, loading.sources(sweep, sweep.table)):
            self.paths.append(path)
            make = partial(search_figure, history, self._kind.layout)
            self.tasks.append(_Task(path, make, "the search"))
        else:  # the search may have been followed by the full grid
            path.unlink(missing_ok=True)


def _draw(tasks: Sequence[_Task], kind: FigureKind, progress: _Progress) -> None:
    """Draw figures and write them in the same order, each one while the next one is drawn.

    Compressing a PNG takes a third of the time, and does not hold the interpreter's lock.
    """
    layout = kind.layout
    with ThreadPoolExecutor(1) as pool:
        writing: Future[None] | None = None
        for task in tasks:
            write: Callable[[], object]
            if kind.suffix == "png":
                pixels = render(task.make(), layout)
                write = partial(save, pixels, task.path, layout.dpi)
            else:
                content = vector_graphics(task.make(), kind.suffix, layout)
                write = partial(atomic.replace_file, task.path, content)
            if writing:
                writing.result()  # if it failed, no later figure is written
            writing = pool.submit(_write, write, task.path)
            progress(f"drawing {task.position}")
        if writing:
            writing.result()


def _write(write: Callable[[], object], path: Path) -> None:
    try:
        write()
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; the tables were written"
        ) from error


def _labeled_curves(histories: Sequence[tuple[Cell, Sequence[Epoch]]]) -> list[Curve]:
    """The curves of the settings; labels name the seed if no setting has several."""
    curves = curves_by_setting(histories)
    runs = {cell.run_id for cell, _ in histories}
    by_seed = len(curves) < len(runs)
    cells = [cell.setting if by_seed else cell for cell, _ in curves]
    names = short_names(cells)
    return [
        replace(curve, label=names[cell]) for cell, (_, curve) in zip(cells, curves, strict=True)
    ]


class _Progress:
    """Says which step is done, but not more often than every few seconds."""

    def __init__(self, on_message: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._on_message, self._clock = on_message, clock
        self._due = clock() + FIRST

    def __call__(self, step: str) -> None:
        if self._clock() >= self._due:
            self._due = self._clock() + EVERY
            self._on_message(f"{PROGRESS}{step}")


def _samples(
    cell: Cell, snapshot: Snapshot, tests: LabeledImages, folder: Path, kind: FigureKind
) -> tuple[Callable[[], Figure], dict[Path, Callable[[], Figure]]]:
    """Functions that draw the correct samples, and each page of misclassified images by path."""
    predictions = snapshot.predictions[: len(tests.labels)]  # those of held-out images follow
    arrays = (tests.images, tests.labels, predictions)
    shown: dict[str, Any] = {
        "names": tests.class_names, "inverted": tests.inverted, "subject": cell.description,
        "layout": kind.layout, "as_raster": kind.suffix == "png",
    }  # fmt: skip
    pages = sample_figures.misclassified_figures(*arrays, **shown)
    return partial(sample_figures.correct_samples_figure, *arrays, **shown, seed=cell.seed), {
        folder / f"{cell.file_name}_misclassified{kind.part}-{number:02d}.{kind.suffix}": page
        for number, page in enumerate(pages, start=1)
    }
