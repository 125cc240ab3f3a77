"""Measure the overhead of each executor: python -m benchmarks.executors [--out FILE].

Many tiny runs (generated images, about ten milliseconds of training each) are trained two at a time
by whole processes of `python -m lenet_sweep`: with local workers, as Ray tasks and as Slurm jobs,
the last two also with many runs per job. A sweep of one run gives the fixed cost of a sweep. From
both, a formula predicts the time of a grid of real runs, which is then measured. Slurm and Ray
are started on this machine, as in the tests.
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
from benchmarks.bookkeeping import GENERATED_DATA, empty_folder, measure
from benchmarks.contenders import RAY_VARIABLES
from lenet_sweep.data.datasets import default_root

RESULTS = Path(__file__).parent / "results" / "executors.json"
DOCUMENT = Path(__file__).parent.parent / "docs" / "scaling-out.md"
WORKERS = 2
NO_OUTPUTS = ("device=cpu", "figures=none", "report=false")
SEEDS = 50
GRID_RUNS = 8  # of the grid of real runs


@dataclass(frozen=True)
class Variant:
    """An executor, and its number of runs per job."""

    executor: str
    runs_per_job: int

    @property
    def name(self) -> str:
        names = {"local": "local workers", "ray": "Ray tasks", "slurm": "Slurm jobs"}
        runs = f", {self.runs_per_job} runs per job" if self.runs_per_job > 1 else ""
        return names[self.executor] + runs

    def overrides(self) -> list[str]:
        if self.executor == "local":
            return [f"workers={WORKERS}"]
        return [
            f"hydra/launcher=lenet_{self.executor}",
            f"hydra.launcher.runs_per_job={self.runs_per_job}",
            "hydra.launcher.memory=0.5" if self.executor == "slurm" else f"workers={WORKERS}",
        ]


@contextlib.contextmanager
def slurm() -> Iterator[None]:
    """Slurm on this machine, for the processes started in the `with` block."""
    sys.path.insert(0, str(GENERATED_DATA.parent))
    import slurm_here  # noqa: PLC0415 - it is part of the tests

    with tempfile.TemporaryDirectory() as folder, slurm_here.slurm(Path(folder)) as variables:
        os.environ.update(variables)
        yield


@contextlib.contextmanager
def ray() -> Iterator[None]:
    """Ray on this machine, without usage reports or proxies."""
    os.environ.update(RAY_VARIABLES)
    yield


def tiny(runs: int) -> list[str]:
    """A grid of `runs` tiny runs on generated images."""
    rates = ",".join(str(n / 1000) for n in range(1, max(1, runs // SEEDS) + 1))
    seeds = min(runs, SEEDS)
    return [
        "-m", f"lr={rates}", f"seed=range({seeds})", "epochs=1", "dataset=folder",
        "dataset.root=data", *NO_OUTPUTS,
    ]  # fmt: skip


def real(epochs: int) -> list[str]:
    """A grid of GRID_RUNS runs on MNIST."""
    return ["-m", f"seed=range({GRID_RUNS})", f"epochs={epochs}", *NO_OUTPUTS]


def seconds(variant: Variant, words: list[str]) -> float:
    """Wall seconds of a whole sweep in an empty folder."""
    with empty_folder() as folder:
        return measure(folder, *words, *variant.overrides())["seconds"]


def measure_variant(
    variant: Variant, runs: int, epochs: list[int], epoch_seconds: float | None
) -> dict:
    """Costs of an executor in seconds; predicted and measured time of the real runs."""
    start = time.monotonic()
    one = statistics.median(seconds(variant, tiny(1)) for _ in range(3))
    many = seconds(variant, tiny(runs))
    per_run = (many - one) / (runs - 1) * WORKERS  # on one core
    costs = {
        "way": variant.name,
        "runs": runs,
        "sweep of one": one,
        "sweep of all": many,
        "a run": per_run,
    }
    grids = []
    for number in epochs:
        measured = seconds(variant, real(number))
        grid = {"runs": GRID_RUNS, "epochs": number, "seconds": measured}
        if epoch_seconds is not None:
            grid["predicted"] = predict(one, per_run, GRID_RUNS, number, epoch_seconds)
        grids.append(grid)
    print(
        f"{variant.name}: 1 run {one:.2f} s, {runs} runs {many:.1f} s, "
        f"{1000 * per_run:.0f} ms per run; "
        + "; ".join(
            f"{GRID_RUNS} x {g['epochs']} epochs {g['seconds']:.1f} s"
            + (f" (predicted {g['predicted']:.1f} s)" if "predicted" in g else "")
            for g in grids
        )
        + f"  [{time.monotonic() - start:.0f} s]",
        flush=True,
    )
    return costs | {"grids": grids}


def predict(start: float, per_run: float, runs: int, epochs: int, epoch_seconds: float) -> float:
    """Predicted seconds of a grid: start + runs * (per_run + epochs * epoch_seconds) / WORKERS."""
    return start + runs * (per_run + epochs * epoch_seconds) / WORKERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs",
        type=int,
        default=1000,
        help="number of tiny runs, a multiple of 50 (default: 1000)",
    )
    parser.add_argument(
        "--epochs", type=int, nargs="*", default=[2, 10],
        help="epochs of the real runs (default: 2 10)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    parser.add_argument(
        "--redraw", action="store_true",
        help="measure nothing; generate the tables of the documentation",
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.redraw:
        redraw()
        return
    os.environ.setdefault("LENET_SWEEP_DATA", str(default_root()))
    variants = [
        (contextlib.nullcontext, Variant("local", 1)),
        (ray, Variant("ray", 1)),
        (ray, Variant("ray", 50)),
        (slurm, Variant("slurm", 1)),
        (slurm, Variant("slurm", 50)),
    ]
    results: list[dict] = []
    epoch_seconds: float | None = None
    for service, variant in variants:
        with service():
            epochs = arguments.epochs if variant.runs_per_job == 1 else []
            results.append(measure_variant(variant, arguments.runs, epochs, epoch_seconds))
        if variant.executor == "local":  # its longest grid gives the time of an epoch and its test
            local = results[0]
            longest = local["grids"][-1]
            rest = longest["seconds"] - local["sweep of one"] - GRID_RUNS * local["a run"] / WORKERS
            epoch_seconds = rest * WORKERS / (GRID_RUNS * longest["epochs"])
            for grid in local["grids"]:
                costs = local["sweep of one"], local["a run"]
                grid["predicted"] = predict(*costs, GRID_RUNS, grid["epochs"], epoch_seconds)
    numbers = {
        "environment": machines.here(),
        "seconds per epoch": epoch_seconds,
        "workers": WORKERS,
        "ways": results,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(numbers, indent=1) + "\n")


def redraw() -> None:
    """Write the tables of docs/scaling-out.md again, from the saved measurements."""
    text = DOCUMENT.read_text()
    for name, made in pages(json.loads(RESULTS.read_text())).items():
        text = tables.inserted(text, made, name)
    DOCUMENT.write_text(text)


def pages(told: dict) -> dict[str, str]:
    """The texts and tables of docs/scaling-out.md, by marker."""
    costs = [
        [
            way["way"], f"{way['sweep of one']:.1f}", f"{way['sweep of all']:.0f}",
            f"{1000 * way['a run']:.0f}",
        ]
        for way in told["ways"]
    ]  # fmt: skip
    grids = [
        [
            way["way"], f"{grid['runs']} x {grid['epochs']}", f"{grid['predicted']:.1f}",
            f"{grid['seconds']:.1f}", f"{100 * (grid['seconds'] / grid['predicted'] - 1):+.0f}%",
        ]
        for way in told["ways"]
        for grid in way["grids"]
    ]  # fmt: skip
    runs, pace = told["ways"][0]["runs"], told["seconds per epoch"]
    head = ["", "sweep of one run (s)", f"{runs:,} runs (s)", "time per run (ms)"]
    intro = (
        f"`python -m benchmarks.executors` measured the wall time of whole processes, for {runs:,} "
        "runs with about ten milliseconds of training each, two at a time on two cores "
        f"({told['environment']['processor']}). The time per run is what each additional run takes "
        "on its core, including training:"
    )
    model = (
        f"On the machine measured above, an epoch of MNIST and its test take {pace:.2f} s (derived "
        "from the longest local grid). The formula then predicts:"
    )
    predicted_head = ["", "runs x epochs", "predicted (s)", "measured (s)", "difference"]
    return {
        "costs": f"{intro}\n\n{tables.table(head, costs)}",
        "model": f"{model}\n\n{tables.table(predicted_head, grids)}",
    }


if __name__ == "__main__":
    main()
