"""What each place to train adds to a run: `python -m benchmarks.executors [--out FILE]`.

So many tiny runs (made images, some ten milliseconds of training each), two at a time, as whole
processes of `python -m lenet_sweep`: in local workers, as Ray tasks, as Slurm jobs, the last two
also with many runs in each job. What a sweep costs beside its runs is taken from a sweep of
one. From both follows what a grid of real training should take in each place; the same grid is then
trained there. Slurm and Ray are started here, as the tests start them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machines, tables
from benchmarks.bookkeeping import MADE_DATA, empty_folder, measured
from benchmarks.contenders import RAY
from lenet_sweep.data.datasets import default_root

RESULTS = Path(__file__).parent / "results" / "executors.json"
DOCUMENT = Path(__file__).parent.parent / "docs" / "scaling-out.md"
WORKERS = 2
SILENT = ("device=cpu", "figures=none", "report=false")
SEEDS = 50
GRID_RUNS = 8


@dataclass(frozen=True)
class Way:
    """A place, and how many runs a job of it has."""

    place: str
    packed: int

    @property
    def name(self) -> str:
        packed = f", {self.packed} runs a job" if self.packed > 1 else ""
        return {"local": "local workers", "ray": "Ray tasks", "slurm": "Slurm jobs"}[
            self.place
        ] + packed

    def words(self) -> list[str]:
        if self.place == "local":
            return [f"workers={WORKERS}"]
        words = [f"hydra/launcher=lenet_{self.place}", f"hydra.launcher.runs_per_job={self.packed}"]
        return [
            *words,
            "hydra.launcher.memory=0.5" if self.place == "slurm" else f"workers={WORKERS}",
        ]


@contextlib.contextmanager
def slurm() -> Iterator[None]:
    """Slurm on this machine, for all processes that are started meanwhile."""
    sys.path.insert(0, str(MADE_DATA.parent))
    import slurm_here  # noqa: PLC0415 - of the tests

    with tempfile.TemporaryDirectory() as folder, slurm_here.slurm(Path(folder)) as variables:
        os.environ.update(variables)
        yield


@contextlib.contextmanager
def ray() -> Iterator[None]:
    """Ray with as many cores as there are workers, kept to this machine."""
    os.environ.update(RAY)
    yield


def tiny(runs: int) -> list[str]:
    """A grid of so many runs on made images."""
    rates = ",".join(str(n / 1000) for n in range(1, max(1, runs // SEEDS) + 1))
    seeds = min(runs, SEEDS)
    return [
        "-m", f"lr={rates}", f"seed=range({seeds})", "epochs=1", "dataset=folder",
        "dataset.root=data", *SILENT,
    ]  # fmt: skip


def real(epochs: int) -> list[str]:
    """A grid of GRID_RUNS runs on MNIST."""
    return ["-m", f"seed=range({GRID_RUNS})", f"epochs={epochs}", *SILENT]


def seconds(way: Way, words: list[str]) -> float:
    """Wall seconds of a whole sweep in an empty folder."""
    with empty_folder() as folder:
        return measured(folder, *words, *way.words())["seconds"]


def measure(way: Way, runs: int, epochs: list[int], pace: float | None) -> dict:
    """Costs of a place in seconds, and the grid of real training: foretold and measured."""
    began = time.monotonic()
    alone = statistics.median(seconds(way, tiny(1)) for _ in range(3))
    many = seconds(way, tiny(runs))
    each = (many - alone) / (runs - 1) * WORKERS  # of a run that has a core for itself
    found = {
        "way": way.name,
        "runs": runs,
        "sweep of one": alone,
        "sweep of all": many,
        "a run": each,
    }
    grids = []
    for number in epochs:
        taken = seconds(way, real(number))
        grid = {"runs": GRID_RUNS, "epochs": number, "seconds": taken}
        if pace is not None:
            grid["foretold"] = foretold(alone, each, GRID_RUNS, number, pace)
        grids.append(grid)
    print(
        f"{way.name}: a sweep of one {alone:.2f} s, {runs} runs {many:.1f} s, "
        f"{1000 * each:.0f} ms a run; "
        + "; ".join(
            f"{GRID_RUNS} x {g['epochs']} epochs {g['seconds']:.1f} s"
            + (f" (foretold {g['foretold']:.1f} s)" if "foretold" in g else "")
            for g in grids
        )
        + f"  [{time.monotonic() - began:.0f} s]",
        flush=True,
    )
    return found | {"grids": grids}


def foretold(start: float, each: float, runs: int, epochs: int, pace: float) -> float:
    """Seconds of a grid: start + runs x (cost of a run + epochs x seconds an epoch) / at a time."""
    return start + runs * (each + epochs * pace) / WORKERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="a multiple of 50")
    parser.add_argument("--epochs", type=int, nargs="*", default=[2, 10])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--redraw", action="store_true", help="write the tables of the docs again")
    arguments = parser.parse_args()
    if arguments.redraw:
        redraw()
        return
    os.environ.setdefault("LENET_SWEEP_DATA", str(default_root()))
    ways = [
        (contextlib.nullcontext, Way("local", 1)),
        (ray, Way("ray", 1)),
        (ray, Way("ray", 50)),
        (slurm, Way("slurm", 1)),
        (slurm, Way("slurm", 50)),
    ]
    found = []
    pace: float | None = None
    for place, way in ways:
        with place():
            epochs = arguments.epochs if way.packed == 1 else []
            found.append(measure(way, arguments.runs, epochs, pace))
        if way.place == "local":  # the pace of an epoch, testing included, comes from the longest
            longest = found[0]["grids"][-1]
            rest = longest["seconds"] - found[0]["sweep of one"] - GRID_RUNS * found[0]["a run"] / 2
            pace = rest * WORKERS / (GRID_RUNS * longest["epochs"])
            for grid in found[0]["grids"]:
                costs = found[0]["sweep of one"], found[0]["a run"]
                grid["foretold"] = foretold(*costs, GRID_RUNS, grid["epochs"], pace)
    told = {
        "environment": machines.here(),
        "seconds per epoch": pace,
        "workers": WORKERS,
        "ways": found,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(told, indent=1) + "\n")


def redraw() -> None:
    """The tables of docs/scaling-out.md, out of the kept figures."""
    text = DOCUMENT.read_text()
    for name, made in pages(json.loads(RESULTS.read_text())).items():
        text = tables.inserted(text, made, name)
    DOCUMENT.write_text(text)


def pages(told: dict) -> dict[str, str]:
    """What docs/scaling-out.md says of the figures, by marker."""
    costs = [
        [
            way["way"], f"{way['sweep of one']:.1f}", f"{way['sweep of all']:.0f}",
            f"{1000 * way['a run']:.0f}",
        ]
        for way in told["ways"]
    ]  # fmt: skip
    grids = [
        [
            way["way"], f"{grid['runs']} x {grid['epochs']}", f"{grid['foretold']:.1f}",
            f"{grid['seconds']:.1f}", f"{100 * (grid['seconds'] / grid['foretold'] - 1):+.0f} %",
        ]
        for way in told["ways"]
        for grid in way["grids"]
    ]  # fmt: skip
    runs, pace = told["ways"][0]["runs"], told["seconds per epoch"]
    head = ["", "sweep of one run (s)", f"{runs:,} runs (s)", "time per run (ms)"]
    intro = (
        f"`python -m benchmarks.executors` measured {runs:,} runs of about ten milliseconds of "
        "training each, two at a time on two cores "
        f"({told['environment']['processor']}), as whole processes. The time per run is what one "
        "more run takes on its core, training included:"
    )
    model = (
        f"On the machine of the table, where an epoch of MNIST takes {pace:.2f} s including the "
        "test (from the longest local grid), the formula compares with measured times as follows:"
    )
    foretold_head = ["", "runs x epochs", "predicted (s)", "measured (s)", "difference"]
    return {
        "costs": f"{intro}\n\n{tables.table(head, costs)}",
        "model": f"{model}\n\n{tables.table(foretold_head, grids)}",
    }


if __name__ == "__main__":
    main()
