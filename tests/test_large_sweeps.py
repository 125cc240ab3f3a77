"""Sweeps with many cells: tables stay complete, and figures stay few and cheap."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from forked_commands import run_forked

from lenet_sweep import load_results
from lenet_sweep.config.grids import grid
from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.config.validation import validate_cells
from lenet_sweep.core.cells import Cell
from lenet_sweep.core.events import CellFinished, Epoch, Event, Finished, Progress, Started
from lenet_sweep.core.plans import Run
from lenet_sweep.data.test_images import ImageCache
from lenet_sweep.executors import RunContext
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.report import figure_set
from lenet_sweep.results.manifest import Manifest
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.results.records import stored_record
from lenet_sweep.results.sweep import Sweep
from lenet_sweep.runner.run import run_sweep
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import Store
from lenet_sweep.training.engines.support import NATIVE

THOUSAND = [f"lr={','.join(f'{n / 100:g}' for n in range(1, 21))}", "seed=range(50)", "epochs=1"]
# Measured from a small process, since a child starts with the peak memory of its parent.
MEASURED = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "lenet_sweep", *sys.argv[1:]]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print("peak", peak * (1 if sys.platform == "darwin" else 1024))
sys.exit(code)
"""


def snapshot(accuracy: float) -> Snapshot:
    """A snapshot of realistic size; 180 of the 200 predictions are wrong."""
    return Snapshot(
        state={"weights": np.zeros(60_000, np.float32)},
        predictions=np.zeros(200, np.uint8),
        trace=np.array([[0.1, 2.3], [1.0, 0.3]], np.float32),
        history=(Epoch(1, 0.5, accuracy, 0.5, 1.0, 0.1),),
    )


def sweep_of(cells: Sequence[Cell], store: Store, folder: Path, options: SweepOptions) -> Sweep:
    """A sweep with the results that the store has for these cells."""
    table = ranked_table(row for cell in cells if (row := stored_record(cell, store, "Ada")))
    manifest = Manifest(tuple(cells), store, options.data_root, ())
    return Sweep(folder, manifest, store, options.data_root, table)


def cells_of(root: Path, out: Path, **axes: object) -> tuple[list[Cell], SweepOptions]:
    given = {"dataset": "folder", "dataset.root": str(root), "device": "cpu", "epochs": 1}
    return validate_cells(grid(given | {"out": str(out)} | axes), NATIVE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_folder) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A sweep of 1000 cells that are already in the store; torch cannot be imported."""
    folder = tmp_path_factory.mktemp("thousand")
    lrs = [n / 100 for n in range(1, 21)]
    cells, _ = cells_of(small_folder(), folder / "outputs", lr=lrs, seed=range(50))
    for index, cell in enumerate(cells):
        run = Store(folder / "outputs").run_folder(cell.run_id)
        run.path.mkdir(parents=True)
        run.write_snapshot(snapshot(90.0 + index % 5))
    (folder / "blocked").mkdir()
    (folder / "blocked" / "torch.py").write_text("raise ImportError('torch is blocked')")
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "-m", *THOUSAND, "dataset=folder", "device=cpu",
         f"dataset.root={small_folder()}"],
        cwd=folder, env=os.environ | {"COLUMNS": "160", "PYTHONPATH": str(folder / "blocked")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    return done, sweep


@pytest.mark.slow
def test_table_of_1000_finished_cells(finished) -> None:
    """It needs less than 400 MB and no torch, and all cells are ranked."""
    done, sweep = finished
    frame = pd.read_csv(sweep / "results.csv")
    assert len(frame) == len(set(frame["cell"])) == 1000
    assert list(frame["rank"]) == [1 + 200 * (index // 200) for index in range(1000)]
    assert list(frame["accuracy"]) == [94.0 - index // 200 for index in range(1000)]
    keys = list(zip(frame["rank"], -frame["lr"], frame["seed"], strict=True))
    assert keys == sorted(keys)
    (peak,) = re.findall(r"^peak (\d+)$", done.stdout, re.MULTILINE)
    assert int(peak) < 400e6


@pytest.mark.slow
def test_figures_of_1000_cells_show_the_best(finished) -> None:
    """best-cells.png has the curves of the best 100 cells, and a message says so."""
    done, sweep = finished
    assert len(list((sweep / "figures").glob("*_cost.png"))) == 1
    assert (sweep / "figures" / "best-cells.png").exists()
    assert not (sweep / "figures" / "all-cells.png").exists()
    assert "curves of the best 100 of 1000 cells; figures=all draws every cell" in done.stderr


def test_results_csv_is_complete_after_very_short_cells(tmp_path, small_folder) -> None:
    """Cells that end faster than the table is written are all in results.csv at the end."""
    done = run_forked(
        "-m", "seed=range(60)", "epochs=1", "device=cpu", "dataset=folder",
        f"dataset.root={small_folder()}", "figures=none", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    frame = pd.read_csv(sweep / "results.csv")
    assert len(frame) == 60
    assert list(frame["cell"]) == list(load_results(sweep)["cell"])


def test_rows_are_written_while_other_cells_train(tmp_path, small_folder) -> None:
    """A finished cell is in results.csv soon, even if no other cell ends."""
    cells, options = cells_of(small_folder(), tmp_path / "out", seed=[0, 1, 2])
    folder = tmp_path / "sweep"
    row_counts: list[int] = []

    def rows() -> int:
        path = folder / "results.csv"
        return len(path.read_text().splitlines()) - 1 if path.exists() else 0

    def execute_two_and_keep_training(runs: Sequence[Run], context: RunContext) -> Iterator[Event]:
        for run in runs[:2]:
            Store(context.out).run_folder(run.id).path.mkdir(parents=True)
            Store(context.out).run_folder(run.id).write_snapshot(snapshot(99.0))
        last = runs[2].id
        yield Started(last, 0)
        for run in runs[:2]:  # the second ends immediately after the first
            yield CellFinished(run.id, 1)
            yield Finished(run.id)
            row_counts.append(rows())
        deadline = time.monotonic() + 60  # fail instead of waiting forever
        while rows() < 2 and time.monotonic() < deadline:
            yield Progress(last, 1, 64, 600, 2.3)
        row_counts.append(rows())

    run_sweep(cells, options, (), replace(LOCAL, execute=execute_two_and_keep_training), folder)
    assert row_counts[0] == 1
    assert row_counts[-1] == 2


def draw(
    tmp_path: Path, root: Path, clock: Callable[[], float], which: str = "best", **axes: object
) -> tuple[list[str], list[str]]:
    """Draw the figures of a grid; returns their file names, and the messages."""
    cells, options = cells_of(root, tmp_path / "out", **axes)
    store = Store(options.out)
    for cell in cells:
        run = store.run_folder(cell.run_id)
        run.path.mkdir(parents=True, exist_ok=True)
        if not run.has_intact_snapshot(1):
            run.write_snapshot(snapshot(9.0))
    messages: list[str] = []
    sweep = sweep_of(cells, store, tmp_path, options)
    paths = figure_set.draw(sweep, which, messages.append, clock=clock)
    return [path.name for path in paths], messages


def test_slow_drawing_reports_progress(tmp_path, small_folder) -> None:
    """There is a message every few seconds, and none if drawing is fast."""
    clock = itertools.count(0.0, 4.0).__next__
    names, messages = draw(tmp_path, small_folder(), clock, seed=[0, 1, 2])
    assert sum("misclassified" in name for name in names) == 2
    assert messages == [
        "figures: reading cell 1 of 3", "figures: drawing cell 1 of 3",
        "figures: drawing all cells",
    ]  # fmt: skip
    _, messages = draw(tmp_path / "again", small_folder(), lambda: 0.0, seed=[0, 1])
    assert messages == []


def test_only_missing_figures_are_drawn(tmp_path, small_folder, monkeypatch) -> None:
    """Repeating a sweep draws incomplete figures again, and reads no images if it needs none."""
    root, figures = small_folder(), tmp_path / "figures"
    names, _ = draw(tmp_path, root, lambda: 0.0, seed=[0, 1])
    costs = [name for name in names if name.endswith("_cost.png")]
    assert len(costs) == 1
    complete = (figures / costs[0]).read_bytes()
    (figures / costs[0]).write_bytes(complete[:-1])
    before = {name: (figures / name).stat().st_mtime_ns for name in names[1:-1]}
    monkeypatch.setattr(ImageCache, "get", lambda *_: pytest.fail("images were read"))
    assert draw(tmp_path, root, lambda: 0.0, seed=[0, 1])[0] == names
    assert (figures / costs[0]).read_bytes() == complete
    assert {name: (figures / name).stat().st_mtime_ns for name in before} == before


def test_figures_best_and_all(tmp_path, small_folder, monkeypatch) -> None:
    """best draws the figures of one cell with few pages, all those of every cell."""
    monkeypatch.setattr(figure_set, "PAGES", 1)
    root, figures = small_folder(), tmp_path / "figures"

    def count(names: list[str], kind: str) -> int:
        return sum(kind in name for name in names)

    names, messages = draw(tmp_path, root, lambda: 0.0, seed=[0, 1, 2])
    assert [count(names, kind) for kind in ("_cost", "_correct", "_misclassified")] == [1, 1, 1]
    assert names[-1] == "all-cells.png"
    assert messages == [
        "figures show the first 1 of 2 pages of misclassified images; figures=all draws every page"
    ]
    names, messages = draw(tmp_path, root, lambda: 0.0, "all", seed=[0, 1, 2])
    assert [count(names, kind) for kind in ("_cost", "_correct", "_misclassified")] == [3, 3, 6]
    assert messages == []
    draw(tmp_path, root, lambda: 0.0, seed=[0, 1, 2])
    assert {path.name for path in figures.iterdir()} == set(names)


def test_figures_without_test_images(tmp_path, small_folder) -> None:
    """Curves are drawn, and one message says that figures of images are not.

    Existing figures of images stay, since the snapshots may look newer because they were copied.
    """
    root = shutil.copytree(small_folder(), tmp_path / "images")
    names, _ = draw(tmp_path, root, lambda: 0.0, seed=[0, 1])
    of_images = [name for name in names if "_cost" not in name and "-cells" not in name]
    before = {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    for path in before:
        os.utime(path, (0, 0))  # older than the snapshots
    cells, options = cells_of(root, tmp_path / "out", seed=[0, 1])
    shutil.rmtree(root)
    messages: list[str] = []
    sweep = sweep_of(cells, Store(options.out), tmp_path, options)
    paths = figure_set.draw(sweep, "best", messages.append)
    assert [path.name for path in paths] == [name for name in names if name not in of_images]
    assert {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == before
    assert len(messages) == 1
    assert messages[0].startswith("no figures of test images: folder: dataset.root=")


def test_outdated_pages_are_removed(tmp_path, small_folder) -> None:
    """A cell that was retrained and misclassifies fewer images has fewer pages."""
    root, figures = small_folder(), tmp_path / "figures"
    names, _ = draw(tmp_path, root, lambda: 0.0, seed=[0])
    (last,) = (name for name in names if "misclassified-02" in name)
    outdated = figures / last.replace("-02", "-03")
    outdated.touch()
    (figures / last.replace("misclassified-02", "correct")).unlink()
    assert draw(tmp_path, root, lambda: 0.0, seed=[0])[0] == names
    assert not outdated.exists()


def test_all_cells_png_becomes_best_cells_png(tmp_path, small_folder, monkeypatch) -> None:
    """all-cells.png is removed when a sweep has grown to more cells than the figure shows."""
    monkeypatch.setattr(figure_set, "BEST", 3)
    names, messages = draw(tmp_path, small_folder(), lambda: 0.0, seed=range(3))
    assert names[-1] == "all-cells.png"
    assert messages == []
    names, messages = draw(tmp_path, small_folder(), lambda: 0.0, seed=range(5))
    assert names[-1] == "best-cells.png"
    assert sum(name.endswith("_cost.png") for name in names) == 1
    assert messages == [
        "figures show the curves of the best 3 of 5 cells; figures=all draws every cell"
    ]
    assert [p.name for p in (tmp_path / "figures").glob("*-cells.png")] == ["best-cells.png"]
