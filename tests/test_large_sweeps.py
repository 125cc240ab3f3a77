"""Sweeps of many cells: what they leave is whole, and keeping their books stays cheap."""

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

from lenet_sweep.config.keys import grid
from lenet_sweep.config.validation import Options, validate_cells
from lenet_sweep.core.cells import Cell, Run
from lenet_sweep.core.events import CellFinished, Epoch, Event, Finished, Progress, Started
from lenet_sweep.data.test_images import ImageCache
from lenet_sweep.executors import RunContext
from lenet_sweep.executors.local import LOCAL
from lenet_sweep.report import figure_set
from lenet_sweep.results.manifest import Manifest
from lenet_sweep.results.ranking import ranked_table
from lenet_sweep.results.records import record
from lenet_sweep.results.sweep import Sweep, load_results
from lenet_sweep.runner.run import run_sweep
from lenet_sweep.storage.snapshots import Snapshot
from lenet_sweep.storage.store import Store
from lenet_sweep.training.engines.support import NATIVE

THOUSAND = [f"lr={','.join(f'{n / 100:g}' for n in range(1, 21))}", "seed=range(50)", "epochs=1"]
# A process of its own between, since one begins with the memory of whoever started it.
MEASURED = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "lenet_sweep", *sys.argv[1:]]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print("peak", peak * (1 if sys.platform == "darwin" else 1024))
sys.exit(code)
"""


def snapshot(accuracy: float, wrong: int = 0) -> Snapshot:
    """What training left, of the size that it has for SGD, with so many of 200 images wrong."""
    return Snapshot(
        state={"weights": np.zeros(60_000, np.float32)},
        predictions=np.full(200, 10 if wrong else 0, np.uint8),
        trace=np.array([[0.1, 2.3], [1.0, 0.3]], np.float32),
        history=(Epoch(1, 0.5, accuracy, 0.5, 1.0, 0.1),),
    )


def sweep_of(cells: Sequence[Cell], store: Store, folder: Path, options: Options) -> Sweep:
    """A sweep with the results that the store has of these cells, ranked."""
    table = ranked_table(row for cell in cells if (row := record(cell, store, "Ada")))
    manifest = Manifest(tuple(cells), store, options.data_root, ())
    return Sweep(folder, manifest, store, options.data_root, table)


def cells_of(root: Path, out: Path, **axes: object) -> tuple[list[Cell], Options]:
    given = {"dataset": "folder", "dataset.root": str(root), "device": "cpu", "epochs": 1}
    return validate_cells(grid(given | {"out": str(out)} | axes), NATIVE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_folder) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A sweep whose thousand cells are in the store, swept where torch cannot be imported."""
    folder = tmp_path_factory.mktemp("thousand")
    lrs = [n / 100 for n in range(1, 21)]
    cells, _ = cells_of(small_folder(), folder / "outputs", lr=lrs, seed=range(50))
    for place, cell in enumerate(cells):
        run = Store(folder / "outputs").run(cell.run_id)
        run.path.mkdir(parents=True)
        run.write_readout(snapshot(90.0 + place % 5))
    (folder / "blocked").mkdir()
    (folder / "blocked" / "torch.py").write_text("raise ImportError('not for a finished sweep')")
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "-m", *THOUSAND, "dataset=folder", "device=cpu",
         f"dataset.root={small_folder()}"],
        cwd=folder, env=os.environ | {"COLUMNS": "160", "PYTHONPATH": str(folder / "blocked")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    return done, sweep


def test_a_thousand_finished_cells_are_a_table_again(finished) -> None:
    """Without torch and in less than 400 MB, every cell is a row, in the order of a small table."""
    done, sweep = finished
    frame = pd.read_csv(sweep / "results.csv")
    assert len(frame) == len(set(frame["cell"])) == 1000
    assert list(frame["rank"]) == [1 + 200 * (place // 200) for place in range(1000)]
    assert list(frame["accuracy"]) == [94.0 - place // 200 for place in range(1000)]
    keys = list(zip(frame["rank"], -frame["lr"], frame["seed"], strict=True))
    assert keys == sorted(keys)
    (peak,) = re.findall(r"^peak (\d+)$", done.stdout, re.MULTILINE)
    assert int(peak) < 400e6


def test_a_thousand_cells_get_the_figures_of_the_best(finished) -> None:
    """A large sweep draws the curves of its 100 best cells, says so, and names the file for it."""
    done, sweep = finished
    assert len(list((sweep / "figures").glob("*_cost.png"))) == 1
    assert (sweep / "figures" / "best-cells.png").exists()
    assert not (sweep / "figures" / "all-cells.png").exists()
    assert "curves of the best 100 of 1000 cells; figures=all draws every one" in done.stderr


def test_results_are_whole_when_cells_end_faster_than_they_are_written(
    tmp_path, small_folder
) -> None:
    """A sweep of cells that take a few milliseconds each leaves all of them in results.csv."""
    done = subprocess.run(
        [sys.executable, "-m", "lenet_sweep", "-m", "seed=range(60)", "epochs=1", "device=cpu",
         "dataset=folder", f"dataset.root={small_folder()}", "figures=none"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    frame = pd.read_csv(sweep / "results.csv")
    assert len(frame) == 60
    assert list(frame["cell"]) == list(load_results(sweep)["cell"])


def test_a_row_is_written_although_no_other_cell_ends(tmp_path, small_folder) -> None:
    """Whoever watches results.csv sees a cell soon after it ended, while the others train on."""
    cells, options = cells_of(small_folder(), tmp_path / "out", seed=[0, 1, 2])
    folder = tmp_path / "sweep"
    seen: list[int] = []

    def rows() -> int:
        path = folder / "results.csv"
        return len(path.read_text().splitlines()) - 1 if path.exists() else 0

    def two_end_and_one_trains_on(runs: Sequence[Run], setup: RunContext) -> Iterator[Event]:
        for run in runs[:2]:
            Store(setup.out).run(run.id).path.mkdir(parents=True)
            Store(setup.out).run(run.id).write_readout(snapshot(99.0))
        last = runs[2].id
        yield Started(last, 0)
        for run in runs[:2]:  # the second one ends at once after the first
            yield CellFinished(run.id, 1)
            yield Finished(run.id)
            seen.append(rows())
        until = time.monotonic() + 60  # to fail instead of waiting for ever
        while rows() < 2 and time.monotonic() < until:
            yield Progress(last, 1, 64, 600, 2.3)
        seen.append(rows())

    run_sweep(cells, options, (), replace(LOCAL, execute=two_end_and_one_trains_on), folder)
    assert seen[0] == 1
    assert seen[-1] == 2


def drawn(
    tmp_path: Path, root: Path, clock: Callable[[], float], which: str = "best", **axes: object
) -> tuple[list[str], list[str]]:
    """The names of the figures that are drawn of some cells, and what is said meanwhile."""
    cells, options = cells_of(root, tmp_path / "out", **axes)
    store = Store(options.out)
    for cell in cells:
        run = store.run(cell.run_id)
        run.path.mkdir(parents=True, exist_ok=True)
        if not run.has(1):
            run.write_readout(snapshot(9.0, wrong=200))
    said: list[str] = []
    sweep = sweep_of(cells, store, tmp_path, options)
    paths = figure_set.draw(sweep, which, said.append, clock=clock)
    return [path.name for path in paths], said


def test_drawing_that_takes_long_says_how_far_it_has_come(tmp_path, small_folder) -> None:
    """While the pages of a collapsed cell are drawn there is a line now and then."""
    clock = itertools.count(0.0, 4.0).__next__
    names, said = drawn(tmp_path, small_folder(), clock, seed=[0, 1, 2])
    assert sum("misclassified" in name for name in names) == 2
    assert said == [
        "figures: reading cell 1 of 3", "figures: drawing cell 1 of 3",
        "figures: drawing all cells",
    ]  # fmt: skip
    _, said = drawn(tmp_path / "again", small_folder(), lambda: 0.0, seed=[0, 1])
    assert said == []


def test_only_what_is_missing_is_drawn(tmp_path, small_folder, monkeypatch) -> None:
    """A sweep that is typed again draws no figure twice, and needs no images for that."""
    root, figures = small_folder(), tmp_path / "figures"
    names, _ = drawn(tmp_path, root, lambda: 0.0, seed=[0, 1])
    costs = [name for name in names if name.endswith("_cost.png")]
    assert len(costs) == 1
    whole = (figures / costs[0]).read_bytes()
    (figures / costs[0]).write_bytes(whole[:-1])  # cut off
    before = {name: (figures / name).stat().st_mtime_ns for name in names[1:-1]}
    monkeypatch.setattr(ImageCache, "get", lambda *_: pytest.fail("images were read"))
    assert drawn(tmp_path, root, lambda: 0.0, seed=[0, 1])[0] == names
    assert (figures / costs[0]).read_bytes() == whole
    assert {name: (figures / name).stat().st_mtime_ns for name in before} == before


def test_the_best_cell_has_its_figures_and_with_all_each(
    tmp_path, small_folder, monkeypatch
) -> None:
    """By default one cell's figures and few pages; all=every one; what was drawn once stays."""
    monkeypatch.setattr(figure_set, "PAGES", 1)
    root, figures = small_folder(), tmp_path / "figures"

    def number(names: list[str], kind: str) -> int:
        return sum(kind in name for name in names)

    names, said = drawn(tmp_path, root, lambda: 0.0, seed=[0, 1, 2])
    assert [number(names, kind) for kind in ("_cost", "_correct", "_misclassified")] == [1, 1, 1]
    assert names[-1] == "all-cells.png"
    assert said == ["the first 1 of 2 pages of misclassified digits; figures=all draws every one"]
    names, said = drawn(tmp_path, root, lambda: 0.0, "all", seed=[0, 1, 2])
    assert [number(names, kind) for kind in ("_cost", "_correct", "_misclassified")] == [3, 3, 6]
    assert said == []
    drawn(tmp_path, root, lambda: 0.0, seed=[0, 1, 2])
    assert {path.name for path in figures.iterdir()} == set(names)


def test_figures_without_the_test_images(tmp_path, small_folder) -> None:
    """Where the images are gone the curves are drawn all the same, and one line says what is not.

    Pictures of them that are there stay: a copied folder looks newer than its figures.
    """
    root = shutil.copytree(small_folder(), tmp_path / "images")
    names, _ = drawn(tmp_path, root, lambda: 0.0, seed=[0, 1])
    of_images = [name for name in names if "_cost" not in name and "-cells" not in name]
    before = {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    for path in before:
        os.utime(path, (0, 0))  # older than the read-outs
    cells, options = cells_of(root, tmp_path / "out", seed=[0, 1])
    shutil.rmtree(root)
    said: list[str] = []
    sweep = sweep_of(cells, Store(options.out), tmp_path, options)
    paths = figure_set.draw(sweep, "best", said.append)
    assert [path.name for path in paths] == [name for name in names if name not in of_images]
    assert {path: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == before
    assert len(said) == 1
    assert said[0].startswith("test images are not drawn: folder: dataset.root=")


def test_no_page_is_left_of_a_worse_network(tmp_path, small_folder) -> None:
    """A cell that was trained again and errs less has the pages of its errors now."""
    root, figures = small_folder(), tmp_path / "figures"
    names, _ = drawn(tmp_path, root, lambda: 0.0, seed=[0])
    (last,) = (name for name in names if "misclassified-02" in name)
    more = figures / last.replace("-02", "-03")
    more.touch()
    (figures / last.replace("misclassified-02", "correct")).unlink()
    assert drawn(tmp_path, root, lambda: 0.0, seed=[0])[0] == names
    assert not more.exists()


def test_the_picture_of_all_cells_is_of_all(tmp_path, small_folder, monkeypatch) -> None:
    """all-cells.png is there where it shows all cells, and does not stay where it no longer would.

    A sweep may grow under its name from fewer cells than are drawn to more.
    """
    monkeypatch.setattr(figure_set, "BEST", 3)
    names, said = drawn(tmp_path, small_folder(), lambda: 0.0, seed=range(3))
    assert names[-1] == "all-cells.png"
    assert said == []
    names, said = drawn(tmp_path, small_folder(), lambda: 0.0, seed=range(5))
    assert names[-1] == "best-cells.png"
    assert sum(name.endswith("_cost.png") for name in names) == 1
    assert said == ["curves of the best 3 of 5 cells; figures=all draws every one"]
    assert [p.name for p in (tmp_path / "figures").glob("*-cells.png")] == ["best-cells.png"]
